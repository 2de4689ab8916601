"""Levels that speech has: integers taken for fractions, channels that cancel each other, a telephone's band."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from s3prl_metaperser.errors import listed

#: Full scale is 1. Floats that overshoot it are clipped speech; floats beyond this, and whole numbers from 2 on, are
#: integers that nobody divided.
LOUDEST = 100.0
#: Below this peak (-80 dB of full scale) there is no speech: nothing was recorded, or 16-bit values are taken for 32.
QUIETEST = 1e-4
#: A channel this much weaker than the loudest (-40 dB) is not connected: noise of its input, or crosstalk.
DEAD = 1e-2
#: Channels cancel each other where their mean keeps less than this of the loudest one's level, and ...
LEAST_OF_MEAN = 0.3
#: ... of the level that the mean of independent channels has: of many, of which one speaks, little is left, too.
LEAST_OF_INDEPENDENT = 0.7
#: Hz; a telephone transmits nothing above.
TELEPHONE = 4000
#: Power above 4.3 kHz over that of speech's main band, below which nothing is there (-45 dB): 8 kHz that were resampled
#: to 16 kHz leave -47 dB and less, wide-band speech has more than -40 dB.
_NOTHING_ABOVE = 3e-5
_WINDOW_SECONDS = 0.064
_LEAST_SECONDS = 0.5

SILENCE = "silence: all samples are zero."
TELEPHONE_BAND = f"nothing above {TELEPHONE} Hz, as over a telephone."


def too_loud(samples: np.ndarray) -> str:
    """Why samples cannot be a recording at full scale 1; empty where they can."""
    peak = float(np.abs(samples).max(initial=0.0))
    if peak < 2 or (peak <= LOUDEST and not np.array_equal(samples, np.rint(samples))):
        return ""
    return f"samples reach {peak:.0f}; full scale is 1. Divide what comes from 16-bit integers by 32768"


def notes_on(mono: np.ndarray, rate: int) -> tuple[str, ...]:
    """What is odd about the level and the band of a recording.

    Args:
        mono: float32 of shape ``(num_samples,)``, full scale being 1.
        rate: its sampling rate in Hz.
    """
    if not mono.any():
        return (SILENCE,)
    peak = float(np.abs(mono - mono.mean(dtype=np.float64)).max()) + 1e-12
    if peak < QUIETEST:
        return (f"almost silence: the loudest sample is {-20 * np.log10(peak):.0f} dB below full scale.",)
    return (TELEPHONE_BAND,) if _narrow(mono, rate) else ()


def mixed(samples: np.ndarray) -> tuple[np.ndarray, str, str]:
    """Channels as one, by their mean; those that are dead are left out of it.

    Args:
        samples: float32 of shape ``(num_samples, num_channels)``.

    Returns:
        float32 of shape ``(num_samples,)``, why it must be refused, and what is odd about the channels.
    """
    if samples.shape[1] == 1:
        return samples[:, 0], "", ""
    levels = samples.std(axis=0, dtype=np.float64)
    loudest = float(levels.max())
    if loudest < QUIETEST * 0.1:
        return samples.mean(axis=1), "", ""
    live = levels > DEAD * loudest
    dead = [channel for channel, alive in enumerate(live, 1) if not alive]
    note = f"{_channels(dead)} of {len(live)} without sound, left out of the down-mix." if dead else ""
    kept = samples if live.all() else samples[:, live]
    mono = kept[:, 0] if kept.shape[1] == 1 else kept.mean(axis=1)
    left = float(mono.std(dtype=np.float64))
    independent = float(np.sqrt((levels[live] ** 2).sum())) / int(live.sum())
    if left >= min(LEAST_OF_MEAN * loudest, LEAST_OF_INDEPENDENT * independent):
        return mono, "", note
    named = _channels([channel for channel, alive in enumerate(live, 1) if alive])
    fault = f"{named} cancel each other (opposite phase): {100 * left / loudest:.1f} % of the level is left"
    return mono, f"{fault} in their mean.", note


def _narrow(mono: np.ndarray, rate: int) -> bool:
    """Whether a recording holds nothing above 4 kHz; False where it is too short to say."""
    if len(mono) < _LEAST_SECONDS * rate or rate < 2.4 * TELEPHONE:
        return len(mono) >= _LEAST_SECONDS * rate
    width = round(_WINDOW_SECONDS * rate)
    window = np.hanning(width).astype(np.float32)
    power = np.zeros(width // 2 + 1)
    for start in range(0, len(mono) - width + 1, width * 256):
        block = mono[start : start + width * 256]
        frames = block[: len(block) // width * width].reshape(-1, width)
        power += (np.abs(np.fft.rfft(frames * window)) ** 2).sum(axis=0)
    hertz = np.arange(len(power)) * rate / width
    speech = power[(hertz > 200) & (hertz < 3500)].sum()
    above = power[(hertz > TELEPHONE + 300) & (hertz < 8000)].sum()
    return bool(speech > 0 and above < _NOTHING_ABOVE * speech)


def _channels(numbers: Sequence[int]) -> str:
    return f"channel{'s' if len(numbers) > 1 else ''} {listed(numbers, 8)}"
