"""Is an audio file whole? libsndfile takes most files that were cut off for shorter ones, without a word."""

from __future__ import annotations

import os
import re
import struct
from typing import BinaryIO

import soundfile

#: libsndfile's names of the containers in which a missing end can be told.
CONTAINERS = ("WAV", "WAVEX", "RF64", "W64", "FLAC", "OGG", "MP3", "MPEG", "AIFF", "AU", "CAF", "NIST", "VOC", "SVX")

#: A file written to a pipe cannot know its length; writers then leave one of these in the size field.
_UNKNOWN_SIZES = (0, 0x7FFFFFFF, 0xFFFFFFFF)
_MOST_CHUNKS = 10_000
_LONGEST_OGG_PAGE = 65_307
# What libsndfile notes of a file whose header promises more than there is.
_NOTED = re.compile(r"^.*(?:\bshould be\b|does not match value|not equal to frame count|truncated).*$", re.M)
_UNKNOWN = re.compile(r":\s*(?:-1|0|2147483647|4294967295)\s*\(should be")


def missing(file: BinaryIO, audio: soundfile.SoundFile) -> str | None:
    """What is missing of a file, in words; None where nothing is.

    An MP3 without the header that counts its frames cannot be checked.

    Args:
        file: the file, open for reading bytes.
        audio: the same file as libsndfile has opened it.
    """
    if audio.format in ("WAV", "WAVEX"):
        return _missing_of_wav(file)
    if audio.format == "OGG":
        return _missing_of_ogg(file)
    if audio.format == "NIST":
        return _missing_of_sphere(file, audio.frames)
    if audio.format in ("RF64", "W64", "AIFF", "AU", "CAF", "VOC", "SVX"):
        noted = [line for line in _NOTED.findall(audio.extra_info) if not _UNKNOWN.search(line)]
        return " ".join(noted[0].split()) if noted else None
    return None  # FLAC, MP3: their decoders promise a number of samples, which is compared with what they give


def _missing_of_wav(file: BinaryIO) -> str | None:
    """Walk the chunks."""
    file.seek(12)
    file_size = os.fstat(file.fileno()).st_size
    for _ in range(_MOST_CHUNKS):
        if len(chunk := file.read(8)) < 8:
            break
        name, size = struct.unpack("<4sI", chunk)
        if name == b"data":
            there = file_size - file.tell()
            cut = there < size and size not in _UNKNOWN_SIZES
            return f"{there} of {size} bytes of audio are there" if cut else None
        file.seek(size + size % 2, os.SEEK_CUR)
    return None


def _missing_of_ogg(file: BinaryIO) -> str | None:
    """The last page says that it is the last, and is all there."""
    size = os.fstat(file.fileno()).st_size
    file.seek(max(0, size - _LONGEST_OGG_PAGE))
    end = file.read()
    start = end.rfind(b"OggS")
    page = end[start:] if start >= 0 else b""
    lacing = page[27 : 27 + page[26]] if len(page) > 26 else b""
    whole = len(page) > 26 and len(lacing) == page[26] and len(page) >= 27 + len(lacing) + sum(lacing)
    return None if whole and page[5] & 4 else "the last page of the Ogg stream is not there"


def _missing_of_sphere(file: BinaryIO, frames: int) -> str | None:
    file.seek(0)
    promised = re.search(rb"^sample_count -i (\d+)", file.read(1024), re.M)
    if promised and int(promised[1]) > frames:
        return f"{frames} of {int(promised[1])} samples are there"
    return None
