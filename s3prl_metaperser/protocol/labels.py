"""From ticks to label distributions, and back to multi-hot labels.

A rater's label is ticks / number of ticks; the consensus label pools all ticks of the raters that may be used, as
EMO-SUPERB does. Both are smoothed, ``y = (1 - e) p + e (1 - p) / (C - 1)``; ``1 / C`` is a fixed point of that, so
that the threshold ``> 1 / C`` (Meta-PerSER, section 3.3) means the same before and after.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from s3prl_metaperser.corpora.base import Rating
from s3prl_metaperser.errors import UserError

#: float32's rounding of ``1 / C`` must not tick every class of a uniform prediction.
THRESHOLD_MARGIN = 1e-8


def tick_counts(ticks: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """How often each class is ticked, int64 [C]."""
    counts = np.zeros(len(classes), dtype=np.int64)
    for tick in ticks:
        counts[classes.index(tick)] += 1
    return counts


def smooth(distribution: np.ndarray, smoothing: float) -> np.ndarray:
    """Label smoothing with ``e = smoothing``: float64 [..., C] -> [..., C]; rows keep their sum of one."""
    if not 0.0 <= smoothing < 1.0:
        raise UserError(f"Bad value {smoothing!r} for smoothing, expected 0 <= smoothing < 1.")
    others = distribution.shape[-1] - 1
    return (1.0 - smoothing) * distribution + smoothing * (1.0 - distribution) / others


def label_distribution(ticks: Sequence[str], classes: Sequence[str], smoothing: float) -> np.ndarray:
    """One rating's (or pooled ratings') smoothed distribution, float64 [C].

    Raises:
        UserError: no ticks.
    """
    counts = tick_counts(ticks, classes)
    if not counts.sum():
        raise UserError("A label needs at least one tick, got none.")
    return smooth(counts / counts.sum(), smoothing)


def binarise(distribution: np.ndarray) -> np.ndarray:
    """Multi-hot labels, bool [..., C]: ``> 1 / C``."""
    distribution = np.asarray(distribution, dtype=np.float64)
    return distribution > 1.0 / distribution.shape[-1] + THRESHOLD_MARGIN


def ticked(ticks: np.ndarray) -> np.ndarray:
    """Multi-hot labels of tick counts, bool [..., C]: their distribution's, ``> 1 / C``."""
    ticks = np.asarray(ticks, dtype=np.float64)
    return binarise(ticks / ticks.sum(-1, keepdims=True))


def consensus_ticks(ratings: Iterable[Rating]) -> dict[str, tuple[str, ...]]:
    """Utterance id -> all ticks of these ratings, pooled; every tick counts once, whoever gave it."""
    pooled: dict[str, list[str]] = {}
    for rating in ratings:
        pooled.setdefault(rating.utterance, []).extend(rating.ticks)
    return {utterance: tuple(ticks) for utterance, ticks in sorted(pooled.items())}
