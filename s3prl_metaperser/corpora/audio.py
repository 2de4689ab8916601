"""Audio files to waveforms, with the checks that keep a damaged file from becoming a silent feature.

``metaperser validate`` and training decode through the same function, so what validates also trains.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import soundfile
import soxr

from s3prl_metaperser.corpora.audio_containers import CONTAINERS, missing
from s3prl_metaperser.errors import UserError

#: Samples a second that every upstream of s3prl expects.
RATE = 16000

#: One window of a log-mel front end, and the receptive field of wav2vec 2.0: less gives no frame at all.
SHORTEST_MILLISECONDS = 25

_MEND = "Put an intact copy in its place, or leave it out."

#: Sampling rates in Hz: from far below speech to far above any recorder's. Others are damaged headers.
RATES = (1000, 768_000)

#: Samples of all channels together: 2 GiB in memory, more than nine hours at 16 kHz.
MOST_SAMPLES = 1 << 29

# soundfile raises TypeError for names such as x.raw, whose format cannot be told from the content.
_DECODER_ERRORS = (soundfile.SoundFileError, OSError, RuntimeError, TypeError, ValueError, MemoryError)


class BadAudio(UserError):
    """An audio file that cannot be used.

    Attributes:
        path: the file.
        what: what is wrong with it and what to do.
    """

    def __init__(self, path: str | Path, what: str):
        super().__init__(str(path), what)
        self.path = str(path)
        self.what = what

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"


def audio_seconds(path: str | Path) -> float:
    """Duration in seconds by the file's header; nothing is decoded.

    Raises:
        BadAudio: there is no such file, or its header cannot be read.
    """
    _check_exists(path)
    try:
        header = soundfile.info(str(path))
    except _DECODER_ERRORS as error:
        raise BadAudio(path, f"the audio header cannot be read ({_reason(error)}). {_MEND}") from error
    return header.frames / header.samplerate


def decode(path: str | Path) -> tuple[np.ndarray, int]:
    """All samples of an audio file, as they are in it.

    Returns:
        float32 samples of shape ``(num_samples, num_channels)``, full scale being 1, and their rate in Hz.

    Raises:
        BadAudio: missing, unreadable, truncated, in a format in which that cannot be told, empty, shorter than 25 ms,
            too large, or with NaN or infinite samples.
    """
    _check_exists(path)
    try:
        with open(path, "rb") as file, soundfile.SoundFile(str(path)) as audio:
            rate, promised = audio.samplerate, audio.frames
            _check_header(path, audio)
            if lacking := missing(file, audio):
                raise BadAudio(path, f"truncated: {lacking}. {_MEND}")
            samples = audio.read(dtype="float32", always_2d=True)
    except _DECODER_ERRORS as error:
        raise BadAudio(path, f"the audio cannot be decoded ({_reason(error)}). {_MEND}") from error
    if len(samples) != promised:
        raise BadAudio(path, f"truncated: {len(samples)} of {promised} samples can be decoded. {_MEND}")
    if not len(samples):
        raise BadAudio(path, f"the file holds no samples. {_MEND}")
    if len(samples) * 1000 < SHORTEST_MILLISECONDS * rate:
        milliseconds = 1000 * len(samples) / rate
        raise BadAudio(path, f"{milliseconds:.1f} ms long; {SHORTEST_MILLISECONDS} is the least. {_MEND}")
    if not np.isfinite(samples).all():
        raise BadAudio(path, f"{int((~np.isfinite(samples)).sum())} samples are NaN or infinite. {_MEND}")
    return samples, rate


def load_audio(path: str | Path, rate: int = RATE) -> np.ndarray:
    """The waveform of an audio file, down-mixed to mono (mean of the channels) and resampled (soxr, HQ).

    Args:
        path: a file in any format that libsndfile reads.
        rate: sampling rate of the result in Hz.

    Returns:
        float32 array of shape ``(num_samples,)``, full scale being 1.

    Raises:
        BadAudio: (a ``UserError``) as ``decode``; the message names the file and says what to do.
        ValueError: ``rate`` is not a positive whole number.
    """
    if not isinstance(rate, int) or isinstance(rate, bool) or rate <= 0:
        raise ValueError(f"Bad rate {rate!r}, expected a positive whole number of samples a second.")
    samples, source_rate = decode(path)
    mono = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1)
    if source_rate != rate:
        mono = soxr.resample(mono, source_rate, rate, quality="HQ")
        if abs(len(mono) - len(samples) * rate / source_rate) > 1:
            raise BadAudio(path, f"{len(samples)} samples at {source_rate} Hz became {len(mono)} at {rate} Hz.")
    return np.ascontiguousarray(mono, dtype=np.float32)


def _check_exists(path: str | Path) -> None:
    if not os.path.isfile(path):
        raise BadAudio(path, f"there is no such audio file. {_MEND}")


def _check_header(path: str | Path, audio: soundfile.SoundFile) -> None:
    if audio.format not in CONTAINERS:
        raise BadAudio(path, f"files in the format {audio.format} are not read. Convert it to WAV or FLAC.")
    if not RATES[0] <= audio.samplerate <= RATES[1]:
        raise BadAudio(path, f"a sampling rate of {audio.samplerate} Hz: the header is damaged. {_MEND}")
    if audio.frames * audio.channels > MOST_SAMPLES:
        hours = audio.frames / audio.samplerate / 3600
        raise BadAudio(path, f"{hours:.1f} hours in {audio.channels} channels are too much for one file. Cut it.")


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__
