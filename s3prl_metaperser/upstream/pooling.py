"""From waveforms to pooled features, exactly as s3prl's frame path would have them before its mean."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from s3prl_metaperser.corpora.base import Utterance
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.upstream.batching import hidden_states


def pool_waveforms(
    upstream: nn.Module,
    waves: list[torch.Tensor],
    *,
    selection: str = "hidden_states",
    normalize: bool = False,
) -> list[torch.Tensor]:
    """Time means of every layer.

    Args:
        waves: each float32 [n] at 16 kHz.
        selection: s3prl's ``-s``.
        normalize: layer norm of every frame before the mean (``--upstream_feature_normalize``).

    Returns:
        One float32 [L, D] on the CPU for each waveform; the mean is taken in float64.
    """
    device = next((p.device for p in upstream.parameters()), torch.device("cpu"))
    with torch.no_grad():
        states = hidden_states(upstream, [wave.to(device) for wave in waves], selection)
        if normalize and states[0].shape[0] > 1:  # s3prl normalises what it sums, and a single layer is not summed
            states = [F.layer_norm(frames, frames.shape[-1:]) for frames in states]
        return [frames.double().mean(dim=1).float().cpu() for frames in states]


def pooler(
    upstream: nn.Module, *, selection: str, normalize: bool
) -> Callable[[list[torch.Tensor], list[Utterance]], list[torch.Tensor]]:
    """:func:`pool_waveforms` for the store; an utterance that the upstream cannot take is named in the error."""
    upstream.eval()

    def pool(waves: list[torch.Tensor], utterances: list[Utterance]) -> list[torch.Tensor]:
        try:
            return pool_waveforms(upstream, waves, selection=selection, normalize=normalize)
        except (RuntimeError, ValueError, AssertionError) as error:
            names = ", ".join(f"{u.path} ({u.seconds:.2f} s)" for u in utterances)
            raise UserError(
                f"The upstream fails on {names}: {str(error).splitlines()[0] if str(error) else type(error).__name__}. "
                "Very short or very long audio is the usual cause; `metaperser validate` shows durations out of range."
            ) from error

    return pool
