"""A floor: the shares of the classes in the sources, whatever is heard."""

from __future__ import annotations

from torch import Tensor

from s3prl_metaperser.generalise.base import Generaliser
from s3prl_metaperser.generalise.model import DomainModel
from s3prl_metaperser.protocol.domain_batches import Inputs


class Majority(Generaliser):
    """Learns nothing."""

    def probabilities(self, model: DomainModel, inputs: Inputs) -> Tensor:
        return self.prior.expand(len(inputs), -1)
