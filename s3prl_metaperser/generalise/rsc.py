"""RSC: the features that matter most are muted in training (Huang et al. 2020)."""

from __future__ import annotations

import torch
from torch import Tensor

from s3prl_metaperser.generalise.base import Generaliser, Step
from s3prl_metaperser.generalise.model import DomainModel
from s3prl_metaperser.protocol.domain_batches import DomainBatch


class RSC(Generaliser):
    """Of each sample the share ``drop_features`` of features with the largest gradient of its class's logit is muted,
    in that share ``drop_samples`` of samples whose class loses most probability by it; the loss is of what is left.
    """

    def outer_gradient(self, model: DomainModel, batch: DomainBatch, step: int) -> Step:
        features = model.features(batch.inputs)
        kept = self.kept(model, features.detach(), batch.labels)
        loss = self.loss(model.classifier(features * kept), batch)
        loss.backward()
        return Step(loss.item(), {"muted": 1 - kept.mean().item()})

    def kept(self, model: DomainModel, features: Tensor, labels: Tensor) -> Tensor:
        """Zeros for muted features and ones for the others, [B, H]."""
        with torch.no_grad():
            slopes = model.classifier.weight[labels]  # the gradient of a linear classifier's logit by its input
            limits = torch.quantile(slopes, 1 - self.general.drop_features, dim=1, keepdim=True)
            kept = (slopes < limits).to(features)
            of_class = torch.arange(len(labels)), labels
            before, after = (torch.softmax(model.classifier(f), 1)[of_class] for f in (features, features * kept))
            lost = before - after
            spared = lost < torch.quantile(lost, 1 - self.general.drop_samples)
            return torch.where(spared[:, None], torch.ones_like(kept), kept)
