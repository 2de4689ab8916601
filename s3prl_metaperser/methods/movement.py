"""Whether training moves anything."""

from __future__ import annotations

from typing import Any

import torch

from s3prl_metaperser.errors import UserError


class Watched:
    """An optimiser whose steps are looked at until one moves a parameter further than weight decay alone would.

    Attributes:
        steps: taken so far.
        moved: whether one has moved anything.
    """

    def __init__(self, optimizer: torch.optim.Optimizer):
        self.optimizer, self.steps, self.moved = optimizer, 0, False

    def step(self) -> None:
        """One step of the optimiser."""
        self.steps += 1
        if self.moved:
            self.optimizer.step()
            return
        watched = [(group, p) for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None]
        before = [p.detach().to("cpu", copy=True) for _, p in watched]
        self.optimizer.step()
        self.moved = any(
            not torch.equal(p.detach().cpu(), _without_gradient(self.optimizer, group, value))
            for (group, p), value in zip(watched, before, strict=True)
        )

    def check(self, what: str, advice: str) -> None:
        """Raise a UserError if nothing has moved so far.

        Args:
            what: was to be trained.
            advice: which options to look at.
        """
        if self.steps and not self.moved:
            raise nothing_moved(what, self.steps, advice)


def nothing_moved(what: str, steps: int, advice: str) -> UserError:
    """That ``what`` was to be trained and stayed as it was in all steps; the arguments of :meth:`Watched.check`."""
    return UserError(f"{what}: no parameter moved in {steps} step(s), so that nothing is learned. {advice}")


def _without_gradient(optimizer: torch.optim.Optimizer, group: dict, value: torch.Tensor) -> torch.Tensor:
    """A parameter after one step with a gradient of zero."""
    twin = value.clone().requires_grad_()
    twin.grad = torch.zeros_like(twin)
    options = {name: given for name, given in group.items() if name != "params"}
    kind: Any = type(optimizer)
    kind([{"params": [twin], **options}]).step()
    return twin.detach()
