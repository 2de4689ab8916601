"""Time stretch, time shift and two-second crops of waveforms; each draw belongs to (seed, epoch, utterance).

The paper names the ranges ("time-stretch and time-shift by factors sampled randomly from [0.8-1.25] and [-0.1, 0.1]")
and leaves open with which probability, in which order and unit; its public code does neither. Here: stretch, shift,
crop; each of the first two with probability 0.5; rates log-uniform; shifts as shares of the crop, with zeros where
nothing is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from s3prl_metaperser.seeding import torch_generator

#: Samples of a window of the stretch, and how far to either side it is looked for: 30 and 10 ms at 16 kHz.
_WINDOW, _SEARCH = 480, 160
_QUIET = 1e-8


@dataclass(frozen=True)
class Augmentation:
    """How waveforms are changed in training.

    Attributes:
        samples: length of a crop.
        stretch: slowest and fastest rate; 1.25 makes a clip a fifth shorter.
        shift: the largest shift to either side, as a share of the crop.
        probability: of the stretch, and of the shift.
    """

    samples: int = 32_000
    stretch: tuple[float, float] = (0.8, 1.25)
    shift: float = 0.1
    probability: float = 0.5


def augmented(wave: Tensor, how: Augmentation, *names: object) -> Tensor:
    """A changed crop [samples] of a waveform [n].

    Args:
        names: what the draws belong to: seed, epoch, utterance. The same names give the same crop.
    """
    generator = torch_generator("augmentation", *names)
    chance = torch.rand(4, generator=generator, dtype=torch.float64).tolist()
    if chance[0] < how.probability:
        slow, fast = (math.log(rate) for rate in how.stretch)
        wave = stretched(wave, math.exp(slow + (fast - slow) * chance[1]))
    if chance[2] < how.probability:
        wave = shifted(wave, round((2 * chance[3] - 1) * how.shift * how.samples))
    return crop(wave, how.samples, generator)


def stretched(wave: Tensor, rate: float) -> Tensor:
    """A waveform [n] at ``rate`` times its speed, its pitch and level unchanged: [round(n / rate)].

    By WSOLA (Verhelst and Roelands 1993): windows that overlap by half are taken ``rate`` times as far apart as they
    are laid down, each from where, within 10 ms, it continues the last one best.
    """
    length, step = max(1, round(len(wave) / rate)), _WINDOW // 2
    steps = math.ceil(length / step) + 1
    ends = step + _SEARCH, round(steps * step * rate) + 2 * _WINDOW + _SEARCH
    known, out = F.pad(wave, ends), wave.new_zeros((steps + 1) * step)
    energy = F.pad(known.double().square().cumsum(0), (1, 0))
    sizes = ((energy[_WINDOW:] - energy[:-_WINDOW]).clamp_min(0).sqrt() + _QUIET).to(wave.dtype)
    window, place = torch.hann_window(_WINDOW, dtype=wave.dtype), _SEARCH
    for number in range(steps):
        if number:
            first = round(number * step * rate)
            near = known[first : first + 2 * _SEARCH + _WINDOW]
            following = known[place + step : place + step + _WINDOW]
            alike = F.conv1d(near[None, None], following[None, None])[0, 0] / sizes[first : first + 2 * _SEARCH + 1]
            place = first + int(alike.argmax())
        out[number * step : number * step + _WINDOW] += window * known[place : place + _WINDOW]
    return out[step : step + length]


def shifted(wave: Tensor, samples: int) -> Tensor:
    """A waveform [n] so many samples later (earlier, if negative): [n], with zeros where nothing is."""
    size = min(abs(samples), len(wave))
    if samples >= 0:
        return F.pad(wave[: len(wave) - size], (size, 0))
    return F.pad(wave[size:], (0, size))


def crop(wave: Tensor, samples: int, generator: torch.Generator | None = None) -> Tensor:
    """So many samples of a waveform [n] from a drawn place, or its middle; a shorter one stands between zeros."""
    spare = len(wave) - samples
    if spare < 0:
        return F.pad(wave, (-spare // 2, -spare - -spare // 2))
    start = spare // 2 if generator is None else int(torch.randint(spare + 1, (), generator=generator))
    return wave[start : start + samples]
