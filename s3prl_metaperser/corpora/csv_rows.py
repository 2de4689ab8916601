"""CSV files read strictly: whatever is odd becomes an error that names file and line."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from s3prl_metaperser.errors import UserError, did_you_mean
from s3prl_metaperser.storage.csv_text import as_meant

Rows = Iterator[tuple[int, list[str]]]


def rows(path: Path, *, as_written: bool = False) -> Rows:
    """(number of its first line, fields) of each row that is not empty, all as long as the first, the header.

    Args:
        as_written: keep the apostrophes that :func:`.storage.csv_text.inert` puts before formulas.

    Raises:
        UserError: not readable, not UTF-8, not valid CSV, or a row with more or fewer fields than the header.
    """
    line, width = 1, 0
    try:
        with path.open(newline="", encoding="utf-8-sig") as handle:
            reader = csv.reader(handle, strict=True)
            for row in reader:
                if any(row):
                    if len(row) != (width := width or len(row)):
                        raise UserError(
                            f"{path}:{line}: {len(row)} fields where the header has {width}. "
                            "Put quotes around a field that holds a comma."
                        )
                    yield line, row if as_written else [as_meant(cell) for cell in row]
                line = reader.line_num + 1
    except csv.Error as error:
        raise UserError(f"{path}:{line}: not valid CSV ({error}). Look for a quote that is not closed.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}:{_undecodable_line(path)}: not UTF-8. Save the file as UTF-8.") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from None


def _undecodable_line(path: Path) -> int:
    content = path.read_bytes()
    try:
        content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return content.count(b"\n", 0, error.start) + 1
    return 1


def read_header(path: Path, table: Rows, ours: Collection[str]) -> list[str]:
    """The column names; those in ``ours`` may have any case and come in lower case, all others as written.

    Raises:
        UserError: two columns of one name, or a name with a NUL character.
    """
    _, row = next(table, (1, []))
    names = [name.strip() for name in row]
    if any("\0" in name for name in names):
        raise UserError(f"{path}:1: a column's name contains a NUL character. Save the file as UTF-8.")
    names = [name.lower() if name.lower() in ours else name for name in names]
    twice = [name for name, count in Counter(names).items() if name and count > 1]
    if twice:
        raise UserError(f"{path}:1: two columns are named {twice[0]!r}. Rename one.")
    return names


def find_column(header: list[str], aliases: Sequence[str]) -> int | None:
    """Index of the first of ``aliases`` that is a column."""
    return next((header.index(name) for name in aliases if name in header), None)


def column(path: Path, header: list[str], aliases: Sequence[str]) -> int:
    """As ``find_column``.

    Raises:
        UserError: there is no such column; the message names the existing ones.
    """
    found = find_column(header, aliases)
    if found is None:
        other_separator = len(header) == 1 and any(mark in header[0] for mark in ";\t")
        hint = " Separate the columns by commas." if other_separator else did_you_mean(aliases[0], header)
        there = ", ".join(header) or "nothing"
        raise UserError(f"{path}:1: column {aliases[0]!r} is missing; it has {there}.{hint}")
    return found
