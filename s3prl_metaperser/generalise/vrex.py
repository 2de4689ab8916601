"""V-REx: equal risks in all domains (Krueger et al. 2021, Eq. 8)."""

from __future__ import annotations

from torch import Tensor

from s3prl_metaperser.generalise.model import DomainModel
from s3prl_metaperser.generalise.penalised import Penalised, domain_means
from s3prl_metaperser.protocol.domain_batches import DomainBatch


class VREx(Penalised):
    """The variance of the domains' losses; the usual weight is DomainBed's of its first 500 steps, as for IRM."""

    def penalty(self, model: DomainModel, features: Tensor, logits: Tensor, batch: DomainBatch) -> Tensor:
        return domain_means(self.sample_losses(logits, batch.labels), batch.domains).var(correction=0)
