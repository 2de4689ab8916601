"""The forest plot: each system's gains over zero-shot and over the method, as strips of the page and as files."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING, Any, ClassVar

from s3prl_metaperser.evaluation.compare import FEWEST_RATERS
from s3prl_metaperser.evaluation.metrics import Metric
from s3prl_metaperser.report.drawing import INK, PAPER, Drawing, all_drawn, finished, new_figure, slug
from s3prl_metaperser.report.gathered import DRAWN
from s3prl_metaperser.report.sentence import interval, listed, number
from s3prl_metaperser.report.tables import ABSENT, Absent, Column, Table, Value
from s3prl_metaperser.report.view import Gain, Panel, Row, View

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: More rows than this, or more panels than two, are drawn without a line of numbers below each strip.
ROOMY = 9
#: Row's verdict against the method -> its group's class and heading; a group says what was tested, no more.
GROUPS = {1: ("above", "Better than"), 0: ("level", "Not told apart from"), -1: ("below", "Worse than")}


@dataclass(frozen=True)
class Strip:
    """One gain as the page draws it; places in percent of the strip's width, None beyond its ends.

    Attributes:
        words, interval: the same as text.
        told: filled and bold.
        ends: of the interval's line.
        dots: the mean, or one a rater where there are too few for a verdict.
        beyond: whether something lies left, and right, of the strip.
    """

    words: str
    interval: str = ""
    told: bool = False
    ends: tuple[float, float] | None = None
    dots: tuple[float, ...] = ()
    beyond: tuple[bool, bool] = (False, False)


def round_step(least: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is no smaller."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * times for times in (1, 2, 5, 10) if power * times >= least)


@dataclass(frozen=True)
class Scale:
    """Where a gain, or a score, stands between the ends of a strip.

    Attributes:
        signed: positive ticks have a sign: these are gains.
    """

    low: float
    high: float
    signed: bool = True

    @classmethod
    def around(cls, ends: Iterable[float], signed: bool = True) -> Scale:
        """With room for all of these and zero."""
        every = [0.0, *ends]
        room = 0.06 * (max(every) - min(every) or 1.0)
        return cls(min(every) - room, max(every) + room, signed)

    @classmethod
    def of(cls, panels: Sequence[Panel]) -> Scale:
        """For all gains in these panels but those of systems that learn nothing."""
        rows = [row for panel in panels for row in panel.rows if not row.floor]
        gains = [gain for row in rows or [r for p in panels for r in p.rows] for gain in (row.zero, row.method) if gain]
        return cls.around(v for gain in gains for v in (gain.per_rater.values() if gain.few else (gain.low, gain.high)))

    def __call__(self, gain: float) -> float:
        return round(100 * min(max((gain - self.low) / (self.high - self.low), 0.0), 1.0), 2)

    @property
    def step(self) -> float:
        """Between two ticks."""
        return round_step((self.high - self.low) / 6)

    @property
    def ticks(self) -> list[float]:
        """Two to seven round numbers, zero among them."""
        return [self.step * at for at in range(math.ceil(self.low / self.step), math.floor(self.high / self.step) + 1)]

    def shown(self, tick: float) -> str:
        """A tick's label."""
        decimals = max(0, -math.floor(math.log10(self.step) + 1e-9))
        return (
            f"{tick:{'+' if self.signed else ''}.{decimals}f}".replace("-", "\N{MINUS SIGN}")
            if round(tick, decimals)
            else "0"
        )


@dataclass(frozen=True)
class Forest:
    """The panels of one metric side by side, as the page's template draws them.

    Attributes:
        name: begins the names of its files; suffix: ends them.
    """

    kind: ClassVar[str] = "forest"

    view: View
    panels: tuple[Panel, ...]
    name: str = "forest"
    suffix: str = ""

    @property
    def metric(self) -> Metric:
        """What gains are counted in."""
        return self.panels[0].metric

    @cached_property
    def scale(self) -> Scale:
        """The same in all panels."""
        return Scale.of(self.panels)

    @property
    def compact(self) -> bool:
        """Whether numbers stand in the table alone."""
        return len(self.panels) > 2 or max(len(panel.rows) for panel in self.panels) > ROOMY

    def columns(self, panel: Panel) -> list[tuple[str, str]]:
        """(attribute of a row, heading); only of references that have results and something to compare with."""
        named = {"zero": f"gain over zero-shot ({panel.zero})", "method": f"gain over {panel.method}"}
        return [(key, words) for key, words in named.items() if any(getattr(row, key) for row in panel.rows)]

    def groups(self, panel: Panel) -> Iterator[tuple[str, str, list[Row]]]:
        """(class, heading, rows): runs of rows with one verdict against the method; rows of controls apart, since they
        stand below zero-shot whatever theirs is, and last what was tested on fewer raters, whose scores are of
        others."""

        def verdict(row: Row) -> str:
            if row.control:
                return "control"
            if row.fewer:
                return "fewer"
            return GROUPS[row.method.verdict if row.method else 0][0] if panel.verdicts and panel.method else ""

        order = ["", *(name for name, _ in GROUPS.values()), "fewer"]
        rows: list[Row] = []
        for row in sorted((r for r in panel.rows if not r.control), key=lambda r: order.index(verdict(r))):
            rows += [row, *(r for r in panel.rows if r.control and row.name == panel.zero)]
        titles = {name: f"{words} {panel.method}" for name, words in GROUPS.values()}
        titles["fewer"] = f"Tested on fewer {self.view.units}"
        for name, run in groupby(rows, verdict):
            yield name, titles.pop(name, ""), list(run)

    def strip(self, panel: Panel, row: Row, column: str) -> Strip:
        """A cell of the figure."""
        gain: Gain | None = getattr(row, column)
        if gain is None:
            reference = row.name == (panel.zero if column == "zero" else panel.method) and not row.control
            return Strip("reference", told=True, dots=(self.scale(0.0),)) if reference else Strip("")
        if gain.few:
            dots, said = list(gain.per_rater.values()), [number(self.metric, v, True) for v in gain.per_rater.values()]
            ends, words, span = None, listed(said), ""
        else:
            dots, ends = [gain.mean], (self.scale(gain.low), self.scale(gain.high))
            words, span = number(self.metric, gain.mean, True), interval(self.metric, gain)
        inside = tuple(self.scale(dot) for dot in dots if self.scale.low <= dot <= self.scale.high)
        all_of = [*dots, *((gain.low, gain.high) if ends else ())]
        beyond = (min(all_of) < self.scale.low, max(all_of) > self.scale.high)
        return Strip(words, span, gain.told, ends, inside, beyond)

    def level(self, panel: Panel, row: Row) -> str:
        """A system's own score, with what it lacks where other rows lack something else."""
        if isinstance(row.level, Absent):
            return str(row.level)
        differs = len({other.level.note for other in panel.rows if isinstance(other.level, Value)}) > 1
        return number(self.metric, row.level.mean) + (f" ({row.level.note})" if row.level.note and differs else "")

    @cached_property
    def drawings(self) -> list[Drawing]:
        """Each panel as a figure of its own, for a paper."""
        return all_drawn(lambda panel: [_drawn(self, panel)], self.open)

    @property
    def open(self) -> tuple[Panel, ...]:
        """Panels that are drawn in files, and shown at once."""
        return self.panels[: 2 * DRAWN]

    @property
    def caption(self) -> str:
        """What a mark is, and what must not be concluded."""
        unit = self.metric.difference_unit or self.metric.title
        of = unit if unit == self.metric.title else f"{unit} of {self.metric.title}"
        said = f"Gains in {of} on the same clips of the same {self.view.units}; right of the dashed line is better. "
        said += "" if self.metric.higher_is_better else "Lower scores are better: a gain is how much lower. "
        if not any(panel.verdicts for panel in self.panels):
            return f"{said}One dot a {self.view.unit}: no interval and no verdict below {FEWEST_RATERS}."
        rows = [row for panel in self.panels for row in panel.rows if not row.control]
        families = sorted({g.family for row in rows for g in (row.zero, row.method) if g and not g.few})
        over = (
            f" over the {' or '.join(map(str, families))} comparisons of a setting" if families not in ([], [1]) else ""
        )
        said += f"Filled and bold: told apart from the column's reference (p < 0.05 after Holm's correction{over}); "
        said += "hollow: not told apart, which does not mean equal. "
        if any(panel.method for panel in self.panels):
            over = " and zero-shot" if any(panel.zero for panel in self.panels) else ""
            said += f"Members of a group were tested against {self.view.method}{over}, not against each other. "
        if any(row.control for panel in self.panels for row in panel.rows):
            said += f"Swapped and mixed labels: {self.view.method} adapted to other people's labels, corrected apart. "
        return said.rstrip()


def forests(view: View, name: str = "forest", suffix: str = "") -> list[Forest]:
    """One for each metric that panels go by; none of settings where nothing is compared."""
    found: dict[str, list[Panel]] = {}
    for panel in view.panels:
        if any(row.zero or row.method for row in panel.rows):
            found.setdefault(panel.metric.name, []).append(panel)
    order = list(dict.fromkeys(panel.scenario for panel in view.panels))  # a row of panels a scenario
    return [
        Forest(view, tuple(sorted(panels, key=lambda panel: order.index(panel.scenario))), name, suffix)
        for panels in found.values()
    ]


def _drawn(forest: Forest, panel: Panel) -> Drawing:
    columns, rows = forest.columns(panel), [row for _, _, run in forest.groups(panel) for row in run]
    figure, axes = new_figure(1, len(columns), 1.0 + 0.3 * len(rows), sharey=True, sharex=True)
    axes[0][0].set_xlim(forest.scale.low, forest.scale.high)
    for axis, (key, heading) in zip(axes[0], columns, strict=True):
        axis.axvline(0, color=INK, linewidth=0.9, linestyle=":")
        for place, row in enumerate(rows):
            if (gain := getattr(row, key)) is not None:
                _mark(axis, place, row, gain, forest.scale)
        axis.set_title(heading.replace(" (", "\n("), fontsize=10)
        axis.grid(False, axis="y")
    axes[0][0].set_yticks(range(len(rows)), [row.name for row in rows])
    axes[0][0].set_ylim(len(rows) - 0.4, -0.6)
    unit = forest.metric.difference_unit
    figure.supxlabel(f"gain in {forest.metric.title}{f', {unit}' if unit else ''}", fontsize=11)
    key = slug(f"{forest.name}_{panel.title}".replace(" data", "").replace(", ", "_")).lower() + forest.suffix
    return finished(figure, key, f"Who gains: {panel.title}", forest.caption, _table(panel, key))


def _mark(axis: Axes, place: int, row: Row, gain: Gain, scale: Scale) -> None:
    look: dict[str, Any] = {
        "color": row.colour,
        "markerfacecolor": row.colour if gain.told else PAPER,
        "linestyle": "none",
    }
    if gain.few:
        axis.plot(list(gain.per_rater.values()), [place] * len(gain.per_rater), "o", markersize=5, **look)
        return
    axis.plot([gain.low, gain.high], [place, place], color=row.colour, linewidth=2.4 if gain.told else 1.2)
    axis.plot([gain.mean], [place], "o", markersize=6.5, **look)
    for end, outside, marker in ((scale.low, gain.low < scale.low, "<"), (scale.high, gain.high > scale.high, ">")):
        if outside:
            axis.plot([end], [place], marker=marker, color=row.colour, clip_on=False)


def _table(panel: Panel, key: str) -> Table:
    """The figure's numbers, for its CSV file."""
    columns = ["system", *(f"{what} {end}" for what in ("over zero-shot", "over the method") for end in _ENDS)]
    rows = []
    for row in panel.rows:
        gains = [cell for gain in (row.zero, row.method) for cell in _cells(gain)]
        rows.append((row.name, row.level, *gains))
    names = [Column(columns[0]), Column(panel.metric.heading, interval=True), *map(Column, columns[1:])]
    return Table(key, panel.title, "", tuple(names), tuple(rows))


_ENDS = ("mean", "low", "high", "told apart", "comparisons")


def _cells(gain: Gain | None) -> tuple:
    if gain is None:
        return (ABSENT,) * len(_ENDS)
    ends = [ABSENT] * 2 if gain.few else [Value(gain.low), Value(gain.high)]
    return (Value(gain.mean), *ends, "yes" if gain.told else "no", str(gain.family))
