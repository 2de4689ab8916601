"""The results folder: each cell's state, what it holds, and who is at work on it.

A cell's folder is an experiment folder as s3prl lays it out, and besides

- ``cell.json``: the cell's definition; once it is done also the corpus's fingerprints and how long it took,
- ``cell.log``: the output of the run,
- ``error.json``: why it failed, where it did.

Who works on a cell holds the lock of its place in ``.locks``, which the system takes back from a process that is
killed. Results of the same place under other settings are moved to ``previous-cells``, which no report reads, and come
back when their settings do.
"""

from __future__ import annotations

import contextlib
import os
import platform
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from s3prl_metaperser.config.options import DataOptions
from s3prl_metaperser.corpora import Corpus
from s3prl_metaperser.corpora.contents import Contents
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.evaluation import READABLE, SCHEMA
from s3prl_metaperser.grid.cells import Cell
from s3prl_metaperser.storage.atomic import write_json
from s3prl_metaperser.storage.disk import clear_leftovers
from s3prl_metaperser.storage.json_files import read_json
from s3prl_metaperser.storage.locks import Held, Holder, held
from s3prl_metaperser.storage.paths import cache_root

RESULT, CELL, ERROR, LOG = "result_test.json", "cell.json", "error.json", "cell.log"
PREVIOUS, LOCKS = "previous-cells", ".locks"
State = Literal["done", "running", "failed", "missing"]
STATES: tuple[State, ...] = ("done", "running", "failed", "missing")


@dataclass(frozen=True)
class Standing:
    """How far a cell is.

    Attributes:
        error: the first line of why it failed.
        begun: whether a missing cell has a checkpoint to resume from.
        note: why an existing result does not count, or what is not known of one that does.
    """

    state: State
    error: str = ""
    begun: bool = False
    note: str = ""


class Fingerprint(NamedTuple):
    """A corpus's content."""

    labels: str
    audio: str

    def recorded(self) -> dict[str, str]:
        """As records of cells and stages have it."""
        return {"corpus": self.labels, "audio": self.audio}

    def differs_from(self, record: Mapping[str, Any]) -> str:
        """What a record says otherwise, ``labels`` or ``audio``; empty where nothing, or what it does not say."""
        found = [name for name, value in self.recorded().items() if record.get(name) not in (None, value)]
        return {"corpus": "labels"}.get(found[0], found[0]) if found else ""


def fingerprint_of(corpus: Corpus, data: DataOptions) -> Fingerprint:
    """The fingerprint of a corpus as it is now; its audio is read where the cache does not know it.

    Raises:
        UserError: an audio file cannot be read.
    """
    return Fingerprint(corpus.fingerprint(), Contents(corpus, cache_root(data.cache_dir)).fingerprint)


class Results:
    """A folder of results.

    Args:
        folder: made when something is written to it.

    Attributes:
        fingerprints: corpus -> its content, as far as it is known: results of other labels or audio do not count.
        holders: place of a cell -> the other process that worked on it when it was last asked for.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.fingerprints: dict[str, Fingerprint] = {}
        self.holders: dict[str, Holder] = {}

    def of(self, cell: Cell) -> Path:
        """The cell's folder."""
        return self.folder / cell.path

    def make(self) -> None:
        """Make the folder.

        Raises:
            UserError: it cannot be made, or nothing can be written to it.
        """
        try:
            (self.folder / LOCKS).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"{self.folder} cannot be written to ({error.strerror}): name another, --results DIR."
            ) from None

    def standing(self, cell: Cell) -> Standing:
        """How far a cell is. Nothing is written, nor waited for."""
        if self.is_done(cell):
            known = (self.record(cell) or {}).get("audio") is not None
            return Standing("done", note="" if known else "do not record which audio they are of")
        if self._is_locked(cell):
            return Standing("running")
        folder = self.of(cell)
        error = read_small(folder / ERROR)
        if error is not None:
            return Standing("failed", error=str(error.get("error", "")))
        return Standing("missing", begun=any(folder.glob("states-*.ckpt")), note=self._why_not(cell))

    def is_done(self, cell: Cell) -> bool:
        """Whether the cell's result exists, by this definition, of this corpus, as this version writes it."""
        folder = self.of(cell)
        return not self._why_not(cell) and (folder / RESULT).is_file() and self._done(folder) is not None

    def record(self, cell: Cell) -> dict[str, Any] | None:
        """What ``cell.json`` says of a finished cell: ``corpus``, ``seconds``, ``device``, ..."""
        return self._done(self.of(cell))

    def failure(self, cell: Cell) -> dict[str, Any] | None:
        """The content of ``error.json``."""
        return read_small(self.of(cell) / ERROR)

    @contextlib.contextmanager
    def working_on(self, cell: Cell) -> Iterator[bool]:
        """Hold the cell's lock; gives False, without waiting, where another process holds it."""
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(held(self._lock(cell), f"cell {cell}"))
            except Held as busy:
                self.holders[cell.place] = busy.holder
                yield False
                return
            yield True

    def begin(self, cell: Cell) -> Path:
        """Make the cell's folder fit to work in; the caller holds the lock. Returns the folder."""
        folder = self.of(cell)
        self._put_aside_others(cell)
        if self._why_not(cell).startswith(_OTHER_CORPUS):
            aside = self.folder / PREVIOUS / f"{cell.path}-{time.strftime('%Y-%m-%d-%H-%M-%S')}"
            aside.parent.mkdir(parents=True, exist_ok=True)
            folder.rename(aside)
        folder.mkdir(parents=True, exist_ok=True)
        clear_leftovers(folder)
        (folder / ERROR).unlink(missing_ok=True)
        write_json(folder / CELL, _about(cell))
        return folder

    def finish(self, cell: Cell, record: Mapping[str, Any]) -> None:
        """Record that the result exists."""
        write_json(self.of(cell) / CELL, {**_about(cell), "done": {"schema": SCHEMA, **record}})

    def fail(self, cell: Cell, error: BaseException) -> str:
        """Record why a cell failed; returns the first line."""
        text = str(error).strip() or type(error).__name__
        first = text.splitlines()[0]
        if not isinstance(error, UserError):
            first = f"{type(error).__name__}: {first}"
        content = {
            "error": first,
            "message": text,
            "traceback": "".join(traceback.format_exception(error)),
            "identity": cell.identity,
            "time": time.time(),
            "host": platform.node(),
            "process": os.getpid(),
        }
        write_json(self.of(cell) / ERROR, content)
        return first

    def _done(self, folder: Path) -> dict[str, Any] | None:
        content = read_small(folder / CELL)
        return None if content is None else content.get("done")

    def _why_not(self, cell: Cell) -> str:
        """Why an existing result does not count; empty where it does or there is none."""
        folder = self.of(cell)
        content = read_small(folder / CELL)
        if content is None or not (folder / RESULT).is_file():
            return ""
        if content.get("identity") != cell.identity:
            return "the folder holds another cell"
        done = content.get("done") or {}
        known = self.fingerprints.get(cell.corpus_key)
        if known is not None and (other := known.differs_from(done)):
            return f"{_OTHER_CORPUS} {other}"
        return "" if done.get("schema") in (None, *READABLE) else "it was written by another version: evaluate again"

    def _lock(self, cell: Cell) -> Path:
        return self.folder / LOCKS / f"{cell.place.replace('/', '__')}.lock"

    def _is_locked(self, cell: Cell) -> bool:
        if not self._lock(cell).exists():
            return False
        with self.working_on(cell) as mine:
            return not mine

    def _put_aside_others(self, cell: Cell) -> None:
        mine, kept = self.of(cell), self.folder / PREVIOUS / cell.path
        for other in sorted(mine.parent.glob(f"{cell.along('unit')}-*")):
            if other != mine and other.is_dir():
                aside = self.folder / PREVIOUS / other.relative_to(self.folder)
                aside.parent.mkdir(parents=True, exist_ok=True)
                if aside.exists():
                    aside.rename(aside.with_name(f"{aside.name}-{time.strftime('%Y-%m-%d-%H-%M-%S')}"))
                other.rename(aside)
        if kept.is_dir() and not mine.exists():
            mine.parent.mkdir(parents=True, exist_ok=True)
            kept.rename(mine)


_OTHER_CORPUS = "its corpus had other"


def _about(cell: Cell) -> dict[str, Any]:
    return {
        "identity": cell.identity,
        "cell": str(cell),
        "upstream": cell.upstream.label,
        "definition": cell.definition,
    }


def read_small(path: Path) -> dict[str, Any] | None:
    """A small JSON file; None where there is none or it cannot be used."""
    try:
        content = read_json(path)
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
