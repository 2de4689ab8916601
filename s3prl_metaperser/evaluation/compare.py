"""Which system is better: paired comparisons on the same episodes, corrected for how many there are."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from s3prl_metaperser.errors import UserError
from s3prl_metaperser.evaluation.metrics import Metric, main_metrics, metric_for, metrics_for
from s3prl_metaperser.evaluation.result_keys import Cell, Setting
from s3prl_metaperser.evaluation.statistics import (
    LEVEL,
    Estimate,
    Influences,
    Interval,
    Scored,
    estimates,
    influences,
    within,
)
from s3prl_metaperser.methods import zero_shot_of

if TYPE_CHECKING:
    from s3prl_metaperser.corpora.label_set import LabelSet


#: Stands for each system's zero-shot twin (:attr:`.Facts.zero_shot`), where systems are held against something.
ZERO_SHOT = "zero-shot"
#: Below so many raters nothing is called better: what two agree on says little about a third.
FEWEST_RATERS = 3


@dataclass(frozen=True)
class Comparison:
    """One system against another, in one setting and metric, on the episodes of the raters both were tested on.

    Numbers are in the metric's own unit: fractions, not points. ``p`` is below 0.05 exactly where ``difference`` leaves
    out zero, and ``p_holm`` exactly where ``adjusted`` does: both come from one t statistic. With too few raters for a
    verdict a comparison stands in no family: ``p_holm`` is 1.

    Attributes:
        first, second: names of the systems; the difference is first - second.
        family: how many comparisons were corrected for.
        per_rater: rater whose episodes were used -> difference of the means over its episodes.
        sides: rater -> both systems' scores, with what each utterance does to them.
    """

    setting: Setting
    metric: Metric
    first: str
    second: str
    estimate: Estimate
    p_holm: float
    family: int
    per_rater: dict[str, float]
    sides: Mapping[str, tuple[Influences, Influences]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def differences(self) -> dict[str, Influences]:
        """``per_rater`` with what each utterance does to it, for other tests (:mod:`.independent`)."""
        return {rater: one - other for rater, (one, other) in self.sides.items()}

    @property
    def difference(self) -> Interval:
        """With the 95 % interval of this comparison alone, within what the metric's bounds allow."""
        return self.possible(self.estimate.interval())

    @property
    def p(self) -> float:
        """Two-sided, of this comparison alone."""
        return self.estimate.p_value()

    @property
    def adjusted(self) -> Interval:
        """With the interval at the level at which Holm's procedure tests this comparison; never shorter than
        ``difference``."""
        share = self.p / self.p_holm if self.p_holm > 0 else 1 / self.family
        return self.possible(self.estimate.interval(1 - (1 - LEVEL) * share))

    def possible(self, span: Interval) -> Interval:
        """The part of an interval of the difference that the metric's bounds allow."""
        low, high = self.metric.bounds
        return within(span, low - high, high - low)

    @property
    def raters(self) -> tuple[str, ...]:
        """Whose episodes were used, in order."""
        return tuple(self.per_rater)

    @property
    def too_few(self) -> bool:
        """Whether there are too few raters for a verdict."""
        return len(self.per_rater) < FEWEST_RATERS

    @property
    def told_apart(self) -> bool:
        """Whether the difference stands after Holm's correction, at 5 %; never with too few raters."""
        return not self.too_few and self.p_holm < 1 - LEVEL

    @property
    def verdict(self) -> str:
        """The outcome as a sentence without its full stop."""
        span, metric, alone, corrected = self.difference, self.metric, "", ""
        unit = f" {metric.difference_unit}".rstrip()
        if self.too_few:
            many = f"rater {self.raters[0]} alone says" if len(self.raters) == 1 else f"{len(self.raters)} raters say"
            return (
                f"{self.first} and {self.second} cannot be told apart: {many} too little about others (a verdict needs "
                f"{FEWEST_RATERS}); the difference here is {metric.shown(span.mean, '+')}{unit}"
            )
        if not self.told_apart:
            if self.p < 1 - LEVEL:  # the interval alone leaves out zero and would contradict the verdict
                span, corrected = self.adjusted, "corrected, "
                alone = f", though {_probability(self.p)} before correction for {self.family} comparisons"
            return (
                f"{self.first} and {self.second} cannot be told apart{alone}: {corrected}the difference lies "
                f"between {metric.shown(span.low, '+')} and {metric.shown(span.high, '+')}{unit}"
            )
        first_is_better = metric.better(span.mean, 0.0)
        better, worse = (self.first, self.second) if first_is_better else (self.second, self.first)
        low, high = sorted((abs(span.low), abs(span.high)))
        return (
            f"{better} is better than {worse} by {metric.shown(abs(span.mean))}{unit} "
            f"(95 % interval {metric.shown(low)} to {metric.shown(high)}, {_probability(self.p_holm)} after correction)"
        )


class _Pair(NamedTuple):
    """Two systems of a setting by all metrics; ``means``: rater -> metric -> the difference."""

    first: str
    second: str
    sides: Mapping[str, tuple[Influences, Influences]]
    means: Mapping[str, Mapping[str, float]]
    estimates: Mapping[str, Estimate]


def compare(
    cells: Mapping[Cell, Mapping[str, Sequence[Scored]]], against: str | None = None, *, metric: str | None = None
) -> list[Comparison]:
    """Paired comparisons of the systems of each setting (corpus, upstream, scope, scenario, K, protocol).

    The test is a paired t test over raters whose standard error also counts that raters share utterances; see
    :mod:`s3prl_metaperser.evaluation.statistics`. Holm's correction is over the family: all comparisons that are
    made in one setting and metric with one value of ``against``.

    Args:
        cells: from :func:`~s3prl_metaperser.evaluation.collect.group`.
        against: ``None``: every pair once. A system's name: each other system minus this one. ``zero-shot``: each
            other system minus its zero-shot twin in the scope (:attr:`.Facts.zero_shot`); none where that has no
            results.
        metric: a registered name; by default each setting's primary metric.

    Returns:
        In the order of settings and systems. Systems without a rater in common are not compared.

    Raises:
        UserError: two systems were tested on different episodes of one rater, or the metric does not fit.
    """

    def one(label_set: LabelSet) -> tuple[Metric, ...]:
        return (metrics_for(label_set)[0] if metric is None else metric_for(label_set, metric),)

    return _compared(cells, None if against is None else (against,), one)


def compare_all(cells: Mapping[Cell, Mapping[str, Sequence[Scored]]], *against: str) -> list[Comparison]:
    """:func:`compare` by every metric but further ones, with several references at once: these are one family in each
    setting and metric, and a pair that two of them ask for is compared once, so that it has one verdict.

    Args:
        against: as there; without any, every pair once.
    """
    return _compared(cells, against or None, main_metrics)


def _compared(
    cells: Mapping[Cell, Mapping[str, Sequence[Scored]]],
    against: Sequence[str] | None,
    wanted: Callable[[LabelSet], tuple[Metric, ...]],
) -> list[Comparison]:
    found: list[Comparison] = []
    by_setting: dict[Setting, dict[str, Mapping[str, Sequence[Scored]]]] = {}
    for cell, raters in cells.items():
        by_setting.setdefault(cell.setting, {})[cell.system] = raters
    for setting, mine in sorted(by_setting.items(), key=lambda item: item[0]):
        systems = {
            name: {rater: influences(episodes) for rater, episodes in raters.items()} for name, raters in mine.items()
        }
        tested = []
        for first, second in _pairs(setting, list(systems), against):
            sides = _sides(first, mine[first], second, mine[second], systems)
            if sides:
                differences = _differences(setting, first, second, sides)
                means = {
                    rater: dict(zip([m.name for m in own.metrics], own.means.tolist(), strict=True))
                    for rater, own in differences.items()
                }
                tested.append(_Pair(first, second, sides, means, estimates(differences)))
        (episode, *_), *_ = next(iter(mine.values())).values()
        for metric in wanted(episode.label_set):
            found += _family(setting, metric, tested)
    return found


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Holm's (1979) adjusted p values, in the order given, float64 [m].

    The i-th smallest (from 1) is multiplied by m - i + 1, made no smaller than the one before it, and cut at 1.
    """
    given = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(given, kind="stable")
    raised = np.maximum.accumulate(given[order] * np.arange(len(order), 0, -1))
    adjusted = np.empty_like(given)
    adjusted[order] = np.minimum(raised, 1.0)
    return adjusted


def _pairs(setting: Setting, names: list[str], against: Sequence[str] | None) -> list[tuple[str, str]]:
    if against is None:
        return list(itertools.combinations(names, 2))
    found: dict[frozenset[str], tuple[str, str]] = {}
    for each in against:
        for name in names:
            reference = zero_shot_of(name, setting.scope) if each == ZERO_SHOT else each
            if reference in names and reference != name:
                found.setdefault(frozenset((name, reference)), (name, reference))
    return list(found.values())


def _sides(
    first: str,
    one: Mapping[str, Sequence[Scored]],
    second: str,
    other: Mapping[str, Sequence[Scored]],
    known: Mapping[str, Mapping[str, Influences]],
) -> dict[str, tuple[Influences, Influences]]:
    """Rater -> the scores of both systems, on the training seeds and corpora that both have of it.

    Args:
        known: system -> rater -> the influences of all of its episodes.
    """
    found = {}
    for rater in (rater for rater in one if rater in other):
        mine, theirs = ({episode.replicate for episode in part[rater]} for part in (one, other))
        if mine == theirs or len(mine) == len(theirs) == 1:
            found[rater] = known[first][rater], known[second][rater]
        elif mine & theirs:
            alike = ([e for e in part[rater] if e.replicate in mine & theirs] for part in (one, other))
            found[rater] = influences(next(alike)), influences(next(alike))
    return found


def _differences(
    setting: Setting, first: str, second: str, sides: Mapping[str, tuple[Influences, Influences]]
) -> dict[str, Influences]:
    """Rater -> the paired difference."""
    found = {}
    for rater, (one, other) in sides.items():
        try:
            found[rater] = one - other
        except ValueError as error:
            raise UserError(f"{first} and {second} ({setting}), rater {rater}: {error}.") from None
    return found


def _family(
    setting: Setting,
    metric: Metric,
    tested: Sequence[_Pair],
) -> list[Comparison]:
    """The comparisons by one metric, as far as it is defined."""
    name, found = metric.name, []
    for pair in tested:
        if name in pair.estimates:
            per_rater = {rater: means[name] for rater, means in pair.means.items() if np.isfinite(means[name])}
            found.append(
                Comparison(
                    setting, metric, pair.first, pair.second, pair.estimates[name], 1.0, 1, per_rater, pair.sides
                )
            )
    return corrected(found, [not comparison.too_few for comparison in found])


def corrected(comparisons: Sequence[Comparison], counted: Sequence[bool]) -> list[Comparison]:
    """The same after Holm's correction over those that count; others stand in no family."""
    family = [c.p for c, counts in zip(comparisons, counted, strict=True) if counts]
    adjusted = iter(holm(family).tolist())
    return [
        replace(c, p_holm=next(adjusted), family=len(family)) if counts else replace(c, p_holm=1.0)
        for c, counts in zip(comparisons, counted, strict=True)
    ]


def _probability(p: float) -> str:
    return f"p = {p:.3f}" if p >= 0.001 else "p < 0.001"
