"""Metrics beside those of all tables: other decisions, calibration, and F1 by rater, utterance and trait."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from s3prl_metaperser.corpora.csv_rows import column, read_header
from s3prl_metaperser.corpora.csv_rows import rows as csv_rows
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.evaluation.levels import levels
from s3prl_metaperser.evaluation.metrics import metrics_for
from s3prl_metaperser.report.gathered import PLACE, Study, k_of, units, value
from s3prl_metaperser.report.tables import ABSENT, Column, Table, Value
from s3prl_metaperser.storage.at_once import at_once

#: Up to so many cells are computed by one process.
FEW = 100
#: Names of the column that says who is meant.
RATER = ("rater", "annotator", "listener", "worker", "user")


def further_table(study: Study) -> Table | None:
    """The metrics that are not in every table; None where there is none."""
    label_set = next(iter(study.everything.cells[study.cells[0]].values()))[0].label_set
    further = [m for m in metrics_for(label_set) if label_set.kind in m.further]
    shown = [m for m in further if any(m.name in study.summary(cell).intervals for cell in study.main_cells)]
    if not shown:
        return None
    rows = []
    for cell in study.main_cells:
        spans = study.summary(cell).intervals
        rows.append((cell.scenario, cell.upstream, cell.system, *(value(m, spans.get(m.name)) for m in shown)))
    said = "; ".join(f"{metric.title}: {metric.words}" for metric in shown if metric.words)
    return study.table(
        "further",
        f"Further metrics{k_of(study)}",
        f"{units(shown)} Means over seeds, then test {study.units}, with 95 % intervals."
        f"{f' {said[0].upper()}{said[1:]}.' if said else ''}",
        (*PLACE, *(Column(metric.title, interval=True) for metric in shown)),
        rows,
    )


def levels_table(study: Study, traits: Mapping[str, Mapping[str, str]] | None) -> Table | None:
    """F1 at three levels; None for a scale, which has no classes to count."""
    label_set = next(iter(study.everything.cells[study.cells[0]].values()))[0].label_set
    if label_set.kind == "ordinal":
        return None
    rows, episodes = [], study.everything.cells
    everyone = at_once(lambda cell: levels(episodes[cell], traits), study.main_cells, few=FEW, chunk=4)
    for cell, found in zip(study.main_cells, everyone, strict=True):
        numbers = (found.rater, found.utterance, found.trait, found.everything)
        worst = worst_tenth(study, cell)
        shown = [ABSENT if number is None else Value(100 * number) for number in numbers]
        rows.append((cell.scenario, cell.upstream, cell.system, *shown, ABSENT if worst is None else worst))
    return study.table(
        "levels",
        f"Macro-F1 by {study.unit}, by utterance and by trait{k_of(study)}",
        f"As PersEval has it, percent: macro-F1 of each test {study.unit}'s answers, of the answers to each utterance, "
        f"of those of {study.units} who share a trait, averaged over these groups, and of all answers at once; over "
        "the classes that are predicted or answered in a group, and means over seeds. Traits: --corpus or --traits. "
        f"Last: the mean of the worst tenth of {study.units} by {study.metrics[0].title}, of ten or fewer the worst.",
        (*PLACE, *map(Column, (study.unit, "utterance", "trait", "all answers", "worst tenth"))),
        rows,
    )


def worst_tenth(study: Study, cell) -> Value | None:
    """The mean of the tenth of the test raters (rounded up) with the worst scores by the primary metric."""
    metric = study.metrics[0]
    means = [own[metric.name].mean for own in study.summary(cell).per_rater.values() if metric.name in own]
    if not means:
        return None
    worst = sorted(means, reverse=not metric.higher_is_better)[: -(-len(means) // 10)]
    return Value(metric.scale * float(np.mean(worst)), decimals=metric.decimals)


def read_traits(path: Path) -> dict[str, dict[str, str]]:
    """A table with a column ``rater`` and one for each trait: rater -> trait -> value; empty cells are left out.

    Raises:
        UserError: it cannot be read, has no such column or no other, or names a rater twice.
    """
    table = csv_rows(path, lambda name: name.strip().lower() in RATER)
    header = read_header(path, table, RATER)
    at, found = column(path, header, RATER), dict[str, dict[str, str]]()
    if len(header) < 2:
        raise UserError(
            f"{path}:1: there is no trait beside the column {header[at]!r}. Add one, such as age or gender."
        )
    for line, row in table:
        rater = row[at].strip()
        if rater in found:
            raise UserError(f"{path}:{line}: rater {rater!r} has a row already. Keep one.")
        cells = {name: cell.strip() for name, cell in zip(header, row, strict=True) if name != header[at]}
        found[rater] = {name: cell for name, cell in cells.items() if cell}
    return found
