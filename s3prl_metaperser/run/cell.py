"""One cell of the benchmark, from its options to its result: :func:`run_cell`."""

from __future__ import annotations

import functools
import random
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from s3prl_metaperser import parallel
from s3prl_metaperser.config.options import Options
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.evaluation.result import Result
from s3prl_metaperser.methods import facts_of, systems
from s3prl_metaperser.methods.base import ModelState, TrainingTask
from s3prl_metaperser.methods.initialisation import initialisation_file, initialised
from s3prl_metaperser.methods.state import unpack_state
from s3prl_metaperser.run.experiment import BEST, Experiment, write_yaml
from s3prl_metaperser.run.scopes import open_scope
from s3prl_metaperser.run.settings import CellOptions
from s3prl_metaperser.run.workspace import Workspace, say
from s3prl_metaperser.s3prl_stack import compat
from s3prl_metaperser.storage.checkpoints import read_checkpoint
from s3prl_metaperser.storage.paths import steps_of
from s3prl_metaperser.storage.provenance import refuse

#: What s3prl 0.4.18's own code makes torch say at each start; nothing that a user could fix.
NOT_OURS = (".*torch.nn.utils.weight_norm.*is deprecated", "Support for mismatched key_padding_mask and attn_mask")


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
        cell: what to run.
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
        self.workspace = open_workspace(self.options)
        self.options = self.workspace.options
        for line in self.workspace.describe():
            say(line)
        self.scope = open_scope(cell, self.options, self.workspace)
        weights = torch.from_numpy(self.workspace.class_weights()).float()
        self.system = system(self.options, weights.to(cell.device))

    @functools.cached_property
    def task(self) -> TrainingTask:
        """What the system learns from; nothing of the test rater is in it."""
        scope, cell = self.scope, self.cell
        return self.workspace.task(scope.prepared, scope.identity, cell.seed, cell.device, scope.model)

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
            "Training": self._what_adaptation_needs(),
        }
        return Experiment(self.cell.folder, f"{self.cell.task}_{split.scenario}_{split.fold}", constants)

    def _what_adaptation_needs(self) -> dict[str, Any]:
        """What adapting to a new listener needs to know of the training data, which may be gone by then."""
        corpus, split, prepared = self.workspace.corpus, self.workspace.split, self.scope.prepared
        return {
            "classes": list(self.task.classes),
            "label_set": self.task.label_set.as_dict(),
            "class_weights": self.task.class_weights.tolist(),
            "corpus": {"name": corpus.name, "fingerprint": corpus.fingerprint()},
            "split": {"scenario": split.scenario, "fold": split.fold, "train_raters": len(split.train_raters)},
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
        if content.get("System", name) != name:
            raise UserError(f"{checkpoint.path} holds {content['System']}, not {name} (-v).")
        if checkpoint.resumed and content.get("Task") != self.task.identity:
            advice = "Train again, or restore what it was trained on; -i loads its parameters all the same."
            stored = content.get("MadeFrom")
            if not isinstance(stored, dict):
                raise UserError(f"{checkpoint.path} was trained on other data, and does not say on which. {advice}")
            raise refuse(f"{checkpoint.path} was trained on other data: it", stored, self.task.made_from, advice)
        return unpack_state(content, self.system.blank(self.task), str(checkpoint.path)).to(self.cell.device)

    @property
    def initialisation_file(self) -> Path | None:
        """Where the initialisation that cells share is kept; None for a system that does without."""
        if not facts_of(self.cell.system).shares_initialisation(self.options.as_config()):
            return None
        return initialisation_file(self.task)

    def initialise(self) -> None:
        """Make the initialisation that cells share, or find it; the cell's system takes it from the cache."""
        initialised(self.task)


@dataclass
class Record:
    """How a cell was run.

    Attributes:
        seconds: of ``preparation``, ``initialisation`` (where it was made), ``training`` and ``evaluation``.
        resumed_at: the outer step of the checkpoint that was found in the folder; 0 without one.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    outer_steps: int = 0
    resumed_at: int = 0
    opened: OpenCell | None = None


def run_cell(
    cell: CellOptions, open_workspace: Callable[[Options], Workspace] = Workspace, record: Record | None = None
) -> Result:
    """Train a cell, resuming from the last checkpoint in its folder, and evaluate it on the fold's test rater.

    Args:
        cell: what to run and where. Without ``options`` it is the demo corpus under the defaults of config.yaml;
            ``Options.from_config({"downstream_expert": {"datarc": {"corpus": "ratings_csv", "root": DIR}}})`` changes
            what the mapping names.
        open_workspace: how corpus and features are come by; a process with many cells shares them.
        record: filled in with how it went.

    Returns:
        What is also written to ``result_test.json`` in the cell's folder, beside the checkpoints and the log.

    Raises:
        UserError: whatever is at fault; what was reached is kept, and the same call resumes from there.

    Examples:
        >>> cell = CellOptions(UpstreamOptions("fbank_no_cmvn"), folder, small, system="Linear-Zero")
        >>> result = run_cell(cell)  # doctest: +ELLIPSIS
        Linear-Zero, fbank_no_cmvn (frozen), demo seen/fold1, rater C-E1: K=8, Q=24, 3 seeds, 6 steps
        metric ...
        >>> result.cell.system, result.counts.shots_used, result == Result.read(folder / "result_test.json")
        ('Linear-Zero', 8, True)
    """
    from s3prl_metaperser.run.testing import evaluate
    from s3prl_metaperser.run.training import train

    record, since = record if record is not None else Record(), time.perf_counter()

    def lap(name: str) -> None:
        nonlocal since
        now = time.perf_counter()
        record.seconds[name], since = round(now - since, 3), now

    fit_for_this_machine()
    cell = replace(cell, device=existing_device(cell.device))
    cell.folder.mkdir(parents=True, exist_ok=True)
    seed_everything(cell.seed)
    opened = record.opened = OpenCell(cell, open_workspace)
    write_yaml(cell.folder, cell.as_arguments(), opened.options.as_config())
    record.outer_steps = opened.system.outer_steps
    lap("preparation")
    past = None
    if states := steps_of(cell.folder):
        past = Checkpoint.read(states[-1][1])
        record.resumed_at = past.step
    elif (shared := opened.initialisation_file) is not None and not shared.exists():
        opened.initialise()  # apart from training, which finds it in the cache, so that its time is known
        lap("initialisation")
    train(opened, past)
    lap("training")
    result = evaluate(opened, Checkpoint.read(cell.folder / BEST))
    lap("evaluation")
    return result


def fit_for_this_machine() -> None:
    """Make s3prl run on this machine's packages; once or again before each run."""
    compat.apply()
    for message in NOT_OURS:
        warnings.filterwarnings("ignore", message)


def existing_device(device: str) -> str:
    """``device``, or ``cpu`` where there is no GPU.

    Raises:
        UserError: no such device.
    """
    try:
        torch.device(device)
    except RuntimeError:
        raise UserError(f"--device {device}: there is no such device. Expected one of cuda, cuda:N, cpu.") from None
    if device.startswith("cuda") and not torch.cuda.is_available():
        say("no GPU found: running on the CPU")
        return "cpu"
    return device


def seed_everything(seed: int, *, cudnn: bool = True) -> None:
    """Seed what draws from a global state (s3prl's own code), once before a run; everything here has generators."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.backends.cudnn.enabled = cudnn
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False


def refuse_several_processes(cell: CellOptions) -> None:
    """Several processes share fine-tuning alone."""
    if parallel.world() > 1 and not cell.upstream.finetuned:
        raise UserError("With a frozen upstream one process is enough and fastest: start it without torchrun.")
