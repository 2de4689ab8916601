"""A grid with the cells that the command line chose of it, and where their results are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from s3prl_metaperser.config.options import DataOptions
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.grid.cells import Cell, expand, select
from s3prl_metaperser.grid.definition import Grid, read_grid
from s3prl_metaperser.grid.results import Results
from s3prl_metaperser.run.workspace import demo_root, open_corpus
from s3prl_metaperser.storage.paths import user_path


@dataclass(frozen=True)
class OpenedGrid:
    """A grid, its chosen cells, their results."""

    grid: Grid
    cells: Sequence[Cell]
    results: Results

    def corpora(self) -> dict[str, DataOptions]:
        """Corpus -> the options that say how to read it.

        Raises:
            UserError: two parts mean different corpora by one name, which no table could tell apart.
        """
        found: dict[str, DataOptions] = {}
        for cell in self.cells:
            data = cell.options.downstream_expert.datarc
            known = found.setdefault(cell.corpus, data)
            if any(getattr(known, key) != getattr(data, key) for key in ("root", "demo", "duplicates")):
                raise UserError(
                    f"{self.grid.path}: two parts read the corpus {cell.corpus!r} differently (root, demo or "
                    "duplicates). Split the grid into two files with results of their own."
                )
        return found

    def read_corpora(self) -> None:
        """Learn the fingerprints of the corpora that are there, so that results of other labels do not count."""
        for name, data in self.corpora().items():
            root = demo_root(data) if name == "demo" and not data.root else data.root
            if root is not None and Path(root).exists():  # a folder, or the file ratings.csv itself
                self.results.fingerprints[name] = open_corpus(data).fingerprint()

    def check_corpora(self) -> None:
        """Read every corpus, making the demo corpus where it is not there.

        Raises:
            UserError: where a corpus is is not said, or it cannot be read, or has problems that would change results.
        """
        for name, data in self.corpora().items():
            if name != "demo" and not data.root:
                raise UserError(
                    f"{self.grid.path}: the corpus {name!r} needs its folder: --root DIR, or root in the grid."
                )
            if name not in self.results.fingerprints:
                self.results.fingerprints[name] = open_corpus(data).fingerprint()


def open_grid(
    path: str,
    *,
    results: str | None = None,
    corpus: str | None = None,
    root: str | None = None,
    only: str | None = None,
    changes: Sequence[str] = (),
) -> OpenedGrid:
    """Read a grid and choose its cells.

    Args:
        results: the folder of results; by default what the grid says.
        corpus, root: in place of the grid's.
        only: see :func:`.cells.select`.
        changes: see :func:`.cells.expand`.

    Raises:
        UserError: as these; or a corpus that is there cannot be read, or one of the folders is none.
    """
    if root is not None and not user_path(root).exists():
        raise UserError(f"--root {root}: there is no such folder.")
    grid = read_grid(path)
    cells = select(expand(grid, corpus=corpus, root=root, changes=changes), only)
    folder = user_path(results or grid.results)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; results need a folder: --results DIR.")
    opened = OpenedGrid(grid, cells, Results(folder))
    opened.read_corpora()
    return opened
