"""Clips as people have them (paths, NumPy arrays, torch tensors) to waveforms as models take them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import soxr
import torch

from s3prl_metaperser.corpora.audio import RATE, RATES, SHORTEST_MILLISECONDS, load_audio
from s3prl_metaperser.corpora.audio.levels import notes_on, too_loud
from s3prl_metaperser.corpora.audio.notes import tell
from s3prl_metaperser.errors import UserError, shown
from s3prl_metaperser.storage.paths import user_path

#: A path, or samples: float [n] or [1, n] with full scale 1, or int16 of the same shapes.
Clip = str | Path | np.ndarray | torch.Tensor


def as_clips(wavs: Clip | Sequence[Clip]) -> list[Clip]:
    """One clip or several, as a list.

    Raises:
        UserError: a 2-D array, which could be clips or channels; or neither a clip nor a sequence of clips.
    """
    if isinstance(wavs, str | os.PathLike):
        return [wavs]
    if isinstance(wavs, np.ndarray | torch.Tensor):
        if wavs.ndim == 1 or (wavs.ndim == 2 and len(wavs) == 1):
            return [wavs]
        raise UserError(f"An array of shape {tuple(wavs.shape)} could be clips or channels; give a list of 1-D arrays.")
    if not isinstance(wavs, Iterable) or isinstance(wavs, bytes):
        raise UserError(f"Bad clips {shown(wavs)}, expected a path, an array, or a sequence of them.")
    return list(wavs)


def name_of(clip: Clip, index: int) -> str:
    """What a clip is called in results: its path, or its place in the list."""
    return str(clip) if isinstance(clip, str | os.PathLike) else str(index)


def waveform(clip: Clip, sampling_rate: int | None = None) -> torch.Tensor:
    """One clip as float32 [n] at 16 kHz.

    Args:
        clip: files go through :func:`.audio.load_audio`, as in training.
        sampling_rate: of arrays, in Hz; they are resampled as files are.

    Raises:
        UserError: unreadable, too short, of a wrong shape or type, with NaN, not of full scale 1, or an array without
            a sampling rate that speech is recorded at.
    """
    if isinstance(clip, str | os.PathLike):
        return torch.from_numpy(load_audio(user_path(clip)))
    samples = _samples(clip)
    if isinstance(sampling_rate, bool) or not isinstance(sampling_rate, int | np.integer) or sampling_rate <= 0:
        raise UserError(f"sampling_rate is {sampling_rate!r}; arrays need it, as a positive whole number of Hz.")
    if not RATES[0] <= sampling_rate <= RATES[1]:
        raise UserError(f"sampling_rate is {sampling_rate}; expected {RATES[0]} to {RATES[1]} Hz.")
    if samples.ndim == 2 and samples.shape[0] == 1:
        samples = samples[0]
    if samples.ndim != 1:
        raise UserError(f"A clip has shape {samples.shape}, expected (n,): average its channels first.")
    if samples.dtype == np.int16:
        samples = samples.astype(np.float32) / 32768
    if not np.issubdtype(samples.dtype, np.floating):
        raise UserError(f"A clip holds {samples.dtype} samples, expected floats with full scale 1, or int16.")
    if len(samples) * 1000 < SHORTEST_MILLISECONDS * sampling_rate:
        raise UserError(f"A clip of {len(samples)} samples is shorter than {SHORTEST_MILLISECONDS} ms.")
    if not np.isfinite(np.dot(samples, samples)) and not np.isfinite(samples).all():
        raise UserError(f"A clip holds {int((~np.isfinite(samples)).sum())} samples that are NaN or infinite.")
    if fault := too_loud(samples):
        raise UserError(f"A clip's {fault}, or give int16.")
    mono = samples.astype(np.float32, copy=not samples.flags.writeable)  # torch warns of memory that is not
    for what in notes_on(mono, int(sampling_rate)):
        tell(f"an array of {len(mono)} samples", what)
    if sampling_rate != RATE:
        mono = soxr.resample(mono, int(sampling_rate), RATE, quality="HQ")
    return torch.from_numpy(np.ascontiguousarray(mono, dtype=np.float32))


def _samples(clip: np.ndarray | torch.Tensor) -> np.ndarray:
    if isinstance(clip, torch.Tensor):
        plain = clip.detach().cpu()
        return (plain.float() if plain.dtype == torch.bfloat16 else plain).numpy()  # NumPy has no bfloat16
    if not (isinstance(clip, Sequence) or hasattr(clip, "__array__")) or isinstance(clip, bytes):
        raise UserError(f"Bad clip {shown(clip)}, expected a path, a NumPy array or a torch tensor.")
    try:
        return np.asarray(clip)
    except ValueError:
        raise UserError(f"Bad clip {shown(clip)}, expected a path, a NumPy array or a torch tensor.") from None
