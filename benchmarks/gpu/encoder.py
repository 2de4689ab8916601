"""wav2vec 2.0's encoder in plain torch with random weights, of the published shape; nothing to install.

The front-end of convolutions is there, runs without a graph and does not adapt, as in fine-tuning by default.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

#: blocks, width, heads, feed-forward width; whether each block normalises first (Large) or last (Base).
SHAPES = {
    "tiny": (2, 32, 2, 64, False),
    "reduced": (4, 256, 4, 1024, False),  # for a CPU: activations outweigh parameters, as Base's do at K = 32 x 4.5 s
    "base": (12, 768, 12, 3072, False),
    "large": (24, 1024, 16, 4096, True),
}
_KERNELS = ((10, 5), *((3, 2),) * 4, *((2, 2),) * 2)
CLASSES = 9


class Block(nn.Module):
    def __init__(self, dim: int, heads: int, inner: int, first: bool):
        super().__init__()
        self.heads, self.first = heads, first
        self.query, self.key, self.value, self.out = (nn.Linear(dim, dim) for _ in range(4))
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.up, self.down = nn.Linear(dim, inner), nn.Linear(inner, dim)

    def _attend(self, x: Tensor) -> Tensor:
        parts = [part(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.query, self.key, self.value)]
        return self.out(F.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2))

    def forward(self, x: Tensor) -> Tensor:
        if self.first:
            x = x + self._attend(self.norm1(x))
            return x + self.down(F.gelu(self.up(self.norm2(x))))
        x = self.norm1(x + self._attend(x))
        return self.norm2(x + self.down(F.gelu(self.up(x))))


class Encoder(nn.Module):
    """From waveforms [K, n] of one length to logits [K, 9] by a weighted sum of layers, a projector and a time mean."""

    def __init__(self, size: str, seed: int = 0):
        super().__init__()
        blocks, dim, heads, inner, first = SHAPES[size]
        channels, groups = (512, 16) if size != "tiny" else (16, 4)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            sizes = [1, *[channels] * len(_KERNELS)]
            self.front_end = nn.ModuleList(
                nn.Conv1d(a, b, k, stride, bias=first)
                for a, b, (k, stride) in zip(sizes, sizes[1:], _KERNELS, strict=False)
            )
            self.front_norm = nn.GroupNorm(channels, channels)
            self.norm0, self.project = nn.LayerNorm(channels), nn.Linear(channels, dim)
            self.position = nn.Conv1d(dim, dim, 128, padding=64, groups=groups)
            self.blocks = nn.ModuleList(Block(dim, heads, inner, first) for _ in range(blocks))
            self.norm = nn.LayerNorm(dim)
            self.weights = nn.Parameter(torch.zeros(blocks + 1))
            self.projector, self.classifier = nn.Linear(dim, 256), nn.Linear(256, CLASSES)
        for part in (self.front_end, self.front_norm):
            part.requires_grad_(False)
        self.checkpointed = False

    def frames(self, waves: Tensor) -> Tensor:
        """The frozen front-end's output [K, T, channels]; a frame every 20 ms."""
        with torch.no_grad():
            x = waves.unsqueeze(1)
            for index, layer in enumerate(self.front_end):
                x = F.gelu(self.front_norm(layer(x)) if index == 0 else layer(x))
            return x.transpose(1, 2)

    def states(self, frames: Tensor) -> Tensor:
        """All hidden states' time means, [K, L, D]."""
        x = self.project(self.norm0(frames))
        x = x + F.gelu(self.position(x.transpose(1, 2))[..., :-1]).transpose(1, 2)
        x = self.norm(x)
        means = [x.mean(1)]
        for block in self.blocks:
            if self.checkpointed and torch.is_grad_enabled():
                names, tensors = zip(*block.named_parameters(), strict=True)  # of this inner step, for the second pass
                x = checkpoint(_run, block, names, x, *tensors, use_reentrant=False, preserve_rng_state=False)
            else:
                x = block(x)
            means.append(x.mean(1))
        return torch.stack(means, 1)

    def forward(self, frames: Tensor) -> Tensor:
        mixed = torch.einsum("l,kld->kd", torch.softmax(self.weights, 0), self.states(frames).to(self.weights.dtype))
        return self.classifier(self.projector(mixed))

    @contextmanager
    def checkpointing(self, wanted: bool = True) -> Iterator[None]:
        """Within the block, transformer blocks keep only their inputs and run again on the way back."""
        self.checkpointed, before = wanted, self.checkpointed
        try:
            yield
        finally:
            self.checkpointed = before


def _run(block: nn.Module, names: tuple[str, ...], x: Tensor, *tensors: Tensor) -> Tensor:
    return torch.func.functional_call(block, dict(zip(names, tensors, strict=True)), (x,))


def loss(model: Any, batch: Any) -> Tensor:
    """Mean cross-entropy against soft targets."""
    frames, targets = batch
    return -(targets * torch.log_softmax(model(frames).float(), -1)).sum(-1).mean()


def loss64(model: Any, batch: Any) -> Tensor:
    """The same, in the precision of the model."""
    frames, targets = batch
    return -(targets * torch.log_softmax(model(frames), -1)).sum(-1).mean()


def batch_of(model: Encoder, shots: int, seconds: float, seed: int = 1) -> tuple[Tensor, Tensor]:
    """K clips of noise as the frozen front-end hands them on, and soft targets [K, 9]; on the model's device."""
    generator = torch.Generator().manual_seed(seed)
    example = next(model.parameters())
    targets = torch.softmax(torch.randn(shots, CLASSES, generator=generator), -1).to(example)
    waves = (torch.randn(shots, round(seconds * 16000), generator=generator) * 0.1).to(example)
    return torch.cat([model.frames(wave) for wave in waves.split(4)]), targets
