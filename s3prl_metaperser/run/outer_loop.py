"""The outer loop: one optimiser over what is trained and the inner rates, in steps that can stop and resume."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any

import torch

from s3prl_metaperser.config.options import Options
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.evaluation.selection import validated
from s3prl_metaperser.methods.base import ModelState, System, TrainingTask
from s3prl_metaperser.methods.movement import Watched
from s3prl_metaperser.protocol.loader import EpisodeBatch, steps_per_epoch, training_loader
from s3prl_metaperser.protocol.splits import in_role
from s3prl_metaperser.upstream.memory import ADAPT_LESS, explaining_memory


class OuterLoop:
    """AdamW (or another optimiser) on theta and, with LSLR, on the inner rates (paper, appendix C)."""

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
        self._watched = Watched(self.optimizer)

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
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.system.options.runner.largest_norm)
        if not (math.isfinite(value) and math.isfinite(norm.item())):
            raise UserError(
                f"Outer step {step} gives a loss of {value} and a gradient norm of {norm.item()} "
                f"({in_role('rater', batch.raters)}). Lower metarc.inner_lr, metarc.inner_steps or optimizer.lr; the "
                "last checkpoint is kept."
            )
        with explaining_memory(f"Outer step {step}, the optimiser,", ADAPT_LESS):
            self._watched.step()
        self.step = step
        return value

    def check_moved(self) -> None:
        """Raise a UserError if no parameter has moved so far."""
        self._watched.check(
            f"Training {self.system.name}",
            "Raise optimizer.lr, lr of initrc for a system that is trained like the initialisation, or "
            "runner.gradient_clipping.",
        )


def training_batches(options: Options, task: TrainingTask, done: int, total: int) -> Iterator[tuple[int, EpisodeBatch]]:
    """(epoch, batch) of outer steps ``done + 1`` .. ``total``; a batch has one episode of each of its training raters.

    Each epoch (s3prl's term; :func:`.steps_per_epoch`) has new loaders, so that a run that resumes within one sees the
    same batches.
    """
    metarc, workers = options.downstream_expert.metarc, options.downstream_expert.datarc.num_workers
    labels = task.raters if metarc.raters is None else task.meta_training
    per_epoch = steps_per_epoch(labels, metarc.shots, metarc.raters_per_step)
    while done < total:
        epoch, skip = divmod(done, per_epoch)
        batches = training_loader(labels, metarc, seed=task.seed, epoch=epoch, skip=skip, num_workers=workers)
        for batch in batches:
            if done >= total:
                return
            done += 1
            yield epoch, batch


def preferred(system: System, step: int, loss: float, best: float) -> bool:
    """Whether a validated step replaces the one selected so far, by ``metarc.selection``.

    Args:
        step: outer steps done; 0 is the initialisation, which counts where nothing is trained after it, too.
        loss: on the validation rater, or another criterion's value (:func:`.validated`).
        best: that of the step selected so far; infinite without one.
    """
    selection = system.options.downstream_expert.metarc.selection
    if not step and system.outer_steps and selection != "best_from_0":
        return False
    return loss < best or bool(step and selection == "last")


def fit(system: System, task: TrainingTask) -> tuple[ModelState, int]:
    """Train a system in memory: the runner's steps and selection, without files.

    Returns:
        The state of the selected step, and that step (0 where there is nothing to choose).
    """
    state, total = system.initialise(task), system.outer_steps
    if not total:
        system.learn_priors(state, task)
        return state, 0
    loop, every = OuterLoop(system, state, task), system.options.runner.eval_step
    best: tuple[float, int, ModelState | None] = (math.inf, 0, None)

    def validate() -> tuple[float, int, ModelState | None]:
        value = validated(system.selected_by, state, task)
        return (value, loop.step, copy.deepcopy(state)) if preferred(system, loop.step, value, best[0]) else best

    if system.options.downstream_expert.metarc.selection == "best_from_0":
        best = validate()
    for _, batch in training_batches(system.options, task, 0, total):
        loop.update(batch)
        if loop.step % every == 0 or loop.step == total:
            loop.check_moved()
            best = validate()
    if best[2] is None or not math.isfinite(best[0]):
        raise UserError(
            f"No step of {system.name} could be meta-tested on the validation rater. {system.if_it_diverges}"
        )
    system.learn_priors(best[2], task)
    return best[2], best[1]
