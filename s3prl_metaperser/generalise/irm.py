"""IRM: a classifier that is optimal in every domain at once (Arjovsky et al. 2019, IRMv1)."""

from __future__ import annotations

import torch
from torch import Tensor

from s3prl_metaperser.generalise.model import DomainModel
from s3prl_metaperser.generalise.penalised import Penalised, by_domain
from s3prl_metaperser.protocol.domain_batches import DomainBatch


class IRM(Penalised):
    """The mean over domains of ``(d L_d(w z) / d w at w = 1) ** 2``, z the logits.

    That derivative is the mean over samples of ``sum over classes of (softmax(z) - y) z``. Classes' weights and
    adjusted logits (``class_weights``) belong to the loss, and so to its derivative.

    The usual weight is DomainBed's of its first 500 steps, which are more than a short training has; 100, what comes
    then, leaves nothing else to learn once gradients are clipped.
    """

    def penalty(self, model: DomainModel, features: Tensor, logits: Tensor, batch: DomainBatch) -> Tensor:
        scale = torch.ones((), dtype=logits.dtype, device=logits.device, requires_grad=True)
        losses = self.sample_losses(logits * scale, batch.labels)
        means = [part.mean() for part in by_domain(losses, batch.domains)]
        slopes = [torch.autograd.grad(mean, scale, create_graph=True)[0] for mean in means]
        return torch.stack(slopes).square().mean()
