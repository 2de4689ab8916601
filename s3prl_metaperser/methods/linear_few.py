"""Linear-Few: the consensus initialisation, then a conventional optimiser on the K samples (section 2.4)."""

from __future__ import annotations

import torch

from s3prl_metaperser.loss import soft_cross_entropy, weighted_targets
from s3prl_metaperser.methods.base import ModelState, Predictor, Support
from s3prl_metaperser.methods.linear_zero import LinearZero
from s3prl_metaperser.methods.tuning import Overrides, grid
from s3prl_metaperser.model import pooled_logits


class LinearFew(LinearZero):
    """Layer weights, projector and classifier all adapt: one batch, ``evalrc.steps`` steps."""

    name = "Linear-Few"

    def tunable(self) -> list[Overrides]:
        return grid("optimizer", "frozen", self.options)

    def adapt(self, state: ModelState, support: Support) -> Predictor:
        expert = self.options.downstream_expert
        leaves = {name: value.detach().clone().requires_grad_() for name, value in state.parameters().items()}
        kind = getattr(torch.optim, expert.fewrc.optimizer)
        optimizer = kind(leaves.values(), lr=expert.fewrc.lr, weight_decay=expert.fewrc.weight_decay)
        targets = weighted_targets(support.targets, self.class_weights)
        with torch.enable_grad():
            for _ in range(expert.evalrc.steps):
                optimizer.zero_grad(set_to_none=True)
                soft_cross_entropy(pooled_logits(leaves, support.features), targets).backward()
                optimizer.step()
        return {name: value.detach() for name, value in leaves.items()}
