"""ResNet18 (He et al. 2016) for log-mel frames, one channel, as the domain-generalisation paper uses it: all of it that
stands before the classifier.

As in the paper's public code, batch normalisation has an epsilon of 1.001e-5 and keeps 99 % of its running statistics
a step; the convolutions have no bias, which the normalisation behind each would remove. Its parameters have
torchvision's names. Everything can be differentiated twice.
"""

from __future__ import annotations

from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPSILON = 1.001e-5
#: Frames that one of its last stage stands for.
STRIDE = 32


class Trunk(nn.Module):
    """Frames [N, L, T, M] to maps [N, H, T', M']; any T and M from 1 on. Of several layers L the weighted sum is seen.

    Args:
        layers: L.
        generator: draws the initial weights: He's normal distribution by fan-out.
        channels: of the first stage, doubled by each of the three others; H, the embedding's size, is 8 times that.
        bn_momentum: the share of a batch in the running statistics.
        frozen_norm: whether training, too, normalises by the running statistics, which then stay as they are.
    """

    def __init__(
        self,
        layers: int,
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
        self.size = sizes[-1]

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.frozen_norm:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def maps(self, inputs: Tensor) -> Tensor:
        """What is averaged for the classifier."""
        mixed = inputs[:, 0] if inputs.shape[1] == 1 else torch.einsum("l,nltm->ntm", self.weights.softmax(0), inputs)
        state = F.relu(self.bn1(self.conv1(mixed.unsqueeze(1))))
        state = F.max_pool2d(state, 3, stride=2, padding=1)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            state = stage(state)
        return state


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
