"""From waveforms to pooled features: the mean of frames, exactly as s3prl's frame path would have it, or more.

With ``modelrc.pooling: statistics`` the head sees of each layer the mean and the standard deviation over time, and the
logarithm of the duration: [L, 2 D + 1]. It stays a linear function of what is pooled, so that adaptation in closed form
is as exact as with the mean. Layer weights then sum standard deviations of layers, which is not that of their sum.
"""

from __future__ import annotations

import contextlib
import functools
import math
import sys
from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from s3prl_metaperser.corpora.audio import RATE
from s3prl_metaperser.corpora.base import Utterance
from s3prl_metaperser.errors import UserError, first_line
from s3prl_metaperser.upstream.batching import hidden_states

Pooling = Literal["mean", "statistics"]
#: Below this variance a standard deviation counts as its root: the root of zero has no derivative.
LEAST_VARIANCE = 1e-12
#: waveforms -> pooled features
Pool = Callable[[list[torch.Tensor]], list[torch.Tensor]]


def pooled_frames(frames: torch.Tensor, seconds: float, pooling: Pooling = "mean") -> torch.Tensor:
    """Statistics over time of one utterance, [L, T, D] -> [L, D], or [L, 2 D + 1] with ``statistics``; differentiable
    twice.

    Args:
        seconds: of the waveform.
    """
    mean = frames.mean(dim=1)
    if pooling == "mean":
        return mean
    variance = (frames - mean.unsqueeze(1)).square().mean(dim=1)
    length = mean.new_full((len(mean), 1), math.log(seconds))
    return torch.cat([mean, variance.clamp_min(LEAST_VARIANCE).sqrt(), length], dim=-1)


def pooled_size(size: int, pooling: Pooling) -> int:
    """How many features a layer of ``size`` has after pooling."""
    return size if pooling == "mean" else 2 * size + 1


def pool_waveforms(
    upstream: nn.Module,
    waves: list[torch.Tensor],
    *,
    selection: str = "hidden_states",
    normalize: bool = False,
    bf16: bool = False,
    pooling: Pooling = "mean",
) -> list[torch.Tensor]:
    """Time means, or more statistics, of every layer.

    Args:
        waves: each float32 [n] at 16 kHz.
        selection: s3prl's ``-s``.
        normalize: layer norm of every frame before the mean (``--upstream_feature_normalize``).
        bf16: the forward pass under autocast to bfloat16.
        pooling: see :func:`pooled_frames`.

    Returns:
        One float32 [L, D] on the CPU for each waveform; statistics are taken in float64.
    """
    device = device_of(upstream)
    rounding = torch.autocast(device.type, torch.bfloat16) if bf16 else contextlib.nullcontext()
    with torch.no_grad(), rounding:
        states = hidden_states(upstream, [wave.to(device) for wave in waves], selection)
        if normalize and states[0].shape[0] > 1:  # s3prl normalises what it sums, and a single layer is not summed
            states = [F.layer_norm(frames, frames.shape[-1:]) for frames in states]
        pairs = zip(states, waves, strict=True)
        return [pooled_frames(frames.double(), len(wave) / RATE, pooling).float().cpu() for frames, wave in pairs]


def device_of(upstream: nn.Module) -> torch.device:
    """Where the upstream computes; one without weights does so on the CPU."""
    return next((p.device for p in upstream.parameters()), torch.device("cpu"))


def pooler(
    upstream: nn.Module, *, selection: str, normalize: bool, bf16: bool = False, pooling: Pooling = "mean"
) -> Callable[[list[torch.Tensor], list[Utterance]], list[torch.Tensor]]:
    """:func:`pool_waveforms` for the store; an utterance that the upstream cannot process is named in the error.

    With ``bf16`` the first call computes in float32, too, and prints the difference.

    Raises:
        UserError: ``bf16`` on a CPU.
    """
    upstream.eval()
    if bf16 and device_of(upstream).type == "cpu":
        raise UserError(
            "modelrc.bf16: true requires a GPU: on a CPU, bfloat16 features are less exact and no faster. Remove it."
        )
    pooled = functools.partial(pool_waveforms, upstream, selection=selection, normalize=normalize, pooling=pooling)
    compute = saying_the_error(functools.partial(pooled, bf16=True), pooled) if bf16 else pooled

    def pool(waves: list[torch.Tensor], utterances: list[Utterance]) -> list[torch.Tensor]:
        try:
            return compute(waves)
        except (RuntimeError, ValueError, AssertionError) as error:
            names = ", ".join(f"{u.path} ({u.seconds:.2f} s)" for u in utterances)
            raise UserError(
                f"The upstream fails on {names}: {first_line(error)}. "
                "Very short or very long audio is the usual cause; `metaperser validate` shows durations out of range."
            ) from error

    return pool


def saying_the_error(rough: Pool, exact: Pool) -> Pool:
    """``rough``; its first call is compared with ``exact``, and the difference is printed."""
    first = True

    def pool(waves: list[torch.Tensor]) -> list[torch.Tensor]:
        nonlocal first
        found = rough(waves)
        if first:
            first = False
            apart = bf16_error(found, exact(waves))
            print(
                f"[MetaPerSER] bfloat16: on the first {len(waves)} utterance(s) features differ from float32 by "
                f"{100 * apart:.2f} % (in the layer with the largest difference)",
                file=sys.stderr,
            )
        return found

    return pool


def bf16_error(rough: Sequence[torch.Tensor], exact: Sequence[torch.Tensor]) -> float:
    """Norm of the difference over the norm of the layer, the largest over layers; features [L, D] of each utterance."""
    one, other = torch.stack(list(rough)), torch.stack(list(exact))
    norm = lambda x: x.double().square().sum((0, 2)).sqrt()  # noqa: E731
    return (norm(one - other) / norm(other).clamp_min(torch.finfo(torch.float64).tiny)).max().item()
