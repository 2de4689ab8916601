"""Intervals and paired differences from saved predictions.

What is estimated is a mean over listeners of whom a few, usually five, were tested, each on utterances of which some
were drawn. Two things vary, and they are crossed: raters, and utterances that several raters share (episodes of one
rater share them, too, so that seeds are no independent samples). With R raters, x_r a rater's mean over its episodes
and c the mean covariance between two raters' x that comes from utterances they share,

    variance of the mean = s^2 / R + c,        s^2 the sample variance of x_1 .. x_R,

since s^2 / R alone misses what all raters have in common. c comes from resampling utterances: every utterance gets a
random weight of mean and variance one (exponential, the Bayesian bootstrap; Rubin 1981, and Owen and Eckles 2012 for
crossed data), the same one in every episode, rater and system it is in. Intervals and p values are Student's t with
Satterthwaite's degrees of freedom, R - 1 where nothing is shared. A percentile bootstrap over five raters would be too
short (`benchmarks/statistics_size.py` measures all of this). With one rater only utterances vary, and nothing is
said about other raters.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr, stdtrit  # scipy.stats takes as long to import as torch

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
    """A mean with its 95 % interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Estimate:
    """A mean over raters, its standard error, and the degrees of freedom of that error."""

    mean: float
    error: float
    freedom: float

    def interval(self, level: float = LEVEL) -> Interval:
        """mean -+ t * error."""
        reach = float(stdtrit(self.freedom, (1 + level) / 2)) * self.error if self.error > 0 else 0.0
        return Interval(self.mean, self.mean - reach, self.mean + reach)

    def p_value(self) -> float:
        """Two-sided, of a mean of zero; below 1 - level exactly where the interval leaves out zero."""
        if self.error == 0:
            return 1.0 if self.mean == 0 else 0.0
        return float(2 * stdtr(self.freedom, -abs(self.mean) / self.error))


@dataclass(frozen=True)
class Resampled:
    """One rater's scores and how they change with the weights of its utterances.

    Attributes:
        queries: query utterances of each episode.
        means: each metric averaged over the episodes, [3].
        replicates: the same under each draw of weights, [3, draws]; draw d has the same weights for all raters and
            systems.
    """

    queries: tuple[tuple[str, ...], ...]
    means: np.ndarray
    replicates: np.ndarray

    def __sub__(self, other: Resampled) -> Resampled:
        """The paired difference.

        Raises:
            ValueError: the episodes differ, so that nothing is paired.
        """
        if self.queries != other.queries:
            raise ValueError("the two systems were tested on different episodes")
        return Resampled(self.queries, self.means - other.means, self.replicates - other.replicates)


def mean_scores(raters: Mapping[str, Sequence[Scored]]) -> dict[str, float]:
    """Each metric averaged over a rater's episodes, then over raters."""
    per_rater = np.stack([resample(episodes, 0).means for episodes in raters.values()])
    return dict(zip(METRICS, per_rater.mean(0).tolist(), strict=True))


def intervals(raters: Mapping[str, Sequence[Scored]], draws: int, seed: int = 0) -> dict[str, Interval]:
    """Mean and 95 % interval of each metric.

    Args:
        raters: rater -> episodes.
        draws: of the utterances' weights.

    Returns:
        Intervals cut at 0 and 1, the metrics' range.
    """
    return resampled_intervals({rater: resample(episodes, draws, seed) for rater, episodes in raters.items()})


def resampled_intervals(raters: Mapping[str, Resampled]) -> dict[str, Interval]:
    """:func:`intervals` of what is resampled already."""
    return {name: within_range(estimate.interval()) for name, estimate in estimates(raters).items()}


def paired_intervals(
    first: Mapping[str, Sequence[Scored]], second: Mapping[str, Sequence[Scored]], draws: int, seed: int = 0
) -> dict[str, Interval]:
    """Mean and 95 % interval of ``first - second`` on the same episodes.

    Raises:
        ValueError: the episodes differ, so that nothing is paired.
    """
    differences = {}
    for rater, episodes in first.items():
        try:
            differences[rater] = resample(episodes, draws, seed) - resample(second.get(rater, ()), draws, seed)
        except ValueError as error:
            raise ValueError(f"rater {rater}: {error}") from None
    return {name: estimate.interval() for name, estimate in estimates(differences).items()}


def within_range(span: Interval) -> Interval:
    """The part of an interval that lies in [0, 1]."""
    return Interval(span.mean, max(span.low, 0.0), min(span.high, 1.0))


def estimates(raters: Mapping[str, Resampled]) -> dict[str, Estimate]:
    """Each metric's mean over raters, with its error."""
    means = np.stack([r.means for r in raters.values()])  # [R, 3]
    replicates = np.stack([r.replicates for r in raters.values()])  # [R, 3, draws]
    utterances = {u for r in raters.values() for query in r.queries for u in query}
    return {
        name: _estimate(means[:, index], replicates[:, index], len(utterances)) for index, name in enumerate(METRICS)
    }


def _estimate(means: np.ndarray, replicates: np.ndarray, utterances: int) -> Estimate:
    """Of one metric: means [R], replicates [R, draws]."""
    raters, mean = len(means), float(means.mean())
    covariance = np.atleast_2d(np.cov(replicates))
    of_utterances = max(utterances - 1, 1)
    if raters == 1:
        return Estimate(mean, float(np.sqrt(covariance[0, 0])), of_utterances)
    between = means.var(ddof=1) / raters
    shared = max((covariance.sum() - np.trace(covariance)) / (raters * (raters - 1)), 0.0)
    if between + shared == 0:
        return Estimate(mean, 0.0, raters - 1)
    freedom = (between + shared) ** 2 / (between**2 / (raters - 1) + shared**2 / of_utterances)
    return Estimate(mean, float(np.sqrt(between + shared)), float(freedom))


@functools.lru_cache(maxsize=2048)  # the same for all raters and systems: 33 MB with 2000 draws
def _weights(seed: int, utterance: str, draws: int) -> np.ndarray:
    return numpy_generator("bootstrap", seed, utterance).standard_exponential(draws)


def resample(episodes: Sequence[Scored], draws: int, seed: int = 0) -> Resampled:
    """One rater's mean scores and ``draws`` replicates of them."""
    queries = tuple(tuple(episode.query) for episode in episodes)
    utterances = sorted({utterance for query in queries for utterance in query})
    weights = np.ones((len(utterances), 1 + draws))  # column 0: the scores themselves
    for row, utterance in enumerate(utterances if draws else ()):
        weights[row, 1:] = _weights(seed, utterance, draws)
    place = {utterance: row for row, utterance in enumerate(utterances)}
    total = np.zeros((len(METRICS), 1 + draws))
    for episode, query in zip(episodes, queries, strict=True):
        chosen = weights[[place[utterance] for utterance in query]].T
        predicted, present = binarise(episode.probabilities), ticked(episode.ticks)
        cells = predicted & present, predicted & ~present, ~predicted & present, ~predicted & ~present
        scores = scores_from_counts(*(chosen @ cell.astype(np.float64) for cell in cells))
        total += np.stack([scores[name] for name in METRICS])
    total /= max(len(episodes), 1)
    return Resampled(queries, total[:, 0], total[:, 1:])
