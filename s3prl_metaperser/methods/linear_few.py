"""Linear-Few: the consensus initialisation, then a conventional optimiser on the K samples (section 2.4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from s3prl_metaperser.meta.inner_loop import expand
from s3prl_metaperser.meta.model import pooled_logits
from s3prl_metaperser.methods.base import ModelState, Predictor, Support
from s3prl_metaperser.methods.few_shot import optimised
from s3prl_metaperser.methods.linear_zero import LinearZero
from s3prl_metaperser.methods.tuning import Overrides, grid
from s3prl_metaperser.protocol.loss import soft_cross_entropy, weighted_targets

#: Parameters of all episodes that are adapted together. More do not fit the cache, and one by one is as fast then.
NUMBERS_AT_ONCE = 1 << 18


class LinearFew(LinearZero):
    """Layer weights, projector and classifier all adapt: one batch, ``evalrc.steps`` steps."""

    name = "Linear-Few"
    personalises = True
    episodes_at_once = 10

    def tunable(self) -> list[Overrides]:
        return grid("optimizer", "frozen", self.options)

    def adapt(self, state: ModelState, support: Support) -> Predictor:
        return self.adapt_many(state, [support])[0]

    def adapt_many(self, state: ModelState, supports: Sequence[Support]) -> list[Predictor]:
        """Adaptation to several episodes, as many at once as pays."""
        parameters = state.parameters()
        at_once = max(1, NUMBERS_AT_ONCE // sum(value.numel() for value in parameters.values()))
        parts = [supports[start : start + at_once] for start in range(0, len(supports), at_once)]
        return [predictor for part in parts for predictor in self._adapted(parameters, part)]

    def _adapted(self, parameters: Mapping[str, torch.Tensor], supports: Sequence[Support]) -> list[Predictor]:
        expert = self.options.downstream_expert
        features = torch.stack([support.features for support in supports])
        targets = weighted_targets(torch.stack([support.targets for support in supports]), self.class_weights)
        found = optimised(
            expand(parameters, len(supports)),
            lambda current: soft_cross_entropy(pooled_logits(current, features), targets),
            expert.fewrc.optimizer,
            expert.fewrc.lr,
            expert.fewrc.weight_decay,
            expert.evalrc.steps,
        )
        return [{name: values[index] for name, values in found.items()} for index in range(len(supports))]
