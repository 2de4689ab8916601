"""What stands behind the means: calibration, and the paired comparisons with their verdicts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from s3prl_metaperser.evaluation.compare import FEWEST_RATERS, ZERO_SHOT
from s3prl_metaperser.evaluation.independent import mixed_model, sign_flip
from s3prl_metaperser.evaluation.metrics import Metric
from s3prl_metaperser.evaluation.statistics import Scored
from s3prl_metaperser.evaluation.summary import Cell, Comparison, compare_all
from s3prl_metaperser.report import paper
from s3prl_metaperser.report.gathered import BLOCK, PLACE, Study, first_part, is_ablation, k_of, value
from s3prl_metaperser.report.tables import ABSENT, Column, Table, Value
from s3prl_metaperser.storage.at_once import at_once

#: Up to so many mixed models are fitted by one process.
FEW = 100


@dataclass(frozen=True)
class Question:
    """A family of comparisons.

    Attributes:
        key: part of file names.
        title: what is asked.
        comparisons: of all metrics.
        main: the metric of its verdicts.
    """

    key: str
    title: str
    comparisons: Sequence[Comparison]
    main: Metric

    @property
    def ordered(self) -> list[Comparison]:
        """By setting; metrics stay in order."""
        return sorted(self.comparisons, key=lambda c: c.setting)

    @cached_property
    def leading(self) -> tuple[Column, ...]:
        """The columns that say which setting a row is of."""
        return (*BLOCK, Column("K")) if len({c.setting.shots for c in self.comparisons}) > 1 else BLOCK

    def lead(self, c: Comparison) -> tuple[str, ...]:
        """A row's cells in :attr:`leading`."""
        return (c.setting.scenario, c.setting.upstream, str(c.setting.shots))[: len(self.leading)]


def questions(study: Study) -> list[Question]:
    """The questions that there are comparisons for (report.yaml), at every K; each K is corrected by itself.

    Those about the same rows are one family, in which a pair is compared once: it has one verdict wherever it stands. A
    trial has none.
    """
    if study.trial:
        return []
    mine = {c: study.everything.cells[c] for c in study.cells if c.scope == study.scope}
    rows = {cell.system for cell in mine if not is_ablation(cell.system)} | study.whole
    systems = {cell: raters for cell, raters in mine.items() if cell.system in rows}
    parts = {cell: raters for cell, raters in mine.items() if is_ablation(cell.system)}
    chosen = {"systems": {**systems, **_guests(study)}, "parts": parts}
    references = {
        "method": study.method,
        "zero-shot": ZERO_SHOT,
        "first part": first_part(),
    }
    found: list[Question] = []
    for rows_of, cells in chosen.items():
        asked = {key: spec for key, spec in paper.spec().questions.items() if spec.rows == rows_of}
        family = compare_all(cells, *(references[spec.against] for spec in asked.values()))
        for key, spec in asked.items():
            about = references[spec.against]
            answers = [c for c in family if about in (c.second, ZERO_SHOT) and c.metric in study.metrics]
            family = [c for c in family if about not in (c.second, ZERO_SHOT)]
            if answers:
                title = spec.title.format(method=study.method, unit=study.unit)
                found.append(Question(key, title, answers, study.metrics[0]))
    return found


def _guests(study: Study) -> dict[Cell, Mapping[str, Sequence[Scored]]]:
    """Frozen systems among fine-tuned ones (Linear-Few): their cells as cells of this scope, named as in Table 1."""
    found = {}
    for cell in study.main_cells:
        if cell.scope != study.scope:
            row = dataclasses.replace(cell, scope=study.scope, system=study.name(cell))
            found[row] = study.everything.cells[cell]
    return found


def comparison_table(question: Question, study: Study) -> Table:
    """Every comparison of a family, with both intervals and both p values."""
    rows = [
        (
            *question.lead(c),
            c.metric.title,
            f"{c.first} - {c.second}",
            value(c.metric, c.difference, signed=True),
            value(c.metric, c.adjusted, signed=True),
            *(ABSENT if c.too_few else Value(p, decimals=3, positive=True) for p in (c.p, c.p_holm)),
            str(len(c.raters)),
            "yes" if c.told_apart else "no",
        )
        for c in question.ordered
    ]
    return study.table(
        question.key,
        question.title,
        f"Differences (in points where a metric is in percent) on the same episodes of the same {study.units}, with "
        "the 95 % interval of each comparison alone and at the level of Holm's procedure; p alone and after Holm's "
        "correction over the "
        "comparisons of one setting and metric, in all tables of the same rows. “Told apart”: the corrected p is below "
        "0.05. “—”: fewer than "
        f"{FEWEST_RATERS} {study.units}, too few for a verdict.",
        (
            *question.leading,
            *map(Column, ("metric", "difference of")),
            *(Column(name, interval=True) for name in ("difference", "corrected")),
            *map(Column, ("p", "p (Holm)", study.units, "told apart")),
        ),
        rows,
        grouped=len(question.leading) + 1,
    )


def checks_table(question: Question, study: Study) -> Table | None:
    """The differences of a family in its main metric by tests that share no arithmetic with the interval."""
    rows, tested = [], [c for c in question.ordered if c.metric == question.main and not c.too_few]
    models = at_once(lambda c: mixed_model(c.differences, c.metric.name), tested, few=FEW, chunk=8)
    for c, model in zip(tested, models, strict=True):
        rows.append(
            (
                *question.lead(c),
                f"{c.first} - {c.second}",
                str(len(c.raters)),
                value(c.metric, c.difference, signed=True),
                Value(c.p, decimals=3, positive=True),
                Value(sign_flip(list(c.per_rater.values())), decimals=3, positive=True),
                ABSENT if model is None else value(c.metric, c.possible(model.estimate.interval()), signed=True),
                ABSENT if model is None else Value(model.estimate.p_value(), decimals=3, positive=True),
            )
        )
    if not rows:
        return None
    return study.table(
        f"{question.key}_checks",
        f"{question.title}: other tests",
        f"Differences of {question.main.title} as in the table above, uncorrected: by the interval of this report; by "
        f"flipping the signs of {study.units}' differences, all or 10,000 ways (of R {study.units} no p is below "
        f"2 / 2^R: 0.063 of five); and by a mixed model with {study.units} and utterances crossed, fitted by REML, "
        "whose t has R - 1 degrees of freedom.",
        (
            *question.leading,
            *map(Column, ("difference of", study.units)),
            Column("difference", interval=True),
            *map(Column, ("p", "p (sign flip)")),
            Column("mixed model", interval=True),
            Column("p (mixed model)"),
        ),
        rows,
        grouped=len(question.leading),
    )


def calibration_table(study: Study) -> Table:
    """How well predicted probabilities fit the raters' answers."""
    rows = []
    for cell in study.main_cells:
        fit = study.summary(cell).calibration
        numbers = (Value(number, decimals=3) for number in (fit.brier, fit.ece, fit.jensen_shannon))
        rows.append((cell.scenario, cell.upstream, cell.system, *numbers))
    return study.table(
        "calibration",
        f"Calibration and soft labels{k_of(study)}",
        f"Lower is better; means over test {study.units}. Brier score over all classes (0 to 2), class-wise expected "
        f"calibration error (0 to 1), and Jensen-Shannon divergence to the shares of the {study.unit}'s answers in "
        "bits (0 to 1).",
        (*PLACE, *map(Column, ("Brier", "ECE", "Jensen-Shannon"))),
        rows,
    )


def missing_cells(tables: Sequence[Table]) -> list[tuple[Table, int, int]]:
    """[(table, rows without a result, rows in all)] of tables that lack anything."""
    return [(table, table.missing(), len(table.rows)) for table in tables if table.missing()]
