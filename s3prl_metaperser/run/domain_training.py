"""Training on several sources: one optimiser, steps that can stop and resume, and what becomes of one that diverges."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import torch

from s3prl_metaperser import parallel
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.generalise.base import Step
from s3prl_metaperser.meta.masks import drawn_from
from s3prl_metaperser.meta.micro_gradients import NonFinite
from s3prl_metaperser.methods.movement import Watched
from s3prl_metaperser.progress import tqdm
from s3prl_metaperser.run import shown_commands
from s3prl_metaperser.run.domain_cell import OpenDomains
from s3prl_metaperser.run.domain_testing import packed, validation_loss
from s3prl_metaperser.run.experiment import BEST, NOTHING
from s3prl_metaperser.run.opened import Checkpoint
from s3prl_metaperser.run.workspace import say
from s3prl_metaperser.storage.provenance import refuse

#: What bounds a training that diverges.
BOUNDS = (
    "runner.gradient_clipping bounds a step, generalrc.margin.largest the margin; a lower optimizer.lr or "
    "generalrc.inner_lr does as well"
)
Curves = dict[str, list[tuple[int, float]]]


class DomainTraining:
    """One training run: where it stands, and what it writes.

    Attributes:
        diverged: how it ended early; empty where it did not.
        best: the selected step so far and its loss.
        curves: logged value -> (step, mean since the last); of what is logged at every step (step, value).
    """

    def __init__(self, opened: OpenDomains, past: Checkpoint | None = None):
        self.opened, self.files, self.total = opened, opened.experiment, opened.total_steps
        self.options, self.step, self.diverged = opened.options, 0, ""
        self.best: dict[str, Any] = dict(NOTHING)
        self.curves: Curves = {}
        self._since: dict[str, list[float]] = defaultdict(list)
        self._unlogged: Curves = defaultdict(list)
        modules = (opened.model, opened.system)
        self.trained = [p for module in modules for p in module.parameters() if p.requires_grad]
        self.optimizer = self._optimizer() if self.total else None
        if past is not None:
            self._resume(past)

    def run(self) -> None:
        """Train up to the last step.

        Raises:
            UserError: no parameter moves.
        """
        name = self.opened.cell.system
        quiet = not self.total or not parallel.is_leader()
        watched = Watched(self.optimizer) if self.optimizer is not None else None
        try:
            with tqdm(total=self.total, initial=self.step, desc=name, dynamic_ncols=True, disable=quiet) as bar:
                while self.step < self.total and not self.diverged:
                    assert watched is not None
                    self._take_step(watched)
                    bar.update()
                if watched is not None and not self.diverged:
                    watched.check(f"Training {name}", "Raise optimizer.lr or runner.gradient_clipping.")
            if not self.total and self.best == NOTHING:
                self._keep({"loss": 0.0, "step": 0})
                self.files.write_states(self._content(), self.options.runner.max_keep)
        finally:
            self.files.close()
        if self.diverged:
            say(f"{name} diverged: {self.diverged} Its result counts, with the parameters before that step.")
            say(f"  {BOUNDS}.")
        say(f"Trained {name}. Output in {self.files.folder}:")
        say(f"  {BEST}: step {self.best['step']}; states-*.ckpt (to resume), log.log, events.* for TensorBoard")
        say(f"next: {shown_commands.launcher('-m', 'evaluate', '-e', self.files.folder)}")

    # -- one step ------------------------------------------------------------------------------------------------------

    def _take_step(self, watched: Watched) -> None:
        opened, optimizer, step = self.opened, watched.optimizer, self.step + 1
        optimizer.zero_grad(set_to_none=True)
        self._set_rate(step)
        opened.model.train()
        opened.system.train()
        buffers = _buffers(opened)
        try:
            with drawn_from([torch.device(opened.cell.device)], opened.seed("weights"), step):  # dropout's masks
                found = opened.system.outer_gradient(opened.model, opened.batch(step), step)
            norm = torch.nn.utils.clip_grad_norm_(self.trained, self.options.runner.largest_norm).item()
        except NonFinite as error:
            found, norm = Step(math.nan), math.nan
            self._end(step, f"{error}".partition(". ")[0], buffers)
        if not self.diverged and not (math.isfinite(found.loss) and math.isfinite(norm)):
            self._end(step, f"the loss is {found.loss}, the gradient's norm {norm}", buffers)
        if not self.diverged:
            watched.step()
            opened.system.after_step(opened.model, step)
            self.step = step
            for name, value in {"loss": found.loss, "gradient norm": norm, **found.values}.items():
                self._since[name].append(value)
            for name, value in found.each.items():
                self.curves.setdefault(name, []).append((step, value))
                self._unlogged[name].append((step, value))
        self._log_and_keep()

    def _end(self, step: int, how: str, buffers: dict[str, torch.Tensor]) -> None:
        """Stop at a step that cannot be taken, as if it had not been begun."""
        self.diverged = f"step {step} of {self.total}: {how}."
        for module in (self.opened.model, self.opened.system):
            for name, buffer in module.named_buffers():
                buffer.copy_(buffers[f"{id(module)} {name}"])

    def _log_and_keep(self) -> None:
        runner, last = self.options.runner, self.step == self.total or bool(self.diverged)
        if self.step % runner.log_step == 0 or self.step % runner.save_step == 0 or last:
            for name, points in self._unlogged.items():
                self.files.log_steps("train", name, points)
            self._unlogged.clear()
        if (self.step % runner.log_step == 0 or last) and self._since:
            for name, values in self._since.items():
                mean = sum(values) / len(values)
                self.files.log("train", name, mean, self.step)
                self.curves.setdefault(name, []).append((self.step, mean))
            self._since = defaultdict(list)
        saves = self.step % runner.save_step == 0 or last
        if self.step % runner.eval_step == 0 or last:
            self._validate()
        if saves and self.opened.expert.generalrc.selection == "last":
            logged = self.curves.get("loss") or [(0, 0.0)]
            self._keep({"loss": logged[-1][1], "step": self.step})
        if saves:
            self.files.write_states(self._content(), self.options.runner.max_keep)

    def _validate(self) -> None:
        """Write ``dev-best.ckpt`` where this step is the one to be tested so far."""
        opened = self.opened
        if opened.validates:
            own = validation_loss(opened, opened.model)
            assert own is not None
            opened.system.validated(own)
            self.files.log("dev", "loss", own, self.step)
        if opened.expert.generalrc.selection == "last":
            return
        value = validation_loss(opened)
        assert value is not None
        if value < self.best["loss"] or self.best == NOTHING:
            self._keep({"loss": value, "step": self.step})

    def _keep(self, best: dict[str, Any]) -> None:
        self.best = best
        self.files.write(BEST, self._content())

    # -- state ---------------------------------------------------------------------------------------------------------

    def _content(self) -> dict[str, Any]:
        return {
            "Optimizer": self.optimizer.state_dict() if self.optimizer is not None else {},
            "Step": self.step,
            "Epoch": self.step // self.opened.sampler.steps_per_epoch,
            "Best": dict(self.best),
            "Since": {name: list(values) for name, values in self._since.items()},
            "Curves": {name: [list(point) for point in points] for name, points in self.curves.items()},
            "Diverged": self.diverged,
            **packed(self.opened),
        }

    def _resume(self, past: Checkpoint) -> None:
        load(self.opened, past)
        if not past.resumed:
            return
        self.best, changed = self.files.resume_after(past)
        self.step, self.diverged = past.step, "" if changed else past.content["Diverged"]
        self.curves = {name: [(int(s), v) for s, v in points] for name, points in past.content["Curves"].items()}
        self._since.update({name: list(values) for name, values in past.content["Since"].items()})
        if self.optimizer is not None and self.step:
            self.optimizer.load_state_dict(past.content["Optimizer"])
            if self.step < self.total:
                self.files.note(f"Resuming after step {self.step}")

    def _optimizer(self) -> torch.optim.Optimizer:
        given = self.options.optimizer
        further = {"momentum": given.momentum} if given.name == "SGD" else {}
        kind: Any = getattr(torch.optim, given.name)
        return kind(self.trained, lr=given.lr, weight_decay=given.weight_decay, **further)

    def _set_rate(self, step: int) -> None:
        """``lr * decay ** (steps done / decay_steps)``, as Keras's exponential decay."""
        given = self.options.optimizer
        rate = given.lr * self.opened.expert.generalrc.rate_factor * given.decay ** ((step - 1) / given.decay_steps)
        assert self.optimizer is not None
        for group in self.optimizer.param_groups:
            group["lr"] = rate


def load(opened: OpenDomains, checkpoint: Checkpoint) -> None:
    """Take over a checkpoint's parameters.

    Raises:
        UserError: it holds another system, was trained on other data (but for ``-i``), or has other shapes.
    """
    content, name = checkpoint.content, opened.cell.system
    if content.get("System") != name:
        raise UserError(f"{checkpoint.path} holds {content.get('System', 'another task')}, not {name} (-v).")
    if checkpoint.resumed and content.get("Task") != opened.experiment.constants["Task"]:
        advice = "Train again, or restore what it was trained on; -i loads its parameters all the same."
        raise refuse(f"{checkpoint.path} was trained on other data: it", content["MadeFrom"], opened.made_from, advice)
    try:
        opened.model.load_state_dict(content["Downstream"])
        opened.system.load_state_dict(content["Generaliser"])
    except (KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{checkpoint.path} does not fit this upstream, system or configuration: {reason}") from None


def _buffers(opened: OpenDomains) -> dict[str, torch.Tensor]:
    """What a step changes beside parameters, such as running statistics."""
    modules = (opened.model, opened.system)
    return {f"{id(module)} {name}": buffer.clone() for module in modules for name, buffer in module.named_buffers()}
