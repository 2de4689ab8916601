"""From a folder of results to a folder with the report."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s3prl_metaperser.corpora import Corpus, stored_corpus
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.evaluation.collect import MANY, result_files
from s3prl_metaperser.report import page, provenance
from s3prl_metaperser.report.alone import Alone
from s3prl_metaperser.report.drawing import Drawing, require_matplotlib
from s3prl_metaperser.report.folder import is_made_from, publish
from s3prl_metaperser.report.forest import Forest
from s3prl_metaperser.report.gathered import gather
from s3prl_metaperser.report.sections import TaskReport
from s3prl_metaperser.report.tables import Table
from s3prl_metaperser.report.writers import WRITERS, comma_separated
from s3prl_metaperser.storage import resources
from s3prl_metaperser.storage.at_once import at_once
from s3prl_metaperser.storage.locks import beside, held
from s3prl_metaperser.storage.sources import code_hash

PAGE = "report.html"


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


def write_report(
    results: Path,
    out: Path,
    *,
    corpus: Corpus | None = None,
    protocol: str | None = None,
    traits: Mapping[str, Mapping[str, str]] | None = None,
    if_changed: bool = False,
) -> Written | None:
    """Write tables, figures and the page.

    Args:
        results: a folder that is searched for result files.
        out: the report's folder; an earlier report in it is replaced, nothing else is touched.
        corpus: what was evaluated, for Tables A1 and A2; the demo corpus needs not be given.
        protocol: ``paper`` or ``tuned``, where the folder holds both.
        traits: rater -> trait -> value, for F1 by trait; by default those that the corpus has.
        if_changed: write nothing, and return None, where ``out`` holds the report of these results, byte by byte, by
            this code.

    Raises:
        UserError: no results, results that do not go together, another corpus, or no matplotlib.
    """
    require_matplotlib()
    with held(beside(out), f"The report {out}"):
        made_from = _made_from(results, corpus, protocol, traits)
        if if_changed and is_made_from(out, made_from):
            return None
        return _write(results, out, corpus, protocol, traits, made_from)


def _made_from(
    results: Path, corpus: Corpus | None, protocol: str | None, traits: Mapping[str, Mapping[str, str]] | None
) -> str:
    """A hash of the results' places and contents, the code, and what else decides on a report's content."""
    here, paper = Path(__file__).parent, resources.folder("benchmarks/paper")
    others = [*sorted((here / "templates").iterdir()), *sorted(paper.glob("*.yaml"))]
    listed = [(path.relative_to(results).as_posix(), path) for path in result_files(results)]
    named = [*listed, *((path.name, path) for path in others)]
    hashed = at_once(lambda one: hashlib.sha256(one[1].read_bytes()).hexdigest(), named, few=MANY, chunk=64)
    digests = [(name, digest) for (name, _), digest in zip(named, hashed, strict=True)]
    said = (code_hash(), protocol, None if corpus is None else corpus.fingerprint(), digests, traits)
    return hashlib.sha256(repr(said).encode()).hexdigest()


def _write(
    results: Path,
    out: Path,
    corpus: Corpus | None,
    protocol: str | None,
    traits: Mapping[str, Mapping[str, str]] | None,
    made_from: str,
) -> Written:
    traits = traits or (corpus.traits if corpus else None)
    reports = [TaskReport(each, Path(results), corpus, traits) for each in gather(Path(results), protocol)]
    titles = [report.gathered.task.title for report in reports]
    facts = [fact for report in reports for fact in provenance.facts(report.gathered)]
    sections = [section for report in reports for section in report.sections()]
    above = f"{titles[0]}: results" if len(titles) == 1 else f"Results: {', '.join(titles)}"
    title = " ".join(section.headline for section in sections if section.headline) or above
    files: dict[str, bytes] = {}
    for item in (item for section in sections for item in section.everything):
        if isinstance(item, Table):
            files |= {f"tables/{item.key}.{suffix}": write(item).encode() for suffix, write in WRITERS.items()}
        for drawing in (
            item.drawings if isinstance(item, Forest | Alone) else [item] if isinstance(item, Drawing) else ()
        ):
            files |= {f"figures/{drawing.key}.svg": drawing.svg.encode(), f"figures/{drawing.key}.png": drawing.png}
            files[f"figures/{drawing.key}.csv"] = comma_separated(drawing.data).encode()
    for table in (table for report in reports for part in report.parts for table in part.files):
        files[f"tables/{table.key}.csv"] = comma_separated(table).encode()
    publish({**files, PAGE: page.page(title, facts, sections, above).encode()}, Path(out), made_from)
    tables = [table for report in reports for part in report.parts for table in part.results]
    missing, rows = sum(table.missing() for table in tables), sum(len(table.rows) for table in tables)
    return Written(Path(out), sum(len(report.gathered.results) for report in reports), missing, rows)


def open_evaluated_corpus(name: str | None, root: str | None, options: Mapping[str, Any]) -> Corpus | None:
    """The corpus that ``--corpus`` and ``--root`` name; None where neither is given.

    Args:
        name: the reader's.
        root: its folder.
        options: of the reader, as training had them.

    Raises:
        UserError: only one of them is given, or the corpus cannot be read.
    """
    if name is None and root is None:
        return None
    if name is None or root is None:
        raise UserError("--corpus and --root go together: the corpus that was evaluated, and its folder.")
    return stored_corpus(name, root, **options)
