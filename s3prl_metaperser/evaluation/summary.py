"""One cell of a table in numbers: means, intervals, each rater, the worst one, gains over zero-shot, calibration.

A report needs only this module: :func:`load_results`, :func:`group`, :func:`summarise` and :func:`compare`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from s3prl_metaperser.evaluation.calibration_scores import BINS, Calibration, average, rater_calibration
from s3prl_metaperser.evaluation.collect import group, load_results
from s3prl_metaperser.evaluation.compare import Comparison, compare, compare_all
from s3prl_metaperser.evaluation.metrics import METRICS
from s3prl_metaperser.evaluation.result import Cell, Setting
from s3prl_metaperser.evaluation.statistics import Interval, Scored, mean_scores, resample, resampled_intervals
from s3prl_metaperser.methods import facts_of

__all__ = [
    "Calibration",
    "Cell",
    "Comparison",
    "Setting",
    "Summary",
    "compare",
    "compare_all",
    "group",
    "load_results",
    "summarise",
    "summarise_all",
]


@dataclass(frozen=True)
class Summary:
    """One cell. Scores are fractions, not points.

    Attributes:
        intervals: metric -> mean over seeds, then raters, with the 95 % interval that a further rater and further
            utterances would call for; of one rater alone, only further utterances.
        per_rater: rater -> metric -> mean over its episodes, with the 95 % interval for further utterances.
        worst: metric -> (rater, mean) of the rater with the lowest mean.
        improved: metric -> share of raters with a higher mean than in the zero-shot system; None without one.
        calibration: means over raters.
        rater_calibration: rater -> its own.
        episodes: how many there are, all raters together.
    """

    intervals: dict[str, Interval]
    per_rater: dict[str, dict[str, Interval]]
    worst: dict[str, tuple[str, float]]
    improved: dict[str, float] | None
    calibration: Calibration
    rater_calibration: dict[str, Calibration]
    episodes: int


def summarise(
    per_rater: Mapping[str, Sequence[Scored]],
    zero_shot: Mapping[str, Sequence[Scored]] | None = None,
    *,
    draws: int = 2000,
    bins: int = BINS,
    seed: int = 0,
) -> Summary:
    """All numbers of one cell.

    Args:
        per_rater: rater -> episodes; a value of :func:`group`.
        zero_shot: the same of its zero-shot twin in the same setting (:attr:`.Facts.zero_shot`); raters that are
            not in it do not count towards ``improved``.
        draws: bootstrap draws of the utterances.
        bins: of the calibration error.
    """
    resampled = {rater: resample(episodes, draws, seed) for rater, episodes in per_rater.items()}
    spans = {rater: resampled_intervals({rater: own}) for rater, own in resampled.items()}
    worst = {name: min(((r, s[name].mean) for r, s in spans.items()), key=lambda p: p[1]) for name in METRICS}
    fits = {rater: rater_calibration(episodes, bins) for rater, episodes in per_rater.items()}
    return Summary(
        intervals=resampled_intervals(resampled),
        per_rater=spans,
        worst=worst,
        improved=share_improved(per_rater, zero_shot) if zero_shot is not None else None,
        calibration=average(list(fits.values())),
        rater_calibration=fits,
        episodes=sum(len(episodes) for episodes in per_rater.values()),
    )


def summarise_all(
    cells: Mapping[Cell, Mapping[str, Sequence[Scored]]], *, draws: int = 2000, bins: int = BINS, seed: int = 0
) -> dict[Cell, Summary]:
    """:func:`summarise` for every cell, with the zero-shot system of its own setting where there is one."""

    def twin(cell: Cell) -> Mapping[str, Sequence[Scored]] | None:
        name = facts_of(cell.system).zero_shot.get(cell.scope, "")
        return cells.get(replace(cell, system=name))

    return {cell: summarise(raters, twin(cell), draws=draws, bins=bins, seed=seed) for cell, raters in cells.items()}


def share_improved(
    per_rater: Mapping[str, Sequence[Scored]], zero_shot: Mapping[str, Sequence[Scored]]
) -> dict[str, float] | None:
    """Metric -> share of the raters in both whose mean is higher than in the zero-shot system; None if none is."""
    shared = [rater for rater in per_rater if rater in zero_shot]
    if not shared:
        return None
    ours = [mean_scores({rater: per_rater[rater]}) for rater in shared]
    theirs = [mean_scores({rater: zero_shot[rater]}) for rater in shared]
    return {m: sum(o[m] > t[m] for o, t in zip(ours, theirs, strict=True)) / len(shared) for m in METRICS}
