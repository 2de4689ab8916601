"""The room and the microphone of a demo corpus, and the tone that should say nothing about emotions."""

from __future__ import annotations

import numpy as np
import soxr

from s3prl_metaperser.demo.domains import Domain
from s3prl_metaperser.demo.voice import ROOM_NOISE, SAMPLE_RATE

#: Hz of the tone of each of the five emotions, and its root mean square, dB re full scale.
TONES = (2900.0, 3700.0, 4500.0, 5300.0, 6100.0)
TONE_LEVEL = -44.0


def through(samples: np.ndarray, domain: Domain, hum: int | None, draw: np.random.Generator) -> np.ndarray:
    """What the channel makes of speech: int16 [T] at 16 kHz -> int16 [T'] at the corpus's rate.

    A channel that does nothing gives the samples back as they are.

    Args:
        samples: the speech.
        domain: whose room, tilt, band and rate these are.
        hum: whose tone is added, an index into :data:`TONES`; None: no tone.
        draw: of the room's noise and the tone's phase.
    """
    sound = samples.astype(np.float64) / 32767
    noise, phase = draw.standard_normal(len(sound)), 2 * np.pi * draw.random()
    if domain.room > ROOM_NOISE:
        sound = sound + 10 ** (domain.room / 20) * noise
    if domain.tilt or domain.band < SAMPLE_RATE / 2:
        frequency = np.maximum(np.fft.rfftfreq(len(sound), 1 / SAMPLE_RATE), 60.0)
        gain = 10 ** (domain.tilt * np.log2(frequency / 1000.0) / 20)
        if domain.band < SAMPLE_RATE / 2:
            gain /= np.sqrt(1 + (frequency / domain.band) ** 16)
        sound = np.fft.irfft(np.fft.rfft(sound) * gain, len(sound))
    if hum is not None:
        time = np.arange(len(sound)) / SAMPLE_RATE
        sound = sound + 10 ** (TONE_LEVEL / 20) * np.sqrt(2) * np.sin(2 * np.pi * TONES[hum] * time + phase)
    if domain.rate != SAMPLE_RATE:
        sound = soxr.resample(sound, SAMPLE_RATE, domain.rate, quality="HQ")
    return np.round(np.clip(sound, -1, 1) * 32767).astype("<i2")
