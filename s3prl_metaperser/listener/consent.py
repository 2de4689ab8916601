"""Who agreed to what, and when: ``consent.csv`` beside the labels."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from s3prl_metaperser.corpora import csv_rows
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.storage.atomic import write_text
from s3prl_metaperser.storage.csv_text import as_meant, csv_text, inert
from s3prl_metaperser.storage.hashing import text_hash
from s3prl_metaperser.storage.locks import beside, held

FILE = "consent.csv"
_HEADER = ["rater", "agreed_at", "text_sha256"]


def has_agreed(ratings: Path, rater: str, text: str) -> bool:
    """Whether ``rater`` agreed to this very text.

    Args:
        ratings: the file of labels.

    Raises:
        UserError: the file of consents cannot be read.
    """
    wanted = text_hash(text)
    return any(as_meant(who) == rater and said == wanted for who, _, said in _rows(ratings.parent / FILE))


def agree(ratings: Path, rater: str, text: str) -> None:
    """Write down that ``rater`` agreed now; the rows of others stay.

    Raises:
        UserError: the file of consents cannot be read or written.
    """
    path = ratings.parent / FILE
    with held(beside(path), f"{path}", wait=30.0):
        row = [inert(rater), datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), text_hash(text)]
        write_text(path.resolve(), csv_text([_HEADER, *_rows(path), row], as_written=True), private=True)


def _rows(path: Path) -> list[list[str]]:
    if not path.is_file():
        return []
    table = csv_rows.rows(path, _HEADER.__contains__, as_written=True)
    if csv_rows.read_header(path, table, _HEADER) != _HEADER:
        raise UserError(f"{path}:1: expected the columns {','.join(_HEADER)}. Move the file away, or put them back.")
    return [row for _, row in table]
