"""GroupDRO: the worst domain counts most (Sagawa et al. 2020, Algorithm 1)."""

from __future__ import annotations

import torch
from torch import Tensor

from s3prl_metaperser.generalise.base import Generaliser, Step, domain_means
from s3prl_metaperser.generalise.model import DomainModel
from s3prl_metaperser.protocol.domain_batches import DomainBatch


class GroupDRO(Generaliser):
    """Weights q of the domains are multiplied by ``exp(group_lr * L_d)`` and normalised; they weight the losses."""

    shares: Tensor

    def prepare(self, model: DomainModel) -> None:
        domains = len(self.sources.names)
        self.register_buffer("shares", model.classifier.weight.detach().new_full((domains,), 1 / domains))
        super().prepare(model)

    def outer_gradient(self, model: DomainModel, batch: DomainBatch, step: int) -> Step:
        losses = domain_means(self.sample_losses(model(batch.inputs), batch.labels), batch.domains)
        here = torch.unique(batch.domains)
        self.shares[here] *= torch.exp(self.general.group_lr * losses.detach())
        self.shares /= self.shares.sum()
        loss = self.shares[here] @ losses
        loss.backward()
        return Step(loss.item(), {"largest_share": self.shares.max().item()})
