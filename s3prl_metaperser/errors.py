"""The one exception for mistakes in the input and faults of the machine: it says what to do."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Sequence
from typing import Any


class UserError(Exception):
    """A mistake that the user can fix.

    The message names the file, line, key or value at fault and says what to do. Command-line entry points print
    it as one line without a traceback and exit with status 2; a library user catches it as an exception.
    """


def did_you_mean(value: str, known: Iterable[str]) -> str:
    """`` Did you mean 'x'? Or 'y', 'z'?`` with up to three known names, the nearest first; empty where none is near.

    >>> did_you_mean("wavlm_bse", ["wavlm", "wavlm_base", "wavlm_base_plus", "fbank"])
    " Did you mean 'wavlm_base'? Or 'wavlm_base_plus', 'wavlm'?"
    """
    near, *others = difflib.get_close_matches(str(value), [str(name) for name in known], n=3) or [""]
    if not near:
        return ""
    return f" Did you mean {near!r}?" + (f" Or {', '.join(map(repr, others))}?" if others else "")


def unknown_name(kind: str, value: str, known: Iterable[str], listed: str = "") -> UserError:
    """The error for a name that is not registered: what was given, the nearest known names, all known names.

    Args:
        listed: the command that lists them, in place of names that would fill a page.
    """
    known = sorted(known)
    rest = f"`{listed}` lists all {len(known)}." if listed else f"Available: {', '.join(known)}."
    return UserError(f"Unknown {kind} {value!r}.{did_you_mean(value, known)} {rest}")


def listed(names: Sequence[object], most: int = 3) -> str:
    """The first names in a line, and dots where there are more.

    >>> listed(["a", "b", "c", "d"])
    'a, b, c, ...'
    """
    return ", ".join(map(str, names[:most])) + (", ..." if len(names) > most else "")


def first_line(error: BaseException) -> str:
    """The first line of what an error says, or its type where it says nothing."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def one_line(error: BaseException, most: int = 200) -> str:
    """What an error says, on one line and cut."""
    return " ".join(str(error).split())[:most]


def printable(text: str, keep: str = "\n\t") -> str:
    """``text`` for a terminal: names and labels come from files, and no control sequence in them may take effect.

    Line breaks and tabs stay, but not in a name (``keep=""``), which could pretend to be several lines; every other
    character that is not printable (escape sequences, changes of the writing direction, undecodable bytes) is shown
    escaped.
    """
    if text.isprintable():
        return str(text)
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)


def printable_json(value: Any) -> str:
    """JSON for a terminal or a pipe: as :func:`printable`, what is not printable is escaped, as JSON escapes it."""
    text = json.dumps(value, indent=1, ensure_ascii=False)
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def shown(value: Any, limit: int = 80) -> str:
    """``repr(value)`` for a message, cut to ``limit`` characters."""
    try:
        text = value[: 2 * limit].__repr__() if isinstance(value, str) else repr(value)
    except (ValueError, RecursionError):  # Python refuses to print integers of thousands of digits
        text = f"a value of type {type(value).__name__}"
    return text if len(text) <= limit else f"{text[: limit - 3]}..."
