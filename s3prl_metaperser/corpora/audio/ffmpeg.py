"""Formats that libsndfile does not read (m4a, webm, amr, wma, ...): what they are by their first bytes, and ffmpeg.

ffmpeg is told the format, so that no playlist or script in a file's clothes can make it open other files, and may read
local files alone. What it complains about is not used; neither is what is shorter than its header says.
"""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from s3prl_metaperser.corpora.audio import ogg
from s3prl_metaperser.corpora.audio.base import MOST_SAMPLES, RATES, REPLACE, UNCOUNTED, Account, BadAudio, convert
from s3prl_metaperser.corpora.audio.containers import MOST_BYTES, by_header

#: Seconds after which ffmpeg is stopped.
PATIENCE = 600
#: Decoded audio may be this many seconds shorter than the header says: coders add and remove a little at both ends.
TOLERANCE = 0.15

_BYTES_A_SAMPLE = 4
#: Boxes, blocks or frames of a file: more than in ten hours of any format.
_MOST_PARTS = 1 << 21


def _untold(file: BinaryIO, size: int) -> str:
    return ""


@dataclass(frozen=True)
class Foreign:
    """A format that needs ffmpeg.

    Attributes:
        title: what people call it.
        demuxer: what ffmpeg calls it.
        whole: what is wrong with the bytes of a file, or nothing; ffmpeg itself takes most cut files for shorter ones.
        counted: its header says how long it is.
        container: libsndfile's name, where it knows the container but not the codec.
    """

    title: str
    demuxer: str
    whole: Callable[[BinaryIO, int], str] = _untold
    counted: bool = True
    container: str = ""

    def account(self, path: str | Path) -> Account:
        """What a file holds by its bytes."""
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if self.container:
                return by_header(self.container, file, size)
            if size > MOST_BYTES and self.whole in _READ_WHOLE:
                return Account(fault=f"{size / 2**30:.1f} GiB are too much for one file. Split it.")
            fault = self.whole(file, size)
            return Account(fault=f"{fault}." if fault else "")


def foreign(file: BinaryIO, size: int) -> Foreign | None:
    """What a file is by its first bytes, if that is a format that needs ffmpeg."""
    file.seek(0)
    head = file.read(4096)
    for at, magic, kind in _MAGIC:
        if head.startswith(magic, at):
            return kind
    if head[:4] == b"RIFF" and head[8:12] in _RIFFS:
        return _RIFFS[head[8:12]]
    if head[:4] == b"OggS" and "Speex" in ogg.codecs(head):
        return Foreign("Speex", "ogg", _whole_ogg)
    if len(head) > 7 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0:
        return Foreign("AAC", "aac", _whole_adts)
    if head[:1] == b"\x47" and head[188:189] == b"\x47" and head[376:377] in (b"\x47", b""):
        return Foreign("MPEG transport stream", "mpegts", _whole_packets, counted=False)
    return None


def by_codec(path: str | Path) -> Foreign | None:
    """A container that libsndfile knows, but does not read this file of: ffmpeg may, where it is installed."""
    try:
        with open(path, "rb") as file:
            head = file.read(32)
    except OSError:
        return None
    return next((kind for at, magic, kind in _CONTAINERS if head.startswith(magic, at)), None)


def available() -> str | None:
    """Where ffmpeg is; None where it is not installed."""
    return shutil.which("ffmpeg")


def decode(path: str | Path, kind: Foreign) -> tuple[np.ndarray, int, str]:
    """All samples of the one audio track of a file.

    Returns:
        float32 samples of shape ``(num_samples, num_channels)``, their rate in Hz, and what is odd about the file.

    Raises:
        BadAudio: ffmpeg is not installed or finds damage, the file is cut, has no audio or several tracks, or is too
            large.
    """
    note = _checked(path, kind).note
    limit = MOST_SAMPLES * _BYTES_A_SAMPLE
    output = ["-map", "0:a:0", "-c:a", "pcm_f32le", "-fs", str(limit), "-bitexact", "-f", "wav", "pipe:1"]
    found, said = _run(path, kind, output, limit)
    _check_tracks(path, kind, said)
    if complaint := _complaint(said):
        raise BadAudio(path, f"{kind.title}: ffmpeg finds it damaged ({complaint}). {REPLACE}")
    samples, rate = _samples(found)
    if not RATES[0] <= rate <= RATES[1]:
        raise BadAudio(path, f"{kind.title}: ffmpeg finds no audio in it. {REPLACE}")
    if samples.size >= MOST_SAMPLES - 1:
        hours = len(samples) / rate / 3600
        raise BadAudio(path, f"File too long ({hours:.1f} h and more, {samples.shape[1]} channels). Split it.")
    promised, seconds = _duration(said), len(samples) / rate
    if promised is not None and seconds < promised - TOLERANCE:
        raise BadAudio(path, f"truncated: {seconds:.2f} of {promised:.2f} s can be decoded. {REPLACE}")
    return samples, rate, note or ("" if kind.counted and promised is not None else UNCOUNTED)


def seconds(path: str | Path, kind: Foreign) -> float:
    """Duration by the header; where that does not say, by decoding."""
    _checked(path, kind)
    _, said = _run(path, kind, [], 0)
    promised = _duration(said)
    if promised is not None:
        return promised
    samples, rate, _ = decode(path, kind)
    return len(samples) / rate


def _checked(path: str | Path, kind: Foreign) -> Account:
    found = kind.account(path)
    if found.fault:
        raise BadAudio(path, f"{kind.title}: {found.fault} {REPLACE}")
    if available() is None:
        raise BadAudio(path, f"{kind.title}, which needs ffmpeg. Install ffmpeg, or convert the file: {convert(path)}")
    return found


def _run(path: str | Path, kind: Foreign, output: list[str], limit: int) -> tuple[bytes, str]:
    """What ffmpeg writes and what it says, line by line with its level."""
    command = [available() or "ffmpeg", "-nostdin", "-hide_banner", "-nostats", "-loglevel", "level+info"]
    command += ["-protocol_whitelist", "file", "-threads", "1", "-f", kind.demuxer, "-i", f"file:{path}", *output]
    with tempfile.TemporaryFile() as errors:
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors) as process:
            timer = threading.Timer(PATIENCE, process.kill)
            timer.start()
            try:
                assert process.stdout is not None
                found = process.stdout.read(limit + 4096) if output else b""
                process.stdout.close()
                process.wait()
            finally:
                late = not timer.is_alive()
                timer.cancel()
                process.kill()
        errors.seek(0)
        said = errors.read(1 << 20).decode("utf-8", "replace")
    if late:
        raise BadAudio(path, f"{kind.title}: ffmpeg took more than {PATIENCE} s. Convert it: {convert(path)}")
    return found, said


def _check_tracks(path: str | Path, kind: Foreign, said: str) -> None:
    of_input = said.partition("Output #0")[0]
    tracks = len(re.findall(r"^\[info\]\s+Stream #0:\d+.*?: Audio: ", of_input, re.M))
    if tracks > 1:
        raise BadAudio(path, f"{kind.title} with {tracks} audio tracks. Extract one: {convert(path, '-map', '0:a:0')}")
    if not tracks and "Input #0" in said:
        raise BadAudio(path, f"{kind.title} without an audio track. Exclude it.")


def _complaint(said: str) -> str:
    """The first thing that ffmpeg calls an error, without the place in memory that it gives."""
    for line in said.splitlines():
        if match := re.match(r"(?:\[[^\]]* @ 0x[0-9a-f]+\] )?\[(?:error|fatal|panic)\] (.*)", line):
            return match[1].strip()[:200]
    return ""


def _duration(said: str) -> float | None:
    """Seconds by the header; None where it does not say, or ffmpeg guesses."""
    found = re.search(r"^\[info\]   Duration: (\d+):(\d\d):(\d\d\.\d+)", said, re.M)
    if found is None or "Estimating duration" in said:
        return None
    return int(found[1]) * 3600 + int(found[2]) * 60 + float(found[3])


def _samples(wav: bytes) -> tuple[np.ndarray, int]:
    """Samples of the WAV file of float32 that ffmpeg writes to a pipe, and their rate."""
    at, channels, rate = 12, 1, 0
    while len(wav) >= at + 8:
        name, size = struct.unpack_from("<4sI", wav, at)
        if name == b"data":
            whole = (len(wav) - at - 8) // (_BYTES_A_SAMPLE * channels)
            values = np.frombuffer(wav, "<f4", whole * channels, at + 8)
            return values.reshape(whole, channels).astype(np.float32), rate
        if name == b"fmt ":
            channels, rate = struct.unpack_from("<HI", wav, at + 10)
        at += 8 + size + size % 2
    return np.empty((0, 1), np.float32), rate


# ------------------------------------------------------------------ is a file whole?


def _walked(file: BinaryIO, size: int, at: int, few: int, step: Callable[[int, bytes], int | str]) -> int | str:
    """Where the parts of a file end that follow one another from ``at`` on; a text says what is wrong with one.

    Args:
        few: how many bytes of each part ``step`` is given.
        step: ``step(at, head)``: where the part behind this one begins, or what is wrong.
    """
    for _ in range(_MOST_PARTS):
        if at >= size:
            return at
        file.seek(at)
        found = step(at, file.read(few))
        if isinstance(found, str):
            return found
        at = found
    return f"damaged: more than {_MOST_PARTS} parts in {size} bytes"


def _to_the_end(file: BinaryIO, size: int, at: int, few: int, step: Callable[[int, bytes], int | str]) -> str:
    """What is wrong with a file whose parts are to end where it does."""
    end = _walked(file, size, at, few, step)
    return end if isinstance(end, str) else "" if end == size else f"truncated: {size} bytes exist of {end}"


def _whole_boxes(file: BinaryIO, size: int) -> str:
    """MPEG-4: boxes up to the end of the file, of one file."""
    seen = set()

    def box(at: int, head: bytes) -> int | str:
        if not head.strip(b"\0"):
            return size
        length, name = struct.unpack(">I4s", head[:8].ljust(8, b"\0"))
        if length == 1:
            length = struct.unpack(">Q", head[8:].ljust(8, b"\0"))[0]
        if name == b"ftyp" and name in seen:
            return f"a second file begins at byte {at} of {size}"
        seen.add(name)
        if length == 0:
            return size
        if length < 8 or at + length > size:
            return f"truncated: {size} bytes exist of {at + length}" if length >= 8 else f"damaged at byte {at}"
        return at + length

    if isinstance(fault := _walked(file, size, 0, 16, box), str):
        return fault
    return "" if b"moov" in seen else f"truncated: the box that lists its samples is missing in {size} bytes"


_SEGMENT, _EBML = 0x18538067, 0x1A45DFA3


def _whole_ebml(file: BinaryIO, size: int) -> str:
    """Matroska: elements up to the end of the file, of one file; unknown sizes are those of streams."""

    def element(at: int, head: bytes) -> int | str:
        head = head.ljust(12, b"\0")
        name_length = 9 - head[0].bit_length()
        size_length = 9 - head[name_length].bit_length() if name_length <= 4 else 9
        if size_length > 8:
            return f"damaged at byte {at} of {size}"
        inside = at + name_length + size_length
        name = int.from_bytes(head[:name_length], "big")
        raw = int.from_bytes(head[name_length : name_length + size_length], "big") - (1 << 7 * size_length)
        if name == _EBML and at:
            return f"a second file begins at byte {at} of {size}"
        unknown = raw == (1 << 7 * size_length) - 1
        if not unknown and inside + raw > size:
            return f"truncated: {size} bytes exist of {inside + raw}"
        return inside if unknown or name == _SEGMENT else inside + raw

    end = _walked(file, size, 0, 12, element)
    return end if isinstance(end, str) else ""


_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")


def _whole_asf(file: BinaryIO, size: int) -> str:
    file.seek(0)
    head = file.read(1 << 16)
    at = head.find(_ASF_PROPERTIES)
    if at < 0 or len(head) < at + 92:
        return "truncated: the header is not whole"
    (promised,), (flags,) = struct.unpack_from("<Q", head, at + 40), struct.unpack_from("<I", head, at + 88)
    if not flags & 1 and promised != size:
        return f"{size} bytes exist, and the header gives {promised}"
    return ""


#: Bytes of a frame by its type; 0: no such type.
_AMR = (13, 14, 16, 18, 20, 21, 27, 32, 6, 7, 6, 6, 0, 0, 0, 1)
_AMR_WB = (18, 24, 33, 37, 41, 47, 51, 59, 61, 6, 0, 0, 0, 0, 1, 1)


def _whole_amr(file: BinaryIO, size: int) -> str:
    file.seek(0)
    start, sizes = (9, _AMR_WB) if file.read(9) == b"#!AMR-WB\n" else (6, _AMR)

    def frame(at: int, head: bytes) -> int | str:
        length = 0 if head[0] & 0x83 else sizes[head[0] >> 3 & 15]
        return at + length if length else f"damaged at byte {at} of {size}"

    return _to_the_end(file, size, start, 1, frame)


def _whole_adts(file: BinaryIO, size: int) -> str:
    def frame(at: int, head: bytes) -> int | str:
        if head.startswith(b"TAG"):
            return size
        length = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5 if len(head) == 7 else 7
        return at + length if head[0] == 0xFF and length >= 7 else f"damaged at byte {at} of {size}"

    return _to_the_end(file, size, 0, 7, frame)


def _whole_flv(file: BinaryIO, size: int) -> str:
    def tag(at: int, head: bytes) -> int | str:
        return (
            at + 15 + int.from_bytes(head[1:4], "big") if head[0] in (8, 9, 18) else f"damaged at byte {at} of {size}"
        )

    return _to_the_end(file, size, 13, 4, tag)


def _whole_riff(file: BinaryIO, size: int) -> str:
    """AVI and its kin: RIFF chunks up to the end of the file."""

    def chunk(at: int, head: bytes) -> int | str:
        head = head.ljust(12, b"\0")
        if head[4:8] in (b"\xff\xff\xff\xff", bytes(4)):
            return "its length is unknown, as in a stream, so that a missing end cannot be detected"
        if head[:4] != b"RIFF" or (at and head[8:] != b"AVIX"):
            return f"{size - at} bytes lie behind the {at} that the header gives"
        end = at + 8 + struct.unpack("<I", head[4:8])[0]
        return size if end == size + 1 else end  # without the byte that pads an odd length

    return _to_the_end(file, size, 0, 12, chunk)


def _whole_wavpack(file: BinaryIO, size: int) -> str:
    total, there, tagged = None, 0, False

    def block(at: int, head: bytes) -> int | str:
        nonlocal total, there, tagged
        if head[:4] != b"wvpk" or len(head) < 32:
            tagged = (head[:3] == b"TAG" or head[:8] == b"APETAGEX") and b"wvpk" not in file.read()
            return size if tagged else f"damaged at byte {at} of {size}"
        length, promised, index, samples = struct.unpack_from("<I4xIII", head, 4)
        if total is None:
            total = promised
        elif index < there - samples:
            return f"a second file begins at byte {at} of {size}"
        there = index + samples
        return at + 8 + length

    fault = _to_the_end(file, size, 0, 32, block)
    if fault or tagged or total in (there, 0xFFFFFFFF):
        return fault
    return f"{there} samples exist, and the header gives {total}"


def _whole_tta(file: BinaryIO, size: int) -> str:
    file.seek(0)
    head = file.read(22).ljust(22, b"\0")
    rate, samples = struct.unpack_from("<II", head, 10)
    frames = -(-samples // max(1, 256 * rate // 245))
    if 26 + 4 * frames > size:
        return f"truncated: {size} bytes exist, and the header gives {frames} frames"
    end = 26 + 4 * frames + sum(struct.unpack(f"<{frames}I", file.read(4 * frames)))
    file.seek(end)
    behind = file.read()
    if end > size or b"TTA1" in behind or (behind and behind[:3] not in (b"TAG", b"APE", b"ID3")):
        return f"{size} bytes exist, and the header gives {end}"
    return ""


def _whole_packets(file: BinaryIO, size: int) -> str:
    return "" if size % 188 == 0 else f"truncated: {size} bytes are no whole number of packets of 188"


def _whole_ogg(file: BinaryIO, size: int) -> str:
    file.seek(0)
    found = ogg.account(file.read(), 0)
    return "several streams follow one another" if found.streams else found.fault.rstrip(".")


_READ_WHOLE = (_whole_amr, _whole_adts, _whole_ogg, _whole_tta)
_MP4 = Foreign("MPEG-4 (m4a, mp4, mov, 3gp)", "mov", _whole_boxes)
_MAGIC = (
    (4, b"ftyp", _MP4),
    (4, b"moov", _MP4),
    (4, b"mdat", _MP4),
    (4, b"wide", _MP4),
    (0, b"\x1a\x45\xdf\xa3", Foreign("Matroska or WebM", "matroska", _whole_ebml)),
    (0, b"#!AMR", Foreign("AMR", "amr", _whole_amr)),
    (0, bytes.fromhex("3026b2758e66cf11"), Foreign("Windows Media (wma, asf)", "asf", _whole_asf)),
    (0, b"FLV\x01", Foreign("Flash video", "flv", _whole_flv)),
    (0, b"wvpk", Foreign("WavPack", "wv", _whole_wavpack)),
    (0, b"MAC ", Foreign("Monkey's Audio", "ape")),
    (0, b"TTA1", Foreign("True Audio", "tta", _whole_tta)),
    (0, b"\x7f\xfe\x80\x01", Foreign("DTS", "dts", counted=False)),
    (0, b"\x0b\x77", Foreign("AC-3", "ac3", counted=False)),
    (0, b"\x00\x00\x01\xba", Foreign("MPEG program stream", "mpeg", counted=False)),
)
_RIFFS = {b"AVI ": Foreign("AVI", "avi", _whole_riff)}
_WAV = Foreign("WAV, by ffmpeg", "wav", container="WAV")
_CONTAINERS = (
    (8, b"WAVE", _WAV),
    (0, b"OggS", Foreign("Ogg, by ffmpeg", "ogg", _whole_ogg)),
    (0, b"caff", Foreign("CAF, by ffmpeg", "caf", container="CAF")),
    (8, b"AIFC", Foreign("AIFF-C, by ffmpeg", "aiff", container="AIFF")),
    (0, b"Creative Voice File", Foreign("VOC, by ffmpeg", "voc", container="VOC")),
)
