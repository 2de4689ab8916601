"""Audio files to waveforms: the one door for corpora, training, predict, adapt, listen and Python.

All that is in a file is read, or the file is refused with what is missing; a level that no recording has, and channels
that cancel each other, are refused too. ``metaperser validate`` and training decode through the same function, so what
validates also trains.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from s3prl_metaperser.corpora.audio import ffmpeg, flac
from s3prl_metaperser.corpora.audio.base import (
    MOST_SAMPLES,
    RATE,
    RATES,
    REPLACE,
    SHORTEST_MILLISECONDS,
    Account,
    BadAudio,
    convert,
)
from s3prl_metaperser.corpora.audio.containers import CONTAINERS, account
from s3prl_metaperser.corpora.audio.levels import mixed, notes_on, too_loud
from s3prl_metaperser.corpora.audio.notes import tell
from s3prl_metaperser.corpora.folders import name_hint

__all__ = ["RATE", "RATES", "SHORTEST_MILLISECONDS", "BadAudio", "Sound", "audio_seconds", "load_audio", "read_audio"]

# soundfile raises TypeError for names such as x.raw, whose format cannot be told from the content.
_DECODER_ERRORS = (soundfile.SoundFileError, OSError, RuntimeError, TypeError, ValueError, MemoryError)

_LFS_POINTER = b"version https://git-lfs"


@dataclass(frozen=True)
class Sound:
    """What an audio file holds.

    Attributes:
        samples: float32 of shape ``(num_samples,)``, full scale being 1, the mean of the channels.
        rate: its sampling rate in Hz.
        channels: how many the file has.
        notes: what is odd about the file, though it is read whole.
    """

    samples: np.ndarray
    rate: int
    channels: int
    notes: tuple[str, ...] = ()


def read_audio(path: str | Path) -> Sound:
    """All of an audio file, as mono at its own rate.

    Raises:
        BadAudio: missing, unreadable, truncated, with more behind the end that its header gives, in a format in which
            that cannot be told, empty, shorter than 25 ms, too large, with NaN or infinite samples, at a level that is
            not of full scale 1, or with channels that cancel each other.
    """
    samples, rate, note = _decoded(path)
    if not len(samples):
        raise BadAudio(path, f"the file holds no samples. {REPLACE}")
    if len(samples) * 1000 < SHORTEST_MILLISECONDS * rate:
        milliseconds = 1000 * len(samples) / rate
        raise BadAudio(path, f"Too short: {milliseconds:.1f} ms (minimum {SHORTEST_MILLISECONDS} ms). Exclude it.")
    if not np.isfinite(samples).all():
        raise BadAudio(path, f"{int((~np.isfinite(samples)).sum())} samples are NaN or infinite. {REPLACE}")
    if fault := too_loud(samples):
        raise BadAudio(path, f"{fault}, or exclude the file.")
    mono, fault, channel_note = mixed(samples)
    if fault:
        raise BadAudio(path, f"{fault} Keep one of them, e.g. {convert(path, '-af', 'pan=mono|c0=c0')}")
    notes = (*filter(None, (note, channel_note)), *notes_on(mono, rate))
    return Sound(mono, rate, samples.shape[1], notes)


def load_audio(path: str | Path, rate: int = RATE, note: Callable[[str | Path, str], None] = tell) -> np.ndarray:
    """The waveform of an audio file, down-mixed to mono (mean of the channels) and resampled (soxr, HQ).

    Args:
        path: a file in any format that libsndfile reads, or ffmpeg where it is installed.
        rate: sampling rate of the result in Hz.
        note: is given the path and what is odd about a file that is read all the same; by default it goes to stderr.

    Returns:
        float32 array of shape ``(num_samples,)``, full scale being 1.

    Raises:
        BadAudio: (a ``UserError``) as :func:`read_audio`; the message names the file and says what to do.
        ValueError: ``rate`` is not a positive whole number.
    """
    if not isinstance(rate, int) or isinstance(rate, bool) or rate <= 0:
        raise ValueError(f"Bad rate {rate!r}, expected a positive whole number of samples a second.")
    sound = read_audio(path)
    for what in sound.notes:
        note(path, what)
    mono = sound.samples
    if sound.rate != rate:
        mono = soxr.resample(mono, sound.rate, rate, quality="HQ")
        if abs(len(mono) - len(sound.samples) * rate / sound.rate) > 1:
            raise BadAudio(path, f"{len(sound.samples)} samples at {sound.rate} Hz became {len(mono)} at {rate} Hz.")
    return np.ascontiguousarray(mono, dtype=np.float32)


def audio_seconds(path: str | Path) -> float:
    """Duration in seconds by the file's bytes; nothing is decoded.

    Raises:
        BadAudio: there is no such file, or its header cannot be read.
    """
    _check_exists(path)
    if (kind := _foreign(path)) is not None:
        return ffmpeg.seconds(path, kind)
    try:
        with open(path, "rb") as file, soundfile.SoundFile(str(path)) as audio:
            counted = (
                audio.format == "FLAC" and 0 < audio.frames <= MOST_SAMPLES
            )  # one that says its length is not walked
            found = account(file, audio) if audio.format in CONTAINERS and not counted else Account()
            if found.other and (kind := _fallback(path)) is not None:
                return ffmpeg.seconds(path, kind)
            if len(found.streams) > 1:
                return sum(soundfile.info(io.BytesIO(stream)).frames for stream in found.streams) / audio.samplerate
            frames = audio.frames if found.fault or found.frames is None else found.frames
            return frames / audio.samplerate
    except _DECODER_ERRORS as error:
        if (kind := _fallback(path)) is not None:
            return ffmpeg.seconds(path, kind)
        raise BadAudio(path, f"the audio header cannot be read ({_reason(error)}). {_otherwise(path)}") from error


def _decoded(path: str | Path) -> tuple[np.ndarray, int, str]:
    """float32 samples of shape ``(num_samples, num_channels)``, their rate, and what is odd about the file."""
    _check_exists(path)
    if (kind := _foreign(path)) is not None:
        return ffmpeg.decode(path, kind)
    try:
        with open(path, "rb") as file, soundfile.SoundFile(str(path)) as audio:
            _check_header(path, audio)
            found = account(file, audio)
            if found.other and (kind := _fallback(path)) is not None:
                return ffmpeg.decode(path, kind)
            if found.fault:
                raise BadAudio(path, f"{found.fault} {_advice(path)}")
            if found.frames is not None:
                _check_length(path, audio, found.frames)
            if found.streams:
                samples = _joined(path, found, audio)
            else:
                samples = audio.read(audio.frames, dtype="float32", always_2d=True)
            promised = found.frames
            if promised is None:
                promised = len(samples) if found.streams else audio.frames  # of streams, each was compared
            rate = audio.samplerate
    except _DECODER_ERRORS as error:
        if (kind := _fallback(path)) is not None:
            return ffmpeg.decode(path, kind)
        raise BadAudio(path, f"the audio cannot be decoded ({_reason(error)}). {_otherwise(path)}") from error
    if len(samples) != promised:
        raise BadAudio(path, f"truncated: {len(samples)} of {promised} samples can be decoded. {_advice(path)}")
    return samples, rate, found.note


def _joined(path: str | Path, found: Account, first: soundfile.SoundFile) -> np.ndarray:
    """The streams of a file, or the file with its header put right, decoded one after another."""
    parts = []
    for number, stream in enumerate(found.streams, 1):
        with soundfile.SoundFile(io.BytesIO(stream)) as audio:
            if (audio.samplerate, audio.channels) != (first.samplerate, first.channels):
                what = f"stream {number} of {len(found.streams)} has another rate or number of channels than the first"
                raise BadAudio(path, f"{what}. Split the file.")
            _check_length(path, audio, audio.frames)
            parts.append(audio.read(audio.frames, dtype="float32", always_2d=True))
            if len(parts[-1]) != audio.frames:
                what = f"{len(parts[-1])} of {audio.frames} samples of stream {number} can be decoded"
                raise BadAudio(path, f"truncated: {what}. {_advice(path)}")
    samples = np.concatenate(parts)
    if found.frames is not None and 0 < len(samples) - found.frames <= found.surplus:
        samples = samples[-found.frames :]
    if samples.size > MOST_SAMPLES:
        raise _too_long(path, len(samples), first)
    return samples


def _foreign(path: str | Path) -> ffmpeg.Foreign | None:
    try:
        with open(path, "rb") as file:
            return ffmpeg.foreign(file, os.fstat(file.fileno()).st_size)
    except OSError as error:
        raise BadAudio(path, f"cannot be read ({error.strerror}). {REPLACE}") from None


def _fallback(path: str | Path) -> ffmpeg.Foreign | None:
    """A container whose codec libsndfile does not read, or not all of; None where ffmpeg is not installed.

    Raises:
        BadAudio: the file's header says why it is not read.
    """
    kind = ffmpeg.by_codec(path)
    if kind is not None and (fault := kind.account(path).fault):
        raise BadAudio(path, f"{fault} {_advice(path)}")
    return kind if ffmpeg.available() else None


def _check_exists(path: str | Path) -> None:
    """That there is a file, and that it is not what Git LFS puts in its place until it is fetched."""
    if os.path.islink(path) and not os.path.exists(path):
        raise BadAudio(path, "this link leads nowhere. Put the audio file in its place, or exclude it.")
    if not os.path.isfile(path):
        raise BadAudio(path, f"there is no such audio file.{name_hint(Path(path))} Correct its name, or exclude it.")
    if not os.path.getsize(path):
        raise BadAudio(path, f"this file is empty (0 bytes). {REPLACE}")
    with contextlib.suppress(OSError), open(path, "rb") as file:
        if file.read(len(_LFS_POINTER)) == _LFS_POINTER:
            raise BadAudio(path, "this is a pointer of Git LFS, the audio was never fetched. Run `git lfs pull`.")


def _check_header(path: str | Path, audio: soundfile.SoundFile) -> None:
    if audio.format not in CONTAINERS:
        raise BadAudio(path, f"files in the format {audio.format} are not read. Convert it: {convert(path)}")
    if not RATES[0] <= audio.samplerate <= RATES[1]:
        raise BadAudio(path, f"a sampling rate of {audio.samplerate} Hz: the header is damaged. {REPLACE}")
    with open(path, "rb") as file:
        if not (audio.format == "FLAC" and flac.unknown_length(file.read(1 << 16))):
            _check_length(path, audio, audio.frames)


def _check_length(path: str | Path, audio: soundfile.SoundFile, frames: int) -> None:
    if frames * audio.channels > MOST_SAMPLES:
        raise _too_long(path, frames, audio)


def _too_long(path: str | Path, frames: int, audio: soundfile.SoundFile) -> BadAudio:
    hours = frames / audio.samplerate / 3600
    return BadAudio(path, f"File too long ({hours:.1f} h, {audio.channels} channels). Split it.")


def _advice(path: str | Path) -> str:
    """What to do about a file that is damaged, or whose header is wrong, by its name's container."""
    before = "-ignore_length 1" if Path(path).suffix.lower() in (".wav", ".wave") else ""
    return f"{REPLACE} If only its header is wrong, rewrite it: {convert(path, before=before)}"


def _otherwise(path: str | Path) -> str:
    """What to do about a file that no decoder takes: of another format, damaged, or no audio at all."""
    if _is_text(path):
        return "It is text, not audio. Give audio files here."
    return f"Convert it ({convert(path)}), or exclude it."


def _is_text(path: str | Path) -> bool:
    with open(path, "rb") as file:
        head = file.read(4096)
    try:
        text = head[: head.rfind(b"\n") + 1].decode("utf-8-sig")
    except UnicodeDecodeError:
        return False
    return bool(text) and all(letter.isprintable() or letter in "\r\n\t" for letter in text)


def _reason(error: BaseException) -> str:
    """A decoder's words, without the path that they begin with."""
    said = str(error).partition("': ")[2] if isinstance(error, soundfile.LibsndfileError) else str(error)
    return (said or str(error) or type(error).__name__).rstrip(".")
