"""Adaptation over its steps: scores and losses after fewer steps than the cell's own, as a table and as a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from s3prl_metaperser.evaluation.result import Result
from s3prl_metaperser.evaluation.statistics import Interval, intervals
from s3prl_metaperser.evaluation.summary import Cell
from s3prl_metaperser.evaluation.trajectory import LOSSES, scored_trajectory
from s3prl_metaperser.report.detail_tables import MAIN_METRIC, main_cells
from s3prl_metaperser.report.drawing import MARKERS, Drawing, colours, finished, legend_below, new_figure, style
from s3prl_metaperser.report.gathered import Gathered, Study, metric_columns
from s3prl_metaperser.report.tables import Column, Table, Value

#: What the report says instead of the figure.
ABSENT_SENTENCE = (
    "Adaptation over its steps is not drawn: no result has predictions after fewer steps than its own "
    "(evalrc.trajectory)."
)


@dataclass(frozen=True)
class Curve:
    """One cell over the steps of adaptation.

    Attributes:
        steps: ascending; those that all of the cell's raters have.
        spans: metric -> an interval for each of ``steps``.
        losses: ``loss`` and ``support_loss`` -> the mean over episodes, then raters, for each of ``steps``.
        left_out: numbers of steps that some rater lacks or at which adaptation to one diverges.
    """

    cell: Cell
    steps: tuple[int, ...]
    spans: Mapping[str, Sequence[Interval]]
    losses: Mapping[str, Sequence[float]]
    left_out: tuple[int, ...]


def curves(gathered: Gathered, study: Study) -> list[Curve]:
    """Table 1's cells that have trajectories, in the order of its rows; of another scope's none."""
    files: dict[Cell, list[Result]] = {}
    for result in gathered.results:
        files.setdefault(result.key, []).append(result)
    cells = [cell for cell in main_cells(gathered, study) if cell.scope == study.scope]
    found = (_curve(cell, files[cell], gathered.draws) for cell in cells)
    return [curve for curve in found if curve is not None]


def _curve(cell: Cell, files: Sequence[Result], draws: int) -> Curve | None:
    raters = {result.raters.test: scored_trajectory(result) for result in files}
    everywhere = sorted(set.intersection(*(set(points) for points in raters.values())))
    if not everywhere:
        return None
    named = {point.steps for result in files for point in result.trajectory or ()}
    spans = [intervals({rater: points[number] for rater, points in raters.items()}, draws) for number in everywhere]
    points = [{point.steps: point for point in result.trajectory or ()} for result in files]
    losses = {
        name: [float(np.mean([np.mean(getattr(p[n], name)) for p in points])) for n in everywhere] for name in LOSSES
    }
    by_metric = {metric: [span[metric] for span in spans] for metric, _ in metric_columns()}
    return Curve(cell, tuple(everywhere), by_metric, losses, tuple(sorted(named - set(everywhere))))


def trajectory_table(found: Sequence[Curve], gathered: Gathered, study: Study, suffix: str = "") -> Table:
    """Every point of the figure, and the other metrics."""
    rows = []
    for curve in found:
        for index, number in enumerate(curve.steps):
            spans = [curve.spans[metric][index] for metric, _ in metric_columns()]
            note = gathered.incomplete(curve.cell)
            scores = [Value(100 * s.mean, 100 * s.low, 100 * s.high, note) for s in spans]
            losses = [Value(curve.losses[name][index], decimals=3) for name in LOSSES]
            rows.append(
                (curve.cell.scenario, curve.cell.upstream, curve.cell.system, str(number), *scores, *losses),
            )
    return Table(
        key=f"adaptation{suffix}",
        title=f"Adaptation over its steps, K={gathered.main_shots(study)} ({study})",
        caption="Percent, with 95 % intervals for further raters and utterances, after so many steps on the K support "
        "samples; 0 is before adaptation. Losses: class-balanced cross-entropy, means over episodes, then raters.",
        columns=(
            Column("scenario"),
            Column("upstream"),
            Column("system"),
            Column("steps"),
            *(Column(name, interval=True) for _, name in metric_columns()),
            Column("loss"),
            Column("loss on the support samples"),
        ),
        rows=tuple(rows),
        grouped=3,
        notes=tuple(_left_out(found)),
    )


def trajectory_figures(found: Sequence[Curve], gathered: Gathered, study: Study, suffix: str = "") -> list[Drawing]:
    """One figure for each upstream: macro-F1 and losses over steps, a column for each scenario."""
    drawn = []
    with style():
        for upstream in dict.fromkeys(curve.cell.upstream for curve in found):
            mine = [curve for curve in found if curve.cell.upstream == upstream]
            drawn.append(_figure(mine, upstream, f"K={gathered.main_shots(study)} ({study})", suffix))
    return drawn


def _figure(found: Sequence[Curve], upstream: str, where: str, suffix: str) -> Drawing:
    scenarios = sorted({curve.cell.scenario for curve in found})
    systems = list(dict.fromkeys(curve.cell.system for curve in found))
    shades, shown = colours(systems), {}
    figure, axes = new_figure(2, len(scenarios), 6.6, sharex=True, sharey="row")
    for column, scenario in enumerate(scenarios):
        above, below = axes[0][column], axes[1][column]
        for curve in (curve for curve in found if curve.cell.scenario == scenario):
            name = curve.cell.system
            look = {"color": shades[name], "marker": MARKERS[systems.index(name) % len(MARKERS)], "markersize": 4.5}
            spans = curve.spans[MAIN_METRIC]
            low, mean, high = ([100 * getattr(span, part) for span in spans] for part in ("low", "mean", "high"))
            above.fill_between(curve.steps, low, high, color=shades[name], alpha=0.16, lw=0)
            (shown[name],) = above.plot(curve.steps, mean, linewidth=1.6, **look)
            below.plot(curve.steps, curve.losses["loss"], linewidth=1.6, **look)
            below.plot(curve.steps, curve.losses["support_loss"], linewidth=1.2, linestyle="--", color=shades[name])
        ticks = sorted({number for curve in found for number in curve.steps})
        below.set_xscale("symlog", linthresh=1)
        below.set_xticks(ticks, [str(number) for number in ticks], fontsize=10)
        below.minorticks_off()
        below.set_xlabel("steps of adaptation")
        above.set_title(f"{scenario} data", fontsize=12)
    axes[0][0].set_ylabel("macro-F1, %")
    axes[1][0].set_ylabel("class-balanced loss")
    legend_below(figure, list(shown.values()), [f" {name}" if name.startswith("_") else name for name in shown])
    slug = "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in upstream)
    title = f"Adaptation over its steps: {upstream}, {where}"
    return finished(figure, f"adaptation_{slug}{suffix}", title, _caption(found))


def _caption(found: Sequence[Curve]) -> str:
    """How to read it, and in words what the curves do, for those who cannot see them."""
    ends = []
    for curve in found:
        first, last = (100 * curve.spans[MAIN_METRIC][place].mean for place in (0, -1))
        best = max(range(len(curve.steps)), key=lambda index: curve.spans[MAIN_METRIC][index].mean)
        peak = 100 * curve.spans[MAIN_METRIC][best].mean
        ends.append(
            f"{curve.cell.system}, {curve.cell.scenario} data: {first:.1f} at {curve.steps[0]} steps, highest "
            f"{peak:.1f} at {curve.steps[best]}, {last:.1f} at {curve.steps[-1]}"
        )
    return " ".join(
        [
            "Means over seeds, then test raters; bands are 95 % intervals for further raters and utterances. Below, "
            "solid: loss on the query samples; dashed: on the support samples that are adapted to. Each number of "
            "steps is an adaptation of its own. These are test raters: no number of steps may be chosen by them. "
            "Macro-F1 in words: " + "; ".join(ends) + ".",
            *_left_out(found),
        ]
    )


def _left_out(found: Sequence[Curve]) -> list[str]:
    return [
        f"{curve.cell.system}, {curve.cell.scenario} data, {curve.cell.upstream}: "
        f"{', '.join(map(str, curve.left_out))} steps are left out: a rater has no numbers, or adaptation diverges."
        for curve in found
        if curve.left_out
    ]
