"""Every result file below a folder, read again and checked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s3prl_metaperser.audit.findings import Finding, Findings
from s3prl_metaperser.audit.labels import check_labels
from s3prl_metaperser.audit.one import check_one
from s3prl_metaperser.audit.together import check_together
from s3prl_metaperser.config.options import DataOptions, Options
from s3prl_metaperser.corpora import CORPORA, Corpus, open_corpus, reader_options, root_of
from s3prl_metaperser.corpora.contents import Contents
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.evaluation.collect import set_aside
from s3prl_metaperser.evaluation.result import Result, read_with_faults
from s3prl_metaperser.grid.relevance import as_identified
from s3prl_metaperser.progress import tqdm
from s3prl_metaperser.storage.json_files import read_json
from s3prl_metaperser.storage.paths import cache_root
from s3prl_metaperser.tasks import DEFAULT_TASK

#: What the names of result files begin with; that of another cell than the trained one goes on (docs/results.md).
KINDS = ("result_test", "result_dev")
CELL, BEST = "cell.json", "dev-best.ckpt"


@dataclass(frozen=True)
class Audit:
    """What was looked at and what was found.

    Attributes:
        files: result files.
        checks: how many things were checked.
        found: what is wrong.
        with_corpus: files whose episodes and labels were held against the corpus.
        without_corpus: why not -> how many files.
        without_audio: files that do not say of which audio they are.
    """

    files: int
    checks: int
    found: tuple[Finding, ...]
    with_corpus: int
    without_corpus: dict[str, int]
    without_audio: int = 0

    @property
    def status(self) -> int:
        """The exit status: 1 where something was found."""
        return 1 if self.found else 0

    def as_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {**vars(self), "found": [vars(finding) for finding in self.found]}

    def __str__(self) -> str:
        lines = [str(finding) for finding in self.found]
        outcome = f"{len(self.found)} findings" if self.found else "nothing is wrong"
        files = "result file" if self.files == 1 else "result files"
        lines.append(f"{self.files} {files}, {self.checks} checks: {outcome}")
        lines.append(f"episodes, labels and losses of {self.with_corpus} of them were held against the corpus")
        lines += [f"not of {count}: {why}" for why, count in self.without_corpus.items()]
        if self.without_audio:
            lines.append(f"{self.without_audio} of them do not record their audio, which may have been any")
        return "\n".join(lines)


def audit(folder: Path, corpus: Corpus | None = None) -> Audit:
    """Check every ``result_test*.json`` and ``result_dev*.json`` below a folder; ``previous-*`` folders are skipped.

    Args:
        folder: of ``metaperser run``, of experiments, or one experiment.
        corpus: what was evaluated. Without it the demo corpus is looked for in the cache, others where the options say.

    Raises:
        UserError: there is no such folder, or nothing in it.
    """
    if not folder.is_dir():
        raise UserError(f"--all {folder}: no such folder.")
    files = [p for p in folder.rglob("result_*.json") if p.name.partition("-")[0].partition(".")[0] in KINDS]
    paths = sorted(p for p in files if not set_aside(p.relative_to(folder)))
    cells = sorted(p for p in folder.rglob(CELL) if not set_aside(p.relative_to(folder)))
    if not paths and not cells:
        raise UserError(f"--all {folder}: holds no {KINDS[0]}.json. Run -m evaluate or `metaperser run` first.")
    findings, corpora, results = Findings(), _Corpora(corpus), []
    for path in tqdm(paths, desc="results", unit="file", dynamic_ncols=True, disable=len(paths) < 5):
        findings.file = str(path)
        if (result := _read(path, findings)) is not None:
            try:
                answered = check_one(result, findings)
            except UserError as error:  # classes that make no label set
                findings.check(False, "classes", str(error))
                continue
            said = path.stem.partition("-")[0].removeprefix("result_")
            findings.equal(result.cell.split, said, "cell.split", "the file's name")
            if "-step" not in path.stem:  # of another checkpoint
                _check_parameters(path, result, findings)
            if (known := corpora.of(result, findings)) is not None and answered:
                check_labels(result, known, findings)
            if path.stem in KINDS:  # no report reads the others
                results.append(result)
    check_together(results, findings)
    by_file = {result.file: result for result in results}
    for path in cells:
        findings.file = str(path)
        _check_grid_cell(path, by_file, findings)
    silent = sum(result.hashes.audio is None and result.task == DEFAULT_TASK for result in results)
    return Audit(len(paths), findings.checks, tuple(findings.found), corpora.found, corpora.missing, silent)


def _read(path: Path, findings: Findings) -> Result | None:
    """The result, if it is one and every value has its type and shape."""
    try:
        result, faults = read_with_faults(path)
    except UserError as error:
        findings.check(False, "", str(error))
        return None
    findings.checks += 2
    for keys, text, _ in faults:
        key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in keys).lstrip(".")
        text = text.replace(f" for {key}", "").removeprefix(f"{key} ").removeprefix(f"{key}: ")
        findings.check(False, key, text)
    return result


def _check_parameters(path: Path, result: Result, findings: Findings) -> None:
    """A result beside a checkpoint is of the parameters that were selected there."""
    checkpoint, stored = path.with_name(BEST), result.hashes.parameters
    if stored is None or not checkpoint.is_file():
        return
    from s3prl_metaperser.methods.state import packed_hash
    from s3prl_metaperser.storage.checkpoints import read_checkpoint

    try:
        selected = read_checkpoint(checkpoint)
    except UserError as error:
        findings.check(False, "hashes.parameters", str(error))
        return
    of = f"that of {checkpoint.name} beside it, which was trained on since or is another's,"
    findings.equal(stored, packed_hash(selected), "hashes.parameters", of)
    findings.equal(result.selected_step, selected.get("Step"), "selected_step", of)


def _check_grid_cell(path: Path, results: Mapping[Path | None, Result], findings: Findings) -> None:
    """What ``metaperser run`` says of a cell is true of its result."""
    try:
        content = read_json(path)
        definition, done, identity = content["definition"], content.get("done"), content["identity"]
        system, wanted = definition["system"], dict(definition["options"])
        recorded = (done["corpus"], done.get("audio")) if done else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        findings.check(False, "", f"is not the record of a cell ({type(error).__name__}: {error})")
        return
    digest = hashlib.sha256(json.dumps(definition, sort_keys=True).encode()).hexdigest()
    findings.equal(identity, digest, "identity", "the hash of the definition")
    if recorded is None:
        return
    mine = results.get(path.with_name(f"{KINDS[0]}.json"))
    findings.check(mine is not None, "done", f"but {KINDS[0]}.json beside it is missing or wrong")
    if mine is None:
        return
    findings.equal(recorded[0], mine.hashes.corpus, "done.corpus", "hashes.corpus of the result")
    if recorded[1] is not None:
        findings.equal(recorded[1], mine.hashes.audio, "done.audio", "hashes.audio of the result")
    findings.equal(system, mine.cell.system, "definition.system", "cell.system of the result")
    findings.equal(definition.get("scope"), mine.cell.scope, "definition.scope", "cell.scope of the result")
    for name, value in wanted.items():
        section, _, rest = name.removeprefix("downstream_expert.").partition(".")
        if section in ("datarc", "evalrc", "modelrc"):
            stored = as_identified(name, mine.option(section, *rest.split(".")))
            findings.equal(value, stored, f"definition.options.{name}", "the result's option")


class _Corpora:
    """The corpora that results speak of, each read once, as far as they are at hand.

    Attributes:
        found: for how many results one was.
        missing: why there was none -> for how many.
    """

    def __init__(self, given: Corpus | None):
        self.given, self.found = given, 0
        self.missing: dict[str, int] = {}
        self._known: dict[str, Corpus | str] = {}
        self._audio: dict[Path, str] = {}

    def of(self, result: Result, findings: Findings) -> Corpus | None:
        """The corpus with the fingerprint of a result; None where it is not at hand, or is split otherwise."""
        if result.task != DEFAULT_TASK:
            why = f"only the task {DEFAULT_TASK} draws its episodes in a way that is checked"
            self.missing[why] = self.missing.get(why, 0) + 1
            return None
        corpus = self.given if self.given is not None else self._opened(result, findings)
        if isinstance(corpus, Corpus) and corpus.fingerprint() != result.hashes.corpus:
            corpus = f"{corpus.root} has other labels now than when they were made"
            if self.given is not None:
                findings.check(False, "hashes.corpus", corpus)
        if isinstance(corpus, Corpus) and result.hashes.audio not in (None, self._audio_of(corpus, result)):
            corpus = f"{corpus.root} has other audio now than when they were made"
            if self.given is not None:
                findings.check(False, "hashes.audio", corpus)
        if isinstance(corpus, Corpus):
            self.found += 1
            return corpus
        self.missing[corpus] = self.missing.get(corpus, 0) + 1
        return None

    def _audio_of(self, corpus: Corpus, result: Result) -> str:
        """The audio that a corpus has now; empty where it cannot be read."""
        if corpus.root not in self._audio:
            where = result.option("datarc", "cache_dir")
            try:
                found = Contents(corpus, cache_root(where if isinstance(where, str) else None)).fingerprint
            except UserError:
                found = ""
            self._audio[corpus.root] = found
        return self._audio[corpus.root]

    def _opened(self, result: Result, findings: Findings) -> Corpus | str:
        try:
            data = Options.from_config(result.options, "options", stored=True).downstream_expert.datarc
        except UserError as error:
            findings.check(False, "options", f"cannot be read ({error})")
            return "their options cannot be read"
        if data.corpus not in CORPORA.names():
            return f"no reader of corpus {data.corpus!r} is installed; name the corpus with --corpus and --root"
        key = json.dumps([data.corpus, data.root, reader_options(data)], default=str)
        if key not in self._known:
            self._known[key] = _open(data)
        return self._known[key]


def _open(data: DataOptions) -> Corpus | str:
    root = root_of(data)
    if root is None or not root.is_dir() or not any(root.iterdir()):
        return f"the corpus ({data.corpus}) is not where they found it; name it with --corpus and --root"
    try:
        return open_corpus(data)
    except UserError as error:
        return f"the corpus cannot be read ({error})"
