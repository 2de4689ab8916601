"""Whisper's encoder (Radford et al. 2022) in plain torch, as an upstream that gives all of its hidden states.

They are those of Hugging Face's implementation: the output of the convolutions with positions added, then that of each
block, the last one after the final layer norm. Whisper itself hears every clip padded to 30 s; here it hears the clip,
unless ``-g FILE`` says ``pad: true``. Longer clips are heard in equal parts. Everything can be differentiated twice.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import skip_init

from s3prl_metaperser.config.validator import read
from s3prl_metaperser.upstream.own import OwnUpstream
from s3prl_metaperser.upstream.whisper_files import EncoderWeights, read_encoder

RATE, WINDOW, HOP = 16_000, 400, 160
#: Samples a frame: the second convolution has a stride of 2.
SAMPLES = 2 * HOP


@dataclasses.dataclass(frozen=True)
class WhisperOptions:
    """What a file after ``-g`` may say.

    Attributes:
        pad: pad each clip with silence to the longest that the encoder takes, as Whisper does; the clip's own frames
            are kept.
    """

    pad: bool = False


def expert(ckpt: str, model_config: str | None = None) -> UpstreamExpert:
    """The upstream with the weights of a file or folder.

    Raises:
        UserError: see :func:`.whisper_files.read_encoder`; an unknown option.
    """
    options = read(WhisperOptions, Path(model_config)) if model_config else WhisperOptions()
    return UpstreamExpert(read_encoder(Path(ckpt)), pad=options.pad)


class UpstreamExpert(OwnUpstream):
    """An upstream as s3prl has them.

    Args:
        weights: of the encoder.
        pad: see :class:`WhisperOptions`.
    """

    samples = SAMPLES

    def __init__(self, weights: EncoderWeights, *, pad: bool = False):
        super().__init__()
        self.model, self.pad = Encoder(weights), pad
        weights.fill(self.model)

    def states(self, wave: Tensor) -> list[Tensor]:
        longest = len(self.model.encoder.positions) * SAMPLES
        parts = math.ceil(len(wave) / longest)
        size = math.ceil(len(wave) / max(parts, 1) / SAMPLES) * SAMPLES
        heard = [self._part(part, longest) for part in wave.split(size)]
        return [torch.cat(same) for same in zip(*heard, strict=True)]

    def _part(self, wave: Tensor, longest: int) -> list[Tensor]:
        padded = F.pad(wave, (0, longest - len(wave))) if self.pad else wave
        return [state[0, : frames_of(len(wave))] for state in self.model(padded)]


def frames_of(samples: int) -> int:
    """How many frames the encoder makes of so many samples."""
    return (samples // HOP + 1) // 2


class Encoder(nn.Module):
    """From a waveform [n] to hidden states, each [1, T, D]; its parts have the names that s3prl's upstreams use.

    Args:
        weights: their shapes are the encoder's.
    """

    def __init__(self, weights: EncoderWeights):
        super().__init__()
        self.feature_extractor = FrontEnd(weights.mels, weights.size)
        self.encoder = Blocks(weights)

    def forward(self, wave: Tensor) -> list[Tensor]:
        return self.encoder(self.feature_extractor(wave[None]).transpose(1, 2))


class Blocks(nn.Module):
    """Positions and transformer layers: [1, T, D] to hidden states, each [1, T, D].

    Args:
        weights: their shapes are the encoder's.
    """

    positions: Tensor

    def __init__(self, weights: EncoderWeights):
        super().__init__()
        self.register_buffer("positions", torch.empty(weights.positions, weights.size))
        size, inner, heads = weights.size, weights.inner, weights.heads
        self.layers = nn.ModuleList(Block(size, inner, heads) for _ in range(weights.layers))
        self.layer_norm = nn.LayerNorm(size)

    def forward(self, frames: Tensor) -> list[Tensor]:
        states = [frames + self.positions[: frames.shape[1]]]
        for layer in self.layers:
            states.append(layer(states[-1]))
        return [*states[:-1], self.layer_norm(states[-1])]


class FrontEnd(nn.Module):
    """Log-mel spectrogram and two convolutions: [1, n] to [1, D, T].

    Args:
        mels: bands.
        size: D.
    """

    filters: Tensor
    window: Tensor

    def __init__(self, mels: int, size: int):
        super().__init__()
        self.conv1 = skip_init(nn.Conv1d, mels, size, 3, padding=1)
        self.conv2 = skip_init(nn.Conv1d, size, size, 3, stride=2, padding=1)
        self.register_buffer("filters", mel_filters(mels), persistent=False)
        self.register_buffer("window", torch.hann_window(WINDOW), persistent=False)

    def forward(self, source: Tensor) -> Tensor:
        return F.gelu(self.conv2(F.gelu(self.conv1(self.log_mel(source)))))

    def log_mel(self, source: Tensor) -> Tensor:
        """[1, n] to [1, mels, n // 160], as Whisper scales it: 8 bels under the loudest are the floor."""
        spectrum = torch.stft(source, WINDOW, HOP, window=self.window, return_complex=True)[..., :-1].abs().square()
        bels = (self.filters @ spectrum).clamp_min(1e-10).log10()
        return (bels.maximum(bels.max() - 8) + 4) / 4


class Block(nn.Module):
    """One transformer layer, norms first: [1, T, D] to the same.

    Args:
        size: D.
        inner: of the feed-forward part.
        heads: of attention.
    """

    def __init__(self, size: int, inner: int, heads: int):
        super().__init__()
        self.self_attn = Attention(size, heads)
        self.self_attn_layer_norm, self.final_layer_norm = nn.LayerNorm(size), nn.LayerNorm(size)
        self.fc1, self.fc2 = skip_init(nn.Linear, size, inner), skip_init(nn.Linear, inner, size)

    def forward(self, state: Tensor) -> Tensor:
        state = state + self.self_attn(self.self_attn_layer_norm(state))
        return state + self.fc2(F.gelu(self.fc1(self.final_layer_norm(state))))


class Attention(nn.Module):
    """Self-attention; keys have no bias."""

    def __init__(self, size: int, heads: int):
        super().__init__()
        self.heads = heads
        self.q_proj, self.v_proj, self.out_proj = (skip_init(nn.Linear, size, size) for _ in range(3))
        self.k_proj = skip_init(nn.Linear, size, size, bias=False)

    def forward(self, state: Tensor) -> Tensor:
        split = [
            p(state).unflatten(-1, (self.heads, -1)).transpose(1, 2) for p in (self.q_proj, self.k_proj, self.v_proj)
        ]
        return self.out_proj(F.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2))


def mel_filters(mels: int) -> Tensor:
    """Slaney's filters, [mels, 201]: linear below 1 kHz, logarithmic above, each of area 1."""
    step = math.log(6.4) / 27  # above 1 kHz, a mel
    top = 15 + math.log(RATE / 2 / 1000) / step
    place = torch.linspace(0, top, mels + 2, dtype=torch.float64)
    edges = torch.where(place < 15, place * 200 / 3, 1000 * torch.exp((place - 15) * step))
    bins = torch.arange(WINDOW // 2 + 1, dtype=torch.float64) * RATE / WINDOW
    low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    triangles = torch.minimum((bins - low) / (middle - low), (high - bins) / (high - middle)).clamp_min(0)
    return (triangles * 2 / (high - low)).float()
