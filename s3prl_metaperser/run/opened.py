"""A cell with its data: corpus and split, features, system; and the checkpoint that it starts from."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from s3prl_metaperser import parallel
from s3prl_metaperser.config.options import Options
from s3prl_metaperser.corpora import CORPORA, reader_of
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.evaluation.result import FIRST_TASK
from s3prl_metaperser.methods import facts_of, systems, trained_as
from s3prl_metaperser.methods.base import ModelState, System, TrainingTask
from s3prl_metaperser.methods.initialisation import initialisation_file, initialised
from s3prl_metaperser.methods.start import Start, said_of_classes
from s3prl_metaperser.methods.state import unpack_state
from s3prl_metaperser.run.experiment import Experiment
from s3prl_metaperser.run.scopes import identify, open_scope
from s3prl_metaperser.run.settings import CellOptions
from s3prl_metaperser.run.starting import refuse_heard, refuse_heard_upstream, start_of
from s3prl_metaperser.run.workspace import Workspace, foresee, say
from s3prl_metaperser.storage.checkpoints import read_checkpoint, save_checkpoint
from s3prl_metaperser.storage.provenance import differences, refuse
from s3prl_metaperser.upstream.heard import Heard
from s3prl_metaperser.upstream.store import FeatureIdentity


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint to start from.

    Attributes:
        resumed: whether the experiment resumes from it (``-e``, ``-a``), or takes its parameters alone (``-i``).
    """

    path: Path
    content: dict[str, Any]
    resumed: bool = True

    @classmethod
    def read(cls, path: Path, *, resumed: bool = True) -> Checkpoint:
        """Read one.

        Raises:
            UserError: not a checkpoint that can be read safely.
        """
        return cls(path, read_checkpoint(path), resumed)

    @property
    def step(self) -> int:
        """Outer steps done."""
        return int(self.content.get("Step", 0))


class OpenCell:
    """A cell with its data at hand: corpus and split, features or waveforms, and the system.

    Args:
        open_workspace: how corpus and features are come by; a process with many cells shares them.

    Raises:
        UserError: whatever of corpus, upstream, system or options is at fault.
    """

    def __init__(self, cell: CellOptions, open_workspace: Callable[[Options], Workspace] = Workspace):
        self.cell, self.started = cell, time.perf_counter()
        system = systems(cell.upstream.finetuned).get(cell.system)
        self.options = system.options_in_force(cell.options)
        if (threads := self.options.runner.threads) is not None:
            torch.set_num_threads(threads)
        if cell.task == FIRST_TASK:
            foresee(self.options)  # whatever is known to fail does so before work is spent
        known = identify(cell, self.options)
        start = start_of(cell, self.options, known[0])
        self.workspace = open_workspace(self.options)
        if cell.task == FIRST_TASK:
            self.workspace.check_shots()
        self.options = self.workspace.options
        system.check(self.workspace.corpus.label_set)
        for line in self.workspace.describe():
            say(line)
        self.workspace.refuse_leaks()
        refuse_heard_upstream(cell.upstream, self.workspace)
        self.start = None if start is None else self._matched(start)
        self.scope = open_scope(cell, self.options, self.workspace, known, self.start)
        weights = torch.from_numpy(self.workspace.class_weights()).float()
        self.system = system(self.options, weights.to(cell.device))

    def _matched(self, start: Start) -> Start:
        """The start with its classes matched to the corpus's, which is said."""
        corpus, name = self.workspace.corpus, self.workspace.options.downstream_expert.datarc.corpus
        card = reader_of(name).card if name in CORPORA.names() else None
        start = dataclasses.replace(start, rows=start.matched(corpus.label_set, card.emotions if card else {}))
        say(f"starts from {start.source}: {said_of_classes(start, corpus.classes)}")
        refuse_heard(start.source, start.audio, self.workspace)
        return start

    @functools.cached_property
    def task(self) -> TrainingTask:
        """What the system learns from; nothing of the test rater is in it."""
        scope, cell = self.scope, self.cell
        return self.workspace.task(scope.prepared, scope.identity, cell.seed, cell.device, scope.model, self.start)

    @functools.cached_property
    def experiment(self) -> Experiment:
        """The experiment folder."""
        split = self.workspace.split
        constants = {
            "Args": self.cell.as_arguments(),
            "Config": self.options.as_config(),
            "System": self.cell.system,
            "Task": self.task.identity,
            "MadeFrom": self.task.made_from,
            "Preprocessing": {"mean": self.scope.prepared.mean, "scale": self.scope.prepared.scale},
            "Heard": self._heard(),
            "Training": self._what_adaptation_needs(),
        }
        return Experiment(self.cell.folder, f"{self.cell.task}_{split.scenario}_{split.fold}", constants)

    def _heard(self) -> dict[str, torch.Tensor]:
        """By what a clip is known that is unlike the training split's; nothing where waveforms are the input."""
        prepared, used = self.scope.prepared, sorted({rating.utterance for rating in self.workspace.split.train})
        if not isinstance(prepared.values, torch.Tensor):
            return {}
        values, rows = prepared.values, [prepared.rows[utterance] for utterance in used]
        made_by = self.scope.identity, self.cell.upstream.layer, None if self.start is None else self.start.sha256
        key = ("heard", *made_by, self.workspace.corpus.fingerprint(), *rows)
        return self.workspace.shared(key, lambda: Heard.of(values, rows)).as_tensors()

    def _what_adaptation_needs(self) -> dict[str, Any]:
        """What adapting to a new listener needs to know of the training data, which may be gone by then."""
        corpus, split, prepared = self.workspace.corpus, self.workspace.split, self.scope.prepared
        return {
            "classes": list(self.task.classes),
            "label_set": self.task.label_set.as_dict(),
            "class_weights": self.task.class_weights.tolist(),
            "corpus": {"name": corpus.name, "fingerprint": corpus.fingerprint()},
            "split": {"scenario": split.scenario, "fold": split.fold, "train_raters": len(split.train_raters)},
            **({} if self.start is None else {"start": self.start.sha256}),
            "upstream_checkpoint": self.scope.identity.checkpoint,
            "shape": list(prepared.values.shape[1:]),
            "standardized": prepared.standardized,
        }

    def load(self, checkpoint: Checkpoint) -> ModelState:
        """The state in a checkpoint, on the cell's device.

        Raises:
            UserError: it holds another system, or was trained on other data (but for ``-i``).
        """
        content, name = checkpoint.content, self.cell.system
        if trained_as(content.get("System", name)) != trained_as(name):  # what adapts them otherwise needs no training
            raise UserError(f"{checkpoint.path} holds {content['System']}, not {name} (-v).")
        if checkpoint.resumed and content.get("Task") != self.task.identity:
            advice = "Train again, or restore what it was trained on; -i loads its parameters all the same."
            stored = content.get("MadeFrom")
            if not isinstance(stored, dict):
                raise UserError(f"{checkpoint.path} was trained on other data, and does not say on which. {advice}")
            stored = {**stored, "upstream": {"pooling": FeatureIdentity.pooling, **stored.get("upstream", {})}}  # 0.1.0
            if differences(stored, self.task.made_from):
                raise refuse(f"{checkpoint.path} was trained on other data: it", stored, self.task.made_from, advice)
        state = unpack_state(content, self.system.blank(self.task), str(checkpoint.path)).to(self.cell.device)
        if content.get("System") == name:
            state.priors.update(content.get("OutputPriors", {}))
        self.system.learn_priors(state, self.task)
        return state

    def keep_priors(self, best: Path) -> None:
        """Add to the selected checkpoint what is learned of the training raters after training, for its export."""
        if type(self.system).learn_priors is System.learn_priors:
            return  # it learns none
        checkpoint = Checkpoint.read(best)
        if (priors := self.load(checkpoint).priors) and parallel.is_leader():
            save_checkpoint(best, {**checkpoint.content, "OutputPriors": priors})

    @property
    def initialisation_file(self) -> Path | None:
        """Where the initialisation that cells share is kept; None for a system that does without."""
        if not facts_of(self.cell.system).shares_initialisation(self.options.as_config()):
            return None
        return initialisation_file(self.task)

    def initialise(self) -> None:
        """Make the initialisation that cells share, or find it; the cell's system takes it from the cache."""
        initialised(self.task)
