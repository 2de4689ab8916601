"""One process's work: cells through the same runner as run_downstream.py's, sharing what they have in common."""

from __future__ import annotations

import argparse
import functools
import gc
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from s3prl_metaperser.config.options import DataOptions, Options
from s3prl_metaperser.corpora import Corpus, open_corpus, reader_options
from s3prl_metaperser.grid.cells import Cell
from s3prl_metaperser.grid.log import speaking_into
from s3prl_metaperser.grid.results import LOG, Results
from s3prl_metaperser.grid.stages import Stage, stage_of
from s3prl_metaperser.methods.initialisation import initialisation_file, initialised
from s3prl_metaperser.run.experiment import BEST
from s3prl_metaperser.run.workspace import Workspace
from s3prl_metaperser.s3prl_plugin import launcher
from s3prl_metaperser.s3prl_plugin.arguments import build_parser
from s3prl_metaperser.s3prl_plugin.registration import DOWNSTREAM
from s3prl_metaperser.s3prl_stack.hub import checkpoint_hash
from s3prl_metaperser.storage.paths import steps_of
from s3prl_metaperser.upstream.store import FeatureIdentity, PooledFeatures, audio_hash

if TYPE_CHECKING:  # s3prl's runner imports only in a process that is prepared
    from s3prl_metaperser.s3prl_plugin.runner import MetaRunner


class Session:
    """Runs cells, and makes what they share.

    Args:
        device: the launcher's ``--device``.
        progress: told what is being done, such as ``SSL-E 40%``.
    """

    def __init__(self, device: str = "cuda", progress: Callable[[str], None] = lambda text: None):
        self.device, self.progress = device, progress
        self._corpora: dict[str, Corpus] = {}
        self._audio: dict[Path, str] = {}
        self._features: tuple[Any, PooledFeatures | None] = (None, None)

    def run(self, cell: Cell, results: Results) -> None:
        """Train and evaluate one cell, going on from its last checkpoint where there is one; the caller holds its lock.

        Raises:
            UserError: as the launcher's; what was reached is kept.
        """
        folder = results.begin(cell)
        with speaking_into(folder / LOG, self.progress):
            try:
                record = self._run(cell, folder)
            finally:
                gc.collect()  # a fine-tuned model must be gone before the next is built
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
        results.finish(cell, record)

    def make(self, stage: Stage) -> None:
        """Make a stage, or find that it is there."""
        seen = set()
        for cell in stage.cells:
            if cell.task in seen or (stage.kind == "initialisation" and seen):
                continue
            seen.add(cell.task)
            if stage.kind == "features" and cell.finetuned:
                self._features_of(cell)
                continue
            runner = self._open(cell, Path(cell.path))
            if stage.kind == "initialisation":
                _initialise(cell, runner)
            self._note(cell, runner, stage)

    def corpus(self, data: DataOptions) -> Corpus:
        """The corpus that options name, read once."""
        key = json.dumps([data.corpus, data.root, data.cache_dir, reader_options(data)], default=str)
        if key not in self._corpora:
            self._corpora[key] = open_corpus(data)
        return self._corpora[key]

    def audio(self, path: Path) -> str:
        """SHA-256 of an audio file, read once."""
        if path not in self._audio:
            self._audio[path] = audio_hash(path)
        return self._audio[path]

    def features(self, key: Any, load: Callable[[], PooledFeatures]) -> PooledFeatures:
        """Features, those of the last task kept: real ones fill hundreds of megabytes."""
        if self._features[0] != key:
            self._features = (None, None)
            self._features = (key, load())
        return self._features[1]

    def _run(self, cell: Cell, folder: Path) -> dict[str, Any]:
        clock = _Clock()
        runner = self._open(cell, folder)
        launcher.write_yaml(runner.args, runner.config)
        clock.lap("preparation")
        if states := steps_of(folder):
            runner.go_on_from(states[-1][1])
        elif cell.initialisation is not None and not _initialisation_file(cell, runner).exists():
            _initialise(cell, runner)  # the system finds it in the cache; apart, so that its time is
            clock.lap("initialisation")
        first_step = int(runner.init_ckpt.get("Step", 0))
        runner.train()
        clock.lap("training")
        runner.go_on_from(folder / BEST)
        runner.evaluate("test")
        clock.lap("evaluation")
        for kind in ("features", "initialisation"):
            if stage := stage_of(cell, kind):
                self._note(cell, runner, stage)
        return {
            "corpus": runner.workspace.corpus.fingerprint(),
            "device": _device_name(runner.args.device),
            "outer_steps": runner.system.outer_steps,
            "resumed_at": first_step,
            "seconds": clock.laps,
        }

    def _open(self, cell: Cell, folder: Path) -> MetaRunner:
        args = arguments(cell, folder, self.device)
        launcher.prepare_process(args)
        return launcher.open_runner(args, dict(cell.config), functools.partial(SharedWorkspace, self))

    def _features_of(self, cell: Cell) -> None:
        """A fine-tuned upstream has no stored features: its checkpoint is what must be there."""
        launcher.prepare_process(arguments(cell, Path(cell.path), self.device))
        checkpoint_hash(cell.upstream.name, cell.upstream.ckpt, cell.upstream.model_config)
        stage = stage_of(cell, "features")
        stage.made([], self.corpus(cell.options.downstream_expert.datarc).fingerprint())

    def _note(self, cell: Cell, runner: MetaRunner, stage: Stage) -> None:
        if stage.kind == "initialisation":
            files = [_initialisation_file(cell, runner)]
        else:
            files = [] if cell.finetuned else [runner.workspace.store(runner.scope.identity).folder]
        stage.made(files, runner.workspace.corpus.fingerprint())


class SharedWorkspace(Workspace):
    """A workspace whose corpus, audio hashes and features are a session's."""

    def __init__(self, session: Session, options: Options):
        self._session = session
        super().__init__(options, session.corpus(options.downstream_expert.datarc))

    @functools.cached_property
    def audio_hashes(self) -> dict[str, str]:
        return {u.id: self._session.audio(u.path) for u in self.utterances}

    def features(self, identity: FeatureIdentity, upstream: Callable[[], torch.nn.Module] | None) -> PooledFeatures:
        key = (identity, tuple(self.audio_hashes.items()))
        return self._session.features(key, lambda: super(SharedWorkspace, self).features(identity, upstream))


def arguments(cell: Cell, folder: Path, device: str) -> argparse.Namespace:
    """The launcher's arguments that train the cell into ``folder``."""
    upstream = cell.upstream
    line = ["-m", "train", "-d", DOWNSTREAM, "-u", upstream.name, "-v", cell.system, "-p", str(folder)]
    line += ["-s", upstream.selection, "--seed", str(cell.seed), "--device", device]
    line += ["-k", upstream.ckpt] if upstream.ckpt else []
    line += ["-g", upstream.model_config] if upstream.model_config else []
    line += ["-l", str(upstream.layer)] if upstream.layer is not None else []
    line += ["--upstream_feature_normalize"] if upstream.normalize else []
    line += ["-f"] if cell.finetuned else []
    return build_parser().parse_args(line)


def _initialise(cell: Cell, runner: MetaRunner) -> None:
    """Make the initialisation that cells share, under its own lock."""
    initialised(runner.task)


def _initialisation_file(cell: Cell, runner: MetaRunner) -> Path:
    return initialisation_file(runner.task)


class _Clock:
    """Seconds from lap to lap."""

    def __init__(self):
        self.laps: dict[str, float] = {}
        self._begun = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name] = round(now - self._begun, 3)
        self._begun = now


def _device_name(device: str) -> str:
    """``cpu`` or the GPU's name, as step times are to be told apart by it."""
    if str(device).startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return f"cpu ({platform.machine()})"
