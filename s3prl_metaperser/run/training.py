"""Training: one optimiser over the head and the inner rates, in steps that can stop and resume."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from tqdm import tqdm

from s3prl_metaperser import parallel
from s3prl_metaperser.config.options import Options
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.evaluation.meta_testing import validation_loss
from s3prl_metaperser.methods.base import ModelState, System, TrainingTask
from s3prl_metaperser.protocol.loader import EpisodeBatch, EpisodicDataset, episodic_loader, steps_per_epoch
from s3prl_metaperser.run.experiment import BEST, NOTHING
from s3prl_metaperser.run.workspace import say
from s3prl_metaperser.storage.provenance import differences
from s3prl_metaperser.upstream.memory import ADAPT_LESS, explaining_memory

if TYPE_CHECKING:
    from s3prl_metaperser.run.cell import Checkpoint, OpenCell


class OuterLoop:
    """AdamW (or another optimiser) on theta and, with LSLR, on the inner rates (paper, appendix C).

    Attributes:
        step: outer steps done.
    """

    def __init__(self, system: System, state: ModelState, task: TrainingTask):
        self.system, self.state, self.task = system, state, task
        self.step = 0
        options = system.options
        groups: list[dict[str, Any]] = [{"params": list(state.parameters().values())}]
        if state.rates is not None and state.rates.values.requires_grad:
            rate = options.downstream_expert.metarc.lslr_lr
            rate = options.optimizer.lr if rate is None else rate
            groups.append({"params": [state.rates.values], "lr": rate, "weight_decay": 0.0})
        kind = getattr(torch.optim, options.optimizer.name)
        self.optimizer = kind(groups, lr=options.optimizer.lr, weight_decay=options.optimizer.weight_decay)

    def resume(self, optimizer_state: dict[str, Any], step: int) -> None:
        """Resume after ``step``: moments come from the checkpoint, rates and weight decay from the options."""
        chosen = [{k: v for k, v in group.items() if k != "params"} for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(optimizer_state)
        for group, options in zip(self.optimizer.param_groups, chosen, strict=True):
            group.update(options)
        self.step = step

    def update(self, batch: EpisodeBatch) -> float:
        """One outer step.

        Returns:
            The outer loss before the update.

        Raises:
            UserError: the loss or the gradient is not finite (the parameters are as they were before the step), or
                memory runs out.
        """
        step = self.step + 1
        self.optimizer.zero_grad(set_to_none=True)
        value = self.system.outer_gradient(self.state, batch, step, self.task)
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.system.options.runner.gradient_clipping)
        if not (math.isfinite(value) and math.isfinite(norm.item())):
            raise UserError(
                f"Outer step {step} gives a loss of {value} and a gradient norm of {norm.item()} (raters "
                f"{', '.join(batch.raters)}). Lower metarc.inner_lr, metarc.inner_steps or optimizer.lr; the last "
                "checkpoint is kept."
            )
        with explaining_memory(f"Outer step {step}, the optimiser,", ADAPT_LESS):
            self.optimizer.step()
        self.step = step
        return value


def training_batches(options: Options, task: TrainingTask, done: int, total: int) -> Iterator[tuple[int, EpisodeBatch]]:
    """(epoch, batch) of outer steps ``done + 1`` .. ``total``; a batch has one episode of each training rater.

    An epoch (s3prl's term) has as many steps as the rater with the most labels has full draws of K. Each epoch has new
    loaders, so that a run that resumes within one sees the same batches.
    """
    metarc, workers = options.downstream_expert.metarc, options.downstream_expert.datarc.num_workers
    per_epoch = steps_per_epoch(task.raters, metarc.shots)
    while done < total:
        epoch, skip = divmod(done, per_epoch)
        dataset = EpisodicDataset(
            task.raters,
            shots=metarc.shots,
            combined_set=metarc.combined_set,
            seed=task.seed,
            first_step=done + 1,
            steps=per_epoch - skip,
        )
        for batch in episodic_loader(dataset, workers):
            if done >= total:
                return
            done += 1
            yield epoch, batch


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
        best: the selected step so far and its validation loss.
        losses: of the steps since the last line in the log.
    """

    def __init__(self, opened: OpenCell, past: Checkpoint | None):
        self.opened, self.files, self.system = opened, opened.experiment, opened.system
        self.options, self.total, self.done = opened.options.runner, opened.system.outer_steps, 0
        self.state = opened.system.initialise(opened.task) if past is None else opened.load(past)
        self.loop = OuterLoop(opened.system, self.state, opened.task) if self.total else None
        self.best: dict[str, Any] = dict(NOTHING)
        self.losses: list[float] = []
        if past is not None and past.resumed:
            self._resume(past)
        if self.loop is not None:
            say(f"{self.system.name}: {self.total - self.done} outer steps, engine: {self.system.engine(self.state)}")

    def _resume(self, past: Checkpoint) -> None:
        self.done = past.step
        changed = differences(past.content["Config"], self.opened.options.as_config())
        for phrase in changed:
            say(f"options changed at step {self.done}: {phrase}")
            self.files.note(f"Options changed at step {self.done}: {phrase}")
        best = past.content.get("Best", NOTHING)
        self.best = self.files.resume_after(past.path, self.done, best, changed=bool(changed))
        if self.loop is not None and self.done:
            self.loop.resume(past.content["Optimizer"], self.done)
            self.losses += past.content.get("Losses", [])
            if self.done < self.total:
                self.files.note(f"Resuming after step {self.done}")

    def run(self) -> dict[str, Any]:
        name, quiet = self.system.name, self.loop is None or not parallel.is_leader()
        try:
            if self.loop is None:
                self._validate(0)
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
        folder, seconds = self.files.folder, time.perf_counter() - self.opened.started
        say(f"Trained {name} in {seconds:.1f} s. Output in {folder}:")
        say(f"  {BEST}: step {self.best['step']}, validation loss {self.best['loss']:.4f}")
        say("  states-*.ckpt (to resume), log.log, events.* for TensorBoard")
        say(f"next: python run_downstream.py -m evaluate -e {folder}")
        return self.best

    def _step(self, epoch: int, batch: EpisodeBatch, bar: tqdm) -> None:
        assert self.loop is not None
        self.losses.append(self.loop.update(batch))
        step, last = self.loop.step, self.loop.step == self.total
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
        value = validation_loss(self.system, self.state, self.opened.task.validation_episodes)
        step = self.loop.step if self.loop else 0
        self.files.log("dev", "loss", value, step)
        if value < self.best["loss"]:
            self.best = {"loss": value, "step": step}
            self.files.note(f"New best on dev at step {step}: {value}")
            self.files.save(BEST, self.state, self.loop, epoch, self.best)

    def _save(self, epoch: int) -> None:
        self.files.save_states(self.state, self.loop, epoch, self.best, self.losses, self.options.max_keep)


def fit(system: System, task: TrainingTask) -> tuple[ModelState, int]:
    """Train a system in memory: the runner's steps and selection, without files.

    Returns:
        The state of the step with the lowest validation loss, and that step (0 where there is nothing to choose).
    """
    state, total = system.initialise(task), system.outer_steps
    if not total:
        return state, 0
    loop, every = OuterLoop(system, state, task), system.options.runner.eval_step
    best: tuple[float, int, ModelState | None] = (math.inf, 0, None)
    for _, batch in training_batches(system.options, task, 0, total):
        loop.update(batch)
        if loop.step % every == 0 or loop.step == total:
            value = validation_loss(system, state, task.validation_episodes)
            if value < best[0]:
                best = (value, loop.step, copy.deepcopy(state))
    if best[2] is None:
        raise UserError(
            f"No step of {system.name} could be meta-tested on the validation rater. {system.if_it_diverges}"
        )
    return best[2], best[1]
