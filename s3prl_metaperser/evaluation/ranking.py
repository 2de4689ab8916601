"""All systems of one setting in order, and which of them cannot be told apart: every pair at once.

The numbers are :func:`.compare.compare`'s, for thousands of systems: a pair's variances are differences of two systems'
influences, so that two products of matrices hold those of all pairs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy.special import stdtr

from s3prl_metaperser.errors import UserError
from s3prl_metaperser.evaluation.compare import FEWEST_RATERS, holm
from s3prl_metaperser.evaluation.metrics import Metric
from s3prl_metaperser.evaluation.statistics import LEVEL, Influences, Interval, error_and_freedom, mean_intervals

#: Pairs of which t is computed at once.
_AT_ONCE = 200_000


@dataclass(frozen=True)
class Ranking:
    """Systems of one setting by one metric, the best first.

    Attributes:
        raters: those that all of them were tested on.
        groups: (first, last) places of systems of which no two can be told apart, each as long as can be; places count
            from 0. Empty where there are too few raters for a verdict.
        incomplete: systems that were not tested on all raters, or are undefined for one; they have no place.
    """

    metric: Metric
    systems: tuple[str, ...]
    spans: Mapping[str, Interval]
    raters: tuple[str, ...]
    groups: tuple[tuple[int, int], ...] = ()
    incomplete: tuple[str, ...] = ()
    p_holm: np.ndarray = field(default_factory=lambda: np.ones((0, 0)), repr=False, compare=False)

    @property
    def too_few(self) -> bool:
        """Whether there are too few raters for a verdict."""
        return len(self.raters) < FEWEST_RATERS


def ranked(systems: Mapping[str, Mapping[str, Influences]], metric: Metric) -> Ranking:
    """Order the systems of one setting.

    Args:
        systems: system -> rater -> influences of that metric alone, on the same episodes.

    Raises:
        UserError: two systems were tested on different episodes of a rater.
    """
    raters = tuple(sorted({rater for own in systems.values() for rater in own}))
    spans = {name: mean_intervals(own).get(metric.name) for name, own in systems.items()}
    whole = {
        name: span
        for name, span in spans.items()
        if span is not None and all(r in systems[name] and np.isfinite(systems[name][r].means[0]) for r in raters)
    }
    sign = -1 if metric.higher_is_better else 1
    order = sorted(whole, key=lambda name: (sign * whole[name].mean, name))
    left = tuple(sorted(set(systems) - set(order)))
    known = {name: span for name, span in spans.items() if span is not None}
    found = Ranking(metric, tuple(order), known, raters, incomplete=left)
    if found.too_few or len(order) < 2:
        return found
    p_holm = _p_values([systems[name] for name in order], order, raters)
    return Ranking(metric, tuple(order), known, raters, _groups(p_holm), left, p_holm)


def _p_values(systems: list[Mapping[str, Influences]], names: list[str], raters: tuple[str, ...]) -> np.ndarray:
    """p of every pair after Holm's correction over all of them, [S, S]."""
    first = systems[0]
    for name, own in zip(names, systems, strict=True):
        for rater in raters:
            if own[rater].queries != first[rater].queries:
                raise UserError(f"{names[0]} and {name}, rater {rater}: the two were tested on different episodes.")
    place: dict[str, int] = {}
    columns = np.array([place.setdefault(u, len(place)) for rater in raters for u in first[rater].utterances])
    apart = np.stack([np.concatenate([own[rater].derivatives[0] for rater in raters]) for own in systems])
    together = np.zeros((len(systems), len(place)))
    for row, values in zip(together, apart, strict=True):
        row += np.bincount(columns, values, len(place))
    means = np.array([[own[rater].means[0] for rater in raters] for own in systems])
    clustered = all(first[rater].clustered for rater in raters)
    one, other = np.triu_indices(len(systems), 1)
    p = np.empty(len(one))
    products = apart @ apart.T, together @ together.T
    for start in range(0, len(one), _AT_ONCE):
        a, b = one[start : start + _AT_ONCE], other[start : start + _AT_ONCE]
        of_raters, of_sum = (np.maximum(g[a, a] + g[b, b] - 2 * g[a, b], 0.0) for g in products)
        differences = means[a] - means[b]
        error, freedom = error_and_freedom(differences, of_raters, of_sum, len(place), clustered=clustered)
        mean = np.abs(differences.mean(-1))
        with np.errstate(divide="ignore", invalid="ignore"):
            p[start : start + _AT_ONCE] = np.where(error > 0, 2 * stdtr(freedom, -mean / error), mean == 0)
    found = np.ones((len(systems), len(systems)))
    found[one, other] = found[other, one] = holm(p.tolist())
    return found


def _groups(p_holm: np.ndarray) -> tuple[tuple[int, int], ...]:
    """The longest runs of places of which no two are told apart, each of two places at least."""
    alike = p_holm >= 1 - LEVEL
    found: list[tuple[int, int]] = []
    end = 0
    for start in range(len(alike)):
        end = max(end, start)
        while end + 1 < len(alike) and alike[start : end + 1, end + 1].all():
            end += 1
        if end > start and (not found or end > found[-1][1]):
            found.append((start, end))
    return tuple(found)
