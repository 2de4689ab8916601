"""What is left of a system with labels that are not the listener's, and so what of its gain is personal."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

from s3prl_metaperser.evaluation.collect import scored_of
from s3prl_metaperser.evaluation.compare import Comparison, compare
from s3prl_metaperser.evaluation.decided import OF_OTHERS, with_decisions
from s3prl_metaperser.evaluation.result import Result
from s3prl_metaperser.evaluation.statistics import Episodes, Scored
from s3prl_metaperser.evaluation.summary import Cell
from s3prl_metaperser.report.gathered import PLACE, Study, headline, value
from s3prl_metaperser.report.tables import Column, Table, Value


def compared_controls(study: Study) -> list[tuple[Cell, str, Comparison]]:
    """(cell, control, the control minus the cell) by the first metric that goes by decisions, since results keep these
    of controls; those of one cell are one family. Nothing without such a metric, or results that have controls."""
    metric = next((metric for metric in study.metrics if metric.of_decisions), None)
    if metric is None:
        return []
    files = study.everything.files
    return [(cell, *found) for cell in study.main_cells for found in _compared(cell, files[cell], metric.name)]


def controls_table(study: Study, compared: Sequence[tuple[Cell, str, Comparison]] | None = None) -> Table | None:
    """A row for each system and control; None without results that have controls.

    Args:
        compared: from :func:`compared_controls`, where they are known.
    """
    rows: list[tuple] = []
    by_cell: dict[Cell, list[Comparison]] = {}
    for cell, name, comparison in compared_controls(study) if compared is None else compared:
        metric = comparison.metric
        corrected = value(metric, comparison.adjusted, signed=True)
        lost = value(metric, comparison.difference, signed=True)
        p = Value(comparison.p_holm, decimals=3, positive=True)
        rows.append((cell.scenario, cell.upstream, cell.system, name, lost, corrected, p))
        by_cell.setdefault(cell, []).extend([comparison] * (name in OF_OTHERS))
    verdicts = [
        f"{cell.system} ({cell.scenario}): "
        + ("yes" if all(c.told_apart and c.metric.better(0.0, c.difference.mean) for c in others) else "not shown")
        for cell, others in by_cell.items()
        if len(others) == len(OF_OTHERS)
    ]
    if not rows:
        return None
    return study.table(
        "controls",
        f"{headline(metric)} with labels that are not the listener's",
        f"Differences (of percent in points) to the same system with the {study.unit}'s own K labels, on the same "
        "query samples: without adaptation (unadapted); with another's labels (swapped); on the same clips with labels "
        "of many others (mixed), with all others' together (consensus), and with the own ones in another order "
        "(shuffled). "
        "95 % intervals of each comparison alone and at the level of Holm's procedure over the controls of one system.",
        (
            *PLACE,
            Column("control"),
            *(Column(name, interval=True) for name in ("difference", "corrected")),
            Column("p (Holm)"),
        ),
        rows,
        notes=[f"Personal, that is, worse with swapped and with mixed labels: {'; '.join(verdicts)}."]
        if verdicts
        else [],
    )


def _under(predicted: Mapping[int, Sequence[Sequence[int]]]) -> Callable[[Result], dict[str, list[Scored]]]:
    """A result -> rater -> its episodes with a control's decisions, by the result's ``id``."""
    return lambda result: with_decisions(result.scored, predicted[id(result)])


def _compared(cell: Cell, files: Sequence[Result], metric: str) -> Iterator[tuple[str, Comparison]]:
    """Each control that all of a cell's results have, minus the cell."""
    names = [control.name for control in files[0].controls or ()]
    cells: dict[Cell, dict[str, Episodes]] = {cell: scored_of(files)}
    renamed = {}
    for name in names:
        there = [control for r in files for control in r.controls or () if control.name == name]
        if len(there) < len(files) or any(control.diverged is not None for control in there):
            continue
        other = dataclasses.replace(cell, system=f"{cell.system}: {name}")
        renamed[other.system] = name
        predicted = {id(result): control.predicted for result, control in zip(files, there, strict=True)}
        cells[other] = scored_of(files, _under(predicted))
    for comparison in compare(cells, cell.system, metric=metric):
        yield renamed[comparison.first], comparison
