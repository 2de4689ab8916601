"""MP3 and its elder layers, frame by frame: how much is in a file, whatever its header says or leaves out.

Without a header that counts its frames (Xing, Info, VBRI), libsndfile guesses the length from the first frame's bit
rate, and a file of variable rate comes out short. Here the frames are counted (ISO/IEC 11172-3, 13818-3), and where
the guess is wrong, the file is decoded with a header that says their number put before it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from s3prl_metaperser.corpora.audio.base import MOST_SAMPLES, UNCOUNTED, Account

_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
# kbit/s by (MPEG-1?, layer); index 0 means free format, 15 is forbidden.
_BITRATES = {
    (True, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_FARTHEST = 1 << 16  # bytes in which the next frame is searched for


@dataclass(frozen=True)
class _Header:
    """One frame's header.

    Attributes:
        alike: what all frames of one stream share: version, layer and rate.
        samples: per channel.
        length: of the frame in bytes.
        side: bytes between the header and a Xing tag.
    """

    alike: tuple[int, int, int]
    samples: int
    length: int
    side: int


@dataclass
class _Walk:
    """The frames of a file.

    Attributes:
        frames: whole ones, the one that carries a count not among them.
        counts: what each such header says.
        streams: 1, and one more for each tag or header in the middle, where files were joined.
        junk: bytes that are neither frames nor tags.
        cut: the last frame goes on behind the end of the file.
    """

    first: _Header | None = None
    start: int = 0
    frames: int = 0
    counts: tuple[int, ...] = ()
    streams: int = 1
    junk: int = 0
    cut: bool = False


def account(data: bytes, decoder_frames: int) -> Account:
    """What a file of MPEG audio holds.

    Args:
        decoder_frames: samples per channel that libsndfile expects in it.
    """
    walk = _walked(data)
    if walk.first is None:
        return Account()
    samples = walk.frames * walk.first.samples
    if samples > MOST_SAMPLES or walk.frames > MOST_SAMPLES // 384:
        return Account(fault=f"more than {MOST_SAMPLES} samples are too much for one file. Split it.")
    if walk.cut:
        return Account(fault=f"truncated: the last frame is not whole; {samples} samples come before it.")
    if walk.junk:
        return Account(fault=f"{walk.junk} bytes between its frames are no MPEG audio; {samples} samples are.")
    if not any(walk.counts):  # a writer that cannot go back leaves a count of 0
        return _uncounted(data, walk, samples, decoder_frames)
    if walk.counts[0] != walk.frames:
        promised = walk.counts[0] * walk.first.samples
        more = f", in {walk.streams} files that were joined" if walk.streams > 1 else ""
        what = "truncated" if samples < promised else "the header is wrong"
        return Account(fault=f"{what}: it promises {promised} samples, and {samples} exist{more}.")
    return Account()


def _uncounted(data: bytes, walk: _Walk, samples: int, decoder_frames: int) -> Account:
    """A file whose frames no header counts: where libsndfile's guess is wrong, one is put before them."""
    if decoder_frames == samples:
        return Account(samples, note=UNCOUNTED)
    assert walk.first is not None, "the caller has seen that there is a frame"
    counted = _with_count(data[walk.start : walk.start + 4], walk.first, walk.frames) + data[walk.start :]
    return Account(samples, note=UNCOUNTED, streams=(counted,), surplus=2 * walk.first.samples)


def _with_count(first: bytes, header: _Header, frames: int) -> bytes:
    """Two frames of silence, like ``first`` but for their bit rate; the first one's Xing tag counts all that follow it.

    A decoder that knows the number of frames takes its own delay off the beginning; the second frame makes up for it.
    The tag claims a table that it has no room for, so that no encoder's delay is looked for behind it.
    """
    head = bytearray(first)
    head[1] |= 1  # no checksum
    for bitrate in range(1, 15):
        head[2] = bitrate << 4 | head[2] & 0x0C
        header = _header(bytes(head)) or header
        if header.length >= 4 + header.side + 12:
            break
    tagged = bytes(head) + bytes(header.side) + b"Xing" + struct.pack(">II", 5, frames + 1)
    return tagged.ljust(header.length, b"\0") + bytes(head).ljust(header.length, b"\0")


def _walked(data: bytes) -> _Walk:
    walk = _Walk()
    at = _behind_tags(data, 0)
    while at < len(data) and walk.frames <= MOST_SAMPLES // 384:
        header = _header(data[at : at + 4])
        if header is None or (walk.first is not None and header.alike != walk.first.alike):
            behind = _behind_tags(data, at)
            if behind > at:
                walk.streams += behind < len(data)
            elif not data[at:].strip(b"\0"):
                break
            else:
                behind = _next_frame(data, at + 1, walk.first)
                walk.junk += behind - at if walk.first is not None or behind == len(data) else 0
            at = behind
            continue
        if walk.first is None:
            if not _followed(data, at, header):
                behind = _next_frame(data, at + 1, None)
                if behind == len(data):
                    return walk
                at = behind
                continue
            walk.first, walk.start = header, at
        if at + header.length > len(data):
            walk.cut = True
            break
        count = _count(data[at : at + header.length], header)
        if count is None:
            walk.frames += 1
        else:
            walk.streams += walk.frames > 0
            walk.counts += (count,)
        at += header.length
    return walk


def _header(four: bytes) -> _Header | None:
    if len(four) < 4 or four[0] != 0xFF or four[1] & 0xE0 != 0xE0:
        return None
    version, layer = (four[1] >> 3) & 3, 4 - ((four[1] >> 1) & 3)
    bitrate, rate = four[2] >> 4, (four[2] >> 2) & 3
    if version == 1 or layer == 4 or bitrate in (0, 15) or rate == 3:
        return None
    hertz, bits = _RATES[version][rate], 1000 * _BITRATES[version == 3, layer][bitrate]
    padding = (four[2] >> 1) & 1
    mono = four[3] >> 6 == 3
    side = (17 if mono else 32) if version == 3 else (9 if mono else 17)
    if layer == 1:
        return _Header((version, layer, hertz), 384, (12 * bits // hertz + padding) * 4, side)
    samples = 576 if layer == 3 and version != 3 else 1152
    return _Header((version, layer, hertz), samples, samples // 8 * bits // hertz + padding, side)


def _count(frame: bytes, header: _Header) -> int | None:
    """How many frames follow, by a frame that exists to say so; None for any other frame."""
    tag = 4 + header.side
    if frame[tag : tag + 4] in (b"Xing", b"Info") and len(frame) >= tag + 12:
        flags, frames = struct.unpack(">II", frame[tag + 4 : tag + 12])
        return frames if flags & 1 else None
    if frame[36:40] == b"VBRI" and len(frame) >= 54:
        return struct.unpack(">I", frame[50:54])[0]
    return None


def _behind_tags(data: bytes, at: int) -> int:
    """Where the ID3, APE and lyrics tags that begin at ``at`` end."""
    while True:
        if data[at : at + 3] == b"ID3" and len(data) >= at + 10:
            a, b, c, d = data[at + 6 : at + 10]
            size = (a & 127) << 21 | (b & 127) << 14 | (c & 127) << 7 | d & 127
            at += 10 + size + (10 if data[at + 5] & 16 else 0)
        elif data[at : at + 3] == b"TAG":
            at += 128
        elif data[at : at + 8] == b"APETAGEX" and len(data) >= at + 32:
            size, flags = struct.unpack("<I4xI", data[at + 12 : at + 24])
            at += size + (32 if flags >> 29 & 1 else 0)
        elif data[at : at + 11] == b"LYRICSBEGIN" and (end := data.find(b"LYRICS200", at)) > 0:
            at = end + 9
        else:
            return min(at, len(data))


def _next_frame(data: bytes, at: int, first: _Header | None) -> int:
    """Where the next frame begins that another one follows; the end of the file where none is near."""
    for place in range(at, min(len(data), at + _FARTHEST)):
        header = _header(data[place : place + 4]) if data[place] == 0xFF else None
        if header is None or (first is not None and header.alike != first.alike):
            continue
        if _followed(data, place, header):
            return place
    return len(data)


def _followed(data: bytes, at: int, header: _Header) -> bool:
    behind = at + header.length
    following = _header(data[behind : behind + 4])
    return (following is not None and following.alike == header.alike) or _behind_tags(data, behind) >= len(data)
