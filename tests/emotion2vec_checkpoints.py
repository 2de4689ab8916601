"""emotion2vec's checkpoints of random weights in the published form, and its equations written down a second time."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

#: (kernel, stride), as published; and the rest of a tiny model, three heads of which are no power of two.
KERNELS = ((10, 5), (3, 2), (3, 2), (3, 2), (3, 2), (2, 2), (2, 2))
CHANNELS, SIZE, HEADS, TOKENS, PRENET, BLOCKS = 6, 12, 3, 2, 1, 2


def state_dict(seed: int = 0, *, scales: int = 1, kernel: int = 5, prefix: str = "d2v_model.") -> dict[str, Tensor]:
    """Weights under the published names; with ``scales`` one scale of distance a layer, with an even kernel another."""
    generator, audio = torch.Generator().manual_seed(seed), f"{prefix}modality_encoders.AUDIO"

    def drawn(*shape: int) -> Tensor:
        return 0.4 * torch.randn(*shape, generator=generator)

    state = {f"{audio}.extra_tokens": drawn(1, TOKENS, SIZE)}
    state[f"{audio}.alibi_scale"] = drawn(scales, 1, HEADS, 1, 1) + 0.3  # some are negative: those count as zero
    for number, (width, _) in enumerate(KERNELS):
        state[f"{audio}.local_encoder.conv_layers.{number}.0.weight"] = drawn(
            CHANNELS, CHANNELS if number else 1, width
        )
        state |= _norm(f"{audio}.local_encoder.conv_layers.{number}.2.1", CHANNELS, drawn)
    state |= _norm(f"{audio}.project_features.1", CHANNELS, drawn)
    state |= _linear(f"{audio}.project_features.2", CHANNELS, SIZE, drawn)
    for number in (1, 2):
        state[f"{audio}.relative_positional_encoder.{number}.0.weight"] = drawn(SIZE, SIZE // 4, kernel)
        state[f"{audio}.relative_positional_encoder.{number}.0.bias"] = drawn(SIZE)
    state |= _norm(f"{audio}.context_encoder.norm", SIZE, drawn)
    blocks = [f"{audio}.context_encoder.blocks.{n}" for n in range(PRENET)]
    for name in [*blocks, *(f"{prefix}blocks.{n}" for n in range(BLOCKS))]:
        state |= _linear(f"{name}.attn.qkv", SIZE, 3 * SIZE, drawn) | _linear(f"{name}.attn.proj", SIZE, SIZE, drawn)
        state |= _linear(f"{name}.mlp.fc1", SIZE, 20, drawn) | _linear(f"{name}.mlp.fc2", 20, SIZE, drawn)
        state |= _norm(f"{name}.norm1", SIZE, drawn) | _norm(f"{name}.norm2", SIZE, drawn)
    return state


def write(state: dict[str, Tensor], file: Path, **more: Any) -> Path:
    """fairseq's checkpoint, as its trainer writes it."""
    known = {"args": argparse.Namespace(seed=1), "cfg": {"task": {"normalize": True}}, "last_optimizer_state": None}
    torch.save({"model": state, **known, **more}, file)
    return file


def _norm(name: str, size: int, drawn: Any) -> dict[str, Tensor]:
    return {f"{name}.weight": 1 + drawn(size), f"{name}.bias": drawn(size)}


def _linear(name: str, taken: int, given: int, drawn: Any) -> dict[str, Tensor]:
    return {f"{name}.weight": drawn(given, taken), f"{name}.bias": drawn(given)}


def hidden_states(state: dict[str, Tensor], wave: Tensor) -> Tensor:
    """Hidden states [L, T, D] of a waveform, from data2vec 2.0's equations, a head and a pair of frames at a time."""
    state = {name.removeprefix("d2v_model.").removeprefix("modality_encoders.AUDIO."): v for name, v in state.items()}
    x = ((wave - wave.mean()) / (wave.var(unbiased=False) + 1e-5).sqrt())[None]
    for number, (_, stride) in enumerate(KERNELS):
        x = F.conv1d(x, state[f"local_encoder.conv_layers.{number}.0.weight"], stride=stride)
        x = F.gelu(_normed(state, f"local_encoder.conv_layers.{number}.2.1", x.T)).T
    x = _mapped(state, "project_features.2", _normed(state, "project_features.1", x.T))
    place = x
    for number in (1, 2):
        name = f"relative_positional_encoder.{number}.0"
        weight = state[f"{name}.weight"]
        place = F.conv1d(place.T, weight, state[f"{name}.bias"], padding=weight.shape[2] // 2, groups=4).T[: len(x)]
        place = F.gelu((place - place.mean(1, True)) / (place.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt())
    x = torch.cat([state["extra_tokens"][0], x + place])
    found = [_normed(state, "context_encoder.norm", x)]
    scales = state["alibi_scale"].clamp(min=0)
    names = [f"context_encoder.blocks.{n}" for n in range(PRENET)] + [f"blocks.{n}" for n in range(BLOCKS)]
    for layer, name in enumerate(names):
        x = found[-1]
        heard = _attended(state, f"{name}.attn", x, scales[layer % len(scales), 0, :, 0, 0])
        x = _normed(state, f"{name}.norm1", x + heard)
        mapped = _mapped(state, f"{name}.mlp.fc2", F.gelu(_mapped(state, f"{name}.mlp.fc1", x)))
        found.append(_normed(state, f"{name}.norm2", x + mapped))
    return torch.stack(found)[:, TOKENS:]


def _attended(state: dict[str, Tensor], name: str, x: Tensor, scale: Tensor) -> Tensor:
    each = SIZE // HEADS
    slopes = [2**-4, 2**-8, 2**-2]  # of two heads, then the first of four
    joined = _mapped(state, f"{name}.qkv", x)
    heads = []
    for head in range(HEADS):
        query, key, value = (joined[:, part * SIZE + head * each :][:, :each] for part in range(3))
        logits = query @ key.T / math.sqrt(each)
        for one in range(TOKENS, len(x)):
            for other in range(TOKENS, len(x)):
                logits[one, other] -= slopes[head] * scale[head] * abs(one - other)
        heads.append(logits.exp() / logits.exp().sum(1, keepdim=True) @ value)
    return _mapped(state, f"{name}.proj", torch.cat(heads, 1))


def _normed(state: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    scaled = (x - x.mean(1, True)) / (x.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]


def _mapped(state: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]
