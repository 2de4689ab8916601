"""From a folder of results to a folder with the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from s3prl_metaperser.corpora import Corpus, labels_without_audio, stored_corpus
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.report import page, provenance
from s3prl_metaperser.report.detail_tables import (
    Question,
    calibration_table,
    comparison_table,
    missing_cells,
    questions,
    rater_table,
)
from s3prl_metaperser.report.drawing import Drawing, require_matplotlib
from s3prl_metaperser.report.figures import figures
from s3prl_metaperser.report.folder import publish
from s3prl_metaperser.report.gathered import Gathered, Study, gather, headline
from s3prl_metaperser.report.marginals import check_corpus, marginal_tables
from s3prl_metaperser.report.result_tables import result_tables
from s3prl_metaperser.report.tables import Table, Value
from s3prl_metaperser.report.trajectories import ABSENT_SENTENCE, curves, trajectory_figures, trajectory_table
from s3prl_metaperser.report.writers import WRITERS

TITLE = "Listener-personalised speech emotion recognition: results"
PAGE = "report.html"
_NO_MARGINALS = "Tables A1 and A2 are left out: name the corpus that was evaluated with --corpus and --root."


@dataclass(frozen=True)
class Written:
    """What a report consists of.

    Attributes:
        out: its folder.
        results: how many result files went in.
        missing: how many rows of the tables of results have none.
        rows: how many such rows there are.
    """

    out: Path
    results: int
    missing: int
    rows: int


@dataclass(frozen=True)
class _Part:
    """Everything about one corpus and scope."""

    study: Study
    results: Sequence[Table]
    questions: Sequence[Question]
    details: Sequence[Table]
    drawings: Sequence[Drawing]
    with_trajectories: bool


def write_report(
    results: Path,
    out: Path,
    *,
    corpus: Corpus | None = None,
    protocol: str | None = None,
    draws: int = 2000,
) -> Written:
    """Write tables, figures and the page.

    Args:
        results: a folder that is searched for result files.
        out: the report's folder; an earlier report in it is replaced, nothing else is touched.
        corpus: what was evaluated, for Tables A1 and A2; the demo corpus needs not be given.
        protocol: ``paper`` or ``tuned``, where the folder holds both.
        draws: bootstrap draws of the utterances.

    Raises:
        UserError: no results, results that do not go together, another corpus, or no matplotlib.
    """
    require_matplotlib()
    gathered = gather(Path(results), protocol, draws)
    marginals = _marginals(gathered, corpus)
    parts = [_part(study) for study in gathered.studies()]
    about = [provenance.provenance_table(gathered), provenance.files_table(gathered, Path(results))]
    lacking = missing_cells([table for part in parts for table in part.results])
    html = page.page(TITLE, provenance.facts(gathered), _sections(parts, marginals, lacking, about))
    tables = [*(table for part in parts for table in (*part.results, *part.details)), *marginals, *about]
    files = {
        f"tables/{table.key}.{suffix}": write(table).encode() for table in tables for suffix, write in WRITERS.items()
    }
    for drawing in (drawing for part in parts for drawing in part.drawings):
        files[f"figures/{drawing.key}.svg"] = drawing.svg.encode()
        files[f"figures/{drawing.key}.png"] = drawing.png
    publish({**files, PAGE: html.encode()}, Path(out))
    rows = sum(len(table.rows) for part in parts for table in part.results)
    return Written(Path(out), len(gathered.results), sum(count for _, count, _ in lacking), rows)


def open_evaluated_corpus(name: str | None, root: str | None, labels: str | None = None) -> Corpus | None:
    """The corpus that ``--corpus``, ``--root`` and ``--labels`` name; None where neither of the first two is given.

    Raises:
        UserError: only one of them is given, or the corpus cannot be read.
    """
    if name is None and root is None:
        return None
    if name is None or root is None:
        raise UserError("--corpus and --root go together: the corpus that was evaluated, and its folder.")
    return stored_corpus(name, root, **({} if labels is None else {"labels": labels}))


def _part(study: Study) -> _Part:
    asked = questions(study)
    details = [rater_table(study), calibration_table(study), *(comparison_table(question, study) for question in asked)]
    drawn, found = figures(study), curves(study)
    if found:
        details.append(trajectory_table(found, study))
        drawn += trajectory_figures(found, study)
    return _Part(study, result_tables(study), asked, details, drawn, bool(found))


def _marginals(gathered: Gathered, corpus: Corpus | None) -> list[Table]:
    names = list(dict.fromkeys(result.cell.corpus for result in gathered.results))
    hashes = {result.cell.corpus: result.hashes.corpus for result in gathered.results}
    if corpus is not None:
        name = next((name for name in names if hashes[name] == corpus.fingerprint()), names[0])
        check_corpus(corpus, hashes[name])
    else:
        found = (
            (name, labels_without_audio(name, gathered.option(name, "datarc", name, default={}))) for name in names
        )
        name, corpus = next(((name, made) for name, made in found if made is not None), ("", None))
        if corpus is None or corpus.fingerprint() != hashes[name]:
            return []
    sessions = gathered.option(name, "datarc", "test_sessions", default=corpus.suggested.test_sessions)
    return marginal_tables(corpus, gathered.test_raters(name), tuple(sessions), name)


def _sections(
    parts: Sequence[_Part], marginals: Sequence[Table], lacking, about: Sequence[Table]
) -> list[page.Section]:
    verdicts = [
        (f"{question.title}{f' ({part.study})' if len(parts) > 1 else ''}", question.verdicts())
        for part in parts
        for question in part.questions
    ]
    compared = " or ".join(dict.fromkeys(headline(question.main) for part in parts for question in part.questions))
    lead = (
        f"{compared}, paired on the same episodes of the same test raters, corrected for the number of comparisons "
        "(Holm).",
        "The tables below have the other metrics, intervals and p values.",
    )
    nothing = ("No two systems have results in the same setting yet, so there is nothing to compare.",)
    found = [page.Section("verdicts", "What can be told apart", lead if verdicts else nothing, verdicts)]
    for part in parts:
        several = f": {part.study}" if len(parts) > 1 else ""
        key = f"{part.study.corpus}-{part.study.scope}"
        found.append(page.Section(f"tables-{key}", f"Tables{several}", content=part.results))
        found.append(page.Section(f"details-{key}", f"Raters, calibration, comparisons{several}", content=part.details))
        found.append(page.Section(f"figures-{key}", f"Figures{several}", content=part.drawings))
    if marginals:
        found.append(page.Section("marginals", "Who ticks what", content=marginals))
    found.append(_missing_section(parts, lacking, bool(marginals)))
    found.append(page.Section("origin", "Where the numbers come from", content=about, folded=True))
    return found


def _missing_section(parts: Sequence[_Part], lacking, with_marginals: bool) -> page.Section:
    lead = [f"{count} of {total} rows of “{table.title}” have no result." for table, count, total in lacking]
    lead = lead or ["Nothing: every row of every table of results has its result."]
    for table in (table for part in parts for table in part.results):
        if partial := sum(any(isinstance(cell, Value) and cell.note for cell in row) for row in table.rows):
            lead.append(
                f"{partial} row(s) of “{table.title}” are means over fewer test raters than a complete cell has."
            )
    if not any(part.with_trajectories for part in parts):
        lead.append(ABSENT_SENTENCE)
    if not with_marginals:
        lead.append(_NO_MARGINALS)
    return page.Section("missing", "What is missing", lead)
