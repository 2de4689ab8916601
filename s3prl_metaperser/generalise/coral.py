"""CORAL: equal second moments of the features in all domains (Sun and Saenko 2016, Eq. 1)."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from s3prl_metaperser.generalise.model import DomainModel
from s3prl_metaperser.generalise.penalised import Penalised, by_domain
from s3prl_metaperser.protocol.domain_batches import DomainBatch


class CORAL(Penalised):
    """The mean over pairs of domains of ``|C_i - C_j|_F ** 2 / (4 H ** 2)``, C the covariance of the features [., H].

    With ``generalrc.means: true`` the mean squared difference of the features' means is added, as in DomainBed.
    """

    def penalty(self, model: DomainModel, features: Tensor, logits: Tensor, batch: DomainBatch) -> Tensor:
        size = features.shape[1]
        parts = [part for part in by_domain(features, batch.domains) if len(part) > 1]
        distances = []
        for one, other in itertools.combinations(parts, 2):
            apart = (_covariance(one) - _covariance(other)).square().sum() / (4 * size**2)
            if self.general.means:
                apart = apart + (one.mean(0) - other.mean(0)).square().mean()
            distances.append(apart)
        return torch.stack(distances).mean() if distances else features.new_zeros(())


def _covariance(features: Tensor) -> Tensor:
    """Unbiased, [H, H]."""
    centred = features - features.mean(0)
    return centred.T @ centred / (len(features) - 1)
