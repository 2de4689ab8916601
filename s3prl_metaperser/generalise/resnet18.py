"""ResNet18 as a network of domain generalisation: the trunk (:mod:`.upstream.resnet18`) and a linear classifier."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from s3prl_metaperser.errors import UserError
from s3prl_metaperser.generalise.model import DomainModel
from s3prl_metaperser.meta.model import linear
from s3prl_metaperser.protocol.domain_batches import Inputs
from s3prl_metaperser.upstream.resnet18 import Trunk


class ResNet18(Trunk, DomainModel):
    """Frames [N, L, T, M] to logits [N, C].

    Args:
        layers: L.
        classes: C.
        generator: draws the initial weights, the classifier's as ``nn.Linear``.
        how: the trunk's further arguments.
    """

    def __init__(self, layers: int, classes: int, generator: torch.Generator, **how: Any) -> None:
        super().__init__(layers, generator, **how)
        self.classifier = linear(self.size, classes, generator)

    @property
    def styled(self) -> Sequence[nn.Module]:
        return self.layer1, self.layer2

    def features(self, inputs: Inputs) -> Tensor:
        """What the classifier sees of frames [N, L, T, M], or of N frames each [L, T, M]: [N, H]."""
        if not isinstance(inputs, Tensor):
            return torch.cat([self.features(frames[None]) for frames in inputs])
        return self.maps(inputs).mean((2, 3))


def as_images(vectors: Tensor) -> Tensor:
    """Vectors [N, L, D] as frames [N, L, sqrt(D), sqrt(D)]: how a vector becomes this network's input.

    Raises:
        UserError: D is no square.
    """
    side = math.isqrt(vectors.shape[-1])
    if side * side != vectors.shape[-1]:
        raise UserError(
            f"modelrc.network: resnet18 takes a vector as a square image, and {vectors.shape[-1]} is no square number. "
            "Take modelrc.network: mlp."
        )
    return vectors.unflatten(-1, (side, side))
