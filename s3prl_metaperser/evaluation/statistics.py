"""Intervals and paired differences from saved predictions.

Episodes of one rater share utterances, so seeds are no independent samples. The bootstrap resamples raters, and
inside a rater its utterances, as clusters: an utterance that is drawn twice counts twice in every episode it is in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from s3prl_metaperser.evaluation.metrics import METRICS, scores_from_counts
from s3prl_metaperser.protocol.labels import binarise, ticked
from s3prl_metaperser.seeding import numpy_generator

LEVEL = 0.95


@dataclass(frozen=True)
class Scored:
    """One episode's predictions, as far as statistics need them.

    Attributes:
        query: utterance ids, Q of them.
        probabilities: [Q, C].
        ticks: how often the rater ticked each class, [Q, C].
    """

    query: Sequence[str]
    probabilities: np.ndarray
    ticks: np.ndarray


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float


def mean_scores(raters: Mapping[str, Sequence[Scored]]) -> dict[str, float]:
    """Each metric averaged over a rater's episodes, then over raters."""
    weights = {rater: np.ones((1, len(_utterances(episodes)))) for rater, episodes in raters.items()}
    per_rater = np.stack([_rater_scores(episodes, weights[rater])[:, 0] for rater, episodes in raters.items()])
    return dict(zip(METRICS, per_rater.mean(0).tolist(), strict=True))


def intervals(raters: Mapping[str, Sequence[Scored]], draws: int, seed: int = 0) -> dict[str, Interval]:
    """Mean and 95 % interval of each metric.

    Args:
        raters: rater -> episodes.
        draws: bootstrap replicates.
    """
    replicates = _replicates(raters, None, draws, seed)
    return _summaries(mean_scores(raters), replicates)


def paired_intervals(
    first: Mapping[str, Sequence[Scored]], second: Mapping[str, Sequence[Scored]], draws: int, seed: int = 0
) -> dict[str, Interval]:
    """Mean and 95 % interval of ``first - second`` on the same episodes.

    Raises:
        ValueError: the episodes differ, so that nothing is paired.
    """
    for rater, episodes in first.items():
        if [tuple(e.query) for e in episodes] != [tuple(e.query) for e in second.get(rater, ())]:
            raise ValueError(f"rater {rater}: the two systems were tested on different episodes")
    one, other = mean_scores(first), mean_scores(second)
    return _summaries({name: one[name] - other[name] for name in METRICS}, _replicates(first, second, draws, seed))


def _summaries(means: Mapping[str, float], replicates: np.ndarray) -> dict[str, Interval]:
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(replicates, [tail, 100 - tail], axis=1)
    return {name: Interval(means[name], float(low[i]), float(high[i])) for i, name in enumerate(METRICS)}


def _replicates(first, second, draws: int, seed: int) -> np.ndarray:
    """Bootstrap replicates of each metric, or of its difference, [3, draws]."""
    generator = numpy_generator("bootstrap", seed)
    names = list(first)
    per_rater = []
    for rater in names:
        size = len(_utterances(first[rater]))
        weights = generator.multinomial(size, np.full(size, 1 / size), size=draws).astype(np.float64)
        scores = _rater_scores(first[rater], weights)
        per_rater.append(scores if second is None else scores - _rater_scores(second[rater], weights))
    stacked = np.stack(per_rater)  # [R, 3, draws]
    if len(names) == 1:
        return stacked[0]
    chosen = generator.integers(len(names), size=(draws, len(names)))
    return stacked[chosen, :, np.arange(draws)[:, None]].mean(1).T


def _utterances(episodes: Sequence[Scored]) -> list[str]:
    return sorted({utterance for episode in episodes for utterance in episode.query})


def _rater_scores(episodes: Sequence[Scored], weights: np.ndarray) -> np.ndarray:
    """Metrics averaged over episodes, for each row of utterance weights [draws, U]: [3, draws]."""
    place = {utterance: index for index, utterance in enumerate(_utterances(episodes))}
    total = np.zeros((len(METRICS), len(weights)))
    for episode in episodes:
        chosen = weights[:, [place[utterance] for utterance in episode.query]]
        empty = chosen.sum(1) == 0  # none of the query utterances was drawn: nothing to score
        chosen = np.where(empty[:, None], 1.0, chosen)
        predicted, present = binarise(episode.probabilities), ticked(episode.ticks)
        cells = predicted & present, predicted & ~present, ~predicted & present, ~predicted & ~present
        scores = scores_from_counts(*(chosen @ cell.astype(np.float64) for cell in cells))
        total += np.stack([scores[name] for name in METRICS])
    return total / len(episodes)
