"""The one exception that means "the input or the machine is at fault, and here is what to do"."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake that the user can mend.

    The message names the file, line, key or value at fault and says what to do. Command-line entry points print
    it as one line without a traceback and exit with status 2; a library user catches it as an exception.
    """


def did_you_mean(value: str, known: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` with the nearest known name, or an empty string where none is near."""
    near = difflib.get_close_matches(str(value), [str(name) for name in known], n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def unknown_name(kind: str, value: str, known: Iterable[str]) -> UserError:
    """The error for a name that is not registered: what was given, the nearest known name, all known names."""
    known = sorted(known)
    return UserError(f"Unknown {kind} {value!r}.{did_you_mean(value, known)} Available: {', '.join(known)}.")
