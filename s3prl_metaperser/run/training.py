"""Training: one optimiser over the head and the inner rates, in steps that can stop and resume."""

from __future__ import annotations

import math
import time
from typing import Any

from s3prl_metaperser import parallel
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.evaluation.selection import validated
from s3prl_metaperser.methods.state import pack_state
from s3prl_metaperser.progress import tqdm
from s3prl_metaperser.protocol.loader import EpisodeBatch
from s3prl_metaperser.run import shown_commands
from s3prl_metaperser.run.experiment import BEST, NOTHING
from s3prl_metaperser.run.opened import Checkpoint, OpenCell
from s3prl_metaperser.run.outer_loop import OuterLoop, preferred, training_batches
from s3prl_metaperser.run.workspace import say


def train(opened: OpenCell, past: Checkpoint | None = None) -> dict[str, Any]:
    """Train a cell into its experiment folder; keep the step that suits the validation rater best.

    Args:
        past: a checkpoint to resume from (``-e``, ``-a``) or to take parameters from (``-i``).

    Returns:
        The selected ``step`` and its validation ``loss``.

    Raises:
        UserError: no step could be meta-tested, training diverges, or the checkpoint is of something else.
    """
    return _Training(opened, past).run()


class _Training:
    """One training run: where it stands, and what it writes.

    Attributes:
        best: the selected step so far and its validation loss, or its value of another criterion.
        losses: of the steps since the last line in the log.
        initial_loss: the validation loss before the first outer step; None where it is not known.
    """

    def __init__(self, opened: OpenCell, past: Checkpoint | None):
        self.opened, self.files, self.system = opened, opened.experiment, opened.system
        self.options, self.total, self.done = opened.options.runner, opened.system.outer_steps, 0
        self.state = opened.system.initialise(opened.task) if past is None else opened.load(past)
        self.loop = OuterLoop(opened.system, self.state, opened.task) if self.total else None
        self.best: dict[str, Any] = dict(NOTHING)
        self.losses: list[float] = []
        self.initial_loss: float | None = None
        if past is not None and past.resumed:
            self._resume(past)
        if self.loop is not None:
            say(f"{self.system.name}: {self.total - self.done} outer steps, engine: {self.system.engine(self.state)}")

    @property
    def criterion(self) -> str:
        """What validation computes: the loss, or another criterion's value, which is lower where it is better."""
        name = self.opened.options.downstream_expert.metarc.criterion
        return name if name == "loss" else f"criterion ({name})"

    def _resume(self, past: Checkpoint) -> None:
        self.done = past.step
        self.best, _ = self.files.resume_after(past)
        self.initial_loss = past.content.get("InitialLoss")
        if self.loop is not None and self.done:
            self.loop.resume(past.content["Optimizer"], self.done)
            self.losses += past.content.get("Losses", [])
            if self.done < self.total:
                self.files.note(f"Resuming after step {self.done}")

    def run(self) -> dict[str, Any]:
        name, quiet = self.system.name, self.loop is None or not parallel.is_leader()
        try:
            if self.done == 0:
                self._validate(0)
            if self.loop is None:
                self._save(0)
            with tqdm(total=self.total, initial=self.done, desc=name, dynamic_ncols=True, disable=quiet) as bar:
                for epoch, batch in training_batches(self.opened.options, self.opened.task, self.done, self.total):
                    self._step(epoch, batch, bar)
        finally:
            self.files.close()
        if not math.isfinite(self.best["loss"]):
            raise UserError(
                f"No step of {name} could be meta-tested on the validation rater: adaptation diverges. "
                f"{self.system.if_it_diverges}"
            )
        folder = self.files.folder
        self.opened.keep_priors(folder / BEST)
        seconds = time.perf_counter() - self.opened.started
        say(f"Trained {name} in {seconds:.1f} s. Output in {folder}:")
        say(f"  {BEST}: step {self.best['step']}, validation {self.criterion} {self.best['loss']:.4f}")
        if (initial := self.initial_loss) is not None and initial < self.best["loss"]:
            say(f"NOTE: before the first outer step it was {initial:.4f}, lower than after meta-training.")
            say("  With metarc.selection=best_from_0 step 0 is a candidate, too (docs/protocols.md).")
        say("  states-*.ckpt (to resume), log.log, events.* for TensorBoard")
        say(f"next: {shown_commands.launcher('-m', 'evaluate', '-e', folder)}")
        return self.best

    def _step(self, epoch: int, batch: EpisodeBatch, bar: tqdm) -> None:
        assert self.loop is not None
        self.losses.append(self.loop.update(batch))
        step, last = self.loop.step, self.loop.step == self.total
        if last or not (step % self.options.eval_step and step % self.options.save_step):
            self.loop.check_moved()  # before anything is kept of a training that trains nothing
        if step % self.options.log_step == 0 or last:
            self.files.log("train", "loss", sum(self.losses) / len(self.losses), step)
            bar.set_postfix(loss=f"{self.losses[-1]:.4f}", best=f"{self.best['loss']:.4f}@{self.best['step']}")
            self.losses = []
        if step % self.options.eval_step == 0 or last:
            self._validate(epoch)
        if step % self.options.save_step == 0 or last:
            self._save(epoch)
        bar.update()

    def _validate(self, epoch: int) -> None:
        """Meta-test the validation rater; write ``dev-best.ckpt`` where this step is the best so far."""
        value = validated(self.system.selected_by, self.state, self.opened.task)
        step = self.loop.step if self.loop else 0
        self.files.log("dev", self.criterion, value, step)
        if step == 0:
            self.initial_loss = value
        if preferred(self.system, step, value, self.best["loss"]):
            self.best = {"loss": value, "step": step}
            self.files.note(f"New best on dev at step {step}: {value}")
            self.files.write(BEST, self._content(epoch, losses=[]))

    def _save(self, epoch: int) -> None:
        self.files.write_states(self._content(epoch, self.losses), self.options.max_keep)

    def _content(self, epoch: int, losses: list[float]) -> dict[str, Any]:
        """A checkpoint with s3prl's keys. Draws depend on (seed, step, rater): Args and Step are the RNG state."""
        return {
            "Optimizer": self.loop.optimizer.state_dict() if self.loop else {},
            "Step": self.loop.step if self.loop else 0,
            "Epoch": epoch,
            "Best": dict(self.best),
            "InitialLoss": self.initial_loss,
            "Losses": list(losses),
            **pack_state(self.state),
        }
