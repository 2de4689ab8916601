"""One cell of the benchmark, from its options to its result: :func:`run_cell`."""

from __future__ import annotations

import contextlib
import random
import re
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from s3prl_metaperser import parallel
from s3prl_metaperser.config.options import Options
from s3prl_metaperser.errors import UserError, shown
from s3prl_metaperser.evaluation.result import Result
from s3prl_metaperser.run.experiment import BEST, one_writer, write_yaml
from s3prl_metaperser.run.opened import Checkpoint, OpenCell
from s3prl_metaperser.run.settings import CellOptions
from s3prl_metaperser.run.shared_training import trained_once
from s3prl_metaperser.run.testing import evaluate
from s3prl_metaperser.run.training import train
from s3prl_metaperser.run.workspace import Workspace, say
from s3prl_metaperser.s3prl_stack import compat
from s3prl_metaperser.storage.paths import steps_of
from s3prl_metaperser.storage.sources import sources

#: What s3prl 0.4.18's own code makes torch say at each start; nothing that a user could fix.
NOT_OURS = (".*torch.nn.utils.weight_norm.*is deprecated", "Support for mismatched key_padding_mask and attn_mask")


@dataclass
class Record:
    """How a cell was run.

    Attributes:
        seconds: of ``preparation``, ``initialisation`` (where it was made), ``training`` and ``evaluation``.
        resumed_at: the outer step of the checkpoint that was found in the folder, or taken over from a system that is
            trained alike (:mod:`.shared_training`); 0 without one.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    outer_steps: int = 0
    resumed_at: int = 0
    opened: OpenCell | None = None

    @contextlib.contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Note how long the block takes, where it comes to its end."""
        since = time.perf_counter()
        yield
        self.seconds[what] = round(time.perf_counter() - since, 3)


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
    cell = replace(cell, device=existing_device(cell.device))  # before anything is made
    sources()
    with one_writer(cell.folder):
        return _run(cell, open_workspace, record if record is not None else Record())


def _run(cell: CellOptions, open_workspace: Callable[[Options], Workspace], record: Record) -> Result:
    with record.timed("preparation"):
        fit_for_this_machine()
        seed_everything(cell.seed)
        opened = record.opened = OpenCell(cell, open_workspace)
        write_yaml(cell.folder, cell.as_arguments(), opened.options.as_config())
        record.outer_steps = opened.system.outer_steps
    past = None
    if states := steps_of(cell.folder):
        past = Checkpoint.read(states[-1][1])
        record.resumed_at = past.step
    elif (shared := opened.initialisation_file) is not None and not shared.exists():
        with record.timed("initialisation"):
            opened.initialise()  # apart from training, which finds it in the cache, so that its time is known
    with record.timed("training"), trained_once(opened) if past is None else contextlib.nullcontext() as taken:
        if taken is None:
            train(opened, past)
        else:
            record.resumed_at = taken
    with record.timed("evaluation"):
        return evaluate(opened, Checkpoint.read(cell.folder / BEST))


def fit_for_this_machine() -> None:
    """Make s3prl run on this machine's packages; once or again before each run."""
    compat.apply()
    quiet_upstreams()


def quiet_upstreams() -> None:
    """Silence the warnings that s3prl's own code causes in torch at every start."""
    for message in NOT_OURS:
        warnings.filterwarnings("ignore", message)


def existing_device(device: str) -> str:
    """``device``, or ``cpu`` for ``cuda`` where there is no GPU.

    Raises:
        UserError: no such device.
    """
    check_device(device)
    if device == "cuda" and not torch.cuda.is_available():
        say("no GPU found: running on the CPU")
        return "cpu"
    return device


def check_device(device: str) -> None:
    """Raise a UserError for a device that nothing here can run on; ``cuda`` alone is one wherever there is none."""
    expected = "Expected one of cuda, cuda:N, cpu."
    if not re.fullmatch(r"cpu|cuda(:\d{1,4})?", device, re.ASCII):
        other = device.partition(":")[0] in ("mps", "xpu", "hpu", "npu", "xla", "mtia")
        why = "upstreams are not tested on such a device" if other else "there is no such device"
        raise UserError(f"--device {shown(device)}: {why}. {expected}")
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device != "cuda" and device.startswith("cuda") and int(device.partition(":")[2]) >= found:
        there = "finds no GPU" if not found else f"finds {found} GPU(s), cuda:0 to cuda:{found - 1}"
        raise UserError(f"--device {device}: torch {there}. {expected}")


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
