"""What cells share, made once: feature stores and initialisations, in the cache.

Both are kept there by what they are made from, under locks of their own, whoever makes them (the launcher, too). A note
beside them names the grid stage that they belong to, so that finding what exists needs neither torch nor a corpus.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from s3prl_metaperser.grid.cells import Cell
from s3prl_metaperser.grid.results import Fingerprint, read_small
from s3prl_metaperser.storage.atomic import write_json
from s3prl_metaperser.storage.paths import cache_root
from s3prl_metaperser.tasks import StageKind, task_of


@dataclass(frozen=True)
class Stage:
    """One thing that cells share.

    Attributes:
        key: hash of what it is made from.
        cells: that need it; any of them says how to make it.
    """

    kind: StageKind
    key: str
    cells: tuple[Cell, ...]
    what: str

    @property
    def note(self) -> Path:
        """The file that says that it was made."""
        cache = cache_root(self.cells[0].options.downstream_expert.datarc.cache_dir)
        return cache / "grid" / f"{self.kind}-{self.key[:24]}.json"

    def exists(self, fingerprint: Fingerprint | None = None) -> bool:
        """Whether it was made and still exists.

        Args:
            fingerprint: of the corpus, where it is known: what was made of other labels or audio does not count.
        """
        content = read_small(self.note)
        if content is None or (fingerprint is not None and fingerprint.differs_from(content)):
            return False
        return all(Path(path).exists() for path in content.get("files", []))

    def made(self, files: Sequence[Path], fingerprint: Fingerprint) -> None:
        """Record that it was made, as ``files``, from a corpus with this fingerprint."""
        content = {"what": self.what, **fingerprint.recorded(), "files": [str(path) for path in files]}
        if read_small(self.note) != content:
            write_json(self.note, content)


def missing(wanted: Sequence[Stage], fingerprints: Mapping[str, Fingerprint]) -> list[Stage]:
    """Those that were not made yet, from the labels and the audio that each corpus has now."""
    return [stage for stage in wanted if not stage.exists(fingerprints.get(stage.cells[0].corpus_key))]


def stages(cells: Sequence[Cell]) -> list[Stage]:
    """The stages of these cells, features first."""
    found: dict[tuple[StageKind, str], list[Cell]] = {}
    for cell in cells:
        if "features" in task_of(cell.family).stages:
            found.setdefault(("features", cell.features), []).append(cell)
    for cell in cells:
        if "initialisation" in task_of(cell.family).stages and cell.initialisation is not None:
            found.setdefault(("initialisation", cell.initialisation), []).append(cell)
    return [Stage(kind, key, tuple(members), _what(kind, members[0])) for (kind, key), members in found.items()]


def stage_of(cell: Cell, kind: StageKind) -> Stage | None:
    """The stage of one cell; None for a system that does without."""
    return next((stage for stage in stages([cell]) if stage.kind == kind), None)


def _what(kind: StageKind, cell: Cell) -> str:
    where = f"{cell.corpus_key}, {cell.upstream.label} ({cell.scope})"
    if kind == "features":
        return f"{'checkpoint' if cell.finetuned else 'features'} of {cell.upstream.label} for {cell.corpus_key}"
    name = "SSL-E" if cell.finetuned else "consensus initialisation"
    return f"{name}: {where}, {cell.along('data', 'unit')}"
