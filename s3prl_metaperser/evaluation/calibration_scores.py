"""How well predicted probabilities fit a rater's answers: Brier score, calibration error, Jensen-Shannon divergence.

The models are trained to predict a distribution over classes, so a prediction is compared with the share of the
rater's answer that each class got (of ticks: t = ticks / number of ticks), without label smoothing. "Calibrated" then
means: among predictions of p for a class, the class gets a share p of the answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.spatial.distance import jensenshannon

from s3prl_metaperser.evaluation.statistics import Scored

#: Of equal width, over [0, 1].
BINS = 10


class Calibration(NamedTuple):
    """Scores that are lower where predictions fit better; means over raters.

    Attributes:
        brier: multi-class Brier score (Brier 1950), in [0, 2].
        ece: class-wise expected calibration error, in [0, 1], with :data:`BINS` equal-width bins.
        jensen_shannon: Jensen-Shannon divergence in bits, in [0, 1].
    """

    brier: float
    ece: float
    jensen_shannon: float


def brier_score(probabilities: np.ndarray, shares: np.ndarray) -> float:
    """Mean over utterances of sum_c (p_c - t_c)^2: Brier's original, two-sided form with soft outcomes.

    With one tick an utterance it is scikit-learn's multi-class ``brier_score_loss``, unscaled.

    Args:
        probabilities: [N, C], rows sum to one.
        shares: [N, C], rows sum to one.
    """
    return float(((np.asarray(probabilities, np.float64) - shares) ** 2).sum(-1).mean())


def reliability(probabilities: np.ndarray, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What a reliability diagram shows, for each class.

    Bin b of B = :data:`BINS` holds predictions in (b / B, (b + 1) / B]; zero belongs to the first.

    Args:
        probabilities: [N, C].
        shares: [N, C].

    Returns:
        Counts, mean predictions and mean tick shares of each class and bin, float64 [C, B] each; means of empty bins
        are zero. Pool classes by weighting with the counts.
    """
    probabilities = np.asarray(probabilities, dtype=np.float64)
    classes = probabilities.shape[1]
    index = np.clip(np.ceil(probabilities * BINS).astype(int) - 1, 0, BINS - 1) + BINS * np.arange(classes)
    sums = [
        np.bincount(index.ravel(), weights=None if w is None else w.ravel(), minlength=classes * BINS)
        for w in (None, probabilities, np.asarray(shares, dtype=np.float64))
    ]
    count, predicted, observed = (s.astype(np.float64).reshape(classes, BINS) for s in sums)
    safe = np.maximum(count, 1)
    return count, predicted / safe, observed / safe


def expected_calibration_error(probabilities: np.ndarray, shares: np.ndarray) -> float:
    """Class-wise ECE: mean over classes of sum_b n_b / N |mean prediction - mean tick share| (Kull et al. 2019).

    It is not zero for a perfectly calibrated model: the noise of each bin's mean adds to it, more so with few
    predictions. Compare it between systems on the same episodes.
    """
    count, predicted, observed = reliability(probabilities, shares)
    return float(((count / count.sum(1, keepdims=True)) * np.abs(predicted - observed)).sum(1).mean())


def jensen_shannon_divergence(probabilities: np.ndarray, shares: np.ndarray) -> float:
    """Mean over utterances of the Jensen-Shannon divergence in bits (Lin 1991): scipy's distance, squared."""
    distance = jensenshannon(np.asarray(probabilities, np.float64), shares, base=2, axis=-1)
    return float((np.nan_to_num(distance) ** 2).mean())


def rater_calibration(episodes: Sequence[Scored]) -> Calibration:
    """The three scores of one rater, all episodes pooled: a calibration error of few predictions is mostly noise."""
    probabilities = np.concatenate([np.asarray(e.probabilities, np.float64) for e in episodes])
    shares = np.concatenate([e.shares for e in episodes])
    return Calibration(
        brier=brier_score(probabilities, shares),
        ece=expected_calibration_error(probabilities, shares),
        jensen_shannon=jensen_shannon_divergence(probabilities, shares),
    )


def average(scores: Sequence[Calibration]) -> Calibration:
    """Means over raters."""
    return Calibration(*np.mean(scores, axis=0).tolist())
