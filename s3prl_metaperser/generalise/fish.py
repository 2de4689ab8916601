"""Fish: gradients of the domains that agree (Shi et al. 2021, Algorithm 1)."""

from __future__ import annotations

import torch
from torch.func import functional_call

from s3prl_metaperser.generalise.base import Generaliser, Step
from s3prl_metaperser.generalise.model import DomainModel
from s3prl_metaperser.protocol.domain_batches import DomainBatch


class Fish(Generaliser):
    """A copy takes one step of ``inner_lr`` on each domain in a drawn order; the model follows it.

    What the optimiser is given is the mean of the gradients on the way: that of the domains' losses, less ``inner_lr``
    times that of half the sum of their inner products (to first order in it).
    """

    def outer_gradient(self, model: DomainModel, batch: DomainBatch, step: int) -> Step:
        present, generator = batch.present, self.generator("fish", step)
        order = [present[place] for place in torch.randperm(len(present), generator=generator).tolist()]
        trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
        fast, total = {name: value.detach() for name, value in trained.items()}, 0.0
        for domain in order:
            part = batch.part([domain])
            leaves = {name: value.requires_grad_() for name, value in fast.items()}
            loss = self.sample_losses(functional_call(model, leaves, (part.inputs,)), part.labels).mean()
            gradients = torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True)
            for (name, leaf), gradient in zip(leaves.items(), gradients, strict=True):
                share, known = gradient / len(order), trained[name].grad
                trained[name].grad = share if known is None else known + share
                fast[name] = leaf.detach() - self.general.inner_lr * gradient
            total += loss.item() / len(order)
        return Step(total)
