"""FLAC: how many samples are in a file by its last frame (RFC 9639), whatever its first block says.

A FLAC that was written to a pipe says that it holds 0 samples, which means an unknown number.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from s3prl_metaperser.corpora.audio.base import Account

_MARK = b"fLaC\0\0\0\x22"  # with the head of the block that always comes first
_LARGEST_FRAME = 1 << 21
_MOST_CANDIDATES = 4096


@dataclass(frozen=True)
class _Info:
    start: int
    block: int  # samples of a block where all have as many, else 0
    total: int


@dataclass(frozen=True)
class _Frame:
    end: int  # samples up to its end
    whole: bool


def unknown_length(head: bytes) -> bool:
    """Whether a file says that it holds 0 samples, by its first bytes."""
    info = _info(head)
    return info is not None and info.total == 0


def account(data: bytes) -> Account:
    """What a FLAC file holds, by its bytes."""
    info = _info(data)
    if info is None:
        return Account()
    if data.find(_MARK, info.start + 4) > 0:
        return Account(fault=f"a second FLAC stream follows the first, of {info.total or 'unknown'} samples.")
    end = len(data) - 128 if data[-128:-125] == b"TAG" else len(data)
    last = _last_frame(data[:end], info)
    if info.total:
        if last is not None and last.end > info.total:
            return Account(
                fault=f"the header is wrong: {last.end - info.total} samples lie behind the {info.total} that it gives."
            )
        return Account(info.total)
    if last is None or not last.whole:
        known = "" if last is None else f", with which {last.end} samples would exist"
        return Account(fault=f"truncated: the length is unknown and the last frame is not whole{known}.")
    (packed,) = struct.unpack(">Q", data[info.start + 18 : info.start + 26])
    counted = data[: info.start + 18] + struct.pack(">Q", packed | last.end) + data[info.start + 26 :]
    return Account(last.end, note="the length in the header is unknown; read to the end.", streams=(counted,))


def _info(data: bytes) -> _Info | None:
    start = data.find(_MARK, 0, 1 << 20)
    if start < 0 or len(data) < start + 42:
        return None
    least, most = struct.unpack(">HH", data[start + 8 : start + 12])
    (packed,) = struct.unpack(">Q", data[start + 18 : start + 26])
    return _Info(start, least if least == most else 0, packed & ((1 << 36) - 1))


def _last_frame(data: bytes, info: _Info) -> _Frame | None:
    """The last frame: the one whose checksum holds up to the end, else the last header there is."""
    nearest: _Frame | None = None
    at, lowest = len(data), max(info.start + 42, len(data) - _LARGEST_FRAME)
    for _ in range(_MOST_CANDIDATES):
        at = data.rfind(b"\xff", lowest, at)
        if at < 0:
            break
        if data[at + 1 : at + 2] not in (b"\xf8", b"\xf9") or (end := _samples_up_to(data[at : at + 16], info)) is None:
            continue
        if _checksum(data[at:]) == 0:
            return _Frame(end, True)
        nearest = nearest or _Frame(end, False)
    return nearest


def _samples_up_to(head: bytes, info: _Info) -> int | None:
    """Samples up to the end of the frame that ``head`` begins; None where it is no frame's header."""
    if len(head) < 6 or head[2] >> 4 == 0 or head[2] & 15 == 15 or head[3] >> 4 > 10 or head[3] & 1:
        return None
    length = 1 if head[4] < 0x80 else 8 - (head[4] ^ 0xFF).bit_length()
    if head[4] >= 0x80 and not 2 <= length <= 7:
        return None
    number = head[4] & (0x7F if length == 1 else 0x7F >> length)
    for byte in head[5 : 4 + length]:
        number = number << 6 | byte & 0x3F
    at, code = 4 + length, head[2] >> 4
    if code == 1:
        block = 192
    elif code < 6:
        block = 576 << (code - 2)
    elif code < 8:
        block = int.from_bytes(head[at : at + code - 5], "big") + 1
        at += code - 5
    else:
        block = 256 << (code - 8)
    at += {12: 1, 13: 2, 14: 2}.get(head[2] & 15, 0)
    if len(head) <= at or _header_checksum(head[:at]) != head[at]:
        return None
    return (number if head[1] & 1 else number * (info.block or block)) + block


def _table(polynomial: int, bits: int) -> tuple[int, ...]:
    top, mask, table = 1 << (bits - 1), (1 << bits) - 1, []
    for byte in range(256):
        value = byte << (bits - 8)
        for _ in range(8):
            value = (value << 1 ^ (polynomial if value & top else 0)) & mask
        table.append(value)
    return tuple(table)


_CRC8, _CRC16 = _table(0x07, 8), _table(0x8005, 16)


def _header_checksum(data: bytes) -> int:
    value = 0
    for byte in data:
        value = _CRC8[value ^ byte]
    return value


def _checksum(data: bytes) -> int:
    value = 0
    for byte in data:
        value = (value << 8 & 0xFF00) ^ _CRC16[value >> 8 ^ byte]
    return value
