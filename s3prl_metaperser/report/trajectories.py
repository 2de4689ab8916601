"""Adaptation over its steps: scores and losses after fewer steps than the cell's own, as a table and as a figure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from s3prl_metaperser.evaluation.collect import scored_of
from s3prl_metaperser.evaluation.decided import LOSSES, scored_trajectory
from s3prl_metaperser.evaluation.metrics import Metric
from s3prl_metaperser.evaluation.result import Result
from s3prl_metaperser.evaluation.statistics import Interval, Scored, intervals
from s3prl_metaperser.evaluation.summary import Cell
from s3prl_metaperser.report.drawing import (
    MARKERS,
    Drawing,
    all_drawn,
    colours,
    finished,
    legend_below,
    new_figure,
    slug,
)
from s3prl_metaperser.report.gathered import PLACE, Study, headline, units, value
from s3prl_metaperser.report.tables import Absent, Column, Table, Value
from s3prl_metaperser.storage.at_once import at_once

if TYPE_CHECKING:
    from matplotlib.lines import Line2D

#: What the report says instead of the figure.
ABSENT_SENTENCE = (
    "Adaptation over its steps is not drawn: no result has predictions after fewer steps than its own "
    "(evalrc.trajectory)."
)


#: Up to so many cells are computed by one process.
FEW = 40


@dataclass(frozen=True)
class Curve:
    """One cell over the steps of adaptation.

    Attributes:
        steps: ascending; those that all of the cell's raters have.
        metrics: those with values at each of ``steps``; the label set's primary one, where it has, comes first.
        spans: name of a metric -> an interval for each of ``steps``; of no width where only the mean is known, since
            results keep decisions alone of these predictions. Tables show such a mean without an interval.
        exact: metrics that have intervals.
        losses: ``loss`` and ``support_loss`` -> the mean over episodes, then raters, for each of ``steps``.
        left_out: numbers of steps that some rater lacks or at which adaptation to one diverges.
    """

    cell: Cell
    steps: tuple[int, ...]
    metrics: tuple[Metric, ...]
    exact: tuple[Metric, ...]
    spans: Mapping[str, Sequence[Interval]]
    losses: Mapping[str, Sequence[float]]
    left_out: tuple[int, ...]


def curves(study: Study) -> list[Curve]:
    """Cells of the table of all systems that have trajectories, in the order of its rows; none of another scope. Those
    of upstreams that are not drawn have means alone."""
    files, metrics = study.everything.files, study.metrics
    cells = [cell for cell in study.main_cells if cell.scope == study.scope]
    cells = [cell for cell in cells if all(result.trajectory for result in files[cell])]
    found = at_once(lambda cell: _curve(cell, files[cell], metrics, cell.upstream in study.drawn), cells, few=FEW)
    return [curve for curve in found if curve is not None]


def _curve(cell: Cell, files: Sequence[Result], metrics: Sequence[Metric], drawn: bool) -> Curve | None:
    points = [{p.steps: p for p in result.trajectory or () if p.diverged is None} for result in files]
    everywhere = sorted(set.intersection(*map(set, points)))
    if not everywhere:
        return None
    exact = tuple(metric for metric in metrics if metric.of_decisions and drawn)
    scored = {id(result): scored_trajectory(result) for result in files} if exact else {}

    def at(steps: int) -> Callable[[Result], dict[str, list[Scored]]]:
        return lambda result: {rater: points[steps] for rater, points in scored[id(result)].items()}

    named = {point.steps for result in files for point in result.trajectory or ()}
    spans = [intervals(scored_of(files, at(number)), exact) for number in everywhere] if exact else []
    losses = {
        name: [float(np.mean([np.mean(getattr(p[n], name)) for p in points])) for n in everywhere] for name in LOSSES
    }
    by_metric: dict[str, list[Interval]] = {}
    for name, known in ((metric.name, metric in exact) for metric in metrics):
        if known and all(name in span for span in spans):
            by_metric[name] = [span[name] for span in spans]
        elif not known and all(name in p[n].metrics for p in points for n in everywhere):
            means = [float(np.mean([np.mean(p[n].metrics[name]) for p in points])) for n in everywhere]
            by_metric[name] = [Interval(mean, mean, mean) for mean in means]
    shown = tuple(metric for metric in metrics if metric.name in by_metric)
    return Curve(cell, tuple(everywhere), shown, exact, by_metric, losses, tuple(sorted(named - set(everywhere))))


def trajectory_table(found: Sequence[Curve], study: Study) -> Table:
    """Every point of the figure, and the other metrics."""
    rows, metrics = [], _metrics(found)
    some = {curve.cell.upstream for curve in found} - set(study.drawn)
    of_drawn = ", nor of upstreams that are not drawn" if some else ""
    for curve in found:
        for index, number in enumerate(curve.steps):
            note = study.incomplete(curve.cell)
            scores = [score(m, curve, index, note) for m in metrics]
            losses = [Value(curve.losses[name][index], decimals=3) for name in LOSSES]
            rows.append(
                (curve.cell.scenario, curve.cell.upstream, curve.cell.system, str(number), *scores, *losses),
            )
    return study.table(
        "adaptation",
        f"Adaptation over its steps, K={study.shots}",
        f"{units(metrics)} With 95 % intervals for further raters and utterances (not where results keep the mean "
        f"alone{of_drawn}), after so many steps on the K support samples; 0 is before adaptation. Losses: "
        "class-balanced cross-entropy, means over episodes, then raters.",
        (
            *PLACE,
            Column("steps"),
            *(Column(metric.title, interval=True) for metric in metrics),
            *map(Column, ("loss", "loss on the support samples")),
        ),
        rows,
        grouped=3,
        notes=_left_out(found),
    )


def score(metric: Metric, curve: Curve, index: int, note: str) -> Value | Absent:
    """A curve's value at one of its ``steps``, as tables have it."""
    found = value(metric, curve.spans[metric.name][index] if metric in curve.metrics else None, note)
    return found if metric in curve.exact or isinstance(found, Absent) else replace(found, low=None, high=None)


def trajectory_figures(found: Sequence[Curve], study: Study) -> list[Drawing]:
    """One figure for each upstream: losses and the first metric that all curves have, a column for each scenario."""
    by_upstream = {name: [curve for curve in found if curve.cell.upstream == name] for name in study.drawn}

    def drawn(upstream: str) -> list[Drawing]:
        mine = by_upstream[upstream]
        shared = [metric for metric in study.metrics if all(metric in curve.metrics for curve in mine)]
        return [_figure(mine, shared[0], upstream, study)] if mine and shared else []

    return all_drawn(drawn, study.drawn)


def _metrics(found: Sequence[Curve]) -> list[Metric]:
    return list(dict.fromkeys(metric for curve in found for metric in curve.metrics))


def _figure(found: Sequence[Curve], metric: Metric, upstream: str, study: Study) -> Drawing:
    scenarios = sorted({curve.cell.scenario for curve in found})
    systems = list(dict.fromkeys(curve.cell.system for curve in found))
    shades = colours(systems)
    shown: dict[str, Line2D] = {}
    figure, axes = new_figure(2, len(scenarios), 6.6, sharex=True, sharey="row")
    for column, scenario in enumerate(scenarios):
        above, below = axes[0][column], axes[1][column]
        for curve in (curve for curve in found if curve.cell.scenario == scenario):
            name = curve.cell.system
            look: dict[str, Any] = {"color": shades[name], "markersize": 4.5}
            look["marker"] = MARKERS[systems.index(name) % len(MARKERS)]
            spans = curve.spans[metric.name]
            low, mean, high = (
                [metric.scale * getattr(span, part) for span in spans] for part in ("low", "mean", "high")
            )
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
    axes[0][0].set_ylabel(metric.heading)
    axes[1][0].set_ylabel("class-balanced loss")
    legend_below(figure, shown.values(), shown)
    title = f"Adaptation over its steps: {upstream}, K={study.shots} ({study})"
    key = f"adaptation_{slug(upstream)}{study.suffix}"
    return finished(figure, key, title, _caption(found, metric), trajectory_table(found, study))


def _caption(found: Sequence[Curve], metric: Metric) -> str:
    """How to read it, and a description of the curves for those who cannot see them."""
    ends, best = [], max if metric.higher_is_better else min
    for curve in found:
        means = [span.mean for span in curve.spans[metric.name]]
        top = best(range(len(means)), key=lambda index: means[index])
        ends.append(
            f"{curve.cell.system}, {curve.cell.scenario} data: {metric.shown(means[0])} at {curve.steps[0]} steps, "
            f"{'highest' if metric.higher_is_better else 'lowest'} {metric.shown(means[top])} at {curve.steps[top]}, "
            f"{metric.shown(means[-1])} at {curve.steps[-1]}"
        )
    return " ".join(
        [
            "Means over seeds, then test raters; bands are 95 % intervals for further raters and utterances. Below, "
            "solid: loss on the query samples; dashed: on the support samples that are adapted to. Each number of "
            "steps is an adaptation of its own. These are test raters: no number of steps may be chosen by them. "
            f"{headline(metric)}: {'; '.join(ends)}.",
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
