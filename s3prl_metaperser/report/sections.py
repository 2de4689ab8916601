"""The sections of a report, by name: a task says which of them its report has, and in which order."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from s3prl_metaperser.corpora import Corpus, labels_without_audio
from s3prl_metaperser.errors import UserError, unknown_name
from s3prl_metaperser.evaluation.corpora_apart import reader_of
from s3prl_metaperser.report import paper, provenance
from s3prl_metaperser.report.alone import alone
from s3prl_metaperser.report.cite import copies
from s3prl_metaperser.report.detail_tables import missing_cells
from s3prl_metaperser.report.forest import forests
from s3prl_metaperser.report.gathered import Gathered
from s3prl_metaperser.report.marginals import check_corpus, marginal_tables
from s3prl_metaperser.report.page import Section, Words
from s3prl_metaperser.report.part import Part
from s3prl_metaperser.report.sentence import headline, in_words, listed
from s3prl_metaperser.report.tables import Table, Value
from s3prl_metaperser.report.trajectories import ABSENT_SENTENCE
from s3prl_metaperser.report.view import View, view_of, view_of_parts

_NO_MARGINALS = "Tables A1 and A2 are left out: name the corpus that was evaluated with --corpus and --root."


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
    def view(self) -> View:
        """What it opens with."""
        return view_of(self.parts)

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
    content: list[Any] = [part.scores]
    if (added := view_of_parts(part)) is not None:
        about = next(spec.about for spec in paper.spec().tables.values() if spec.rows == "parts")
        lines = [("What each part adds", about)]
        content += [Words(lines), *forests(added, "parts", part.study.suffix)]
    return Section(_key("tables", part), part.scores.title, content=content, folded=part.results)


def _figures(report: TaskReport, part: Part) -> Section:
    every = {cell.upstream for cell in part.study.cells}
    few = f"Of {len(every)} upstreams, {listed(part.study.drawn)} are drawn; the tables have all."
    lead = [few] if len(every) > len(part.study.drawn) else []
    return Section(_key("figures", part), report.named("Figures", part), lead, content=part.drawings)


def _cite(report: TaskReport, part: Part) -> Section:
    return Section(_key("cite", part), report.named("Cite and reuse", part), content=copies(part))


def _details(report: TaskReport, part: Part) -> Section:
    return Section(_key("details", part), report.named("More tables", part), folded=part.details)


def _appendix(report: TaskReport, part: Part) -> Section:
    lead = ["The same differences by tests that share nothing with the intervals above. Verdicts do not go by them."]
    title = report.named("Appendix: other tests", part)
    lead = lead if part.checks else ["Nothing is compared."]
    return Section(_key("appendix", part), title, lead, folded=part.checks)


# -- sections about the whole task ------------------------------------------------------------------------------------


def _verdicts(report: TaskReport) -> list[Section]:
    view = report.view
    lines = [*in_words(view), *provenance.cautions(report.gathered)]
    content = [*forests(view, suffix=report.gathered.suffix), *alone(view, report.gathered.suffix), Words(lines)]
    return [Section("verdicts", "What can be told apart", content=content, headline=headline(view))]


def _marginals(report: TaskReport) -> list[Section]:
    return [Section("marginals", "Who ticks what", folded=report.marginals)] if report.marginals else []


def _missing(report: TaskReport) -> list[Section]:
    tables, units = [table for part in report.parts for table in part.results], report.gathered.task.units
    lacking = missing_cells(tables)
    lines = [(table.title, f"{count} of {total} rows have no result.") for table, count, total in lacking]
    rows = sum(count for _, count, _ in lacking)
    folded = [Words(lines, f"{rows} rows of the tables of results")] if lacking else []
    lead = [] if lacking else ["Nothing: every row of every table of results has its result."]
    for table in tables:
        if partial := sum(any(isinstance(cell, Value) and cell.note for cell in row) for row in table.rows):
            lead.append(
                f"{partial} row(s) of “{table.title}” are means over fewer test {units} than a complete cell has."
            )
    if not any(part.curves for part in report.parts):
        lead.append(ABSENT_SENTENCE)
    if not report.marginals and "marginals" in report.gathered.task.sections:
        lead.append(_NO_MARGINALS)
    return [Section("missing", "What is missing", lead, folded=folded)]


def _origin(report: TaskReport) -> list[Section]:
    about = [
        provenance.facts_table(report.gathered),
        provenance.provenance_table(report.gathered),
        provenance.files_table(report.gathered, report.folder),
    ]
    return [Section("origin", "Where the numbers come from", folded=about)]


#: Name -> section of one corpus and scope.
OF_PARTS: Mapping[str, Callable[[TaskReport, Part], Section]] = {
    "tables": _tables,
    "details": _details,
    "figures": _figures,
    "cite": _cite,
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
