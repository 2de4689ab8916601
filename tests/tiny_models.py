"""Tiny fine-tuned models on random checkpoints, in float64 where an oracle needs it."""

from __future__ import annotations

import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from random_checkpoints import UPSTREAM, make_checkpoint
from torch import nn

from s3prl_metaperser.meta.model import Head
from s3prl_metaperser.s3prl_stack.hub import build_upstream
from s3prl_metaperser.upstream.finetuning import FineTunedModel

C, D, L = 4, 16, 3
LENGTHS = (8000, 6100, 9000)
_DEFAULTS = {
    **{"adapt": "all", "train_front_end": False, "micro_batch_seconds": 20.0, "longest_seconds": 15.0},
    **{"bf16": False, "activation_checkpointing": False, "dropout": False},
}


def options(**changes: Any) -> types.SimpleNamespace:
    """Options of fine-tuning."""
    return types.SimpleNamespace(**{**_DEFAULTS, **changes})


def tiny_upstream(kind: str, folder: Path, **changes: Any) -> nn.Module:
    """An s3prl upstream of random weights; ``changes`` are of its configuration."""
    file = folder / f"{kind}-{'-'.join(map(str, changes.values()))}"
    return build_upstream(UPSTREAM[kind], str(file if file.exists() else make_checkpoint(kind, file, **changes)))


def tiny_model(upstream: nn.Module, layers: int = L, size: int = D, **changes: Any) -> FineTunedModel:
    """Upstream and head in training mode, with layer weights that are not all equal."""
    head = Head(layers, size, 5, C, torch.Generator().manual_seed(1)).to(next(upstream.parameters()))
    with torch.no_grad():
        head.weights.copy_(torch.linspace(-0.5, 0.5, layers))
    return FineTunedModel(upstream, head, options(**changes)).train()


def in_float64(upstream: nn.Module, spread: float = 1.0) -> nn.Module:
    """``upstream`` in float64, without the casts to float32 that s3prl's classes make on the way.

    Args:
        spread: factor on the weight matrices, so that a random model is as curved as a trained one.
    """
    upstream.double()
    for module in upstream.modules():
        own = {"Fp32GroupNorm": nn.GroupNorm, "Fp32LayerNorm": nn.LayerNorm}.get(type(module).__name__)
        if own is not None:
            module.forward = types.MethodType(own.forward, module)
        if hasattr(module, "activation_fn"):
            module.activation_fn = F.gelu
    with torch.no_grad():
        for parameter in upstream.parameters():
            if parameter.dim() == 2:
                parameter *= spread
    return upstream


def waveforms(lengths=LENGTHS, dtype: torch.dtype = torch.float32, seed: int = 0) -> list[torch.Tensor]:
    """Noise, one for each length in samples."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(length, generator=generator, dtype=dtype) * 0.1 for length in lengths]


def weighted(samples: int = len(LENGTHS), dtype: torch.dtype = torch.float32, seed: int = 2) -> torch.Tensor:
    """Positive targets, [K, C]."""
    return torch.rand(samples, C, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def frame_logits(
    parameters: Mapping[str, torch.Tensor], frames: torch.Tensor, lengths: torch.Tensor | None = None
) -> torch.Tensor:
    """Logits from frames, in the order in which s3prl computes them: sum, project, then masked mean.

    Args:
        frames: padded hidden states, [K, L, T, D].
        lengths: valid frames of each utterance, int [K]; all by default.

    Returns:
        [K, C].
    """
    mixing = torch.softmax(parameters["weights"], dim=-1)
    mixed = torch.einsum("l,kltd->ktd", mixing, frames)
    projected = mixed @ parameters["projector.weight"].T + parameters["projector.bias"]
    if lengths is None:
        pooled = projected.mean(1)
    else:
        mask = torch.arange(frames.shape[2], device=frames.device)[None] < lengths[:, None]
        pooled = (projected * mask[..., None]).sum(1) / lengths[:, None]
    return pooled @ parameters["classifier.weight"].T + parameters["classifier.bias"]
