"""What the report opens with, as plain data: one panel a setting, with every system's level and its gains.

A view holds numbers and names alone; :mod:`.sentence` says it in words and :mod:`.forest` draws it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from s3prl_metaperser.evaluation.compare import FEWEST_RATERS, Comparison
from s3prl_metaperser.evaluation.decided import OF_OTHERS
from s3prl_metaperser.evaluation.metrics import Metric
from s3prl_metaperser.evaluation.summary import Cell, Setting
from s3prl_metaperser.methods import facts_of, zero_shot_of
from s3prl_metaperser.report.gathered import first_part, is_ablation, value
from s3prl_metaperser.report.part import Part
from s3prl_metaperser.report.tables import Absent, Value
from s3prl_metaperser.report.trajectories import score


@dataclass(frozen=True)
class Gain:
    """How much better one system is than another on the same episodes, in the metric's printed unit.

    Attributes:
        mean: above zero is better, whatever the metric's direction.
        low, high: the interval at the level of Holm's procedure.
        told: told apart after the correction; never with too few raters.
        family: how many comparisons were corrected for.
        per_rater: each rater's own.
    """

    mean: float
    low: float
    high: float
    told: bool
    family: int
    per_rater: Mapping[str, float]

    @classmethod
    def of(cls, found: Comparison, by: float = 1.0) -> Gain:
        """From a comparison; by -1 of the second system over the first."""
        by *= found.metric.scale * (1 if found.metric.higher_is_better else -1)
        low, high = sorted((by * found.adjusted.low, by * found.adjusted.high))
        each = {rater: by * difference for rater, difference in found.per_rater.items()}
        return cls(by * found.difference.mean, low, high, found.told_apart, found.family, each)

    @property
    def few(self) -> bool:
        """Whether there are too few raters for a verdict."""
        return len(self.per_rater) < FEWEST_RATERS

    @property
    def verdict(self) -> int:
        """1: better; -1: worse; 0: not told apart."""
        return (1 if self.mean > 0 else -1) if self.told else 0


@dataclass(frozen=True)
class Row:
    """One system in one setting.

    Attributes:
        name: as tables have it.
        colour: hexadecimal.
        level: its own score.
        zero: its gain over zero-shot; None of zero-shot itself, or without its results.
        method: the same over the method.
        floor: it learns nothing, so that its distance does not set a figure's scale.
        control: the method with labels that are not the listener's.
        before: the score before adaptation, where results have it.
        fewer: it was tested on fewer raters than another of the setting.
    """

    name: str
    colour: str
    level: Value | Absent
    zero: Gain | None = None
    method: Gain | None = None
    floor: bool = False
    control: bool = False
    before: Value | Absent | None = None
    fewer: bool = False


@dataclass(frozen=True)
class Panel:
    """One setting: a corpus, scope, scenario and upstream at the report's K.

    Attributes:
        title: what sets it apart from the others.
        scenario: as results have it.
        method, zero: names of the systems that gains are counted over; empty where these have no results.
        lacking: the zero-shot system's name where it has none, of a task that has such a system.
        rows: best first, controls directly below zero-shot, those that were tested on fewer raters last.
        tested, expected: raters with results, and of a complete cell.
        trial: its numbers mean nothing by its own options.
    """

    title: str
    scenario: str
    metric: Metric
    method: str
    zero: str
    lacking: str
    rows: tuple[Row, ...]
    tested: tuple[str, ...]
    expected: tuple[str, ...]
    trial: bool = False

    @property
    def verdicts(self) -> bool:
        """Whether anything may be told apart here."""
        gains = [gain for row in self.rows for gain in (row.zero, row.method) if gain]
        return bool(gains) and not self.trial and not all(gain.few for gain in gains)

    def row(self, name: str) -> Row | None:
        """A system's row; None without results."""
        return next((row for row in self.rows if row.name == name and not row.control), None)


@dataclass(frozen=True)
class View:
    """All panels of a task.

    Attributes:
        method: the system that the others are held against.
        unit, units: what a mean is taken over.
    """

    method: str
    unit: str
    units: str
    panels: tuple[Panel, ...]

    @property
    def systems(self) -> list[str]:
        """All that have results."""
        return list(dict.fromkeys(row.name for panel in self.panels for row in panel.rows if not row.control))


def view_of(parts: Sequence[Part]) -> View:
    """The view of a task: every corpus and scope that has results."""
    study = parts[0].study
    panels = [panel for part in parts for panel in _panels(part, part.study.main_cells, len(parts) > 1)]
    return View(study.method, study.unit, study.units, tuple(panels))


def view_of_parts(part: Part) -> View | None:
    """What the parts of the method add to the first one alone; None where nothing is compared with it."""
    study, first = part.study, short_name(first_part())
    cells = [cell for cell in study.cells if is_ablation(cell.system) and cell.shots == study.shots]
    panels = tuple(_panels(part, cells, False, first_part()))
    return View(first, study.unit, study.units, panels) if any(r.method for p in panels for r in p.rows) else None


def _panels(part: Part, chosen: Sequence[Cell], several: bool, method: str = "") -> Iterator[Panel]:
    study, metric = part.study, part.study.metrics[0]
    compared: dict[Setting, list[Comparison]] = {}
    for comparison in (c for question in part.questions for c in question.comparisons if c.metric == metric):
        compared.setdefault(comparison.setting, []).append(comparison)
    zero = "" if method else zero_shot_of(study.method, study.scope) or ""
    reference, upstreams = method or study.method, {cell.upstream for cell in chosen}
    for scenario, upstream in study.blocks:
        cells = [cell for cell in chosen if (cell.scenario, cell.upstream) == (scenario, upstream)]
        if not cells:
            continue
        names = {cell.system for cell in cells}
        found = compared.get(replace(cells[0].setting, scope=study.scope), ())
        rows = list(_rows(part, cells, found, reference, not method))
        rows.sort(key=lambda row: (row.fewer, _place(metric, row.level)))
        at = next((index for index, row in enumerate(rows) if row.name == zero), -1) + 1
        rows[at:at] = _controls(part, cells) if at else ()
        words = [f"{scenario[:1].upper()}{scenario[1:]} data", *[upstream] * (len(upstreams) > 1)]
        yield Panel(
            title=", ".join([*words, *[str(study)] * several]),
            scenario=scenario,
            metric=metric,
            method=(short_name(reference) if method else reference) if reference in names else "",
            zero=zero if zero in names else "",
            lacking=zero if zero not in names and study.everything.task.systems(study.scope).knows(zero) else "",
            rows=tuple(rows),
            tested=tuple(r for r in study.test_raters if any(r in study.everything.cells[cell] for cell in cells)),
            expected=tuple(study.test_raters),
            trial=study.trial,
        )


def _rows(
    part: Part, cells: Sequence[Cell], compared: Sequence[Comparison], method: str, over_zero: bool
) -> Iterator[Row]:
    study, metric = part.study, part.study.metrics[0]
    curves = {curve.cell: curve for curve in part.curves}
    most = max(len(study.everything.cells[cell]) for cell in cells)
    for cell in cells:
        name, note = study.name(cell), study.incomplete(cell)
        gains = {c.second: Gain.of(c) for c in compared if c.first == name}
        gains |= {c.first: Gain.of(c, -1) for c in compared if c.second == name}
        curve = curves.get(cell)
        unadapted = curve is not None and curve.steps[0] == 0 and metric in curve.metrics
        yield Row(
            name=name if over_zero else short_name(name),
            colour=part.colours[cell.system if over_zero else study.method],
            level=value(metric, study.summary(cell).intervals.get(metric.name), note),
            zero=gains.get(zero_shot_of(name, study.scope) or "") if over_zero else None,
            method=gains.get(method),
            floor=not facts_of(cell.system).learns,
            before=score(metric, curve, 0, note) if curve is not None and unadapted else None,
            fewer=len(study.everything.cells[cell]) < most,
        )


def short_name(variant: str) -> str:
    """``INI+DA`` of ``Meta-PerSER:INI+DA``."""
    return variant.removeprefix(f"{facts_of(variant).variant_of}:")


def _controls(part: Part, cells: Sequence[Cell]) -> Iterator[Row]:
    """What the method scores with the labels of others, with the verdicts of the table of controls."""
    study = part.study
    for cell, name, c in part.controls:
        if cell in cells and cell.system == study.method and name in OF_OTHERS and c.metric == study.metrics[0]:
            mean = study.summary(cell).intervals[c.metric.name].mean + c.difference.mean
            level = Value(c.metric.scale * mean, decimals=c.metric.decimals)
            yield Row(f"{name} labels", part.colours[cell.system], level, method=Gain.of(c), control=True)


def _place(metric: Metric, level: Value | Absent) -> float:
    """For sorting: the best first, what has no value last."""
    if isinstance(level, Absent):
        return float("inf")
    return -level.mean if metric.higher_is_better else level.mean
