"""ResNet18 (He et al. 2016) for log-mel frames, one channel, as the domain-generalisation paper uses it.

As in the paper's public code, batch normalisation has an epsilon of 1.001e-5 and keeps 99 % of its running statistics
a step; the convolutions have no bias, which the normalisation behind each would remove. Its parameters have
torchvision's names. Everything can be differentiated twice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from s3prl_metaperser.errors import UserError
from s3prl_metaperser.generalise.model import DomainModel
from s3prl_metaperser.meta.model import linear
from s3prl_metaperser.protocol.domain_batches import Inputs

EPSILON = 1.001e-5


class ResNet18(DomainModel):
    """Frames [N, L, T, M] to logits [N, C]; any T and M from 1 on. Of several layers L the weighted sum is seen.

    Args:
        layers: L.
        classes: C.
        generator: draws the initial weights: He's normal distribution by fan-out, the classifier as ``nn.Linear``.
        channels: of the first stage, doubled by each of the three others; H, the embedding's size, is 8 times that.
        bn_momentum: the share of a batch in the running statistics.
        frozen_norm: whether training, too, normalises by the running statistics, which then stay as they are.
    """

    def __init__(
        self,
        layers: int,
        classes: int,
        generator: torch.Generator,
        *,
        channels: int = 64,
        bn_momentum: float = 0.01,
        frozen_norm: bool = False,
    ) -> None:
        super().__init__()
        self.frozen_norm = frozen_norm
        if layers > 1:
            self.weights = nn.Parameter(torch.zeros(layers))
        self.conv1 = _conv(1, channels, generator, kernel=7, stride=2)
        self.bn1 = _norm(channels, bn_momentum)
        sizes = [channels * 2**stage for stage in range(4)]
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            nn.Sequential(
                _Block(before, after, 1 if before == after else 2, generator, bn_momentum),
                _Block(after, after, 1, generator, bn_momentum),
            )
            for before, after in zip([channels, *sizes], sizes, strict=False)
        )
        self.classifier = linear(sizes[-1], classes, generator)

    @property
    def styled(self) -> Sequence[nn.Module]:
        return self.layer1, self.layer2

    def train(self, mode: bool = True) -> ResNet18:
        super().train(mode)
        if self.frozen_norm:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def features(self, inputs: Inputs) -> Tensor:
        """What the classifier sees of frames [N, L, T, M], or of N frames each [L, T, M]: [N, H]."""
        if not isinstance(inputs, Tensor):
            return torch.cat([self.features(frames[None]) for frames in inputs])
        mixed = inputs[:, 0] if inputs.shape[1] == 1 else torch.einsum("l,nltm->ntm", self.weights.softmax(0), inputs)
        state = F.relu(self.bn1(self.conv1(mixed.unsqueeze(1))))
        state = F.max_pool2d(state, 3, stride=2, padding=1)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            state = stage(state)
        return state.mean((2, 3))


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


class _Block(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, before: int, after: int, stride: int, generator: torch.Generator, bn_momentum: float) -> None:
        super().__init__()
        self.conv1 = _conv(before, after, generator, stride=stride)
        self.bn1 = _norm(after, bn_momentum)
        self.conv2 = _conv(after, after, generator)
        self.bn2 = _norm(after, bn_momentum)
        self.downsample = nn.Sequential()
        if stride != 1:
            shortcut = _conv(before, after, generator, kernel=1, stride=stride)
            self.downsample = nn.Sequential(shortcut, _norm(after, bn_momentum))

    def forward(self, state: Tensor) -> Tensor:
        inner = F.relu(self.bn1(self.conv1(state)))
        return F.relu(self.bn2(self.conv2(inner)) + self.downsample(state))


def _conv(before: int, after: int, generator: torch.Generator, *, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    with torch.random.fork_rng(devices=[]):  # as for meta.model.linear: skip_init would import half of torch's compiler
        layer = nn.Conv2d(before, after, kernel, stride=stride, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu", generator=generator)
    return layer


def _norm(channels: int, bn_momentum: float) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=EPSILON, momentum=bn_momentum)
