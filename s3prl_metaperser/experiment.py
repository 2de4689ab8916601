"""The experiment folder, as s3prl lays it out: log.log, TensorBoard events, states-<step>.ckpt, dev-best.ckpt."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from s3prl_metaperser import parallel
from s3prl_metaperser.checkpoints import pack_state, save_checkpoint
from s3prl_metaperser.methods.base import ModelState
from s3prl_metaperser.paths import steps_of
from s3prl_metaperser.training import OuterLoop

BEST = "dev-best.ckpt"


class Experiment:
    """One experiment's files.

    Args:
        folder: where they are.
        task: s3prl's name of the run, the prefix of TensorBoard's keys.
        constants: what every checkpoint holds besides the state (Args, Config, ...).
    """

    def __init__(self, folder: Path, task: str, constants: Mapping[str, Any]):
        self.folder, self.task, self.constants = folder, task, dict(constants)
        self._events = None

    def note(self, line: str) -> None:
        """A line in log.log. Of several processes only the leader writes, here and below."""
        if not parallel.is_leader():
            return
        with open(self.folder / "log.log", "a", encoding="utf-8") as log:
            log.write(line + "\n")

    def log(self, split: str, key: str, value: float, step: int) -> None:
        """One value, in log.log and, where it is finite, for TensorBoard."""
        if not parallel.is_leader():
            return
        if self._events is None:
            from tensorboardX import SummaryWriter

            self._events = SummaryWriter(str(self.folder))
        if math.isfinite(value):
            self._events.add_scalar(f"{self.task}/{split}-{key}", value, global_step=step)
        self.note(f"{split} {key} at step {step}: {value}")

    def close(self) -> None:
        """Write out TensorBoard's events."""
        if self._events is not None:
            self._events.close()
            self._events = None

    def save(self, name: str, state: ModelState, loop: OuterLoop | None, epoch: int, best: Mapping[str, Any]) -> None:
        """A checkpoint with s3prl's keys. Draws depend on (seed, step, rater): Args and Step are the RNG state."""
        if not parallel.is_leader():
            return
        content = {
            "Optimizer": loop.optimizer.state_dict() if loop else {},
            "Step": loop.step if loop else 0,
            "Epoch": epoch,
            "Best": dict(best),
            **self.constants,
            **pack_state(state),
        }
        save_checkpoint(self.folder / name, content)

    def save_states(self, state: ModelState, loop: OuterLoop | None, epoch: int, best, keep: int) -> None:
        """``states-<step>.ckpt``; of these the last ``keep`` stay."""
        self.save(f"states-{loop.step if loop else 0}.ckpt", state, loop, epoch, best)
        if parallel.is_leader():
            for _, path in steps_of(self.folder)[:-keep]:
                path.unlink()
