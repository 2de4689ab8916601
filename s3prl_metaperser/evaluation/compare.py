"""Which system is better: paired comparisons on the same episodes, corrected for how many there are."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from s3prl_metaperser.errors import UserError
from s3prl_metaperser.evaluation.metrics import METRICS
from s3prl_metaperser.evaluation.result import Cell, Setting
from s3prl_metaperser.evaluation.statistics import LEVEL, Estimate, Interval, Resampled, Scored, estimates, resample
from s3prl_metaperser.methods import facts_of


@dataclass(frozen=True)
class Comparison:
    """One system against another, in one setting and metric, on the episodes of the raters both were tested on.

    All numbers are fractions, not points. ``p`` is below 0.05 exactly where ``difference`` leaves out zero, and
    ``p_holm`` exactly where ``adjusted`` does: both come from one t statistic.

    Attributes:
        first, second: names of the systems; the difference is first - second.
        difference: with the 95 % interval of this comparison alone.
        p: two-sided, of this comparison alone.
        p_holm: after Holm's correction over the family.
        adjusted: the interval at the level at which Holm's procedure tests this comparison; never shorter than
            ``difference``.
        family: how many comparisons were corrected for.
        raters: whose episodes were used, in order.
        per_rater: rater -> difference of the means over its episodes.
        verdict: in words.
    """

    setting: Setting
    metric: str
    first: str
    second: str
    difference: Interval
    p: float
    p_holm: float
    adjusted: Interval
    family: int
    raters: tuple[str, ...]
    per_rater: dict[str, float]
    verdict: str

    @property
    def told_apart(self) -> bool:
        """Whether the difference stands after Holm's correction, at 5 %."""
        return self.p_holm < 1 - LEVEL


def compare(
    cells: Mapping[Cell, Mapping[str, Sequence[Scored]]],
    against: str | None = None,
    *,
    metric: str = "macro_f1",
    draws: int = 2000,
    seed: int = 0,
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
        metric: ``macro_f1``, ``micro_f1`` or ``unweighted_accuracy``.
        draws: bootstrap draws of the utterances.

    Returns:
        In the order of settings and systems. Systems without a rater in common are not compared.

    Raises:
        UserError: two systems were tested on different episodes of one rater.
    """
    if metric not in METRICS:
        raise UserError(f"Bad value {metric!r} for metric. Expected one of: {', '.join(METRICS)}.")
    return _compared(cells, against, (metric,), draws, seed)


def compare_all(
    cells: Mapping[Cell, Mapping[str, Sequence[Scored]]],
    against: str | None = None,
    *,
    draws: int = 2000,
    seed: int = 0,
) -> list[Comparison]:
    """:func:`compare` for every metric; each is a family of its own."""
    return _compared(cells, against, METRICS, draws, seed)


def _compared(cells, against: str | None, metrics: Sequence[str], draws: int, seed: int) -> list[Comparison]:
    found = []
    for setting in sorted({cell.setting for cell in cells}):
        systems = {
            cell.system: {rater: resample(episodes, draws, seed) for rater, episodes in raters.items()}
            for cell, raters in cells.items()
            if cell.setting == setting
        }
        pairs = _pairs(setting, list(systems), against)
        found += [comparison for metric in metrics for comparison in _family(setting, systems, pairs, metric)]
    return found


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Holm's (1979) adjusted p values, in the order given, float64 [m].

    The i-th smallest (from 1) is multiplied by m - i + 1, made no smaller than the one before it, and cut at 1.
    """
    p_values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p_values, kind="stable")
    raised = np.maximum.accumulate(p_values[order] * np.arange(len(order), 0, -1))
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(raised, 1.0)
    return adjusted


def _pairs(setting: Setting, names: list[str], against: str | None) -> list[tuple[str, str]]:
    if against is None:
        return list(itertools.combinations(names, 2))
    if against == "zero-shot":
        references = {name: facts_of(name).zero_shot.get(setting.scope) for name in names}
    else:
        references = dict.fromkeys(names, against)
    return [(name, reference) for name, reference in references.items() if name != reference and reference in names]


def _family(setting: Setting, systems: Mapping[str, Mapping[str, Resampled]], pairs, metric: str) -> list[Comparison]:
    tested = []
    for first, second in pairs:
        differences = {}
        for rater in (rater for rater in systems[first] if rater in systems[second]):
            try:
                differences[rater] = systems[first][rater] - systems[second][rater]
            except ValueError as error:
                raise UserError(f"{first} and {second} ({setting}), rater {rater}: {error}.") from None
        if differences:
            index = METRICS.index(metric)
            per_rater = {rater: float(difference.means[index]) for rater, difference in differences.items()}
            tested.append((first, second, estimates(differences)[metric], per_rater))
    adjusted = holm([estimate.p_value() for _, _, estimate, _ in tested]).tolist()
    return [_comparison(setting, metric, *t, p, len(tested)) for t, p in zip(tested, adjusted, strict=True)]


def _comparison(
    setting: Setting,
    metric: str,
    first: str,
    second: str,
    estimate: Estimate,
    per_rater: dict[str, float],
    p_holm: float,
    family: int,
) -> Comparison:
    p = estimate.p_value()
    tested_at = (1 - LEVEL) * (p / p_holm if p_holm > 0 else 1 / family)
    difference, adjusted = estimate.interval(), estimate.interval(1 - tested_at)
    return Comparison(
        setting=setting,
        metric=metric,
        first=first,
        second=second,
        difference=difference,
        p=p,
        p_holm=p_holm,
        adjusted=adjusted,
        family=family,
        raters=tuple(per_rater),
        per_rater=per_rater,
        verdict=_verdict(first, second, difference, adjusted, p, p_holm, family, tuple(per_rater)),
    )


def _verdict(
    first: str,
    second: str,
    span: Interval,
    adjusted: Interval,
    p: float,
    p_holm: float,
    family: int,
    raters: tuple[str, ...],
) -> str:
    limit = 1 - LEVEL
    scope = f" (rater {raters[0]} alone: says nothing about other raters)" if len(raters) == 1 else ""
    if p_holm >= limit:
        alone, corrected = "", ""
        if p < limit:  # the interval alone leaves out zero and would contradict the verdict
            span, corrected = adjusted, "corrected, "
            alone = f", though {_probability(p)} before correction for {family} comparisons"
        return (
            f"{first} and {second} cannot be told apart{alone}{scope}: {corrected}the difference lies between "
            f"{100 * span.low:+.1f} and {100 * span.high:+.1f} points"
        )
    better, worse = (first, second) if span.mean > 0 else (second, first)
    low, high = sorted((abs(span.low), abs(span.high)))
    return (
        f"{better} is better than {worse} by {100 * abs(span.mean):.1f} points{scope} "
        f"(95 % interval {100 * low:.1f} to {100 * high:.1f}, {_probability(p_holm)} after correction)"
    )


def _probability(p: float) -> str:
    return f"p = {p:.3f}" if p >= 0.001 else "p < 0.001"
