"""Deep-All: empirical risk minimisation on all sources together (Gandhi et al., section IV; Li et al. 2017)."""

from __future__ import annotations

from s3prl_metaperser.generalise.base import Generaliser, Step
from s3prl_metaperser.generalise.model import DomainModel
from s3prl_metaperser.protocol.domain_batches import DomainBatch


class DeepAll(Generaliser):
    """One ordinary step on the whole batch."""

    def outer_gradient(self, model: DomainModel, batch: DomainBatch, step: int) -> Step:
        loss = self.loss(model(batch.inputs), batch)
        loss.backward()
        return Step(loss.item())
