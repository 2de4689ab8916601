"""Cells of a table as people's programs write them, brought into the one form that label sets read: ``happy;sad``."""

from __future__ import annotations

import ast
import json
from typing import Any

#: What spreadsheets and data frames write where there is nothing, in lower case.
BLANK = frozenset({"", "#n/a", "<na>", "-nan", "n/a", "na", "nan", "nat", "none", "null"})
#: No cell of labels is longer; nothing longer is taken apart.
_LONGEST = 10_000


def is_blank(text: str) -> bool:
    """Whether a cell says that there is no label; a label set that has such a word as a class goes first."""
    return text.strip().lower() in BLANK


def plain_cell(text: str) -> str | None:
    """A cell with a JSON value as ``happy;sad``, ``happy:0.7;sad:0.3`` or ``4``; any other cell as it is.

    Lists of labels, ``{"choices": [...]}`` and ``{"rating": 4}`` (Label Studio), shares by label, and Python's own
    spelling of such values are understood.

    Returns:
        None for JSON that is none of these.

    Examples:
        >>> plain_cell('["Happy", "Sad"]'), plain_cell('{"choices": ["Happy"]}'), plain_cell("Happy; Sad")
        ('Happy;Sad', 'Happy', 'Happy; Sad')
        >>> plain_cell('[{"rating": 4}]'), plain_cell("{'happy': 0.75, 'sad': 0.25}"), plain_cell("[]")
        ('4', 'happy:0.75;sad:0.25', '')
    """
    text = text.strip()
    if not text.startswith(("[", "{")) or not text.endswith(("]", "}")) or len(text) > _LONGEST:
        return text
    labels = _labels(_value(text))
    return None if labels is None else ";".join(labels)


def _value(text: str) -> Any:
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            continue
    return {"": None}  # no value at all


def _labels(value: Any) -> list[str] | None:
    """The labels of a JSON value; None where it is none of the known forms."""
    if value is None:
        return []
    if isinstance(value, str):
        return [value]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return [f"{value:.17g}"]
    if isinstance(value, list | tuple):
        parts = [_labels(part) for part in value]
        return None if None in parts else [label for part in parts if part for label in part]
    if isinstance(value, dict) and len(value) == 1 and (name := next(iter(value))) in ("choices", "rating"):
        return _labels(value[name])
    if isinstance(value, dict) and value and all(isinstance(name, str) for name in value):
        shares = [(name, _labels(share)) for name, share in value.items()]
        if all(isinstance(value[name], int | float) and share for name, share in shares):
            return [f"{name}:{share[0]}" for name, share in shares if share]
    return None
