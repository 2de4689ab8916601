"""What stands behind the means: each rater, calibration, and the paired comparisons with their verdicts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from s3prl_metaperser.evaluation.metrics import METRICS
from s3prl_metaperser.evaluation.statistics import Scored
from s3prl_metaperser.evaluation.summary import Cell, Comparison, Setting, compare_all
from s3prl_metaperser.methods import DEFAULT_SYSTEM, facts_of, table2_rows
from s3prl_metaperser.report import paper
from s3prl_metaperser.report.gathered import Gathered, Study, guests, is_ablation
from s3prl_metaperser.report.tables import ABSENT, MISSING, Column, Table, Value
from s3prl_metaperser.report.tables import Cell as TableCell

#: The metric of verdicts and of tables that have room for one.
MAIN_METRIC = "macro_f1"


@dataclass(frozen=True)
class Question:
    """A family of comparisons.

    Attributes:
        key: part of file names.
        title: what is asked.
        comparisons: of all metrics.
    """

    key: str
    title: str
    comparisons: Sequence[Comparison]

    def verdicts(self) -> list[tuple[str, list[str]]]:
        """[(where, verdicts on macro-F1)]."""
        found: dict[str, list[str]] = {}
        for comparison in self.comparisons:
            if comparison.metric == MAIN_METRIC:
                found.setdefault(_where(comparison.setting), []).append(comparison.verdict)
        return list(found.items())


def questions(gathered: Gathered, study: Study) -> list[Question]:
    """The families that there are results for: against Meta-PerSER, against zero-shot, and Table 2's rows."""
    here = (study.corpus, study.scope, gathered.main_shots(study))
    mine = {c: raters for c, raters in gathered.cells.items() if (c.corpus, c.scope, c.shots) == here}
    systems = {cell: raters for cell, raters in mine.items() if not is_ablation(cell.system)}
    parts = {cell: raters for cell, raters in mine.items() if is_ablation(cell.system)}
    rows = {**systems, **_guests(gathered, study)}
    one_part = next(name for name, on in table2_rows().items() if len(on) == 1)
    asked = [
        ("against_meta_perser", "Is Meta-PerSER better than the other systems?", rows, DEFAULT_SYSTEM),
        ("against_zero_shot", "Does adapting to the rater help at all?", systems, "zero-shot"),
        ("table2_parts", "What does each part of Meta-PerSER add to initialisation alone?", parts, one_part),
    ]
    found = []
    for key, title, cells, against in asked:
        comparisons = compare_all(cells, against, draws=gathered.draws)
        if comparisons:
            found.append(Question(key, title, comparisons))
    return found


def _guests(gathered: Gathered, study: Study) -> dict[Cell, Mapping[str, Sequence[Scored]]]:
    """Frozen systems among fine-tuned ones (Linear-Few): their cells as cells of this scope, named as in Table 1."""
    shots, found = gathered.main_shots(study), {}
    for scenario, upstream in gathered.blocks(study):
        for name in guests():
            cell = gathered.find(study, upstream, scenario, name, shots)
            if cell is not None and cell.scope != study.scope:
                row = dataclasses.replace(cell, scope=study.scope, system=f"{cell.system} ({cell.scope})")
                found[row] = gathered.cells[cell]
    return found


def comparison_table(question: Question, study: Study, suffix: str = "") -> Table:
    """Every comparison of a family, with both intervals and both p values."""
    order = sorted(question.comparisons, key=lambda c: (c.setting, METRICS.index(c.metric)))
    rows = []
    for c in order:
        span, adjusted = c.difference, c.adjusted
        rows.append(
            (
                c.setting.scenario,
                c.setting.upstream,
                paper.METRIC_NAMES[c.metric],
                f"{c.first} - {c.second}",
                Value(100 * span.mean, 100 * span.low, 100 * span.high, signed=True),
                Value(100 * span.mean, 100 * adjusted.low, 100 * adjusted.high, signed=True),
                Value(c.p, decimals=3, positive=True),
                Value(c.p_holm, decimals=3, positive=True),
                str(len(c.raters)),
                "yes" if c.told_apart else "no",
            )
        )
    return Table(
        key=f"{question.key}{suffix}",
        title=f"{question.title} ({study})",
        caption="Differences in points, on the same episodes of the same raters, with the 95 % interval of each "
        "comparison alone and at the level of Holm's procedure; p alone and after Holm's correction over the "
        "comparisons of one setting and metric. “Told apart”: the corrected p is below 0.05.",
        columns=(
            Column("scenario"),
            Column("upstream"),
            Column("metric"),
            Column("difference of"),
            Column("difference", interval=True),
            Column("corrected", interval=True),
            Column("p"),
            Column("p (Holm)"),
            Column("raters"),
            Column("told apart"),
        ),
        rows=tuple(rows),
        grouped=3,
    )


def rater_table(gathered: Gathered, study: Study, suffix: str = "") -> Table:
    """Macro-F1 of every test rater, the worst one, and how many gain over zero-shot."""
    raters, cells = gathered.test_raters(study.corpus), main_cells(gathered, study)
    rows = []
    for cell in cells:
        numbers = gathered.summaries[cell]
        row: list[TableCell] = [cell.scenario, cell.upstream, cell.system]
        for rater in raters:
            row.append(_points(numbers.per_rater[rater][MAIN_METRIC]) if rater in numbers.per_rater else MISSING)
        rater, lowest = numbers.worst[MAIN_METRIC]
        row.append(Value(100 * lowest, note=rater))
        comparable = numbers.improved is not None and cell.system != facts_of(cell.system).zero_shot.get(cell.scope)
        row.append(Value(100 * numbers.improved[MAIN_METRIC], decimals=0) if comparable else ABSENT)
        rows.append(tuple(row))
    return Table(
        key=f"raters{suffix}",
        title=f"Macro-F1 of each test rater, K={gathered.main_shots(study)} ({study})",
        caption="Percent; means over seeds, with 95 % intervals for further utterances of this rater. Last column: "
        "share of raters whose mean is above that of the zero-shot system (Linear-Zero or Entire-Zero).",
        columns=(
            Column("scenario"),
            Column("upstream"),
            Column("system"),
            *(Column(rater, interval=True) for rater in raters),
            Column("worst rater", interval=True),
            Column("% improved"),
        ),
        rows=tuple(rows),
        grouped=2,
    )


def calibration_table(gathered: Gathered, study: Study, suffix: str = "") -> Table:
    """How well predicted probabilities fit the raters' ticks."""
    rows = []
    for cell in main_cells(gathered, study):
        fit = gathered.summaries[cell].calibration
        numbers = (Value(number, decimals=3) for number in (fit.brier, fit.ece, fit.jensen_shannon))
        rows.append((cell.scenario, cell.upstream, cell.system, *numbers))
    return Table(
        key=f"calibration{suffix}",
        title=f"Calibration and soft labels, K={gathered.main_shots(study)} ({study})",
        caption="Lower is better; means over test raters. Brier score over all classes (0 to 2), class-wise expected "
        "calibration error (0 to 1), and Jensen-Shannon divergence to the rater's shares of ticks in bits (0 to 1).",
        columns=(
            Column("scenario"),
            Column("upstream"),
            Column("system"),
            Column("Brier"),
            Column("ECE"),
            Column("Jensen-Shannon"),
        ),
        rows=tuple(rows),
        grouped=2,
    )


def main_cells(gathered: Gathered, study: Study) -> list[Cell]:
    """Table 1's cells that have results, block by block in the order of its rows."""
    shots, found = gathered.main_shots(study), []
    for scenario, upstream in gathered.blocks(study):
        for system in gathered.systems(study):
            cell = gathered.find(study, upstream, scenario, system, shots)
            if cell is not None and cell not in found:
                found.append(cell)
    return found


def _where(setting: Setting) -> str:
    return f"{setting.scenario} data, {setting.upstream}, K={setting.shots}"


def missing_cells(tables: Sequence[Table]) -> list[tuple[Table, int, int]]:
    """[(table, rows without a result, rows in all)] of tables that lack anything."""
    return [(table, table.missing(), len(table.rows)) for table in tables if table.missing()]


def _points(span) -> Value:
    return Value(100 * span.mean, 100 * span.low, 100 * span.high)
