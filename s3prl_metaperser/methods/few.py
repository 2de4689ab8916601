"""Linear-Zero, Linear-Few and, with the whole model, Entire-Zero, Entire-Few (section 2.4).

Zero is the consensus initialisation (SSL-E) as it is; Few continues with a conventional optimiser on the K
samples: one batch, ``evalrc.steps`` steps, everything adapts.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from s3prl_metaperser.meta.inner_loop import expand
from s3prl_metaperser.meta.micro_gradients import MicroLoss
from s3prl_metaperser.methods.base import ModelState, Predictor, Support, System
from s3prl_metaperser.methods.learner import Parameters
from s3prl_metaperser.methods.movement import Watched
from s3prl_metaperser.protocol.loss import weighted_targets

#: Parameters of all episodes that are adapted together. More do not fit the cache, and one by one is as fast then.
NUMBERS_AT_ONCE = 1 << 18


class Zero(System):
    """Never looks at the support samples."""

    personalises = False


class Few(System):
    """Layer weights, projector and classifier adapt, and with ``-f`` the upstream."""

    frozen_at_once = 10

    def adapt(self, state: ModelState, support: Support) -> Predictor:
        return self.adapt_many(state, [support])[0]

    def adapt_many(self, state: ModelState, supports: Sequence[Support]) -> list[Predictor]:
        """Adaptation to several episodes, on a frozen upstream as many at once as pays."""
        if self.scope == "finetuned":
            return [self._one(state, support) for support in supports]
        at_once = max(1, NUMBERS_AT_ONCE // sum(value.numel() for value in state.parameters().values()))
        parts = [supports[start : start + at_once] for start in range(0, len(supports), at_once)]
        return [predictor for part in parts for predictor in self._together(state, part)]

    def _one(self, state: ModelState, support: Support) -> Predictor:
        with self.adapting(state, support):
            return self._optimised(state.parameters(), self.losses(state, support, "few"))

    def _together(self, state: ModelState, supports: Sequence[Support]) -> list[dict[str, torch.Tensor]]:
        targets = weighted_targets(torch.stack([support.targets for support in supports]), self.class_weights)
        losses = state.learner.losses(torch.stack([support.pooled for support in supports]), targets)
        return each(self._optimised(expand(state.parameters(), len(supports)), losses))

    def _optimised(self, start: Parameters, losses: Sequence[MicroLoss]) -> dict[str, torch.Tensor]:
        expert = self.options.downstream_expert
        few = expert.fewrc
        return optimised(start, losses, few.optimizer, few.lr, few.weight_decay, expert.evalrc.steps)


def optimised(
    start: Parameters, losses: Sequence[MicroLoss], optimizer: str, rate: float, decay: float, steps: int
) -> dict[str, torch.Tensor]:
    """The parameters after so many steps of a conventional optimiser, each on one batch.

    SGD, Adam and AdamW work elementwise, so that one optimiser over A episodes equals A optimisers.

    Args:
        start: for A episodes at once each tensor with a leading axis A; not modified.
        losses: the batch in parts: (parameters, step) -> a scalar, or [A], episode a's from its own parameters alone.
        optimizer: a class of ``torch.optim``.
        decay: weight decay.

    Returns:
        detached, in the shapes of ``start``.
    """
    leaves = {name: value.detach().clone().requires_grad_() for name, value in start.items()}
    stepper = Watched(getattr(torch.optim, optimizer)(leaves.values(), lr=rate, weight_decay=decay))
    with torch.enable_grad():
        for step in range(steps):
            stepper.optimizer.zero_grad(set_to_none=True)
            for loss in losses:
                loss(leaves, step).sum().backward()
            stepper.step()
    stepper.check(f"Adaptation by {optimizer} at a rate of {rate}", "Raise fewrc.lr, or fewrc.classifier_lr.")
    return {name: value.detach() for name, value in leaves.items()}


def each(found: Parameters) -> list[dict[str, torch.Tensor]]:
    """Tensors with a leading axis A as A sets of tensors."""
    count = len(next(iter(found.values())))
    return [{name: values[index] for name, values in found.items()} for index in range(count)]
