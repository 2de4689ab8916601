"""A grid with the cells that the command line chose of it, and where their results are."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from s3prl_metaperser.config.options import DataOptions
from s3prl_metaperser.config.yaml_files import read_yaml
from s3prl_metaperser.corpora import Corpus, open_corpus, reader_options, root_of
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.grid.cells import Cell, expand, select
from s3prl_metaperser.grid.cost import Sizes
from s3prl_metaperser.grid.definition import Grid, read_grid
from s3prl_metaperser.grid.results import Results, fingerprint_of
from s3prl_metaperser.storage.paths import user_path


@dataclass(frozen=True)
class OpenedGrid:
    """A grid, its chosen cells, their results, and by name the corpora that were read so far."""

    grid: Grid
    cells: Sequence[Cell]
    results: Results
    corpora: dict[str, Corpus] = field(default_factory=dict)
    _sizes: dict[Hashable, Sizes] = field(default_factory=dict)

    def read_corpora(self, missing: bool = False) -> None:
        """Learn the fingerprints of corpora, so that results of other labels or audio do not count.

        Args:
            missing: read every corpus, and make one that can be made; else only those that exist.

        Raises:
            UserError: a corpus cannot be read, has problems that would change results, or, with ``missing``, has no
                folder; or two parts mean different corpora by one name, which no table could tell apart.
        """
        for name, data in self._data().items():
            root = root_of(data)
            if root is None and missing:
                raise UserError(
                    f"{self.grid.path}: the corpus {name!r} needs its folder: --root DIR, or root in the grid."
                )
            exists = root is not None and root.exists()  # a folder, or the file ratings.csv itself
            if name not in self.corpora and (exists or missing):
                self.corpora[name] = open_corpus(data)
                self.results.fingerprints[name] = fingerprint_of(self.corpora[name], data)

    def sizes(self, cell: Cell) -> Sizes:
        """What the cell's corpus adds to its cost; where it is not at hand, as ``measured.yaml`` assumes."""
        corpus, excluded = self.corpora.get(cell.corpus_key), cell.options.downstream_expert.datarc.exclude_raters
        if (key := (cell.corpus_key, excluded)) not in self._sizes:
            if corpus is None:
                self._sizes[key] = Sizes(**read_yaml(Path(__file__).with_name("measured.yaml"))["assumed"])
            else:
                raters = set(corpus.raters()) - set(corpus.suggested.excluded_raters if excluded is None else excluded)
                training = max(1, len(raters) - 2)  # all but those to test and to validate
                self._sizes[key] = Sizes(len(corpus.classes), training, len(corpus.utterances))
        return self._sizes[key]

    def _data(self) -> dict[str, DataOptions]:
        """Corpus -> the options that say how to read it."""
        found: dict[str, DataOptions] = {}
        for cell in self.cells:
            data = cell.options.downstream_expert.datarc
            known = found.setdefault(cell.corpus_key, data)
            if known != data and (known.root, reader_options(known)) != (data.root, reader_options(data)):
                raise UserError(
                    f"{self.grid.path}: two parts read the corpus {cell.corpus_key!r} differently (root, or options of "
                    "its reader). Split the grid into two files with results of their own."
                )
        return found


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

    Raises:
        UserError: as these; or an existing corpus cannot be read, or one of the folders is none.
    """
    if root is not None and not user_path(root).exists():
        raise UserError(f"--root {root}: no such folder.")
    grid = read_grid(path)
    cells = select(expand(grid, corpus=corpus, root=root, changes=changes), only)
    folder = user_path(results or grid.results)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; results need a folder: --results DIR.")
    opened = OpenedGrid(grid, cells, Results(folder))
    opened.read_corpora()
    return opened
