"""The tables of results: each is a specification (:class:`.TableSpec`), filled with ours and the paper's numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from s3prl_metaperser.evaluation.metrics import Metric
from s3prl_metaperser.evaluation.statistics import best_possible
from s3prl_metaperser.evaluation.summary import Cell
from s3prl_metaperser.methods import table2_rows
from s3prl_metaperser.report import paper
from s3prl_metaperser.report.gathered import BLOCK, META, PARTS, Study, is_ablation, units, value
from s3prl_metaperser.report.paper import TableSpec
from s3prl_metaperser.report.tables import ABSENT, MISSING, Column, Table
from s3prl_metaperser.report.tables import Cell as TableCell
from s3prl_metaperser.report.training_table import annealing_notes
from s3prl_metaperser.storage.at_once import at_once

#: The numbers of up to so many cells are looked up, or pooled, by one process.
FEW = 200

INTERVALS = "Means over seeds, then test {units}, with 95 % intervals for further {units} and utterances."


class Line(NamedTuple):
    """One row to be: its leading cells, its name, the scenario and upstream it is of, and the cells it averages."""

    lead: tuple[str, ...]
    name: str
    scenario: str
    upstream: str
    cells: tuple[Cell, ...]


def result_tables(study: Study) -> list[Table]:
    """The tables of one corpus and scope; for a corpus that the paper does not have, those with results alone."""
    made = (result_table(key, table, study) for key, table in paper.spec().tables.items())
    return [table for table in made if table.rows]


def result_table(key: str, spec: TableSpec, study: Study) -> Table:
    """One table."""
    everything = list(_LINES[spec.rows](spec, study))
    lines = everything if study.complete else _worth_showing(spec, everything)
    beside = [metric for metric in study.metrics if study.complete and metric.name in paper.spec().metrics]
    same_shots = spec.rows == "shots" or study.shots == paper.spec().shots
    rows = []
    few = len(lines) if sum(len(line.cells) for line in lines) <= FEW else 0
    numbers = at_once(lambda line: study.spans(line.cells), lines, few=few)
    for line, (spans, note) in zip(lines, numbers, strict=True):
        row: list[TableCell] = list(line.lead)
        for metric in study.metrics:
            row.append(MISSING if spans is None else value(metric, spans.get(metric.name), note))
            if metric in beside:
                place = {"scenario": line.scenario, "upstream": paper.paper_upstream(line.upstream), "row": line.name}
                row.append(paper.number(spec, metric.name, **place) if same_shots else ABSENT)
        rows.append(row)
    title = spec.title.format(shots=study.shots, method=META)
    captions = (
        spec.about,
        units(study.metrics),
        INTERVALS.format(units=study.units),
        _beside(study) if study.complete else "",
    )
    return study.table(
        key,
        f"{spec.name}: {title}" if study.complete else title[0].upper() + title[1:],
        " ".join(filter(None, captions)),
        (*_leading(spec), *_numbers(study.metrics, beside)),
        rows,
        grouped=1 if spec.average else 2,
        notes=_notes(spec, study, lines, same_shots),
    )


# -- rows -------------------------------------------------------------------------------------------------------------


def _systems(spec: TableSpec, study: Study) -> Iterator[Line]:
    for scenario, upstream in study.blocks:
        for system in study.systems:
            cell = study.find(upstream, scenario, system, study.shots)
            name = system if cell is None else study.name(cell)
            yield Line((scenario, upstream, name), system, scenario, upstream, (cell,) if cell else ())


def _parts(spec: TableSpec, study: Study) -> Iterator[Line]:
    switches = study.switches
    wanted = [frozenset(row) for row in table2_rows().values()]
    wanted += sorted({on for on in switches.values() if on not in wanted}, key=lambda on: (len(on), sorted(on)))
    with_variants = {(cell.scenario, cell.upstream) for cell in study.cells if is_ablation(cell.system)}
    for scenario, upstream in study.blocks:
        if spec.scenarios and scenario not in spec.scenarios and (scenario, upstream) not in with_variants:
            continue
        for on in wanted:
            here = [c for c in switches if (c.scenario, c.upstream) == (scenario, upstream) and switches[c] == on]
            cell = max(here, key=lambda cell: len(cell.system), default=None)  # a row's own name before the method's
            name = " + ".join(part for part in PARTS if part in on) or "none"
            lead = (scenario, upstream, name, *("✓" if part in on else "" for part in PARTS))
            yield Line(lead, name, scenario, upstream, (cell,) if cell else ())


def _shots(spec: TableSpec, study: Study) -> Iterator[Line]:
    mine = [cell for cell in study.cells if cell.system == META]
    listed = spec.shots if study.complete else ()
    every = sorted({*listed, *(cell.shots for cell in mine)})
    if spec.average:
        for scenario in study.scenarios:
            upstreams = _upstreams_with_every_k([cell for cell in mine if cell.scenario == scenario])
            for k in every:
                cells = [study.find(upstream, scenario, META, k) for upstream in upstreams]
                found = tuple(cell for cell in cells if cell)
                yield Line((scenario, str(k)), str(k), scenario, "", found if len(found) == len(cells) else ())
        return
    for scenario, upstream in study.blocks:
        for k in every:
            cell = study.find(upstream, scenario, META, k)
            yield Line((scenario, upstream, str(k)), str(k), scenario, upstream, (cell,) if cell else ())


_LINES: dict[str, Callable[[TableSpec, Study], Iterable[Line]]] = {
    "systems": _systems,
    "parts": _parts,
    "shots": _shots,
}


def _worth_showing(spec: TableSpec, lines: list[Line]) -> list[Line]:
    """Of a corpus that the paper does not have: rows with results, in tables that compare something."""
    found = [line for line in lines if line.cells]
    compares = {
        "systems": True,
        "parts": any(is_ablation(cell.system) for line in found for cell in line.cells),
        "shots": len({line.name for line in found}) > 1,
    }
    several = not spec.average or any(len(line.cells) > 1 for line in found)
    return found if compares[spec.rows] and several else []


def _upstreams_with_every_k(cells: list[Cell]) -> list[str]:
    every = {cell.shots for cell in cells}
    names = sorted({cell.upstream for cell in cells})
    return [name for name in names if {cell.shots for cell in cells if cell.upstream == name} == every]


# -- columns and words ------------------------------------------------------------------------------------------------


def _leading(spec: TableSpec) -> list[Column]:
    own = {"systems": ["system"], "parts": ["parts", *PARTS], "shots": ["K"]}[spec.rows]
    return [*BLOCK[: 1 if spec.average else 2], *map(Column, own)]


def _numbers(metrics: Iterable[Metric], beside: list[Metric]) -> Iterator[Column]:
    for metric in metrics:
        if not beside:
            yield Column(metric.title, interval=True)
            continue
        yield Column("ours", metric.title, interval=True)
        if metric in beside:
            yield Column("paper", metric.title)


def _beside(study: Study) -> str:
    differs = []
    if study.corpus != paper.spec().corpus:
        differs.append(f"the corpus here is {study.corpus}")
    if study.scope != paper.spec().scope:
        differs.append("the upstream here is frozen")
    what = paper.spec().about
    if not differs:
        return f"{what}. “—”: the paper has no such number."
    return f"{what}; {' and '.join(differs)}, so they stand beside ours for orientation only. “—”: the paper has none."


def _notes(spec: TableSpec, study: Study, lines: list[Line], same_shots: bool) -> Iterator[str]:
    if study.complete and not same_shots:
        printed = paper.spec().shots
        yield f"K={study.shots} here and {printed} in the paper, so that none of its numbers stand beside ours."
    if study.complete and spec.unordered.rows:
        known = [u for u in dict.fromkeys(line.upstream for line in lines) if paper.has_upstream(u)]
        yield spec.unordered.note.format(numbers="; ".join(_unordered(spec, upstream, study) for upstream in known))
    if spec.average:
        averaged = {line.scenario: line.cells for line in reversed(lines) if line.cells}
        for scenario in sorted(averaged):
            yield f"{scenario}: ours is averaged over {', '.join(cell.upstream for cell in averaged[scenario])}."
    elif spec.rows == "systems":
        yield from _caps(study, lines)
    elif spec.rows == "parts":
        yield from annealing_notes(study)
    shown = {cell for line in lines for cell in line.cells}
    for doubt in dict.fromkeys(d for result in study.results if result.key in shown for d in result.doubts):
        yield f"Mind that {doubt}."


def _unordered(spec: TableSpec, upstream: str, study: Study) -> str:
    place = {"scenario": "", "upstream": paper.paper_upstream(upstream)}
    rows = [paper.triple(spec, row=row, **place) for row in spec.unordered.rows]
    titles = {metric.name: metric.title for metric in study.metrics}
    parts = []
    for index, name in enumerate(paper.spec().metrics):
        parts.append(f"{titles.get(name, name)} {', '.join(f'{row[index]:.1f}' for row in rows if row)}")
    return f"{upstream}: {' / '.join(parts)}"


def _caps(study: Study, lines: list[Line]) -> Iterator[str]:
    """What perfect predictions reach, of metrics that count classes which cannot occur in an episode."""
    best: dict[str, dict[str, float]] = {}
    for line in lines:
        if line.cells and line.scenario not in best:
            best[line.scenario] = best_possible(study.everything.cells[line.cells[0]])
    for metric in study.metrics:
        reached = [f"{metric.shown(b[metric.name])} ({scenario})" for scenario, b in best.items() if metric.name in b]
        if reached:
            yield (
                f"Perfect predictions reach {metric.title} {', '.join(reached)}: a class that a {study.unit} gives to "
                "none of an episode's query utterances counts as zero."
            )
