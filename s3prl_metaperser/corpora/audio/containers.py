"""Where the sound of a file lies by its header, compared with what the file holds.

libsndfile takes most files that were cut off for shorter ones, and reads no further than a header says that a writer
never brought up to date. So the chunks are walked here, and every byte behind the sound must be accounted for.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO

import soundfile

from s3prl_metaperser.corpora.audio import flac, mpeg, ogg
from s3prl_metaperser.corpora.audio.base import Account

#: Files of compressed audio larger than this are not read: their frames are counted in memory.
MOST_BYTES = 1 << 30

_MOST_CHUNKS = 10_000
#: Sizes from here on stand for "unknown" where the file is smaller: 0x7FFFF000, 0x80000000, 2000000000, 0xFFFFFFFF.
_UNKNOWN_32, _UNKNOWN_64 = 0x70000000, 1 << 60
#: Bytes of one sample, of the encodings in which each has as many.
_BYTES = {"PCM_S8": 1, "PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4}
_BYTES |= {"FLOAT": 4, "DOUBLE": 8, "ULAW": 1, "ALAW": 1}
#: Chunks that are known to follow the sound, even where they are cut.
_KNOWN_CHUNKS = {b"LIST", b"INFO", b"id3 ", b"ID3 ", b"bext", b"cue ", b"fact", b"PEAK", b"JUNK", b"junk", b"smpl"}
_KNOWN_CHUNKS |= {b"inst", b"iXML", b"axml", b"_PMX", b"afsp", b"PAD ", b"FLLR", b"NAME", b"ANNO", b"AUTH", b"(c) "}
_KNOWN_CHUNKS |= {b"MARK", b"COMT", b"APPL", b"INST", b"MIDI", b"info", b"pakt", b"strg", b"umid", b"free", b"uuid"}


#: The beginning of a file within a file.
_HEADERS = re.compile(
    rb"(?:RIFF|RIFX|RF64|FORM)....(?:WAVE|AIFF|AIFC)"
    rb"|caff\x00\x01\x00\x00desc|\.snd\x00\x00.{6}\x00\x00\x00|riff\x2e\x91\xcf\x11",
    re.S,
)


@dataclass(frozen=True)
class _Sound:
    """Where the sound lies.

    Attributes:
        start: its first byte.
        promised: how many bytes the header says it has.
        unknown: sizes from here on mean that the writer did not know.
        followed: whether these bytes may stand behind the sound.
        whole: what the outermost size says of the file's length, if anything.
        sizes: where the header says how long file and sound are, to be put right: (place, format, what to add to the
            sound's length).
        block: bytes that are decoded together.
    """

    start: int
    promised: int
    unknown: int
    followed: Callable[[bytes], bool]
    whole: int | None = None
    sizes: tuple[tuple[int, str, int], ...] = ()
    block: int = 1


def account(file: BinaryIO, audio: soundfile.SoundFile) -> Account:
    """What a file holds by its bytes.

    Args:
        audio: the same file as libsndfile has opened it.
    """
    size = os.fstat(file.fileno()).st_size
    file.seek(0)
    if audio.format in _COMPRESSED:
        if size > MOST_BYTES:
            return Account(fault=f"{size / 2**30:.1f} GiB of compressed audio are too much for one file. Split it.")
        return _COMPRESSED[audio.format](file.read(), audio.frames)
    each = _BYTES.get(audio.subtype, 0) * audio.channels
    if audio.format == "VOC":
        return _voc(file, size, each, audio.frames)
    if audio.format in ("WAV", "WAVEX") and audio.subtype == "MPEG_LAYER_III":
        return Account(fault="libsndfile does not read all of MP3 in WAV.", other=True)
    found = _FINDERS[audio.format](file)
    if audio.format == "NIST" and found is not None:
        found = replace(found, promised=found.promised * each)
        return Account() if not each else _judged(file, size, found, each, audio.frames)
    return Account() if found is None else _judged(file, size, found, each, audio.frames)


def by_header(container: str, file: BinaryIO, size: int) -> Account:
    """What a file holds by its header, where libsndfile does not read its codec.

    Args:
        container: libsndfile's name of it.
    """
    file.seek(0)
    if container == "VOC":
        return _voc(file, size, 0, 0)
    found = _FINDERS[container](file)
    if found is None:
        return Account(fault="truncated: the sound is missing.")
    return _judged(file, size, replace(found, block=1), 0, 0)


def _judged(file: BinaryIO, size: int, found: _Sound, each: int, decoder_frames: int) -> Account:
    """Compare what the header promises with what exists; ``each``: bytes of one sample of all channels, 0: unknown."""
    there, promised, note = size - found.start, found.promised, ""
    behind = b""
    if promised <= there:
        file.seek(found.start + promised)
        behind = file.read()
    elif promised >= found.unknown:
        file.seek(found.start)
        behind = file.read()
    if promised == 0 and there > 0 and not found.followed(behind):
        promised, note = there, "the size in the header is 0, as a recorder leaves it that is stopped; read to the end."
    elif promised > there and promised >= found.unknown:
        promised, note = there, "the size in the header is unknown, as in a stream; read to the end."
    elif promised > there and _counts_its_header(found, size):
        what = f"the header promises {promised - there} bytes more than exist, as if it counted itself"
        promised, note = there, f"{what}; read to the end."
    elif promised > there:
        return Account(fault=f"truncated: {there} of {promised} bytes of audio exist.")
    elif not found.followed(behind):
        count = (there - promised) // each if each else there - promised
        kind = "samples" if each else "bytes"
        has = promised // each if each else promised
        return Account(fault=f"the header is wrong: {count} {kind} lie behind the {has} that it gives.")
    if note and _HEADERS.search(behind, 16):
        return Account(fault=f"a second file begins in it; {there} bytes follow the first header.")
    if not each and promised % found.block:
        whole = promised - promised % found.block
        return Account(fault=f"truncated: its last block is not whole; {whole} of {promised} bytes can be decoded.")
    frames = promised // each if each else None
    if note and found.sizes and (frames is None or decoder_frames != frames):
        return Account(frames, note=note, streams=(_repaired(file, found, there),))
    if frames is not None and decoder_frames != frames:
        return Account(fault=f"the header is wrong: {decoder_frames} of {frames} samples can be decoded.")
    return Account(frames, note=note)


def _counts_its_header(found: _Sound, size: int) -> bool:
    """The writer counted its header into the size of the sound, or gave one size for both."""
    if not found.sizes or found.promised - (size - found.start) > found.start:
        return False
    return found.promised == size or found.whole in (size, size - 8, found.promised)


def _repaired(file: BinaryIO, found: _Sound, there: int) -> bytes:
    """The file with the true sizes in its header."""
    file.seek(0)
    data = bytearray(file.read())
    for place, form, more in found.sizes:
        struct.pack_into(form, data, place, there + more)
    return bytes(data)


# ------------------------------------------------------------------ RIFF, RF64, Wave64


def _riff(file: BinaryIO) -> _Sound | None:
    head = file.read(12)
    order = ">" if head[:4] == b"RIFX" else "<"
    whole = struct.unpack(f"{order}I", head[4:8])[0]
    long, block = 0, 1
    for name, start, size in _chunks(file, 12, f"{order}4sI"):
        if name == b"fmt " and size >= 16:
            file.seek(start + 12)
            block = max(1, struct.unpack(f"{order}H", file.read(2).ljust(2, b"\0"))[0])
        elif name == b"ds64" and size >= 24:
            file.seek(start)
            whole, long64, _ = struct.unpack("<QQQ", file.read(24))
            long = start
        elif name == b"data":
            sizes = ((4, f"{order}I", start - 8), (start - 4, f"{order}I", 0))
            unknown = _UNKNOWN_32
            if long and size == 0xFFFFFFFF:
                sizes, size, unknown = ((long, "<Q", start - 8), (long + 8, "<Q", 0)), long64, _UNKNOWN_64
            return _Sound(start, size, unknown, lambda behind: _are_chunks(behind, order), whole, sizes, block)
    return None


def _wave64(file: BinaryIO) -> _Sound | None:
    for name, start, size in _chunks(file, 40, "<16sQ", pad=8, counted=24):
        if name[:4] == b"data":
            return _Sound(start, max(0, size), _UNKNOWN_64, lambda behind: not behind.strip(b"\0"))
        if size < 0:
            return None
    return None


# ------------------------------------------------------------------ AIFF, 8SVX, CAF


def _iff(file: BinaryIO) -> _Sound | None:
    file.seek(4)
    whole = struct.unpack(">I", file.read(4))[0]
    for name, start, size in _chunks(file, 12, ">4sI"):
        if name == b"SSND":
            file.seek(start)
            offset = struct.unpack(">I", file.read(8).ljust(8, b"\0")[:4])[0] if size else 0
            return _Sound(start + 8 + offset, max(0, size - 8 - offset), _UNKNOWN_32, _are_big_chunks, whole)
        if name == b"BODY":
            return _Sound(start, size, _UNKNOWN_32, _are_big_chunks, whole)
    return None


def _caf(file: BinaryIO) -> _Sound | None:
    for name, start, size in _chunks(file, 8, ">4sQ", pad=1):
        if name == b"data":
            return _Sound(start + 4, max(0, size - 4) if size < 1 << 63 else size, _UNKNOWN_64, _are_caf_chunks)
    return None


# ------------------------------------------------------------------ AU, SPHERE, VOC


def _au(file: BinaryIO) -> _Sound | None:
    head = file.read(12)
    start, size = struct.unpack("<II" if head[:4] == b"dns." else ">II", head[4:12])
    return _Sound(start, size, _UNKNOWN_32, lambda behind: len(behind) < 2 or not behind.strip(b"\0"))


def _sphere(file: BinaryIO) -> _Sound | None:
    """SPHERE's header counts samples of all channels together as one."""
    head = file.read(1024)
    length = re.match(rb"NIST_1A\s+(\d{1,6})", head)
    count = re.search(rb"^sample_count\s+-i\s+(\d{1,18})", head, re.M)
    if not (length and count):
        return None
    return _Sound(int(length[1]), int(count[1]), _UNKNOWN_64, lambda behind: len(behind) < 2)


def _voc(file: BinaryIO, size: int, each: int, decoder_frames: int) -> Account:
    """Blocks of sound up to an end mark; their bytes must be what libsndfile decodes."""
    file.seek(20)
    at, sound = struct.unpack("<H", file.read(2).ljust(2, b"\0"))[0], 0
    for _ in range(_MOST_CHUNKS):
        file.seek(at)
        head = file.read(4)
        if not head or head[0] == 0:
            break
        length = int.from_bytes(head[1:4], "little")
        sound += {1: length - 2, 2: length, 9: length - 12}.get(head[0], 0)
        at += 4 + length
    if at > size:
        return Account(fault=f"truncated: {size} of {at} bytes exist.")
    if size - at > 1:
        return Account(fault=f"{size - at - 1} bytes lie behind the end mark of {sound} bytes of audio.")
    frames = sound // each if each else None
    if frames is not None and frames != decoder_frames:
        return Account(fault=f"libsndfile reads {decoder_frames} samples of {frames}.", other=True)
    return Account(frames)


# ------------------------------------------------------------------ what may follow


def _chunks(file: BinaryIO, at: int, form: str, pad: int = 2, counted: int = 0) -> Iterator[tuple[bytes, int, int]]:
    """(name, first byte, size) of the chunks from ``at`` on.

    Args:
        form: of their heads, a name and a size.
        pad: chunks begin at multiples of so many bytes.
        counted: so many bytes of the head are counted in its size.
    """
    end, few = os.fstat(file.fileno()).st_size, struct.calcsize(form)
    for _ in range(_MOST_CHUNKS):
        file.seek(at)
        if len(head := file.read(few)) < few:
            return
        name, size = struct.unpack(form, head)
        size -= counted
        yield name, at + few, size
        at += few + size + -(counted + size) % pad
        if at > end:
            return


def _are_chunks(behind: bytes, order: str) -> bool:
    """Whether bytes are padding, tags, or well-formed chunks up to the end; a second sound among them is not."""
    return any(_well_formed(behind[pad:], order) for pad in (0, 1))


def _are_big_chunks(behind: bytes) -> bool:
    return _are_chunks(behind, ">")


def _are_caf_chunks(behind: bytes) -> bool:
    at = 0
    while len(behind) - at >= 12 and behind[at : at + 4].strip(b"\0"):
        name, size = behind[at : at + 4], struct.unpack(">Q", behind[at + 4 : at + 12])[0]
        if name == b"data" or not name.isascii() or (at + 12 + size > len(behind) and name not in _KNOWN_CHUNKS):
            return False
        at += 12 + size
    return not behind[at:].strip(b"\0")


def _well_formed(behind: bytes, order: str) -> bool:
    at = 0
    for _ in range(_MOST_CHUNKS):
        rest = behind[at : at + 8]
        if len(behind) - at <= 1 or not behind[at:].strip(b"\0"):
            return True
        if rest[:3] == b"TAG" and len(behind) - at == 128:
            return True
        if len(rest) < 8 or not all(32 <= byte < 127 for byte in rest[:4]):
            return False
        if rest[:4] in (b"data", b"RIFF", b"RIFX", b"RF64", b"FORM", b"SSND", b"BODY"):
            return False
        size = struct.unpack(f"{order}I", rest[4:])[0]
        if at + 8 + size > len(behind):
            return rest[:4] in _KNOWN_CHUNKS
        at += 8 + size + size % 2
    return False


_COMPRESSED: dict[str, Callable[[bytes, int], Account]] = {
    "FLAC": lambda data, frames: ogg.account(data, frames) if data[:4] == b"OggS" else flac.account(data),
    "OGG": ogg.account,
    "MP3": mpeg.account,
    "MPEG": mpeg.account,
}
_FINDERS: dict[str, Callable[[BinaryIO], _Sound | None]] = {
    "WAV": _riff,
    "WAVEX": _riff,
    "RF64": _riff,
    "W64": _wave64,
    "AIFF": _iff,
    "SVX": _iff,
    "CAF": _caf,
    "AU": _au,
    "NIST": _sphere,
}
#: libsndfile's names of the containers in which a missing end can be told.
CONTAINERS = (*_FINDERS, *_COMPRESSED, "VOC")
