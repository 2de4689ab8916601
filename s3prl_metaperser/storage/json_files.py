"""JSON that somebody else may have written, read so that every fault in it is a ``ValueError``."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

orjson = importlib.import_module("orjson") if importlib.util.find_spec("orjson") else None

#: Deeper than anything that is written here or by others in earnest; far from what Python can recurse into.
DEEPEST = 100


def parse_json(text: str | bytes) -> Any:
    """The content of a JSON text.

    Raises:
        ValueError: it is not JSON, holds a number of thousands of digits, or is nested more than :data:`DEEPEST` deep.

    Examples:
        >>> parse_json('{"a": [1, 2]}')
        {'a': [1, 2]}
        >>> parse_json("[" * 200_000)
        Traceback (most recent call last):
        ValueError: it is nested more than 100 levels deep
    """
    try:
        content = _loaded(text)
    except RecursionError:
        content = None
        too_deep = True
    else:
        too_deep = _deeper_than(content, DEEPEST)
    if too_deep:
        raise ValueError(f"it is nested more than {DEEPEST} levels deep")
    return content


def _loaded(text: str | bytes) -> Any:
    """By orjson, in half the time, where it is installed and has nothing against it; errors are those of Python."""
    if orjson is not None:
        try:
            return orjson.loads(text)
        except ValueError:
            pass
    return json.loads(text)


def read_json(path: Path) -> Any:
    """:func:`parse_json` of a file in UTF-8.

    Raises:
        OSError: the file cannot be read.
        ValueError: its content cannot.
    """
    return parse_json(path.read_bytes().decode("utf-8-sig"))


def _deeper_than(content: Any, most: int) -> bool:
    level = [content]
    for _ in range(most + 1):
        level = [part for whole in level for part in _lists_in(whole)]
        if not level:
            return False
    return True


def _lists_in(whole: Any) -> Iterable[Any]:
    parts = whole.values() if isinstance(whole, dict) else whole if isinstance(whole, list) else ()
    if {list, dict}.isdisjoint(map(type, parts)):  # of numbers, hundreds of thousands of them
        return ()
    return [part for part in parts if isinstance(part, (list, dict))]
