"""From arousal, valence and dominance to sound: Praat's built-in synthesiser, then spectrum and loudness.

The synthesiser keeps state between calls within a process (the flutter of the voice continues where it
stopped). So each speaker is rendered in its own process, in a fixed order: the bytes are then the same
whatever ran before and however many processes run at once.
"""

from __future__ import annotations

import json
import sys
import wave
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from s3prl_metaperser.demo.draws import generator
from s3prl_metaperser.demo.script import SPEAKERS, Turn

SAMPLE_RATE = 16000  # Hz
LANGUAGE = "English (Great Britain)"
MARGIN = 0.06  # s of room noise that stay before and after the speech
ROOM_NOISE = -62.0  # dB re full scale

# Praat's name of the voice and the factor that brings its pitch to a usual one, in the order of SPEAKERS
VOICES = (
    ("Female1", 1.10),
    ("Male1", 1.25),
    ("Female2", 0.95),
    ("Male3", 1.10),
    ("Female3", 0.95),
    ("Male7", 1.05),
    ("Female4", 1.20),
    ("Male2", 1.20),
    ("Female5", 0.90),
    ("Male5", 1.15),
)


@dataclass(frozen=True, slots=True)
class Delivery:
    """How one sentence is spoken.

    Attributes:
        path: the WAV file, relative to the corpus folder.
        sentence: the text.
        voice: Praat's voice variant.
        pitch: factor on the voice's pitch, 0.5 to 2.
        pitch_range: factor on its range, 0 to 2.
        words_per_minute: tempo.
        level: root mean square of the speech, dB re full scale.
        tilt: spectral tilt above 500 Hz, dB per octave (positive is brighter).
        smile: gain around 2.4 kHz, dB.
        chest: gain around 250 Hz, dB.
        noise_seed: of the room noise.
        language: Praat's name of it.
    """

    path: str
    sentence: str
    voice: str
    pitch: float
    pitch_range: float
    words_per_minute: int
    level: float
    tilt: float
    smile: float
    chest: float
    noise_seed: int
    language: str = LANGUAGE


def deliver(turn: Turn, path: str, *, seed: int) -> Delivery:
    """What an utterance's arousal, valence and dominance, its speaker and chance make of the delivery.

    Arousal raises pitch, range, tempo, level and brightness; valence widens the range and adds a smile;
    dominance adds level and chest. Each cue has noise of its own.
    """
    arousal, valence, dominance = (x - 3.0 for x in turn.avd)
    voice, base = VOICES[SPEAKERS.index(turn.speaker)]
    # Habits of the speaker are few and lasting; noise is fresh in every utterance.
    habit = generator(seed, "speaker", turn.speaker).standard_normal(6)
    noise = generator(seed, "delivery", turn.utterance).standard_normal(7)
    semitones = 2.6 * arousal + 0.5 * valence - 0.6 * dominance + 0.8 * habit[0] + 0.8 * noise[0]
    return Delivery(
        path=path,
        sentence=turn.sentence,
        voice=voice,
        pitch=float(np.clip(base * 2 ** (semitones / 12), 0.5, 2.0)),
        pitch_range=float(np.clip(1 + 0.35 * arousal + 0.15 * valence + 0.15 * habit[1] + 0.15 * noise[1], 0.1, 2)),
        words_per_minute=round(
            float(np.clip(178 + 16 * arousal + 4 * valence + 6 * habit[2] + 8 * noise[2], 130, 250))
        ),
        level=float(np.clip(-25 + 2.6 * arousal + 1.4 * dominance + 1.0 * habit[3] + 1.0 * noise[3], -38, -13)),
        tilt=float(1.1 * arousal - 0.1 * valence + 0.3 * dominance + 0.6 * habit[4] + 0.4 * noise[4]),
        smile=float(3.2 * valence + 0.8 * habit[5] + 1.0 * noise[5]),
        chest=float(2.8 * dominance + 1.0 * noise[6]),
        noise_seed=int(generator(seed, "room", turn.utterance).integers(2**32)),
    )


def shape(samples: np.ndarray, delivery: Delivery) -> np.ndarray:
    """Trim to the speech, shape its spectrum, set its level, add room noise: float [T] -> int16 [T']."""
    loud = np.flatnonzero(np.abs(samples) > 0.005 * np.abs(samples).max())
    margin = round(MARGIN * SAMPLE_RATE)
    speech = samples[loud[0] : loud[-1] + 1]
    size = 1 << (len(speech) + 2 * margin - 1).bit_length()
    spectrum = np.fft.rfft(speech, size)
    frequency = np.maximum(np.fft.rfftfreq(size, 1 / SAMPLE_RATE), 20.0)
    gain = delivery.tilt * np.log2(np.maximum(frequency, 500.0) / 500.0)
    gain += delivery.smile * np.exp(-0.5 * (np.log2(frequency / 2400.0) / 0.4) ** 2)
    gain += delivery.chest * np.exp(-0.5 * (np.log2(frequency / 250.0) / 0.5) ** 2)
    speech = np.fft.irfft(spectrum * 10 ** (gain / 20), size)[: len(speech)]
    speech *= 10 ** (delivery.level / 20) / np.sqrt(np.mean(speech**2))
    peak = np.abs(speech).max()
    if peak > 0.97:  # a loud shout keeps its shape rather than clip
        speech *= 0.97 / peak
    rng = np.random.default_rng(delivery.noise_seed)
    out = 10 ** (ROOM_NOISE / 20) * rng.standard_normal(len(speech) + 2 * margin)
    out[margin : margin + len(speech)] += speech
    return np.round(np.clip(out, -1, 1) * 32767).astype("<i2")


def speak(delivery: Delivery) -> np.ndarray:
    """The sentence from Praat's synthesiser, float [T] at 16 kHz."""
    from parselmouth.praat import call

    synthesizer = call("Create SpeechSynthesizer...", delivery.language, delivery.voice)
    call(
        synthesizer,
        "Speech output settings...",
        SAMPLE_RATE,
        0.01,  # s between words
        delivery.pitch,
        delivery.pitch_range,
        delivery.words_per_minute,
        "IPA",
    )
    sound = call(synthesizer, "To Sound...", delivery.sentence, "no")
    sound = sound[0] if isinstance(sound, list) else sound
    return np.asarray(sound.values[0], dtype=np.float64)


def write_wav(path: Path, samples: np.ndarray, rate: int = SAMPLE_RATE) -> None:
    """Write int16 samples, [T] or [T, channels], as a WAV file without any metadata."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as raw, wave.open(raw, "wb") as file:  # wave itself fails twice where it cannot open
        file.setnchannels(1 if samples.ndim == 1 else samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())


def render(deliveries: Sequence[Delivery], folder: Path):
    """Write each delivery's WAV file; yields the number of samples after each one."""
    for delivery in deliveries:
        samples = shape(speak(delivery), delivery)
        write_wav(folder / delivery.path, samples)
        yield len(samples)


def to_json(deliveries: Sequence[Delivery], folder: Path) -> str:
    """What ``main`` reads from standard input."""
    return json.dumps({"folder": str(folder), "deliveries": [asdict(d) for d in deliveries]})


def main() -> None:
    """Render one speaker in this process: plan on standard input, samples of each file out."""
    plan = json.load(sys.stdin)
    for samples in render([Delivery(**d) for d in plan["deliveries"]], Path(plan["folder"])):
        print(samples, flush=True)
