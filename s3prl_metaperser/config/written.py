"""Values that remember how they were written, so that a name is never taken for a number and becomes another name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

#: A number that reads alike everywhere: no leading zeros, underscores or colons, no other base.
PLAIN_NUMBER = re.compile(r"[-+]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_ODD_NUMBER = re.compile(r"[-+]?[0-9][0-9_:.]*(?:[eE][-+]?[0-9]+)?|[-+]?0[xXoObB][0-9a-fA-F_]+")
#: What to say of one that does not.
ODD = ", written without leading zeros, underscores, colons or another base"


def is_odd_number(value: Any) -> bool:
    """Whether a text is a number that programs read in different ways: ``010``, ``1_000``, ``1:30``, ``0x1f``."""
    return isinstance(value, str) and not PLAIN_NUMBER.fullmatch(value) and _ODD_NUMBER.fullmatch(value) is not None


class Unquoted(str):
    """Text that stands without quotes in a file and that YAML 1.1 takes for something else: ``010``, ``no``, ``12:30``.

    Attributes:
        line: where it stands.
        switch: what ``yes``, ``no``, ``on`` and ``off`` are where true or false is expected.
    """

    line: int
    switch: bool | None

    def __new__(cls, text: str, line: int, switch: bool | None = None) -> Unquoted:
        made = super().__new__(cls, text)
        made.line, made.switch = line, switch
        return made

    def __getnewargs__(self) -> tuple[str, int, bool | None]:  # type: ignore[override]
        return str(self), self.line, self.switch


class Written(list):
    """A list that remembers how its items were written: ``[1.10, null, +8]`` may be names.

    Attributes:
        written: the text of each item; None for one that is a list or a mapping.
    """

    written: Sequence[str | None]

    def __init__(self, items: Iterable[Any], written: Sequence[str | None]):
        super().__init__(items)
        self.written = written

    def __reduce__(self) -> tuple[type, tuple[list, Sequence[str | None]]]:
        return Written, (list(self), self.written)
