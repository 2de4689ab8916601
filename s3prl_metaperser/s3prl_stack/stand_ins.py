"""Replacements for what newer torchaudio and huggingface_hub lack, for :mod:`.compat`."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import types
from collections.abc import Callable
from typing import Any

from s3prl_metaperser.errors import UserError

_BITS = {"PCM_U8": 8, "PCM_S8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32, "FLOAT": 32, "DOUBLE": 64}


def gone(what: str, needs: str) -> Callable[..., Any]:
    """A function that raises a UserError: the installed stack lacks ``what``."""

    def function(*_: Any, **__: Any) -> Any:
        raise UserError(f"{what} is missing from the installed packages; this feature needs {needs}.")

    return function


def no_extension() -> types.ModuleType:
    """Stands in for ``torchaudio._extension`` and says that nothing native is available."""

    def missing(function: Callable[..., Any]) -> Callable[..., Any]:
        return gone(f"torchaudio's native {function.__name__}", "its own torch")

    module = types.ModuleType("torchaudio._extension")
    flags = ("_IS_TORCHAUDIO_EXT_AVAILABLE", "_IS_RIR_AVAILABLE", "_IS_ALIGN_AVAILABLE")
    vars(module).update(
        **dict.fromkeys(flags, False),
        _load_lib=lambda name: False,
        lazy_import_sox_ext=_no_sox,
        fail_if_no_align=missing,
        fail_if_no_rir=missing,
    )
    return module


def _no_sox() -> types.ModuleType:
    """An extension that is found missing when something of it is used, not before."""
    module = types.ModuleType("torchaudio's sox extension")
    needs = "a torchaudio made for the installed torch"
    vars(module).update(is_available=lambda: False, __getattr__=lambda name: gone(f"{module.__name__} ({name})", needs))
    return module


def with_soundfile_fallback(original: Callable[..., Any]) -> Callable[..., Any]:
    """``torchaudio.load``: the original where torchcodec works, else soundfile."""

    @functools.wraps(original)
    def load(*args: Any, **kwargs: Any) -> Any:
        return (original if _torchcodec_works() else soundfile_load)(*args, **kwargs)

    return load


@functools.cache
def _torchcodec_works() -> bool:
    if importlib.util.find_spec("torchcodec") is None:
        return False
    try:
        importlib.import_module("torchcodec.decoders")
    except Exception:  # installed, but its FFmpeg or its torch is not the one it was built for
        return False
    return True


def soundfile_load(
    uri: Any, frame_offset: int = 0, num_frames: int = -1, normalize: bool = True, channels_first: bool = True, **_: Any
) -> tuple[Any, int]:
    """Audio as float32 in [-1, 1] of shape [channels, samples] (or its transpose) and its rate in Hz.

    ``normalize=False`` is not honoured, as in torchaudio 2.9 and later.
    """
    import soundfile
    import torch

    file = uri if hasattr(uri, "read") else str(uri)
    data, rate = soundfile.read(file, start=frame_offset, frames=num_frames, dtype="float32", always_2d=True)
    wav = torch.from_numpy(data)
    return (wav.t().contiguous() if channels_first else wav), rate


def soundfile_info(uri: Any, **_: Any) -> types.SimpleNamespace:
    """What ``torchaudio.info`` returned for a file: rate in Hz, samples per channel, channels, bits, encoding."""
    import soundfile

    info = soundfile.info(uri if hasattr(uri, "read") else str(uri))
    return types.SimpleNamespace(
        sample_rate=info.samplerate,
        num_frames=info.frames,
        num_channels=info.channels,
        bits_per_sample=_BITS.get(info.subtype, 0),
        encoding=info.subtype,
    )
