"""Log-mel frames without normalisation, as the domain-generalisation paper's public code makes them: ``-u logmel``.

Windows of 400 samples every 160 from the first sample on (198 frames for two seconds at 16 kHz), magnitudes of 1024
bins, 64 HTK mel bands from 60 to 7800 Hz whose triangles are straight in mel, and the natural logarithm of each plus
1e-6. ``torch.stft`` would centre the window in its 1024 samples and give 194 frames.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from s3prl_metaperser.config.validator import read
from s3prl_metaperser.upstream.own import OwnUpstream

RATE, WINDOW, HOP, BINS = 16_000, 400, 160, 1024
BANDS, LOWEST, HIGHEST, FLOOR = 64, 60.0, 7800.0, 1e-6


@dataclass(frozen=True)
class LogMelOptions:
    """What a file after ``-g`` may say.

    Attributes:
        window: ``hann`` (the public code) or ``hamming`` (the paper's text); both periodic.
    """

    window: Literal["hann", "hamming"] = "hann"


def expert(model_config: str | None = None) -> LogMel:
    """The upstream.

    Raises:
        UserError: an unknown option.
    """
    return LogMel(read(LogMelOptions, Path(model_config)) if model_config else LogMelOptions())


class LogMel(OwnUpstream):
    """An upstream as s3prl has them, without weights.

    Args:
        options: which window.
    """

    samples = HOP
    window: Tensor
    filters: Tensor

    def __init__(self, options: LogMelOptions | None = None) -> None:
        super().__init__()
        named = {"hann": torch.hann_window, "hamming": torch.hamming_window}
        window = named[(options or LogMelOptions()).window](WINDOW, dtype=torch.float64)
        self.register_buffer("window", window.float(), persistent=False)
        self.register_buffer("filters", mel_filters().float(), persistent=False)

    def frames(self, waves: Tensor) -> Tensor:
        """Waveforms [..., n] at 16 kHz to frames [..., 1 + (n - 400) // 160, 64]; those under 400 are filled up."""
        filled = F.pad(waves, (0, max(0, WINDOW - waves.shape[-1])))
        spectrum = torch.fft.rfft(filled.unfold(-1, WINDOW, HOP) * self.window, BINS).abs()
        return torch.log(spectrum @ self.filters + FLOOR)

    def states(self, wave: Tensor) -> list[Tensor]:
        return [self.frames(wave)]


def mel_filters() -> Tensor:
    """Triangles over 513 bins, straight in HTK's mel, float64 [513, 64]; the bin at 0 Hz counts nowhere."""
    bins = _mel(torch.arange(BINS // 2 + 1, dtype=torch.float64) * RATE / BINS)[:, None]
    low, high = (_mel(torch.tensor(edge, dtype=torch.float64)).item() for edge in (LOWEST, HIGHEST))
    edges = torch.linspace(low, high, BANDS + 2, dtype=torch.float64)
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return torch.minimum(rising, falling).clamp_min(0)


def _mel(hertz: Tensor) -> Tensor:
    return 1127.0 * torch.log1p(hertz / 700.0)


def frames_of(samples: int) -> int:
    """How many frames so many samples give.

    >>> frames_of(32_000)
    198
    """
    return 1 + math.floor(max(0, samples - WINDOW) / HOP)
