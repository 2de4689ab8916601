"""Where the numbers come from: the files read, their hashes, versions and settings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from s3prl_metaperser.corpora import CORPORA
from s3prl_metaperser.corpora.replicates import caveat_of
from s3prl_metaperser.evaluation.corpora_apart import reader_of
from s3prl_metaperser.evaluation.metrics import Metric
from s3prl_metaperser.evaluation.result import Result
from s3prl_metaperser.evaluation.result_keys import Counts
from s3prl_metaperser.protocol import splits
from s3prl_metaperser.report.gathered import Gathered, Study
from s3prl_metaperser.report.tables import ABSENT, Absent, Column, Table, Value

_BEFORE = ("file", "corpus", "scope", "upstream", "scenario", "fold")
_AFTER = ("system", "K", "Q", "seeds", "step", "engine")


def provenance_table(gathered: Gathered) -> Table:
    """Every hash and version, and how many result files have it."""
    counts: Counter[tuple[str, str]] = Counter()
    for result in gathered.results:
        cell, hashes = result.cell, result.hashes
        counts[f"labels of corpus {cell.corpus} (SHA-256)", hashes.corpus] += 1
        counts[f"audio of corpus {cell.corpus} (SHA-256)", hashes.audio or "not recorded"] += 1
        counts[f"checkpoint of upstream {cell.upstream}", hashes.upstream_checkpoint] += 1
        counts["code (SHA-256)", hashes.code] += 1
        counts["result schema", str(result.schema)] += 1
        for package, version in result.versions.items():
            counts[package, version] += 1
    rows = tuple((what, value, str(count)) for (what, value), count in sorted(counts.items()))
    return Table(
        key=f"provenance{gathered.suffix}",
        title="Hashes and versions",
        caption="What the numbers depend on, as the result files say it, and how many files say so.",
        columns=(Column("what"), Column("value"), Column("files")),
        rows=rows,
    )


def files_table(gathered: Gathered, folder: Path) -> Table:
    """One line a result file, with the primary metric of its corpus's label set."""
    primary = list(dict.fromkeys(gathered.metrics(cell)[0] for cell in gathered.cells))
    rows = []
    for result in gathered.results:
        cell, counts = result.cell, result.counts
        rows.append(
            (
                _relative(result.file, folder),
                cell.corpus,
                cell.scope,
                cell.upstream,
                cell.scenario,
                cell.fold,
                splits.named(result.raters.tested),
                cell.system,
                str(counts.shots_used),
                _shrunk(counts),
                str(counts.episodes),
                str(result.selected_step),
                result.engine,
                *(_mean(metric, result) for metric in primary),
            )
        )
    return Table(
        key=f"files{gathered.suffix}",
        title="Result files",
        caption="Everything that this report was made from. K, Q and seeds as used (asked for, where it differs); "
        "step: the outer step that validation chose.",
        columns=tuple(
            Column(name) for name in (*_BEFORE, gathered.task.unit, *_AFTER, *(metric.title for metric in primary))
        ),
        rows=tuple(rows),
    )


def _mean(metric: Metric, result: Result) -> Value | Absent:
    span = result.metrics.get(metric.name)
    return ABSENT if span is None else Value(metric.scale * span.mean, decimals=metric.decimals)


def facts(gathered: Gathered) -> list[tuple[str, str]]:
    """What was compared, for the line below the page's first sentence."""
    results = gathered.results
    caveats = _caveats(gathered)
    corpora = [
        f"{name} ({CORPORA.summary(reader_of(name))})" if caveats.get(name) else name
        for name in _named(results, "corpus")
    ]
    tested, expected = sorted({r for result in results for r in result.raters.tested}), set[str]()
    for name in _named(results, "corpus"):
        expected |= set(gathered.test_raters(name))
    some = f"{len(tested)} of {len(expected)}" if len(tested) < len(expected) else str(len(tested))
    queries = sorted({result.counts.queries_used for result in results})
    found = [
        ("Corpus", ", ".join(corpora)),
        ("Upstream", f"{_few(_named(results, 'upstream'))}, {', '.join(_named(results, 'scope'))}"),
        ("K", "; ".join(dict.fromkeys(_shots(study) for study in gathered.studies()))),
        (f"Test {gathered.task.units}", f"{some} ({splits.named(tested)})" if len(tested) < 6 else some),
        ("Seeds", ", ".join(map(str, sorted({len(result.cell.seeds) for result in results})))),
        ("Q", str(queries[0]) if len(queries) == 1 else f"{queries[0]} to {queries[-1]}"),
        ("Result files", str(len(results))),
    ]
    return [(name, words) for name, words in found if words != "0"]


def cautions(gathered: Gathered) -> list[tuple[str, str]]:
    """What whoever reads the numbers must know: how labels came about, and what results say against themselves."""
    doubts = dict.fromkeys(doubt for result in gathered.results for doubt in result.doubts)
    said = [(f"Labels of {name}", text) for name, text in _caveats(gathered).items() if text]
    return [*said, *([("Doubts", "; ".join(doubts))] if doubts else [])]


def facts_table(gathered: Gathered) -> Table:
    """What was compared, all of it."""
    results = gathered.results
    rows = (
        ("Protocol", _PROTOCOLS.get(gathered.protocol, gathered.protocol)),
        *((name.capitalize(), ", ".join(_named(results, name))) for name in ("scenario", "system", "upstream")),
        ("K as asked for", ", ".join(_named(results, "shots"))),
        ("Q as asked for", ", ".join(_named(results, "queries")) + _shrunk_note(results)),
        ("Code", _code_note(results)),
    )
    columns = (Column("what"), Column("which"))
    return Table(f"facts{gathered.suffix}", "What was compared", "", columns, rows)


def _named(results: Sequence[Result], key: str) -> list[str]:
    return list(dict.fromkeys(str(getattr(result.cell, key)) for result in results))


def _shots(study: Study) -> str:
    others = sorted({cell.shots for cell in study.cells} - {study.shots})
    return f"{study.shots} (and {', '.join(map(str, others))})" if others else str(study.shots)


def _few(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) < 6 else f"{len(names)} upstreams"


def _caveats(gathered: Gathered) -> dict[str, str]:
    first: dict[str, Result] = {}
    for result in gathered.results:
        first.setdefault(result.cell.corpus, result)
    return {name: caveat_of(reader_of(name), r.option("datarc", default={})) for name, r in first.items()}


_PROTOCOLS = {
    "paper": "paper: the paper's settings for every system",
    "tuned": "tuned: optimiser, rate and steps of every system chosen by validation alone",
}


def _shrunk(counts: Counts) -> str:
    used, asked = counts.queries_used, counts.queries_requested
    return str(used) if used == asked else f"{used} ({asked})"


def _shrunk_note(results: Sequence[Result]) -> str:
    fewer = sum(r.counts.queries_used < r.counts.queries_requested for r in results)
    if not fewer:
        return ""
    least = min(r.counts.queries_used for r in results)
    return f"; in {fewer} of {len(results)} files the rater has fewer utterances, down to Q={least}"


def _code_note(results: Sequence[Result]) -> str:
    hashes = sorted({result.hashes.code for result in results})
    shown = ", ".join(value[:12] for value in hashes)
    return shown if len(hashes) == 1 else f"{len(hashes)} versions: {shown}"


def _relative(path: Path | None, folder: Path) -> str:
    if path is None:
        return ""
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name
