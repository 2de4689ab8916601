"""emotion2vec (Ma et al. 2024) in plain torch, as an upstream that gives all of its hidden states.

Its audio encoder is data2vec 2.0's (Baevski et al. 2023): convolutions over the waveform, relative positions by further
convolutions, learned tokens before the frames, and attention that falls with distance (ALiBi, Press et al. 2022), by a
scale that every head has learned. Hidden states are what the first block takes and what each block gives, those of
the prenet first, without the tokens; the last is what emotion2vec itself gives away. Everything can be differentiated
twice.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import skip_init

from s3prl_metaperser.upstream.emotion2vec_files import CONVOLUTIONS, ModelWeights, read_model
from s3prl_metaperser.upstream.own import OwnUpstream

#: Samples that one frame is made of, of which the next one is SAMPLES away.
WINDOW, SAMPLES = 400, 320


def expert(ckpt: str) -> UpstreamExpert:
    """The upstream with the weights of a file or folder.

    Raises:
        UserError: see :func:`.emotion2vec_files.read_model`.
    """
    return UpstreamExpert(read_model(Path(ckpt)))


class UpstreamExpert(OwnUpstream):
    """An upstream as s3prl has them.

    Args:
        weights: of the model.
    """

    samples = SAMPLES

    def __init__(self, weights: ModelWeights):
        super().__init__()
        self.model, self.normalize = Encoder(weights), weights.normalize
        weights.fill(self.model)

    def states(self, wave: Tensor) -> list[Tensor]:
        heard = F.layer_norm(wave, wave.shape) if self.normalize else wave
        return [state[0] for state in self.model(F.pad(heard, (0, max(WINDOW - len(heard), 0))))]


class Encoder(nn.Module):
    """From a waveform [n] to hidden states, each [1, T, D]; its parts have the names that s3prl's upstreams use.

    Args:
        weights: their shapes are the encoder's.
    """

    def __init__(self, weights: ModelWeights):
        super().__init__()
        self.feature_extractor = FrontEnd(weights.channels)
        self.layer_norm = nn.LayerNorm(weights.channels)
        self.post_extract_proj = skip_init(nn.Linear, weights.channels, weights.size)
        self.encoder = Blocks(weights)

    def forward(self, wave: Tensor) -> list[Tensor]:
        local = self.feature_extractor(wave[None]).transpose(1, 2)
        return self.encoder(self.post_extract_proj(self.layer_norm(local)))


class FrontEnd(nn.Module):
    """Convolutions over the waveform: [1, n] to [1, channels, T].

    Args:
        channels: of each.
    """

    def __init__(self, channels: int):
        super().__init__()
        before = [1, *[channels] * (len(CONVOLUTIONS) - 1)]
        self.layers = nn.ModuleList(
            nn.ModuleDict(
                {
                    "conv": skip_init(nn.Conv1d, taken, channels, kernel, stride=stride, bias=False),
                    "norm": nn.LayerNorm(channels),
                }
            )
            for taken, (kernel, stride) in zip(before, CONVOLUTIONS, strict=True)
        )

    def forward(self, source: Tensor) -> Tensor:
        sound = source[:, None]
        for layer in self.layers:
            assert isinstance(layer, nn.ModuleDict)
            sound = F.gelu(layer["norm"](layer["conv"](sound).transpose(1, 2)).transpose(1, 2))
        return sound


class Blocks(nn.Module):
    """Positions, tokens and transformer layers: [1, T, D] to hidden states, each [1, T, D].

    Args:
        weights: their shapes are the encoder's.
    """

    def __init__(self, weights: ModelWeights):
        super().__init__()
        size, heads = weights.size, weights.scales[2]
        self.pos_conv = nn.ModuleList(
            skip_init(nn.Conv1d, size, size, kernel, padding=kernel // 2, groups=size // each)
            for _, each, kernel in weights.positions
        )
        self.extra_tokens = nn.Parameter(torch.empty(1, weights.tokens, size))
        self.alibi_scale = nn.Parameter(torch.empty(weights.scales))
        self.layer_norm = nn.LayerNorm(size)
        self.layers = nn.ModuleList(Block(size, weights.inner, heads) for _ in range(weights.layers))

    def forward(self, frames: Tensor) -> list[Tensor]:
        tokens, far = self.extra_tokens.shape[1], self._far(frames)
        state = self.layer_norm(torch.cat([self.extra_tokens, frames + self._positions(frames)], dim=1))
        states = [state]
        for number, layer in enumerate(self.layers):
            state = layer(state, far[number % len(far)])
            states.append(state)
        return [each[:, tokens:] for each in states]

    def _positions(self, frames: Tensor) -> Tensor:
        place = frames.transpose(1, 2)
        for conv in self.pos_conv:
            place = conv(place)[..., : frames.shape[1]]  # an even kernel gives one frame more
            place = F.gelu(F.layer_norm(place.transpose(1, 2), place.shape[1:2]).transpose(1, 2))
        return place.transpose(1, 2)

    def _far(self, frames: Tensor) -> Tensor:
        """What attention loses by distance, [1 or layers, 1, H, t, t], t with the tokens, which are near everything."""
        tokens, length = self.extra_tokens.shape[1], frames.shape[1]
        places = torch.arange(length, device=frames.device)
        slopes = frames.new_tensor(alibi_slopes(self.alibi_scale.shape[2]))
        bias = -(places[None] - places[:, None]).abs() * slopes[:, None, None]
        return F.pad(bias * self.alibi_scale.clamp_min(0), (tokens, 0, tokens, 0))


class Block(nn.Module):
    """One transformer layer, norms last: [1, T, D] to the same.

    Args:
        size: D.
        inner: of the feed-forward part.
        heads: of attention.
    """

    def __init__(self, size: int, inner: int, heads: int):
        super().__init__()
        self.heads = heads
        self.attn = nn.ModuleDict(
            {"qkv": skip_init(nn.Linear, size, 3 * size), "proj": skip_init(nn.Linear, size, size)}
        )
        self.norm1, self.norm2 = nn.LayerNorm(size), nn.LayerNorm(size)
        self.mlp = nn.ModuleDict({"fc1": skip_init(nn.Linear, size, inner), "fc2": skip_init(nn.Linear, inner, size)})

    def forward(self, state: Tensor, far: Tensor) -> Tensor:
        query, key, value = self.attn["qkv"](state).unflatten(-1, (3, self.heads, -1)).transpose(1, 3).unbind(2)
        heard = F.scaled_dot_product_attention(query, key, value, attn_mask=far)
        state = self.norm1(state + self.attn["proj"](heard.transpose(1, 2).flatten(2)))
        return self.norm2(state + self.mlp["fc2"](F.gelu(self.mlp["fc1"](state))))


def alibi_slopes(heads: int) -> list[float]:
    """How steeply each head forgets: 2^(-8 / n), its powers for n heads; others are filled in from twice as many."""
    power = 2 ** math.floor(math.log2(heads))
    slopes = [2 ** (-8 * (number + 1) / power) for number in range(power)]
    further = [2 ** (-8 * (number + 1) / (2 * power)) for number in range(0, 2 * power, 2)]
    return slopes + further[: heads - power]
