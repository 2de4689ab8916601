"""Intervals and paired differences from saved predictions.

What is estimated is a mean over listeners of whom a few, usually five, were tested, each on utterances of which some
were drawn. Two things vary, and they are crossed: raters, and utterances that several raters share (episodes of one
rater share them, too, so that seeds are no independent samples). With R raters, x_r a rater's mean over its episodes
and c the mean covariance between two raters' x that comes from utterances they share,

    variance of the mean = s^2 / R + c,        s^2 the sample variance of x_1 .. x_R,

since s^2 / R alone misses what all raters have in common. Both parts of c come from influence functions (the
infinitesimal jackknife; Efron 1982): with d_ru the derivative of rater r's mean by the weight of utterance u,

    c = [sum_u (sum_r d_ru)^2 - sum_u sum_r d_ru^2] / (R (R - 1)),

which nothing is drawn for; it is exact for metrics that are means over utterances, and for others of first order, as
resampling utterances is (Owen and Eckles 2012, for crossed data). Those of an episode are larger by sqrt(Q / (Q - 1)),
so that the sum of their squares is the usual variance of a mean. Intervals and p values are Student's t with
Satterthwaite's degrees of freedom, R - 1 at most: s^2 of few raters may be small by chance, and his formula, which
takes it at its word, would then give the freedom of many utterances. For the same reason s^2 is not believed below what
further utterances alone would make of it in 5 % of cases: two raters whose scores agree to the last digit are no proof.
Training seeds, and corpora that were drawn anew, are crossed with raters, too: with T of them the variance has one term
more for each, the variance of the levels' means over raters less what their interaction with raters makes of it
(:func:`_further`), so that a system that training by chance made good is not called better.
A percentile bootstrap over five raters would be too short (`benchmarks/statistics_size.py` measures all of this). With
one rater only utterances vary, and nothing is said about other raters.

Where utterances come in clusters that are asked about (the speakers of a corpus that a model was tested on) and the
trials of a training stand where raters do, the same formulas have clusters for u. All trials share all speakers, which
vary more than trials do: the degrees of freedom are then the harmonic mean of trials - 1 and speakers - 1, weighted by
the two parts of the variance. In simulations a test at 5 % errs in 2.4 % to 6.8 % of cases, with 3 to 10 trials and 4
to 24 speakers, and one at 0.1 % in 0.8 % at most; bound by R - 1 it would see nothing with three trials, and bound by
the speakers alone err in 1.3 % at 0.1 %.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.special import chdtri, stdtr, stdtrit  # scipy.stats takes as long to import as torch

from s3prl_metaperser.evaluation.metrics import Metric, Weighted, main_metrics, metrics_for

if TYPE_CHECKING:
    from s3prl_metaperser.corpora.label_set import LabelSet

LEVEL = 0.95
#: How rarely raters who do not differ have means as near to each other as the least variance that is believed.
BY_CHANCE = 0.05


@dataclass(frozen=True)
class Scored:
    """One episode's predictions, as far as statistics need them.

    Attributes:
        query: utterance ids, Q of them.
        probabilities: [Q, C].
        counts: the rater's answers, [Q, C].
        label_set: whose classes these are; it says which metrics are taken.
        smoothing: of the targets that the predictions were trained on.
        clusters: who speaks each of them, where further speakers and not further utterances are asked about; Q names.
        threshold: above which a class is given, where one was learned.
        replicate: training seed and corpus, where there are several of either.
    """

    query: Sequence[str]
    probabilities: np.ndarray
    counts: np.ndarray
    label_set: LabelSet
    smoothing: float = 0.0
    clusters: Sequence[str] | None = None
    threshold: float | None = None
    replicate: tuple[int, str] | None = None

    @cached_property
    def units(self) -> tuple[str, ...]:
        """What varies, U of them, each once: utterances, or the clusters of which there are two at least."""
        clusters = tuple(dict.fromkeys(self.clusters or ()))
        return clusters if len(clusters) > 1 else tuple(self.query)

    @property
    def shares(self) -> np.ndarray:
        """The share of each class in an answer, float64 [Q, C]."""
        counts = np.asarray(self.counts, dtype=np.float64)
        return counts / counts.sum(-1, keepdims=True)

    def influence_on(self, metrics: Sequence[Metric]) -> tuple[np.ndarray, np.ndarray]:
        """Each metric's value, [M], and its derivatives by the weights of :attr:`units`, [M, U]
        (:meth:`.Metric.influence`)."""
        place = {name: at for at, name in enumerate(self.units)}
        whose = None if len(self.units) == len(self.query) else np.array([place[name] for name in self.clusters or ()])
        given = (self.probabilities, self.counts, self.label_set, self.smoothing)
        nudged = Weighted.nudged(*given, clusters=whose, threshold=self.threshold)
        values, derivatives = zip(*(metric.influence(nudged) for metric in metrics), strict=True)
        return np.array(values), np.stack(derivatives)


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval.

    Attributes:
        undefined: how many episodes are left out because the metric is undefined for them.
    """

    mean: float
    low: float
    high: float
    undefined: int = 0

    def as_json(self) -> dict[str, float]:
        """For a file: without ``undefined`` where nothing is left out."""
        return {name: value for name, value in vars(self).items() if name != "undefined" or value}


@dataclass(frozen=True)
class Estimate:
    """A mean over raters, its standard error, and the degrees of freedom of that error.

    Attributes:
        undefined: how many episodes are left out because the metric is undefined for them.
    """

    mean: float
    error: float
    freedom: float
    undefined: int = 0

    def interval(self, level: float = LEVEL) -> Interval:
        """mean -+ t * error."""
        reach = float(stdtrit(self.freedom, (1 + level) / 2)) * self.error if self.error > 0 else 0.0
        return Interval(self.mean, self.mean - reach, self.mean + reach, self.undefined)

    def p_value(self) -> float:
        """Two-sided, of a mean of zero; below 1 - level exactly where the interval leaves out zero."""
        if self.error == 0:
            return 1.0 if self.mean == 0 else 0.0
        return float(2 * stdtr(self.freedom, -abs(self.mean) / self.error))


@dataclass(frozen=True)
class Influences:
    """One rater's scores, and what each of its utterances does to them.

    Attributes:
        metrics: M of them: those of the label set.
        utterances: U of them, each once; or clusters of utterances.
        means: each metric averaged over the episodes where it is defined, [M]; NaN where it is defined in none.
        derivatives: of the means by the weight of each of these, [M, U], each episode's times sqrt(U / (U - 1)).
        defined: in which episodes each metric is defined, bool [M, episodes].
        replicates: (training seed, corpus) -> each metric's mean over its episodes, [M]; empty without several.
        clustered: whether the utterances are clusters, such as speakers, which all raters (trials) share.
    """

    metrics: tuple[Metric, ...]
    queries: tuple[tuple[str, ...], ...]
    utterances: tuple[str, ...]
    means: np.ndarray
    derivatives: np.ndarray
    defined: np.ndarray
    replicates: Mapping[tuple[int, str], np.ndarray] = field(default_factory=dict)
    clustered: bool = False

    def __sub__(self, other: Influences) -> Influences:
        """The paired difference; NaN for a metric that the two have in different episodes.

        Raises:
            ValueError: the episodes differ, so that nothing is paired.
        """
        if self.queries != other.queries:
            raise ValueError("the two systems were tested on different episodes")
        paired = np.where((self.defined == other.defined).all(1), 0.0, np.nan)
        return dataclasses.replace(
            self,
            means=self.means - other.means + paired,
            derivatives=self.derivatives - other.derivatives,
            defined=self.defined & other.defined,
            replicates={r: self.replicates[r] - other.replicates[r] for r in self.replicates if r in other.replicates},
        )


class Episodes(list[Scored]):
    """One rater's episodes, which remember their :func:`influences`: a report's tables and comparisons share them."""

    @cached_property
    def influences(self) -> Influences:
        """Those of all metrics of the label set."""
        return influences(tuple(self))


def influences(episodes: Sequence[Scored], metrics: Sequence[Metric] | None = None) -> Influences:
    """One rater's mean scores, and their derivatives.

    Args:
        metrics: those of the label set by default.
    """
    if metrics is None and isinstance(episodes, Episodes):
        return episodes.influences
    metrics = tuple(metrics_for(episodes[0].label_set) if episodes and metrics is None else metrics or ())
    found = [episode.influence_on(metrics) for episode in episodes]
    queries, units = [tuple(episode.query) for episode in episodes], [episode.units for episode in episodes]
    replicates = _by_replicate(episodes, [values for values, _ in found])
    clustered = bool(episodes) and all(own != query for own, query in zip(units, queries, strict=True))
    return dataclasses.replace(joined(metrics, queries, units, found), replicates=replicates, clustered=clustered)


def joined(
    metrics: tuple[Metric, ...],
    queries: Sequence[tuple[str, ...]],
    units: Sequence[tuple[str, ...]],
    found: Sequence[tuple[np.ndarray, np.ndarray]],
) -> Influences:
    """One rater's influences from those of each episode: values [M], and derivatives by its units [M, U]."""
    place = {name: at for at, name in enumerate(dict.fromkeys(name for names in units for name in names))}
    total, derivatives = np.zeros(len(metrics)), np.zeros((len(place), len(metrics)))
    defined = np.ones((len(metrics), len(queries)), dtype=bool)
    for number, ((values, own), names) in enumerate(zip(found, units, strict=True)):
        defined[:, number] = np.isfinite(values)
        total += np.where(defined[:, number], values, 0.0)
        unbiased = np.sqrt(len(names) / max(len(names) - 1, 1))
        np.add.at(derivatives, [place[name] for name in names], unbiased * own.T)
    count = defined.sum(1)
    means = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
    derivatives = derivatives.T / np.maximum(count, 1)[:, None]
    return Influences(metrics, tuple(queries), tuple(place), means, derivatives, defined)


def _by_replicate(episodes: Sequence[Scored], values: Sequence[np.ndarray]) -> dict[tuple[int, str], np.ndarray]:
    """Each replicate's means, [M]; NaN where a metric is undefined in all of its episodes."""
    found: dict[tuple[int, str], list[np.ndarray]] = {}
    for episode, own in zip(episodes, values, strict=True):
        if episode.replicate is not None:
            found.setdefault(episode.replicate, []).append(own)
    with warnings.catch_warnings(action="ignore"):  # of a mean of nothing but NaN
        return {replicate: np.nanmean(values, axis=0) for replicate, values in found.items()}


def mean_scores(raters: Mapping[str, Sequence[Scored]], metrics: Sequence[Metric] | None = None) -> dict[str, float]:
    """Each metric averaged over a rater's episodes, then over raters; one that is undefined for all is left out.

    Args:
        metrics: those of the label set by default.
    """
    everyone = [influences(episodes, metrics) for episodes in raters.values()]
    return {
        metric.name: float(np.mean([everyone[at].means[index] for at in defined]))
        for index, metric, defined in _defined(everyone)
    }


def best_possible(raters: Mapping[str, Sequence[Scored]]) -> dict[str, float]:
    """Metric -> what perfect predictions reach on these episodes, for metrics that the answers may keep below their
    bound: macro-F1 counts a class that a rater answers nowhere as zero."""
    perfect = {
        rater: [dataclasses.replace(e, probabilities=e.shares, smoothing=0.0) for e in episodes]
        for rater, episodes in raters.items()
    }
    label_set = next(iter(raters.values()))[0].label_set
    capped = [metric for metric in main_metrics(label_set) if metric.capped]
    return mean_scores(perfect, capped) if capped else {}


def intervals(raters: Mapping[str, Sequence[Scored]], metrics: Sequence[Metric] | None = None) -> dict[str, Interval]:
    """Mean and 95 % interval of each metric that is defined for one episode at least.

    Args:
        metrics: those of the label set by default.

    Returns:
        Intervals cut at the metric's bounds.
    """
    return mean_intervals({rater: influences(episodes, metrics) for rater, episodes in raters.items()})


def mean_intervals(raters: Mapping[str, Influences]) -> dict[str, Interval]:
    """:func:`intervals` of raters whose influences are known."""
    bounds = {metric.name: metric.bounds for metric in next(iter(raters.values())).metrics}
    return {name: within(estimate.interval(), *bounds[name]) for name, estimate in estimates(raters).items()}


def paired_intervals(
    first: Mapping[str, Sequence[Scored]], second: Mapping[str, Sequence[Scored]]
) -> dict[str, Interval]:
    """Mean and 95 % interval of ``first - second`` on the same episodes, within what the metric's bounds allow.

    Raises:
        ValueError: the episodes differ, so that nothing is paired.
    """
    differences = {}
    for rater, episodes in first.items():
        try:
            differences[rater] = influences(episodes) - influences(second.get(rater, ()))
        except ValueError as error:
            raise ValueError(f"rater {rater}: {error}") from None
    return difference_intervals(differences)


def difference_intervals(differences: Mapping[str, Influences]) -> dict[str, Interval]:
    """:func:`paired_intervals` of raters whose paired differences are known."""
    reach = {metric.name: metric.bounds[1] - metric.bounds[0] for own in differences.values() for metric in own.metrics}
    return {
        name: within(estimate.interval(), -reach[name], reach[name])
        for name, estimate in estimates(differences).items()
    }


def within(span: Interval, low: float, high: float) -> Interval:
    """The part of an interval that lies within bounds."""
    return dataclasses.replace(span, low=max(span.low, low), high=min(span.high, high))


def estimates(raters: Mapping[str, Influences]) -> dict[str, Estimate]:
    """Each metric's mean over the raters for whom it is defined, with its error; left out where it is for none."""
    everyone = list(raters.values())
    place: dict[str, int] = {}
    columns = np.array([place.setdefault(utterance, len(place)) for own in everyone for utterance in own.utterances])
    whose = np.repeat(np.arange(len(everyone)), [len(own.utterances) for own in everyone])
    derivatives = np.concatenate([own.derivatives for own in everyone], axis=1)  # [M, U of every rater in turn]
    found = {}
    for index, metric, defined in _defined(everyone):
        kept = np.isin(whose, defined)
        own, means = derivatives[index, kept], np.array([everyone[at].means[index] for at in defined])
        total = np.bincount(columns[kept], own)
        levels = _levels([everyone[at] for at in defined], index)
        clustered = all(everyone[at].clustered for at in defined)
        variances = (own**2).sum(), (total**2).sum()
        error, freedom = error_and_freedom(means, *variances, len(place), levels, clustered=clustered)
        undefined = sum(int((~each.defined[index]).sum()) for each in everyone)
        found[metric.name] = Estimate(float(means.mean()), float(error), float(freedom), undefined)
    return found


class Levels(NamedTuple):
    """Means over a factor's levels, such as training seeds: [R, T]; and whether each has utterances of its own."""

    means: np.ndarray
    own_utterances: bool


def _levels(everyone: Sequence[Influences], metric: int) -> list[Levels]:
    """Training seeds and corpora of which there are several, as far as all raters have them."""
    shared = [r for r in everyone[0].replicates if all(r in own.replicates for own in everyone)]
    found = []
    for part in (0, 1):
        names = sorted({replicate[part] for replicate in shared}, key=str)
        if len(names) > 1:
            of_level = [[r for r in shared if r[part] == name] for name in names]
            means = [[np.mean([own.replicates[r][metric] for r in rs]) for rs in of_level] for own in everyone]
            if np.isfinite(means).all():
                found.append(Levels(np.array(means), part == 1))
    return found


def _defined(everyone: Sequence[Influences]) -> Iterator[tuple[int, Metric, list[int]]]:
    """Each metric with its place and the raters for whom it is defined, but for those that are for none."""
    for index, metric in enumerate(everyone[0].metrics):
        if defined := [at for at, own in enumerate(everyone) if np.isfinite(own.means[index])]:
            yield index, metric, defined


def error_and_freedom(
    means: np.ndarray,
    own: np.ndarray | float,
    total: np.ndarray | float,
    utterances: int,
    levels: Sequence[Levels] = (),
    *,
    clustered: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """The standard error of a mean over raters, and its degrees of freedom; of many such means at once.

    Args:
        means: of each rater, [..., R].
        own: the sum over raters of the variance that further utterances give a rater's mean, [...].
        total: the variance that they give the sum of all raters' means, [...]; ``own`` where nothing is shared.
        utterances: how many there are.
        levels: of factors that are crossed with raters, of one mean alone.
        clustered: the utterances are clusters (speakers) that all raters (trials) share: neither bounds the degrees of
            freedom alone.
    """
    raters, of_utterances = means.shape[-1], max(utterances - 1, 1)
    own, total = np.asarray(own, dtype=np.float64), np.asarray(total, dtype=np.float64)
    if raters == 1:
        if not levels:
            return np.sqrt(own), np.full(own.shape, float(of_utterances))
        return _combined([(own, of_utterances), *((_further(f, 0.0), f.means.shape[1] - 1) for f in levels)], np.inf)
    shared = (total - own) / (raters * (raters - 1))
    apart = np.maximum(own / raters - shared, 0.0) / raters  # what s^2 / R is on average where raters do not differ
    least = chdtri(raters - 1, 1 - BY_CHANCE) / (raters - 1) * apart
    between, shared = np.maximum(means.var(axis=-1, ddof=1) / raters, least), np.maximum(shared, 0.0)
    parts = [(between, raters - 1), (shared, of_utterances)]
    parts += [(_further(each, shared if each.own_utterances else 0.0), each.means.shape[1] - 1) for each in levels]
    return _shared(parts) if clustered else _combined(parts, raters - 1)


def _further(levels: Levels, known: np.ndarray | float) -> np.ndarray:
    """What a factor's level gives all raters in common, as a variance of the mean over its levels; none below zero.

    The variance of the levels' means, less what their interaction with raters makes of it, which the variance between
    raters holds already, and less ``known``, where each level has utterances of its own.
    """
    y = levels.means
    raters, count = y.shape
    apart = y - y.mean(0) - y.mean(1, keepdims=True) + y.mean()
    interaction = (apart**2).sum() / ((raters - 1) * (count - 1)) if raters > 1 else 0.0
    return np.maximum(y.mean(0).var(ddof=1) / count - interaction / (raters * count) - known, 0.0)


def _shared(parts: Sequence[tuple[np.ndarray, float]]) -> tuple[np.ndarray, np.ndarray]:
    """The root of a sum of variances, and the harmonic mean of their degrees of freedom, weighted by them."""
    whole = sum((variance for variance, _ in parts[1:]), parts[0][0])
    below = sum((variance / freedom for variance, freedom in parts[1:]), parts[0][0] / parts[0][1])
    return np.sqrt(whole), np.divide(whole, below, out=np.full(np.shape(below), float(parts[0][1])), where=below > 0)


def _combined(parts: Sequence[tuple[np.ndarray, float]], most: float) -> tuple[np.ndarray, np.ndarray]:
    """The root of a sum of variances, and its degrees of freedom (Satterthwaite), ``most`` at most."""
    whole = sum((variance for variance, _ in parts[1:]), parts[0][0])
    below = sum((variance**2 / freedom for variance, freedom in parts[1:]), parts[0][0] ** 2 / parts[0][1])
    freedom = np.divide(whole**2, below, out=np.full(np.shape(below), np.inf), where=below > 0)
    return np.sqrt(whole), np.minimum(freedom, most)
