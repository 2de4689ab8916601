"""The figures: K curves, each rater before and after adapting, reliability. Each carries its numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from s3prl_metaperser.evaluation.calibration_scores import BINS, reliability
from s3prl_metaperser.evaluation.metrics import Metric
from s3prl_metaperser.evaluation.statistics import Scored
from s3prl_metaperser.evaluation.summary import Cell
from s3prl_metaperser.methods import facts_of, zero_shot_of
from s3prl_metaperser.report import paper
from s3prl_metaperser.report.drawing import (
    FAINT,
    INK,
    MARKERS,
    Drawing,
    all_drawn,
    colours,
    finished,
    legend_below,
    new_figure,
    slug,
)
from s3prl_metaperser.report.gathered import META, Study, headline, is_ablation, k_of, value
from s3prl_metaperser.report.rater_tables import CLEARLY, gains, many
from s3prl_metaperser.report.tables import Column, Row, Table, Value

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

#: Metrics in a figure of K curves: the first of the label set's.
CURVES = 3
#: Bins of a reliability diagram with fewer predictions than this are left out: their means are noise.
FEWEST_IN_BIN = 20
#: Systems that have room in a figure of raters or of reliability; the others stand in its CSV file.
SYSTEMS = 9


def k_curves(study: Study) -> list[Drawing]:
    """Scores by the number of support samples, a figure for each upstream with several."""
    return all_drawn(lambda upstream: _k_curves(study, upstream), study.drawn)


def figures(study: Study) -> list[Drawing]:
    """The figures of one K: raters and reliability."""
    places = [block for block in study.blocks if block[1] in study.drawn]
    blocks = [(s, u, [c for c in study.main_cells if (c.scenario, c.upstream) == (s, u)]) for s, u in places]

    def drawn(job: tuple) -> list[Drawing]:
        draw, (scenario, upstream, cells) = job
        where = f"{scenario} data, {upstream}{k_of(study)} ({study})"
        return draw(study, cells, where, f"{scenario}_{slug(upstream)}{study.suffix}")

    return all_drawn(drawn, [(draw, block) for draw in (_raters, _reliability) for block in blocks if block[2]])


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
    figure, axes = new_figure(len(metrics), len(scenarios), 1.2 + 1.8 * len(metrics), sharex=True, sharey="row")
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
    key = f"k_curves_{slug(upstream)}{study.suffix}"
    points: list[Row] = [
        (scenario, system, str(cell.shots), *(value(m, study.summary(cell).intervals.get(m.name)) for m in metrics))
        for (scenario, system), cells in curves.items()
        for cell in cells
    ]
    names = (*map(Column, ("scenario", "system", "K")), *(Column(m.heading, interval=True) for m in metrics))
    return [finished(figure, key, title, caption, Table(key, title, "", names, tuple(points)))]


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


def _across(count: int) -> int:
    return 2 if count in (2, 4) else min(count, 3)


def _multiples(count: int, height: float, **options) -> tuple:
    """A figure of small axes side by side, and the first ``count`` of these."""
    across = _across(count)
    rows = -(-count // across)
    figure, axes = new_figure(rows, across, 0.5 + height * rows, sharex=True, sharey=True, **options)
    flat = [axis for row in axes for axis in row]
    for axis in flat[count:]:
        axis.set_axis_off()
    return figure, flat[:count]


def _raters(study: Study, cells: Sequence[Cell], where: str, key: str) -> list[Drawing]:
    """Each adapted system's raters against zero-shot; nothing without its results."""
    metric = study.metrics[0]
    gained = {cell: found for cell in cells if facts_of(cell.system).learns and (found := gains(study, cell, metric))}
    if not gained:
        return []
    shown = sorted(gained, key=lambda cell: (cell.system != study.method, -float(np.mean(list(gained[cell].values())))))
    shown, rest = shown[:SYSTEMS], len(shown) - SYSTEMS
    figure, caption = (_strips if many(study) else _slopes)(study, shown, gained)
    rows: list[Row] = []
    for cell in gained:
        for rater, gain in gained[cell].items():
            after = value(metric, study.summary(cell).per_rater[rater].get(metric.name))
            rows.append((study.name(cell), rater, after, Value(metric.scale * gain)))
    title = f"Each test {study.unit}, before and after adapting: {where}"
    columns = (Column("system"), Column(study.unit), Column(metric.heading, interval=True), Column("gain"))
    caption += f" {rest} more systems are in the CSV file." if rest > 0 else ""
    name = f"raters_{key}"
    return [finished(figure, name, title, caption, Table(name, title, "", columns, tuple(rows)))]


def _slopes(study: Study, cells: Sequence[Cell], gained: dict[Cell, dict[str, float]]) -> tuple:
    metric = study.metrics[0]
    figure, axes = _multiples(len(cells), 2.1)
    sign = 1 if metric.higher_is_better else -1
    scores = [study.summary(cell).per_rater[r][metric.name].mean for cell in cells for r in gained[cell]]
    gap = 0.085 * metric.scale * (max(scores) - min(scores))
    for axis, cell in zip(axes, cells, strict=True):
        found = gained[cell]
        ends = {r: metric.scale * study.summary(cell).per_rater[r][metric.name].mean for r in found}
        places = _apart(ends, gap)
        for rater, gain in found.items():
            after = ends[rater]
            look = {"color": "#d55e00", "linestyle": "-"} if gain > 0 else {"color": "#0072b2", "linestyle": "--"}
            axis.plot([0, 1], [after - sign * metric.scale * gain, after], marker="o", markersize=3.5, **look)
            axis.text(
                1.12, places[rater], f"{rater} {metric.shown(gain, '+')}", fontsize=8, va="center", color=look["color"]
            )
        axis.set_title(f"{study.name(cell)}\n{sum(g > 0 for g in found.values())} of {len(found)} gain", fontsize=10)
        axis.set_xticks([0, 1], ["zero-shot", "adapted"], fontsize=9)
        axis.set_xlim(-0.15, 2.1)
        axis.grid(False, axis="x")
    for axis in axes[:: _across(len(cells))]:
        axis.set_ylabel(metric.heading, fontsize=10)
    return figure, f"Means over seeds. Orange, solid: gains. Blue, dashed: loses. {headline(metric)}; one scale."


def _apart(places: Mapping[str, float], gap: float) -> dict[str, float]:
    """Places of labels, in the same order and at least ``gap`` from each other."""
    names = sorted(places, key=lambda name: places[name])
    found = [places[name] for name in names]
    for _ in range(60):
        for low, high in zip(range(len(found) - 1), range(1, len(found)), strict=True):
            if (lacking := gap - (found[high] - found[low])) > 0:
                found[low], found[high] = found[low] - lacking / 2, found[high] + lacking / 2
    return dict(zip(names, found, strict=True))


def _strips(study: Study, cells: Sequence[Cell], gained: dict[Cell, dict[str, float]]) -> tuple:
    metric, shades = study.metrics[0], colours([cell.system for cell in cells])
    figure, axes = new_figure(1, 1, 1.0 + 0.75 * len(cells))
    axis, labels = axes[0][0], []
    every = metric.scale * np.concatenate([list(found.values()) for found in gained.values()])
    width = (np.quantile(every, 0.99) - np.quantile(every, 0.01)) / 60 or 1.0
    for place, cell in enumerate(cells):
        found, shade = metric.scale * np.array(list(gained[cell].values())), shades[cell.system]
        bins, counts = np.unique(np.round(found / width), return_counts=True)
        step = min(0.05, 0.55 / counts.max())
        dots = [
            (at * width, place - 0.12 - step * n) for at, count in zip(bins, counts, strict=True) for n in range(count)
        ]
        axis.plot(*zip(*dots, strict=True), ".", markersize=2.5, color=shade)
        low, quarter, middle, three, high = np.quantile(found, (0.1, 0.25, 0.5, 0.75, 0.9))
        axis.plot([low, high], [place, place], color=shade, linewidth=1.2)
        axis.plot([quarter, three], [place, place], color=shade, linewidth=5, alpha=0.7, solid_capstyle="butt")
        axis.plot([middle, middle], [place - 0.09, place + 0.09], color=INK, linewidth=1.6)
        more, less = (100 * float(np.mean(test)) for test in (found > limit(metric), found < -limit(metric)))
        labels.append(f"{study.name(cell)}\n{more:.0f} % gain, {less:.0f} % lose")
    axis.axvline(0, color=INK, linestyle=":", linewidth=0.9)
    axis.set_yticks(range(len(cells)), labels, fontsize=9)
    axis.set_ylim(len(cells) - 0.7, -0.8)
    axis.grid(False, axis="y")
    axis.set_xlabel(f"gain over zero-shot, {metric.difference_unit or metric.title}")
    by = f"{metric.shown(CLEARLY)} {metric.difference_unit}".rstrip()
    return figure, (
        f"One dot a {study.unit}; bar: the middle half; line: from 10 to 90 %; black: the median. Gain and lose: more "
        f"than {by} either way."
    )


def limit(metric: Metric) -> float:
    """A difference that counts as gained or lost, as it is printed."""
    return metric.scale * CLEARLY


def _reliability(study: Study, cells: Sequence[Cell], where: str, key: str) -> list[Drawing]:
    found = {cell: reliability_curve([e for r in study.everything.cells[cell].values() for e in r]) for cell in cells}
    first = (study.method, zero_shot_of(study.method, study.scope))
    learning = [cell for cell in cells if facts_of(cell.system).learns] or list(cells)
    shown = sorted(learning, key=lambda cell: first.index(cell.system) if cell.system in first else len(first))[
        :SYSTEMS
    ]
    shades = colours([cell.system for cell in cells])
    figure, axes = _multiples(len(shown), 1.9, subplot_kw={"aspect": "equal", "xlim": (0, 1), "ylim": (0, 1)})
    for axis, cell in zip(axes, shown, strict=True):
        axis.plot([0, 1], [0, 1], color=FAINT, linewidth=1, linestyle="--")
        axis.plot(*found[cell], color=shades[cell.system], marker="o", markersize=3.5, linewidth=1.5)
        axis.set_title(f"{study.name(cell)}\nECE {study.summary(cell).calibration.ece:.3f}", fontsize=10)
        axis.set_xticks([0, 0.5, 1], ["0", "0.5", "1"], fontsize=9)
        axis.set_yticks([0, 0.5, 1], ["0", "0.5", "1"], fontsize=9)
    figure.supxlabel("predicted probability of a class", fontsize=10)
    figure.supylabel(f"share of the {study.unit}'s {answers(study, cells[0])}", fontsize=10)
    title = f"Reliability: {where}"
    caption = (
        f"All classes, {study.units} and seeds pooled in {BINS} bins; bins of fewer than {FEWEST_IN_BIN} predictions "
        "are left out. On the dashed line predictions mean what they say; below it they are too high."
    )
    points = [
        (study.name(c), Value(x, decimals=3), Value(y, decimals=3))
        for c in cells
        for x, y in zip(*found[c], strict=True)
    ]
    columns = tuple(map(Column, ("system", "predicted", "answered")))
    name = f"reliability_{key}"
    return [finished(figure, name, title, caption, Table(name, title, "", columns, tuple(points)))]


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
