"""The figures: K curves, each rater's scores, reliability."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from s3prl_metaperser.evaluation.calibration_scores import BINS, reliability
from s3prl_metaperser.evaluation.metrics import Metric
from s3prl_metaperser.evaluation.statistics import Scored
from s3prl_metaperser.evaluation.summary import Cell
from s3prl_metaperser.report import paper
from s3prl_metaperser.report.drawing import (
    FAINT,
    INK,
    MARKERS,
    Drawing,
    colours,
    finished,
    legend_below,
    new_figure,
    slug,
    style,
)
from s3prl_metaperser.report.gathered import META, Study, headline, is_ablation, k_of
from s3prl_metaperser.report.rater_tables import many
from s3prl_metaperser.report.tables import Value

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

#: Metrics in a figure of K curves: the first of the label set's.
CURVES = 3
#: Bins of a reliability diagram with fewer predictions than this are left out: their means are noise.
FEWEST_IN_BIN = 20


def figures(study: Study) -> list[Drawing]:
    """Every figure that there are results for.

    Raises:
        UserError: matplotlib is not installed.
    """
    drawn = []
    with style():
        for upstream in dict.fromkeys(upstream for _, upstream in study.blocks):
            drawn += _k_curves(study, upstream)
        for scenario, upstream in study.blocks:
            cells = [c for c in study.main_cells if (c.scenario, c.upstream) == (scenario, upstream)]
            if cells:
                where = f"{scenario} data, {upstream}{k_of(study)} ({study})"
                metric = study.metrics[0]
                draw = _rater_curves if many(study) else _rater_bars
                drawn.append(draw(study, cells, metric, where, f"{scenario}_{slug(upstream)}{study.suffix}"))
                drawn.append(_reliability(study, cells, where, f"{scenario}_{slug(upstream)}{study.suffix}"))
    return sorted(drawn, key=lambda drawing: ("k_curves", "raters", "reliability").index(_kind(drawing)))


def _k_curves(study: Study, upstream: str) -> list[Drawing]:
    mine = [c for c in study.cells if c.upstream == upstream and not is_ablation(c.system)]
    curves: dict[tuple[str, str], list[Cell]] = {}
    for cell in sorted(mine, key=lambda c: c.shots):
        curves.setdefault((cell.scenario, cell.system), []).append(cell)
    curves = {name: cells for name, cells in curves.items() if len(cells) > 1}
    if not curves:
        return []
    scenarios = sorted({scenario for scenario, _ in curves})
    systems = [name for name in study.systems if any(name == system for _, system in curves)]
    metrics, shades = study.metrics[:CURVES], colours(systems)
    figure, axes = new_figure(len(metrics), len(scenarios), 7.2, sharex=True, sharey="row")
    shown: dict[str, object] = {}
    for column, scenario in enumerate(scenarios):
        for row, metric in enumerate(metrics):
            axis = axes[row][column]
            for system in systems:
                if cells := curves.get((scenario, system)):
                    marker = MARKERS[systems.index(system) % len(MARKERS)]
                    shown[system] = _curve(axis, study, cells, metric, shades[system], marker)
            if printed := _printed_curve(study, scenario, upstream, metric.name):
                (shown[f"the paper's {META}"],) = axis.plot(*printed, color=INK, linestyle="--", linewidth=1)
            axis.set_xscale("log", base=2)
            ticks = sorted({cell.shots for cells in curves.values() for cell in cells})
            axis.set_xticks(ticks, [str(k) for k in ticks])
            axis.minorticks_off()
            if not row:
                axis.set_title(f"{scenario} data", fontsize=12)
            if not column:
                axis.set_ylabel(metric.heading)
            if row == len(metrics) - 1:
                axis.set_xlabel("support samples K")
    legend_below(figure, shown.values(), shown)
    title = f"Scores by number of support samples: {upstream} ({study})"
    caption = (
        f"Means over seeds, then test {study.units}; bands are 95 % intervals for further {study.units} and "
        "utterances. Bands of two systems that overlap do not say that the systems cannot be told apart: "
        "the paired comparisons do."
    )
    return [finished(figure, f"k_curves_{slug(upstream)}{study.suffix}", title, caption)]


def _curve(axis: Axes, study: Study, cells: Sequence[Cell], metric: Metric, colour: str, marker: str) -> Line2D:
    everything = {cell.shots: study.summary(cell).intervals for cell in cells}
    shots = [k for k, intervals in everything.items() if metric.name in intervals]
    spans = [everything[k][metric.name] for k in shots]
    mean, low, high = ([metric.scale * getattr(span, name) for span in spans] for name in ("mean", "low", "high"))
    axis.fill_between(shots, low, high, color=colour, alpha=0.18, lw=0)
    (line,) = axis.plot(shots, mean, color=colour, marker=marker, markersize=4.5, linewidth=1.6)
    return line


def _printed_curve(study: Study, scenario: str, upstream: str, metric: str) -> tuple[list[int], list[float]] | None:
    if not study.complete:
        return None
    table = next(table for table in paper.spec().tables.values() if table.rows == "shots" and not table.average)
    place = {"scenario": scenario, "upstream": paper.paper_upstream(upstream)}
    values = [(k, paper.number(table, metric, row=str(k), **place)) for k in table.shots]
    found = [(k, value.mean) for k, value in values if isinstance(value, Value)]
    return ([k for k, _ in found], [mean for _, mean in found]) if found else None


def _rater_curves(study: Study, cells: Sequence[Cell], metric: Metric, where: str, key: str) -> Drawing:
    """Of many raters: each system's scores in order."""
    shades = colours([cell.system for cell in cells])
    figure, axes = new_figure(1, 1, 4.2)
    lines = []
    for cell in cells:
        spans = study.summary(cell).per_rater.values()
        means = np.sort([metric.scale * own[metric.name].mean for own in spans if metric.name in own])
        place = 100 * (np.arange(len(means)) + 0.5) / max(len(means), 1)
        lines += axes[0][0].plot(place, means, color=shades[cell.system], linewidth=1.6)
    axes[0][0].set_xlabel(f"test {study.units}, in order of their score, %")
    axes[0][0].set_ylabel(metric.heading)
    legend_below(figure, lines, [cell.system for cell in cells])
    caption = (
        f"Each system's {study.units} in its own order: means over seeds. Systems may order {study.units} differently."
    )
    return finished(figure, f"raters_{key}", f"{headline(metric)} over test {study.units}: {where}", caption)


def _rater_bars(study: Study, cells: Sequence[Cell], metric: Metric, where: str, key: str) -> Drawing:
    raters = study.test_raters
    shades = colours([cell.system for cell in cells])
    thick = 0.82 / len(cells)
    figure, axes = new_figure(1, 1, 1.3 + len(raters) * (0.2 + 0.19 * len(cells)))
    axis, handles = axes[0][0], []
    for index, cell in enumerate(cells):
        spans = study.summary(cell).per_rater
        places = [place for place, rater in enumerate(raters) if metric.name in spans.get(rater, {})]
        chosen, scale = [spans[raters[place]][metric.name] for place in places], metric.scale
        mean = np.array([scale * span.mean for span in chosen])
        reach = np.array([[scale * (s.mean - s.low) for s in chosen], [scale * (s.high - s.mean) for s in chosen]])
        bars = axis.barh(
            [place + (index - (len(cells) - 1) / 2) * thick for place in places],
            mean,
            height=0.9 * thick,
            color=shades[cell.system],
            xerr=np.maximum(reach, 0),
            error_kw={"ecolor": INK, "elinewidth": 0.9},
        )
        handles.append(bars)
    for place, rater in enumerate(raters):
        if not any(rater in study.everything.cells[cell] for cell in cells):
            beside = axis.get_yaxis_transform()  # the metric may be on any scale
            axis.text(0.012, place, "missing", style="italic", va="center", transform=beside)
    axis.set_yticks(range(len(raters)), raters)
    axis.set_ylim(len(raters) - 0.5, -0.5)
    axis.set_xlim(left=min(0, axis.get_xlim()[0]) if metric.bounds[0] < 0 else 0)
    axis.grid(False, axis="y")
    axis.set_xlabel(metric.heading)
    legend_below(figure, handles, [cell.system for cell in cells])
    means = f"means over seeds; whiskers are 95 % intervals for further utterances of the same {study.unit}."
    caption = f"{headline(metric)}, {means}"
    return finished(figure, f"raters_{key}", f"Each test {study.unit}: {where}", caption)


def _reliability(study: Study, cells: Sequence[Cell], where: str, key: str) -> Drawing:
    shades = colours([cell.system for cell in cells])
    figure, axes = new_figure(1, 1, 5.6)
    axis, handles = axes[0][0], []
    axis.plot([0, 1], [0, 1], color=FAINT, linewidth=1, linestyle="--")
    for index, cell in enumerate(cells):
        predicted, observed = reliability_curve([e for r in study.everything.cells[cell].values() for e in r])
        marker = MARKERS[index % len(MARKERS)]
        (line,) = axis.plot(
            predicted, observed, color=shades[cell.system], marker=marker, markersize=4.5, linewidth=1.5
        )
        handles.append(line)
    axis.set_xlim(0, 1)
    axis.set_ylim(0, 1)
    axis.set_aspect("equal")
    axis.set_xlabel("predicted probability of a class")
    axis.set_ylabel(f"share of the {study.unit}'s {answers(study, cells[0])}")
    legend_below(figure, handles, [cell.system for cell in cells])
    caption = (
        f"All classes, {study.units} and seeds pooled in {BINS} bins; bins of fewer than {FEWEST_IN_BIN} predictions "
        "are left out. On the dashed line predictions mean what they say; below it they are too high."
    )
    return finished(figure, f"reliability_{key}", f"Reliability: {where}", caption)


def reliability_curve(episodes: Sequence[Scored]) -> tuple[np.ndarray, np.ndarray]:
    """Mean prediction and mean tick share of each bin that holds enough predictions, classes pooled."""
    probabilities = np.concatenate([np.asarray(e.probabilities, np.float64) for e in episodes])
    shares = np.concatenate([e.shares for e in episodes])
    count, predicted, observed = reliability(probabilities, shares)
    total = count.sum(0)
    kept = total >= FEWEST_IN_BIN
    return ((count * predicted).sum(0)[kept] / total[kept], (count * observed).sum(0)[kept] / total[kept])


def answers(study: Study, cell: Cell) -> str:
    """What a rater's answers are called: ticks where several classes may be ticked."""
    (first, *_), *_ = study.everything.cells[cell].values()
    return "ticks" if first.label_set.kind == "multi" else "answers"


def _kind(drawing: Drawing) -> str:
    return next(kind for kind in ("k_curves", "raters", "reliability") if drawing.key.startswith(kind))
