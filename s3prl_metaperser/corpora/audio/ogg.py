"""Ogg, page by page (RFC 3533): whether a file is whole, and how many streams follow one another in it.

libsndfile decodes the first stream of a chained file alone; here each is cut out and decoded by itself.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from s3prl_metaperser.corpora.audio.base import Account

_AUDIO = {b"\x01vorbis": "Vorbis", b"OpusHead": "Opus", b"\x7fFLAC": "FLAC", b"Speex   ": "Speex"}
_FIRST, _LAST = 2, 4
_MOST_PAGES = 1 << 21


@dataclass(frozen=True)
class _Page:
    start: int
    end: int
    flags: int
    serial: int
    number: int
    body: int


@dataclass
class _Link:
    """Streams that run side by side: serial -> codec, number of the last page, whether it is marked as the last."""

    start: int
    codecs: dict[int, str] = field(default_factory=dict)
    numbers: dict[int, int] = field(default_factory=dict)
    ended: dict[int, bool] = field(default_factory=dict)
    end: int = 0


def codecs(head: bytes) -> set[str]:
    """Names of the audio codecs of the first streams of a file, by its first bytes."""
    found = set()
    for page in _pages(head):
        if not page.flags & _FIRST:
            break
        found.add(_codec(head, page))
    return found - {""}


def account(data: bytes, decoder_frames: int) -> Account:
    """What an Ogg file holds.

    Args:
        decoder_frames: samples per channel that libsndfile expects in it.
    """
    links: list[_Link] = []
    at, headers = 0, False
    for count, page in enumerate(_pages(data)):
        if count > _MOST_PAGES:
            return Account(fault=f"damaged: more than {_MOST_PAGES} pages in {len(data)} bytes.")
        begins = bool(page.flags & _FIRST)
        if begins and not headers:
            links.append(_Link(page.start))
        headers = begins
        if fault := _entered(data, page, links, decoder_frames):
            return Account(fault=fault)
        at = page.end
    left = data[at:]
    if left.strip(b"\0"):
        kind = "the last page is not whole" if left[:4] == b"OggS"[: len(left)] else "they are no Ogg page"
        return Account(fault=f"truncated: {len(left)} bytes lie behind the last whole page, and {kind}.")
    for link in links:
        if missing := [serial for serial in link.codecs if link.codecs[serial] and not link.ended.get(serial)]:
            return Account(fault=_unended(link, missing[0], decoder_frames))
        if sum(map(bool, link.codecs.values())) > 1:
            return Account(fault=f"{len(link.codecs)} audio tracks run side by side. Extract one.")
    if len(links) < 2:
        return Account()
    note = f"{len(links)} streams follow one another in the file; all are read."
    return Account(note=note, streams=tuple(data[link.start : link.end] for link in links))


def _entered(data: bytes, page: _Page, links: list[_Link], decoder_frames: int) -> str:
    """Count a page in; what is wrong with it."""
    if not links:
        return "the first page of the stream is missing."
    if not _intact(data[page.start : page.end]):
        return f"page {page.number} is damaged; {decoder_frames} samples can be decoded."
    link = links[-1]
    if page.flags & _FIRST:
        link.codecs[page.serial] = _codec(data, page)
    elif page.serial not in link.numbers:
        return f"a page of an unknown stream ({page.serial}); {decoder_frames} samples come before it."
    elif page.number != link.numbers[page.serial] + 1:
        return f"page {link.numbers[page.serial] + 1} of the stream is missing; {page.number} follows it."
    link.numbers[page.serial], link.end = page.number, page.end
    link.ended[page.serial] = link.ended.get(page.serial, False) or bool(page.flags & _LAST)
    return ""


def _unended(link: _Link, serial: int, decoder_frames: int) -> str:
    pages = link.numbers[serial] + 1
    return (
        f"truncated: the last page of the Ogg stream is missing or not marked as the last; {pages} pages with "
        f"{decoder_frames} samples exist. If nothing is missing, rewrite the end mark."
    )


_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def _intact(page: bytes) -> bool:
    """Whether a page's checksum holds: the CRC-32 of zlib, but for the order of bits, its start and its end."""
    plain = page[:22] + bytes(4) + page[26:]
    value = zlib.crc32(plain.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{value:032b}"[::-1], 2) == struct.unpack("<I", page[22:26])[0]


def _codec(data: bytes, page: _Page) -> str:
    return next((name for magic, name in _AUDIO.items() if data.startswith(magic, page.body)), "")


def _pages(data: bytes) -> Iterator[_Page]:
    """Whole pages, as long as one follows another."""
    at = 0
    while data[at : at + 5] == b"OggS\0" and len(data) >= at + 27:
        flags, serial, number, segments = struct.unpack("<B8xII4xB", data[at + 5 : at + 27])
        body = at + 27 + segments
        end = body + sum(data[at + 27 : body])
        if end > len(data):
            return
        yield _Page(at, end, flags, serial, number, body)
        at = end
