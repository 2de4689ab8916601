"""MixStyle: the style of one recording on another's content (Zhou et al. 2021)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from s3prl_metaperser.errors import UserError
from s3prl_metaperser.generalise.base import Step
from s3prl_metaperser.generalise.deep_all import DeepAll
from s3prl_metaperser.generalise.model import DomainModel
from s3prl_metaperser.protocol.domain_batches import DomainBatch
from s3prl_metaperser.seeding import numpy_generator

_LEAST_VARIANCE = 1e-6


class MixStyle(DeepAll):
    """Deep-All, with means and deviations of the first stages' channels mixed between samples of a batch.

    Behind each stage with probability 1/2; lambda ~ Beta(``mixstyle_alpha``, ``mixstyle_alpha``) a sample, partners
    drawn from the whole batch ("random shuffle").
    """

    def prepare(self, model: DomainModel) -> None:
        if not model.styled:
            raise UserError(
                f"{self.name} mixes the styles of frames, and this model has none. Choose modelrc.network=resnet18, or "
                "another system."
            )
        super().prepare(model)

    def outer_gradient(self, model: DomainModel, batch: DomainBatch, step: int) -> Step:
        with self._mixing(model, step):
            return super().outer_gradient(model, batch, step)

    @contextlib.contextmanager
    def _mixing(self, model: DomainModel, step: int) -> Iterator[None]:
        generator = numpy_generator("mixstyle", self.sources.seed, step)

        def mix(stage: nn.Module, inputs: Any, output: Tensor) -> Tensor:
            if generator.random() >= 0.5:
                return output
            partner = torch.from_numpy(generator.permutation(len(output)))
            alpha = self.general.mixstyle_alpha
            share = torch.from_numpy(generator.beta(alpha, alpha, len(output)))
            return mixed(output, partner.to(output.device), share.to(output))

        hooks = [stage.register_forward_hook(mix) for stage in model.styled]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


def mixed(state: Tensor, partner: Tensor, share: Tensor) -> Tensor:
    """States [B, channels, T, M] with channel means and deviations mixed: ``share`` of the own, the rest the partner's.

    Statistics carry no gradient.
    """
    mean = state.mean((2, 3), keepdim=True).detach()
    deviation = (state.var((2, 3), keepdim=True) + _LEAST_VARIANCE).sqrt().detach()
    own = share.view(-1, 1, 1, 1)
    new_mean = own * mean + (1 - own) * mean[partner]
    new_deviation = own * deviation + (1 - own) * deviation[partner]
    return (state - mean) / deviation * new_deviation + new_mean
