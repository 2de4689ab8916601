"""Linear-Zero, Linear-Few and, with the whole model, Entire-Zero, Entire-Few (section 2.4).

Zero is the consensus initialisation (SSL-E) as it is; Few continues with a conventional optimiser on the K
samples: one batch, ``evalrc.steps`` steps, everything adapts.

With pools of raters, whose many episodes need it, a head's gradients are those of the closed form, and gradient
descent, the inner loop at one fixed rate, is the closed form itself. Both are exact, but not to the last bit, so that
the paper's protocol keeps autograd.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from s3prl_metaperser.errors import UserError
from s3prl_metaperser.meta import closed_form
from s3prl_metaperser.meta.inner_loop import expand
from s3prl_metaperser.meta.micro_gradients import MicroLoss
from s3prl_metaperser.meta.rates import InnerRates
from s3prl_metaperser.methods.base import ModelState, Predictor, Support, System
from s3prl_metaperser.methods.learner import Parameters
from s3prl_metaperser.methods.movement import Watched, nothing_moved
from s3prl_metaperser.protocol.loss import weighted_targets

#: (parameters, step), to add gradients to ``.grad``.
Backward = Callable[[Parameters, int], None]
#: Parameters of all episodes that are adapted together. More do not fit the cache, and one by one is as fast then.
NUMBERS_AT_ONCE = 1 << 18


class Zero(System):
    """Never looks at the support samples."""

    personalises = False


class Few(System):
    """Layer weights, projector and classifier adapt, and with ``-f`` the upstream."""

    frozen_at_once = 10

    @property
    def episodes_at_once(self) -> int:
        return 32 if self._many else super().episodes_at_once

    @property
    def _many(self) -> bool:
        """Whether many episodes are to be adapted to: the closed form's last bits are not the loop's."""
        return self.scope == "frozen" and self.options.downstream_expert.datarc.pools.test is not None

    def engine(self, state: ModelState) -> str:
        """``closed form`` for a head with pools of raters, else ``autograd``."""
        exact = self._many and closed_form.applies_to(state.parameters(), self._rates(state))
        return "closed form" if exact else super().engine(state)

    def _rates(self, state: ModelState) -> InnerRates:
        rate = self.options.downstream_expert.fewrc.lr
        return InnerRates(list(state.parameters()), 1, rate, learned=False).to(self.class_weights.device)

    def adapt(self, state: ModelState, support: Support) -> Predictor:
        return self._one(state, support) if self.scope == "finetuned" else self._together(state, [support])[0]

    def adapt_many(self, state: ModelState, supports: Sequence[Support]) -> list[Predictor]:
        """Adaptation to several episodes, on a frozen upstream as many at once as pays; after gradient descent in
        closed form theta is multiplied out."""
        if self.scope == "finetuned":
            return [self._one(state, support) for support in supports]
        if self.engine(state) == "closed form" and self.options.downstream_expert.fewrc.optimizer == "SGD":
            return [*each(self._descended(state, supports))]
        at_once = max(1, NUMBERS_AT_ONCE // sum(value.numel() for value in state.parameters().values()))
        parts = [supports[start : start + at_once] for start in range(0, len(supports), at_once)]
        return [predictor for part in parts for predictor in self._together(state, part)]

    def _one(self, state: ModelState, support: Support) -> Predictor:
        with self.adapting(state, support):
            return self._optimised(state.parameters(), through(self.losses(state, support, "few")))

    def _together(self, state: ModelState, supports: Sequence[Support]) -> list[dict[str, torch.Tensor]]:
        features, targets = self._stacked(supports)
        start = expand(state.parameters(), len(supports))
        if self.engine(state) != "closed form":
            return each(self._optimised(start, through(state.learner.losses(features, targets))))
        features = closed_form.layer_major(features)

        def by_hand(leaves: Parameters, step: int) -> None:
            for name, gradient in closed_form.gradients(leaves, features, targets).items():
                leaves[name].grad = gradient

        return each(self._optimised(start, by_hand, fused=True))

    def _descended(self, state: ModelState, supports: Sequence[Support]) -> dict[str, torch.Tensor]:
        """Heads that predict what the optimiser's would: gradient descent is the inner loop at one rate, with decay."""
        few, steps = self.options.downstream_expert.fewrc, self.options.downstream_expert.evalrc.steps
        features, targets = self._stacked(supports)
        features, kept = closed_form.layer_major(features), 1 - few.lr * few.weight_decay

        def adapted(rates: InnerRates, episodes: int) -> dict[str, torch.Tensor]:
            part = features[:episodes], targets[:episodes], steps, kept
            return closed_form.adapt_to_predict(state.parameters(), rates, *part)

        still, found = adapted(self._rates(state).scaled(0.0), 1), adapted(self._rates(state), len(supports))
        if steps and all(torch.equal(value[0], still[name][0]) for name, value in found.items()):
            raise _nothing_moved(few.optimizer, few.lr, steps)
        return found

    def _stacked(self, supports: Sequence[Support]) -> tuple[torch.Tensor, torch.Tensor]:
        """Features [A, K, L, D] and weighted targets [A, K, C]."""
        targets = torch.stack([support.targets for support in supports])
        return torch.stack([support.pooled for support in supports]), weighted_targets(targets, self.class_weights)

    def _optimised(self, start: Parameters, backward: Backward, **settings: bool) -> dict[str, torch.Tensor]:
        expert = self.options.downstream_expert
        few = expert.fewrc
        return optimised(start, backward, few.optimizer, few.lr, few.weight_decay, expert.evalrc.steps, **settings)


def optimised(
    start: Parameters, backward: Backward, optimizer: str, rate: float, decay: float, steps: int, **settings: bool
) -> dict[str, torch.Tensor]:
    """The parameters after so many steps of a conventional optimiser, each on one batch.

    SGD, Adam and AdamW work elementwise, so that one optimiser over A episodes equals A optimisers.

    Args:
        start: for A episodes at once each tensor with a leading axis A; not modified.
        backward: adds the gradient of each step to ``.grad`` of the parameters, such as :func:`through`.
        optimizer: a class of ``torch.optim``.
        decay: weight decay.
        settings: further ones of the optimiser's.

    Returns:
        detached, in the shapes of ``start``.
    """
    leaves = {name: value.detach().clone().requires_grad_() for name, value in start.items()}
    stepper = Watched(getattr(torch.optim, optimizer)(leaves.values(), lr=rate, weight_decay=decay, **settings))
    for step in range(steps):
        stepper.optimizer.zero_grad(set_to_none=True)
        backward(leaves, step)
        stepper.step()
    if stepper.steps and not stepper.moved:
        raise _nothing_moved(optimizer, rate, steps)
    return {name: value.detach() for name, value in leaves.items()}


def through(losses: Sequence[MicroLoss]) -> Backward:
    """The gradient of a batch in parts: (parameters, step) -> a scalar, or [A], episode a's from its own parameters."""

    def backward(leaves: Parameters, step: int) -> None:
        with torch.enable_grad():
            for loss in losses:
                loss(leaves, step).sum().backward()

    return backward


def _nothing_moved(optimizer: str, rate: float, steps: int) -> UserError:
    what, advice = f"Adaptation by {optimizer} at a rate of {rate}", "Raise fewrc.lr, or fewrc.classifier_lr."
    return nothing_moved(what, steps, advice)


def each(found: Parameters) -> list[dict[str, torch.Tensor]]:
    """Tensors with a leading axis A as A sets of tensors."""
    count = len(next(iter(found.values())))
    return [{name: values[index] for name, values in found.items()} for index in range(count)]
