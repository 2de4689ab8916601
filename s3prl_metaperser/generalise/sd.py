"""SD: spectral decoupling, small logits in place of small weights (Pezeshki et al. 2021)."""

from __future__ import annotations

from torch import Tensor

from s3prl_metaperser.generalise.model import DomainModel
from s3prl_metaperser.generalise.penalised import Penalised
from s3prl_metaperser.protocol.domain_batches import DomainBatch


class SD(Penalised):
    """Half the mean over samples of the squared norm of the logits."""

    usual_weight = 0.1

    def penalty(self, model: DomainModel, features: Tensor, logits: Tensor, batch: DomainBatch) -> Tensor:
        return logits.square().sum(1).mean() / 2
