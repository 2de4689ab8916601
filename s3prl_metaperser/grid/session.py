"""One process's work: cells through :func:`.run_cell`, sharing what they have in common."""

from __future__ import annotations

import functools
import gc
import json
import platform
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, TypeVar

import torch

from s3prl_metaperser.config.options import DataOptions, Options
from s3prl_metaperser.corpora import Corpus, open_corpus, reader_options
from s3prl_metaperser.corpora.contents import Contents
from s3prl_metaperser.grid.cells import Cell
from s3prl_metaperser.grid.log import speaking_into
from s3prl_metaperser.grid.results import LOG, Fingerprint, Results, fingerprint_of
from s3prl_metaperser.grid.stages import Stage, stage_of, stages
from s3prl_metaperser.run.cell import Record, existing_device, fit_for_this_machine, seed_everything
from s3prl_metaperser.run.opened import OpenCell
from s3prl_metaperser.run.settings import CellOptions, UpstreamOptions
from s3prl_metaperser.run.workspace import Workspace
from s3prl_metaperser.s3prl_stack.hub import checkpoint_hash
from s3prl_metaperser.tasks import task_of
from s3prl_metaperser.upstream.hubconf import GIVEN
from s3prl_metaperser.upstream.store import FeatureIdentity, PooledFeatures

T = TypeVar("T")


class Session:
    """Runs cells, and makes what they share.

    Args:
        progress: called with what is being done, such as ``SSL-E 40%``.
    """

    def __init__(self, device: str = "cuda", progress: Callable[[str], None] = lambda text: None):
        self.device, self.progress = device, progress
        self._corpora: dict[str, Corpus] = {}
        self._contents: Contents | None = None
        self._last: dict[str, tuple[Any, Any]] = {}

    def run(self, cell: Cell, results: Results) -> None:
        """Train and evaluate one cell, resuming from its last checkpoint if it has one; the caller holds its lock.

        Raises:
            UserError: as the launcher's; what was reached is kept.
        """
        folder = results.begin(cell)
        with speaking_into(folder / LOG, self.progress):
            try:
                record = self._run(cell, folder)
            finally:
                gc.collect()  # a fine-tuned model must be gone before the next is built
                if not gc.get_freeze_count():
                    gc.freeze()  # torch's own objects are looked through once
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
        results.finish(cell, record)

    def make(self, stage: Stage) -> None:
        """Make a stage, or find that it exists."""
        seen: set[Hashable] = set()
        for cell in stage.cells:
            if cell.task in seen or (stage.kind == "initialisation" and seen):
                continue
            seen.add(cell.task)
            if stage.kind == "features" and cell.finetuned:
                self._features_of(cell)
                continue
            opened = self._open(cell)
            if stage.kind == "initialisation":
                opened.initialise()
            self._note(opened, stage)

    def corpus(self, data: DataOptions) -> Corpus:
        """The corpus that options name, read once."""
        key = json.dumps([data.corpus, data.root, data.cache_dir, reader_options(data)], default=str)
        if key not in self._corpora:
            self._corpora[key] = open_corpus(data)
        return self._corpora[key]

    def contents(self, corpus: Corpus, cache: Path) -> Contents:
        """What the audio of a corpus holds; that of the last one is kept while no file changes."""
        if self._contents is None or self._contents.corpus is not corpus or not self._contents.still():
            self._contents = Contents(corpus, cache)
        return self._contents

    def kept(self, what: str, key: Any, make: Callable[[], T]) -> T:
        """What the last cell made of this kind under this key, or ``make()``: features fill hundreds of megabytes."""
        if what not in self._last or self._last[what][0] != key:
            self._last.pop(what, None)  # the last one is gone before the next is made
            self._last[what] = (key, make())
        return self._last[what][1]

    def _run(self, cell: Cell, folder: Path) -> dict[str, Any]:
        record, device = Record(), existing_device(self.device)
        run_cell = task_of(cell.family).runner()
        result = run_cell(options_of(cell, folder, device), functools.partial(SharedWorkspace, self), record)
        for stage in stages([cell]):
            assert record.opened is not None  # by a task whose cells share stages
            self._note(record.opened, stage)
        return {
            "corpus": result.hashes.corpus,
            "audio": result.hashes.audio,
            "device": _device_name(device),
            "outer_steps": record.outer_steps,
            "resumed_at": record.resumed_at,
            "seconds": record.seconds,
        }

    def _open(self, cell: Cell) -> OpenCell:
        fit_for_this_machine()
        options = options_of(cell, Path(cell.path), existing_device(self.device))
        seed_everything(cell.seed)
        return OpenCell(options, functools.partial(SharedWorkspace, self))

    def _features_of(self, cell: Cell) -> None:
        """A fine-tuned upstream has no stored features: its checkpoint must exist."""
        fit_for_this_machine()
        checkpoint_hash(cell.upstream.name, cell.upstream.ckpt, cell.upstream.model_config)
        stage = stage_of(cell, "features")
        assert stage is not None
        data = cell.options.downstream_expert.datarc
        stage.made([], fingerprint_of(self.corpus(data), data))

    def _note(self, opened: OpenCell, stage: Stage) -> None:
        if stage.kind == "initialisation":
            files = [file] if (file := opened.initialisation_file) else []
        else:
            finetuned = opened.cell.upstream.finetuned
            stored = not finetuned and opened.cell.upstream.name not in GIVEN
            files = [] if not stored else [opened.workspace.store(opened.scope.identity).folder]
        workspace = opened.workspace
        stage.made(files, Fingerprint(workspace.corpus.fingerprint(), workspace.contents.fingerprint))


class SharedWorkspace(Workspace):
    """A workspace whose corpus and features are a session's."""

    def __init__(self, session: Session, options: Options, **how: Any):
        self._session = session
        super().__init__(options, session.corpus(options.downstream_expert.datarc), **how)

    @functools.cached_property
    def contents(self) -> Contents:
        return self._session.contents(self.corpus, self.cache)

    def shared(self, key: Any, make: Callable[[], T]) -> T:
        return self._session.kept("shared", key, make)

    def features(self, identity: FeatureIdentity, upstream: Callable[[], torch.nn.Module] | None) -> PooledFeatures:
        key = (identity, tuple(self.audio_hashes.items()))
        return self._session.kept("features", key, lambda: super(SharedWorkspace, self).features(identity, upstream))


def options_of(cell: Cell, folder: Path, device: str) -> CellOptions:
    """What :func:`.run_cell` takes to train the cell into ``folder``."""
    given = cell.upstream
    return CellOptions(
        upstream=UpstreamOptions(
            name=given.name,
            checkpoint=given.ckpt,
            model_config=given.model_config,
            selection=given.selection,
            layer=given.layer,
            normalize=given.normalize,
            finetuned=cell.finetuned,
        ),
        folder=folder,
        options=cell.options,
        system=cell.system,
        seed=cell.seed,
        device=device,
        task=cell.family,
    )


def _device_name(device: str) -> str:
    """``cpu`` or the GPU's name: used to key measured step times."""
    if str(device).startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return f"cpu ({platform.machine()})"
