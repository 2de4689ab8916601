"""DANN: features that do not tell the domain, or the speaker (Ganin et al. 2016)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from s3prl_metaperser.generalise.base import Step
from s3prl_metaperser.generalise.model import DomainModel
from s3prl_metaperser.generalise.penalised import Penalised
from s3prl_metaperser.meta.model import linear
from s3prl_metaperser.protocol.domain_batches import DomainBatch


class DANN(Penalised):
    """A discriminator learns to tell the domains (``adversary: speaker``: the speakers) from the features; the features
    are moved against it.

    The weight scales the gradient that reaches the features, turned; the discriminator learns at its own full loss.
    """

    #: Ganin et al.'s schedule is near this: 2 / (1 + exp(-10 p)) - 1 at the share p of training.
    usual_rise = 0.3
    discriminator: nn.Sequential

    def prepare(self, model: DomainModel) -> None:
        size, generator = model.classifier.in_features, self.generator("discriminator")
        many = len(self.sources.names) if self.general.adversary == "source" else self.sources.speakers
        hidden = linear(size, size, generator)
        self.discriminator = nn.Sequential(hidden, nn.ReLU(), linear(size, many, generator))
        self.discriminator.to(model.classifier.weight)
        super().prepare(model)

    def outer_gradient(self, model: DomainModel, batch: DomainBatch, step: int) -> Step:
        features = model.features(batch.inputs)
        loss = self.loss(model.classifier(features), batch)
        told = self.discriminator(_Turned.apply(features, self.weight(step)))
        whose = batch.domains if self.general.adversary == "source" else batch.speakers
        assert whose is not None
        adversary = self.mean_loss(functional.cross_entropy(told, whose, reduction="none"), batch.domains)
        (loss + adversary).backward()
        right = (told.detach().argmax(1) == whose).double().mean()
        return Step(loss.item(), {"adversary": adversary.item(), "told": right.item()})


class _Turned(torch.autograd.Function):
    """The same forward; backward its gradient times minus a factor."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.factor * gradients[0], None
