"""Clips to a model's inputs, in batches of like length; a clip that cannot be used need not stop the others."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from s3prl_metaperser.corpora.audio import RATE
from s3prl_metaperser.errors import UserError, one_line
from s3prl_metaperser.listener.model import LoadedModel
from s3prl_metaperser.listener.waves import Clip, waveform
from s3prl_metaperser.progress import tqdm

_UPSTREAM_ERRORS = (UserError, RuntimeError, ValueError, AssertionError, MemoryError)
#: Batches whose clips are read, and sorted by length, together.
_WINDOW = 16


def prepare(
    model: LoadedModel,
    clips: Sequence[Clip],
    bar: tqdm,
    *,
    sampling_rate: int | None = None,
    batch_size: int = 1,
    faults: dict[int, str] | None = None,
) -> dict[int, torch.Tensor]:
    """The model's inputs of clips, by their place in ``clips``.

    Args:
        bar: moved on by one for each clip.
        sampling_rate: of arrays, in Hz.
        batch_size: clips in one forward pass of the upstream.
        faults: takes in place -> why a clip cannot be used; without it the first such clip is an error.

    Raises:
        UserError: a clip that cannot be read, without ``faults``.
    """
    made: dict[int, torch.Tensor] = {}
    for start in range(0, len(clips), batch_size * _WINDOW):
        waves: dict[int, torch.Tensor] = {}
        for place in range(start, min(start + batch_size * _WINDOW, len(clips))):
            try:
                waves[place] = waveform(clips[place], sampling_rate)
            except UserError as error:
                if faults is None:
                    raise
                faults[place] = str(error).removeprefix(f"{clips[place]}: ")
                bar.update()
        order = list(waves) if batch_size == 1 else sorted(waves, key=lambda place: len(waves[place]))
        for at in range(0, len(order), batch_size):
            batch = {place: waves[place] for place in order[at : at + batch_size]}
            made |= _inputs(model, batch, faults)
            bar.update(len(batch))
    return {place: made[place] for place in sorted(made)}


def _inputs(
    model: LoadedModel, batch: dict[int, torch.Tensor], faults: dict[int, str] | None
) -> dict[int, torch.Tensor]:
    """The inputs of a batch; where the upstream cannot take it, of its clips one by one."""
    try:
        found = dict(zip(batch, model.items(list(batch.values())), strict=True))
    except _UPSTREAM_ERRORS as error:
        if faults is None:
            raise
        if len(batch) > 1:
            parts = (_inputs(model, {place: wave}, faults) for place, wave in batch.items())
            return {place: item for part in parts for place, item in part.items()}
        ((place, wave),) = batch.items()
        faults[place] = f"the upstream cannot process it ({len(wave) / RATE:.2f} s): {one_line(error)}"
        return {}
    for place in [place for place, item in found.items() if not math.isfinite(float(item.sum()))]:
        if faults is not None:
            faults[place] = "the upstream returns NaN or infinity for it"
            del found[place]
    return found
