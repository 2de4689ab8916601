"""One cell of a table in numbers: means, intervals, each rater, the worst one, gains over zero-shot, calibration.

A report needs only this module: :func:`load_results`, :func:`group`, :func:`summarise` and :func:`compare`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from s3prl_metaperser.evaluation.calibration_scores import Calibration, average, rater_calibration
from s3prl_metaperser.evaluation.collect import group, load_by_task, load_results
from s3prl_metaperser.evaluation.compare import Comparison, compare, compare_all
from s3prl_metaperser.evaluation.metrics import Metric, metrics_for
from s3prl_metaperser.evaluation.result_keys import Cell, Setting
from s3prl_metaperser.evaluation.statistics import Interval, Scored, influences, mean_intervals, mean_scores
from s3prl_metaperser.methods import zero_shot_of
from s3prl_metaperser.storage.at_once import at_once

__all__ = [
    "Calibration",
    "Cell",
    "Comparison",
    "Setting",
    "Summary",
    "compare",
    "compare_all",
    "group",
    "load_by_task",
    "load_results",
    "summarise",
    "summarise_all",
]

#: Up to so many cells are summed up by one process.
FEW = 500


@dataclass(frozen=True)
class Summary:
    """One cell. Scores are fractions, not points.

    Attributes:
        intervals: metric -> mean over seeds, then raters, with the 95 % interval that a further rater and further
            utterances would call for; of one rater alone, only further utterances.
        per_rater: rater -> metric -> mean over its episodes, with the 95 % interval for further utterances.
        metrics: those of the cell's label set; the first is the primary one.
        worst: metric -> (rater, mean) of the rater with the worst mean.
        improved: metric -> share of raters with a better mean than in the zero-shot system; None without one.
        calibration: means over raters.
    """

    metrics: tuple[Metric, ...]
    intervals: dict[str, Interval]
    per_rater: dict[str, dict[str, Interval]]
    worst: dict[str, tuple[str, float]]
    improved: dict[str, float] | None
    calibration: Calibration
    episodes: int


def summarise(
    per_rater: Mapping[str, Sequence[Scored]],
    zero_shot: Mapping[str, Sequence[Scored]] | None = None,
) -> Summary:
    """All numbers of one cell.

    Args:
        per_rater: rater -> episodes; a value of :func:`group`.
        zero_shot: the same of its zero-shot twin in the same setting (:attr:`.Facts.zero_shot`); raters that are
            not in it do not count towards ``improved``.
    """
    everyone = {rater: influences(episodes) for rater, episodes in per_rater.items()}
    spans = {rater: mean_intervals({rater: own}) for rater, own in everyone.items()}
    metrics = metrics_for(next(iter(per_rater.values()))[0].label_set)
    return Summary(
        metrics=metrics,
        intervals=mean_intervals(everyone),
        per_rater=spans,
        worst={metric.name: found for metric in metrics if (found := _worst(metric, spans))},
        improved=share_improved(per_rater, zero_shot) if zero_shot is not None else None,
        calibration=average([rater_calibration(episodes) for episodes in per_rater.values()]),
        episodes=sum(len(episodes) for episodes in per_rater.values()),
    )


def summarise_all(cells: Mapping[Cell, Mapping[str, Sequence[Scored]]]) -> dict[Cell, Summary]:
    """:func:`summarise` for every cell, with the zero-shot system of its own setting where there is one."""

    def twin(cell: Cell) -> Mapping[str, Sequence[Scored]] | None:
        name = zero_shot_of(cell.system, cell.scope) or ""
        return cells.get(replace(cell, system=name))

    found = at_once(lambda cell: summarise(cells[cell], twin(cell)), list(cells), few=FEW, chunk=8)
    return dict(zip(cells, found, strict=True))


def share_improved(
    per_rater: Mapping[str, Sequence[Scored]], zero_shot: Mapping[str, Sequence[Scored]]
) -> dict[str, float] | None:
    """Metric -> share of the raters in both whose mean is better than in the zero-shot system; None if none is."""
    shared = [rater for rater in per_rater if rater in zero_shot]
    if not shared:
        return None
    pairs = [(mean_scores({r: per_rater[r]}), mean_scores({r: zero_shot[r]})) for r in shared]
    found = {}
    for metric in metrics_for(per_rater[shared[0]][0].label_set):
        name = metric.name
        if better := [
            metric.better(ours[name], theirs[name]) for ours, theirs in pairs if name in ours and name in theirs
        ]:
            found[name] = sum(better) / len(better)
    return found


def _worst(metric: Metric, spans: Mapping[str, Mapping[str, Interval]]) -> tuple[str, float] | None:
    means = [(rater, own[metric.name].mean) for rater, own in spans.items() if metric.name in own]
    direction = 1 if metric.higher_is_better else -1
    return min(means, key=lambda pair: direction * pair[1], default=None)
