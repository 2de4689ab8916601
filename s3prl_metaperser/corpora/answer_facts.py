"""How an answer was given: whether it was skipped, plays, times, and a second answer to the same clip.

The listening page writes these facts as columns of ratings.csv; annotation tools have places of their own for some.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

STATUS, PLAYS, HEARD, SECONDS, AT = "status", "plays", "heard", "response_time", "labelled_at"
#: Of the second answer to a clip that came again: the answer itself, and how it was given.
AGAIN = ("again", *(f"again_{name}" for name in (PLAYS, SECONDS, AT)))
#: Every fact, each a column of ratings.csv as soon as there is something to say.
FACTS = (STATUS, PLAYS, HEARD, SECONDS, AT, *AGAIN)
#: The status of a clip that was skipped.
SKIPPED = "skipped"
#: What is said of a clip that was heard to its end.
WHOLE = "whole"
#: What tools that keep further fields beside an answer are given all facts under.
EXTRA = "listening"


def facts_of(extra: Any = None, **native: Any) -> dict[str, str]:
    """Facts as an export has them.

    Args:
        extra: what stands under :data:`EXTRA`; anything but a mapping of facts is nothing.
        native: facts that the tool has itself, which go before it: seconds as numbers, times as :func:`utc` reads them.
    """
    own = extra if isinstance(extra, Mapping) else {}
    found = {name: str(own[name]) for name in FACTS if isinstance(own.get(name), str | int | float)}
    for name, value in native.items():
        text = utc(value) if name == AT else _seconds(value) if name == SECONDS else str(value)
        found |= {name: text} if text else {}
    return {name: text for name, text in found.items() if text}


def extra_of(facts: Mapping[str, str], *native: str) -> dict[str, str]:
    """The facts for which a tool has no place of its own."""
    return {name: facts[name] for name in FACTS if facts.get(name) and name not in native}


def utc(value: Any) -> str:
    """A time as ``2026-11-28T09:30:00Z``; empty where it is none. Text in ISO 8601, or seconds since 1970."""
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            found = datetime.fromtimestamp(value, UTC)
        else:
            found = datetime.fromisoformat(str(value))
    except (ValueError, OverflowError, OSError):
        return ""
    found = found if found.tzinfo else found.replace(tzinfo=UTC)
    return found.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds_since_1970(at: str) -> float | None:
    """The reverse of :func:`utc`; None where there is no time."""
    return datetime.fromisoformat(at).timestamp() if utc(at) else None


def _seconds(value: Any) -> str:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return ""
    return f"{number:.3f}" if math.isfinite(number) and number >= 0 else ""
