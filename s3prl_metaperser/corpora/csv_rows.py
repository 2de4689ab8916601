"""Tables read strictly: whatever is odd becomes an error that names file and line.

What spreadsheets write and what can mean only one thing is read: commas, semicolons or tabs, a first line ``sep=;``,
UTF-8 with or without a byte order mark, UTF-16 with one, and line ends of any system. Code pages (such as Windows-1252)
are refused: nothing in the file says which one it is.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import TextIO

from s3prl_metaperser.errors import UserError, did_you_mean
from s3prl_metaperser.storage.csv_text import as_meant

Rows = Iterator[tuple[int, list[str]]]

#: What separates columns.
SEPARATORS = ",;\t"
#: Excel's own first line, which says what does; other programs show it as a row.
_SEP_LINE = re.compile(r"\s*\"?sep\s*=\s*([^\w\s\"]|\t)\"?[\s,;]*", re.IGNORECASE)
#: Byte order marks, of which UTF-32's little-endian one begins as UTF-16's does.
_MARKS = (
    *((mark, "utf-32") for mark in (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)),
    *((mark, "utf-16") for mark in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)),
)


def rows(path: Path, known: Callable[[str], bool] | None = None, *, as_written: bool = False) -> Rows:
    """(number of its first line, fields) of each row that is not empty, all as long as the first, the header.

    Rows that all end with the same empty fields more than the header has are read without them; where the header ends
    with columns that have no name, rows may lack these.

    Args:
        known: whether a column's name is known, which decides where more than one separator could split the header.
        as_written: keep the apostrophes that :func:`.storage.csv_text.inert` puts before formulas.

    Raises:
        UserError: not readable, not Unicode, not valid CSV, or a row with more or fewer fields than the header.
    """
    line, named, widths = 1, 0, list[int]()  # of the header, and of rows, which may all end with the same empty fields
    try:
        with path.open(newline="", encoding=_encoding(path)) as handle:
            separator, line = _separator(handle, known)
            before = line - 1
            reader = csv.reader(handle, delimiter=separator, strict=True)
            for row in reader:
                if any(map(str.strip, row)):
                    if not widths:
                        named = max(n for n, name in enumerate(row, 1) if name.strip())
                    if widths and named <= len(row) < widths[0]:
                        row += [""] * (widths[0] - len(row))  # Excel leaves out fields of columns without a name
                    if len(widths) < 2:
                        wide = widths and any(map(str.strip, row[widths[0] :]))
                        widths.append(widths[0] if wide else len(row))
                    if len(row) != widths[-1] or len(row) < widths[0] or any(map(str.strip, row[widths[0] :])):
                        mark = "comma" if separator == "," else f"{separator!r}"
                        there = f"header has {widths[0]}" if len(row) != widths[0] else f"rows before have {widths[-1]}"
                        raise UserError(
                            f"{path}:{line}: {len(row)} fields where the {there}. "
                            f"Put quotes around a field that holds a {mark}."
                        )
                    row = row[: widths[0]]
                    yield line, row if as_written else [as_meant(cell) for cell in row]
                line = before + reader.line_num + 1
    except csv.Error as error:
        raise UserError(f"{path}:{line}: not valid CSV ({error}). Look for a quote that is not closed.") from error
    except UnicodeError as error:
        what = 'not UTF-8. Save the file as UTF-8 (in Excel: Save As, "CSV UTF-8").'
        raise UserError(f"{path}:{_undecodable_line(path)}: {what}") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from None


def _encoding(path: Path) -> str:
    with path.open("rb") as handle:
        head = handle.read(4)
    return next((name for mark, name in _MARKS if head.startswith(mark)), "utf-8-sig")


def _separator(handle: TextIO, known: Callable[[str], bool] | None) -> tuple[str, int]:
    """What separates the columns, and the number of the line at which the table, and now the handle, begins."""
    said = _SEP_LINE.fullmatch(handle.readline())
    start = handle.tell() if said else 0
    if said and len(_first_row(handle, said[1])) > 1:
        handle.seek(start)
        return said[1], 2
    found = {}
    for separator in SEPARATORS:
        handle.seek(start)
        header = _first_row(handle, separator)
        if len(header) > 1:
            found[separator] = known is not None and any(map(known, header))
    handle.seek(start)
    if len(found) > 1:
        found = {separator: True for separator, knows in found.items() if knows}
    return (next(iter(found)) if len(found) == 1 else ","), 2 if said else 1


def _first_row(handle: TextIO, separator: str) -> list[str]:
    try:
        rows = csv.reader(iter(handle.readline, ""), delimiter=separator)
        return next((row for row in rows if any(map(str.strip, row))), [])
    except csv.Error:
        return []


def _undecodable_line(path: Path) -> int:
    content = path.read_bytes()
    try:
        content.decode(_encoding(path))
    except UnicodeDecodeError as error:
        return content.count(b"\n", 0, error.start) + 1
    return 1


def read_header(path: Path, table: Rows, ours: Collection[str]) -> list[str]:
    """The column names; those in ``ours`` may have any case and come in lower case, all others as written.

    Raises:
        UserError: two columns of one name, or a name with a NUL character.
    """
    _, row = next(table, (1, []))
    names = [name.strip("\ufeff").strip() for name in row]  # a second byte order mark, of a file saved twice
    if names and names[0].startswith(("[{", "{", "[[")):
        readers = "annotation tools' JSON has readers of its own (`metaperser list corpora`)"
        raise UserError(f"{path}: this is JSON, and a table was expected. Export it as CSV; {readers}.")
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
        UserError: there is no such column.
    """
    found = find_column(header, aliases)
    if found is None:
        raise missing(path, aliases[0], header)
    return found


def missing(path: Path, name: str, header: list[str]) -> UserError:
    """The error for a table without a column; its message names the existing ones."""
    hint = " Separate the columns by commas." if len(header) == 1 else did_you_mean(name, header)
    return UserError(f"{path}:1: column {name!r} is missing; it has {', '.join(header) or 'nothing'}.{hint}")


def cells(path: Path, names: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """(line, column -> cell without blanks around it) of each row, of these columns, whose names may have any case.

    Raises:
        UserError: as :func:`rows`, or a column is missing.
    """
    table = rows(path, lambda name: name.strip().lower() in names)
    header = read_header(path, table, names)
    places = {name: column(path, header, (name,)) for name in names}
    yield from ((line, {name: row[n].strip() for name, n in places.items()}) for line, row in table)
