"""The sections of a report, by name: a task says which of them its report has, and in which order."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from s3prl_metaperser.corpora import Corpus, labels_without_audio
from s3prl_metaperser.errors import UserError, unknown_name
from s3prl_metaperser.evaluation.corpora_apart import reader_of
from s3prl_metaperser.report import provenance
from s3prl_metaperser.report.controls_table import controls_table
from s3prl_metaperser.report.cost_table import cost_table
from s3prl_metaperser.report.detail_tables import (
    Question,
    calibration_table,
    checks_table,
    comparison_table,
    missing_cells,
    questions,
)
from s3prl_metaperser.report.drawing import Drawing
from s3prl_metaperser.report.figures import figures
from s3prl_metaperser.report.further_tables import further_table, levels_table
from s3prl_metaperser.report.gathered import Gathered, Study, headline
from s3prl_metaperser.report.marginals import check_corpus, marginal_tables
from s3prl_metaperser.report.page import Section
from s3prl_metaperser.report.rater_tables import each_rater, many, rater_table
from s3prl_metaperser.report.result_tables import result_tables
from s3prl_metaperser.report.tables import Table, Value
from s3prl_metaperser.report.training_table import training_table
from s3prl_metaperser.report.trajectories import ABSENT_SENTENCE, curves, trajectory_figures, trajectory_table

_NO_MARGINALS = "Tables A1 and A2 are left out: name the corpus that was evaluated with --corpus and --root."


class Part:
    """Everything about one corpus and scope, made when a section asks for it."""

    def __init__(self, study: Study, traits: Mapping[str, Mapping[str, str]] | None = None):
        self.study, self.traits = study, traits

    @cached_property
    def results(self) -> list[Table]:
        """The tables of results."""
        return result_tables(self.study)

    @cached_property
    def questions(self) -> list[Question]:
        """The families of comparisons."""
        return questions(self.study)

    @cached_property
    def curves(self):
        """Numbers over adaptation steps, where results have them."""
        return curves(self.study)

    @cached_property
    def details(self) -> list[Table]:
        """Each rater, calibration, comparisons, and numbers over adaptation steps."""
        study = self.study
        compared = [comparison_table(question, study) for question in self.questions]
        over_steps = [trajectory_table(self.curves, study)] if self.curves else []
        training = [table] if (table := training_table(study)) else []
        costs = [table] if (table := cost_table(study)) else []
        controls = [table] if (table := controls_table(study)) else []
        further = filter(None, (further_table(study), levels_table(study, self.traits)))
        return [
            rater_table(study),
            calibration_table(study),
            *further,
            *compared,
            *controls,
            *costs,
            *training,
            *over_steps,
        ]

    @cached_property
    def checks(self) -> list[Table]:
        """The comparisons by other tests."""
        return [table for question in self.questions if (table := checks_table(question, self.study))]

    @cached_property
    def files(self) -> list[Table]:
        """Tables that are too long for the page, for CSV alone."""
        return [each_rater(self.study)] if many(self.study) else []

    @cached_property
    def drawings(self) -> list[Drawing]:
        """The figures."""
        return [*figures(self.study), *(trajectory_figures(self.curves, self.study) if self.curves else ())]


@dataclass(frozen=True)
class TaskReport:
    """The part of a report that is about one task.

    Attributes:
        folder: of the results.
        corpus: what was evaluated, where it was named.
        traits: rater -> trait -> value, where they are known.
    """

    gathered: Gathered
    folder: Path
    corpus: Corpus | None = None
    traits: Mapping[str, Mapping[str, str]] | None = None

    @cached_property
    def parts(self) -> list[Part]:
        """One for each corpus and scope."""
        return [Part(study, self.traits) for study in self.gathered.studies()]

    @cached_property
    def marginals(self) -> list[Table]:
        """Who ticks what; empty where the corpus is not at hand."""
        return _marginal_tables(self.gathered, self.corpus)

    def sections(self) -> list[Section]:
        """Those that the task names; neighbours that are about one corpus and scope stay together.

        Raises:
            UserError: the task names one that does not exist.
        """
        found: list[Section] = []
        for of_part, names in itertools.groupby(self.gathered.task.sections, OF_PARTS.__contains__):
            if of_part:
                chosen = list(names)
                found += [OF_PARTS[name](self, part) for part in self.parts for name in chosen]
            else:
                found += [section for name in names for section in self._of_task(name)]
        if not self.gathered.suffix:
            return found
        title = self.gathered.task.title
        return [replace(s, key=f"{s.key}{self.gathered.suffix}", title=f"{title}: {s.title}") for s in found]

    def _of_task(self, name: str) -> list[Section]:
        module, colon, attribute = name.partition(":")
        if not colon:
            if name not in SECTIONS:
                raise unknown_name("report section", name, [*OF_PARTS, *SECTIONS])
            return SECTIONS[name](self)
        try:
            made: Callable[[Gathered], list[Section]] = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            task = self.gathered.task.name
            raise UserError(f"The task {task!r} has no report section {name!r} ({error}).") from error
        return made(self.gathered)

    def named(self, what: str, part: Part) -> str:
        """A heading, with the corpus and scope where there are several."""
        return f"{what}: {part.study}" if len(self.parts) > 1 else what


# -- sections about one corpus and scope ------------------------------------------------------------------------------


def _key(what: str, part: Part) -> str:
    return f"{what}-{part.study.corpus}-{part.study.scope}"


def _tables(report: TaskReport, part: Part) -> Section:
    return Section(_key("tables", part), report.named("Tables", part), content=part.results)


def _details(report: TaskReport, part: Part) -> Section:
    units = report.gathered.task.units.capitalize()
    title = report.named(f"{units}, calibration, comparisons", part)
    return Section(_key("details", part), title, content=part.details)


def _appendix(report: TaskReport, part: Part) -> Section:
    lead = ["The same differences by tests that share nothing with the intervals above. Verdicts do not go by them."]
    title = report.named("Appendix: other tests", part)
    return Section(
        _key("appendix", part),
        title,
        lead if part.checks else ["Nothing is compared."],
        content=part.checks,
        folded=True,
    )


def _figures(report: TaskReport, part: Part) -> Section:
    return Section(_key("figures", part), report.named("Figures", part), content=part.drawings)


# -- sections about the whole task ------------------------------------------------------------------------------------


def _verdicts(report: TaskReport) -> list[Section]:
    parts, units = report.parts, report.gathered.task.units
    verdicts = [
        (f"{question.title}{f' ({part.study})' if len(parts) > 1 else ''}", question.verdicts())
        for part in parts
        for question in part.questions
    ]
    compared = " or ".join(dict.fromkeys(headline(question.main) for part in parts for question in part.questions))
    lead: tuple[str, ...] = (
        f"{compared}, paired on the same episodes of the same test {units}, corrected for the number of comparisons "
        "(Holm).",
        "The tables below have the other metrics, intervals and p values.",
    )
    nothing = ("No two systems have results in the same setting yet, so there is nothing to compare.",)
    if any(part.study.trial for part in parts):
        trial = (
            "There are results of a trial, whose numbers mean nothing (evalrc.verdicts: false); no verdicts on them."
        )
        lead, nothing = (trial, *lead), (trial,)
    return [Section("verdicts", "What can be told apart", lead if verdicts else nothing, verdicts)]


def _marginals(report: TaskReport) -> list[Section]:
    return [Section("marginals", "Who ticks what", content=report.marginals)] if report.marginals else []


def _missing(report: TaskReport) -> list[Section]:
    tables, units = [table for part in report.parts for table in part.results], report.gathered.task.units
    lead = [
        f"{count} of {total} rows of “{table.title}” have no result." for table, count, total in missing_cells(tables)
    ]
    lead = lead or ["Nothing: every row of every table of results has its result."]
    for table in tables:
        if partial := sum(any(isinstance(cell, Value) and cell.note for cell in row) for row in table.rows):
            lead.append(
                f"{partial} row(s) of “{table.title}” are means over fewer test {units} than a complete cell has."
            )
    if not any(part.curves for part in report.parts):
        lead.append(ABSENT_SENTENCE)
    if not report.marginals and "marginals" in report.gathered.task.sections:
        lead.append(_NO_MARGINALS)
    return [Section("missing", "What is missing", lead)]


def _origin(report: TaskReport) -> list[Section]:
    about = [provenance.provenance_table(report.gathered), provenance.files_table(report.gathered, report.folder)]
    return [Section("origin", "Where the numbers come from", content=about, folded=True)]


#: Name -> section of one corpus and scope.
OF_PARTS: Mapping[str, Callable[[TaskReport, Part], Section]] = {
    "tables": _tables,
    "details": _details,
    "figures": _figures,
    "appendix": _appendix,
}
#: Name -> sections of the whole task.
SECTIONS: Mapping[str, Callable[[TaskReport], list[Section]]] = {
    "verdicts": _verdicts,
    "marginals": _marginals,
    "missing": _missing,
    "origin": _origin,
}


def _marginal_tables(gathered: Gathered, corpus: Corpus | None) -> list[Table]:
    names = list(dict.fromkeys(result.cell.corpus for result in gathered.results))
    hashes = {result.cell.corpus: result.hashes.corpus for result in gathered.results}
    if corpus is not None:
        name = next((name for name in names if hashes[name] == corpus.fingerprint()), names[0])
        check_corpus(corpus, hashes[name])
    else:
        found = (
            (name, labels_without_audio(reader, gathered.option(name, "datarc", reader, default={})))
            for name, reader in ((name, reader_of(name)) for name in names)
        )
        name, corpus = next(((name, made) for name, made in found if made is not None), ("", None))
        if corpus is None or corpus.fingerprint() != hashes[name]:
            return []
    sessions = gathered.option(name, "datarc", "test_sessions", default=()) or corpus.suggested.test_sessions
    return marginal_tables(corpus, gathered.test_raters(name), tuple(sessions), name)
