"""The one writer of CSV: what a spreadsheet would compute is quoted, and what was quoted is read back as it was."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence

#: Where a spreadsheet starts to compute: at a cell's beginning and, since some split cells there, after a semicolon, a
#: tab or a line's end; apostrophes and white space before the sign do not stop it. A number is no formula.
_START = r"(?:^|(?<=[;\t\r\n]))"
_NUMBER = r"(?:\d+(?:\.\d*)?(?:e[+-]?\d+)?|inf|nan)[^\S\t\r\n]*(?:[;\t\r\n]|$)"
_SIGN = rf"(?='*(?:[^\S\t\r\n]*(?:[=+@\uff1d\uff0b\uff20\uff0d]|-(?!{_NUMBER}))|[\t\r\n]))"
_FORMULA, _QUOTED = re.compile(_START + _SIGN), re.compile(_START + "'" + _SIGN)


def csv_text(rows: Iterable[Sequence[str]], *, as_written: bool = False) -> str:
    """Rows as CSV with ``\\n`` at the end of each; cells are :func:`inert`.

    Args:
        as_written: leave cells as they are: rows that somebody else wrote.

    >>> csv_text([["file", "share"], ["=1+1.wav", "-0.5"]])
    "file,share\\n'=1+1.wav,-0.5\\n"
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerows(rows if as_written else ([inert(cell) for cell in row] for row in rows))
    return out.getvalue()


def inert(text: str) -> str:
    """``text`` with an apostrophe before each formula, so that a spreadsheet shows it and does not compute it.

    >>> inert("@SUM(1).wav"), inert("-3"), inert("a;=1.wav")
    ("'@SUM(1).wav", '-3', "a;'=1.wav")
    """
    return _FORMULA.sub("'", text)


def as_meant(cell: str) -> str:
    """The text that :func:`inert` wrote as ``cell``; any other cell as it is.

    >>> as_meant("'@SUM(1).wav"), as_meant("'tis.wav")
    ('@SUM(1).wav', "'tis.wav")
    """
    return _QUOTED.sub("", cell)
