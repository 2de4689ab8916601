"""Mixup: between samples of any domains (Zhang et al. 2018; inter-domain, Wang et al. 2020)."""

from __future__ import annotations

import torch
from torch import Tensor

from s3prl_metaperser.generalise.base import Generaliser, Step
from s3prl_metaperser.generalise.model import DomainModel
from s3prl_metaperser.protocol.domain_batches import DomainBatch
from s3prl_metaperser.seeding import numpy_generator


class Mixup(Generaliser):
    """Each sample is mixed with a drawn one of the batch by lambda ~ Beta(``mixup_alpha``, ``mixup_alpha``).

    Inputs are mixed where they are tensors; waveforms of different lengths are padded with zeros to the longest. The
    loss is lambda times that of the own label plus 1 - lambda times that of the other's.
    """

    def outer_gradient(self, model: DomainModel, batch: DomainBatch, step: int) -> Step:
        generator = numpy_generator("mixup", self.sources.seed, step)
        partner = torch.from_numpy(generator.permutation(len(batch))).to(batch.labels.device)
        alpha = self.general.mixup_alpha
        share = torch.from_numpy(generator.beta(alpha, alpha, len(batch))).to(batch.labels.device)
        given = batch.inputs
        inputs = given if isinstance(given, Tensor) else torch.nn.utils.rnn.pad_sequence(given, batch_first=True)
        weight = share.to(inputs).view(-1, *[1] * (inputs.ndim - 1))
        mixed = weight * inputs + (1 - weight) * inputs[partner]
        logits = model(mixed if isinstance(given, Tensor) else list(mixed))
        own, other = (self.sample_losses(logits, labels) for labels in (batch.labels, batch.labels[partner]))
        weight = share.to(own)
        loss = self.mean_loss(weight * own + (1 - weight) * other, batch.domains)
        loss.backward()
        return Step(loss.item())
