"""Fishr: equal variances of the samples' gradients in all domains (Rame et al. 2022, Eq. 4)."""

from __future__ import annotations

import torch
from torch import Tensor

from s3prl_metaperser.generalise.model import DomainModel
from s3prl_metaperser.generalise.penalised import Penalised
from s3prl_metaperser.protocol.domain_batches import DomainBatch


class Fishr(Penalised):
    """The mean over domains, and over entries, of ``(v_d - mean of v) ** 2``; v_d is the variance of the classifier's
    gradient over a domain's samples.

    A sample's gradient is the outer product of the loss's derivative by its logits and its features (and a one, for the
    bias), so the variance [C, H + 1] needs none of them one by one. ``v_d`` is an exponential average over steps with
    ``generalrc.variance_decay``, divided by 1 less that decay, so that the newest variance counts once, whatever the
    decay; its past carries no gradient. That, and a mean over entries where a norm is a sum, is what the published code
    has. The usual weight is the least that it tries (10, of 10 to 10,000), and rises over the share of training in
    which it has none there.
    """

    usual_weight = 10.0
    usual_rise = 0.3
    averages: Tensor

    def prepare(self, model: DomainModel) -> None:
        domains, (classes, size) = len(self.sources.names), model.classifier.weight.shape
        like = model.classifier.weight.detach()
        self.register_buffer("averages", like.new_zeros(domains, classes, size + 1))
        super().prepare(model)

    def penalty(self, model: DomainModel, features: Tensor, logits: Tensor, batch: DomainBatch) -> Tensor:
        inputs = torch.cat([features, features.new_ones(len(features), 1)], 1)
        losses = self.sample_losses(logits, batch.labels)
        (slopes,) = torch.autograd.grad(losses.sum(), logits, create_graph=True)
        variances, decay = [], self.general.variance_decay
        for domain in batch.present:
            here = batch.domains == domain
            if here.sum() < 2:
                continue
            average = decay * self.averages[domain] + (1 - decay) * variance_of_products(slopes[here], inputs[here])
            self.averages[domain] = average.detach()
            variances.append(average / (1 - decay))
        if len(variances) < 2:
            return features.new_zeros(())
        together = torch.stack(variances)
        return (together - together.mean(0)).square().mean()


def variance_of_products(slopes: Tensor, inputs: Tensor) -> Tensor:
    """Unbiased, over n samples, of the outer products of slopes [n, C] and inputs [n, H]: [C, H]."""
    size = len(slopes)
    return (slopes.square().T @ inputs.square() - (slopes.T @ inputs).square() / size) / (size - 1)
