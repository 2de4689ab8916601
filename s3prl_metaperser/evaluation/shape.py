"""The keys of a result file and the types of their values (docs/results.md)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any


class Number:
    """A finite number."""


class Count:
    """A whole number that is not negative."""


METRICS = {"macro_f1": Number, "micro_f1": Number, "unweighted_accuracy": Number}
SPAN = {"mean": Number, "low": Number, "high": Number}
CELL = {
    "corpus": str,
    "upstream": str,
    "scope": ("frozen", "finetuned"),
    "scenario": ("seen", "unseen"),
    "fold": str,
    "system": str,
    "split": ("test", "dev"),
    "shots": Count,
    "queries": Count,
    "seeds": [Count],
    "steps": Count,
    "protocol": ("paper", "tuned"),
    "standardized": bool,
    "training_seed": int,
}
EPISODE = {
    "seed": Count,
    "support": [str],
    "query": [str],
    "probabilities": [[Number]],
    "ticks": [[Count]],
    "loss": Number,
    "metrics": METRICS,
}
RESULT = {
    "schema": Count,
    "cell": CELL,
    "classes": [str],
    "raters": {"test": str, "validation": str, "train": [str]},
    "counts": dict.fromkeys(
        ("shots_requested", "shots_used", "queries_requested", "queries_used", "episodes"),
        Count,
    ),
    "metrics": dict.fromkeys(METRICS, SPAN),
    "selected_step": Count,
    "tuned": dict | None,
    "engine": str,
    "episodes": [EPISODE],
    "trajectory": list | None,
    "hashes": dict.fromkeys(("corpus", "task", "features", "upstream_checkpoint", "episodes", "code"), str),
    "options": dict,
    "versions": dict,
    "seconds": Number,
    "peak_memory_bytes": Count,
}


def shape_faults(value: Any) -> list[tuple[str, str]]:
    """Keys of a result file that are missing or of another type, with what is wrong; further keys are allowed."""
    return list(_faults(value, RESULT, ""))


def arrays_fit(value: Mapping[str, Any]) -> bool:
    """Whether every episode has a row of probabilities and of ticks, all as long, for each of its query utterances.

    Args:
        value: without :func:`shape_faults`.
    """
    return bool(value["episodes"]) and all(
        len(episode[name]) == len(episode["query"]) > 0 and len({len(row) for row in episode[name]}) == 1
        for episode in value["episodes"]
        for name in ("probabilities", "ticks")
    )


def _faults(value: Any, expected: Any, key: str) -> Iterator[tuple[str, str]]:
    """Keys at fault, with what is wrong.

    Args:
        expected: a type, allowed values (tuple), keys with what is expected of each (dict), or what is expected of each
            item (list of one).
    """
    if isinstance(expected, dict):
        if not isinstance(value, dict):
            yield key, f"{_kind(value)} in place of keys and values"
            return
        for name, inner in expected.items():
            path = f"{key}.{name}" if key else name
            if name in value:
                yield from _faults(value[name], inner, path)
            else:
                yield path, "is missing"
    elif isinstance(expected, list):
        if not isinstance(value, list):
            yield key, f"{_kind(value)} in place of a list"
            return
        for index, item in enumerate(value):
            yield from _faults(item, expected[0], f"{key}[{index}]")
    elif isinstance(expected, tuple):
        if value not in expected:
            yield key, f"{_kind(value)}, expected one of {', '.join(expected)}"
    elif not _fits(value, expected):
        yield key, f"{_kind(value)} in place of {_NAMES.get(expected, 'a value')}"


_NAMES = {
    Number: "a finite number",
    Count: "a whole number",
    str: "text",
    bool: "true or false",
    dict: "keys and values",
}


def _fits(value: Any, expected: Any) -> bool:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if expected is Number:
        return whole or (isinstance(value, float) and math.isfinite(value))
    if expected in (Count, int):
        return whole and (expected is int or value >= 0)
    return isinstance(value, expected)


def _kind(value: Any) -> str:
    return (
        repr(value) if isinstance(value, int | float | str | None) and len(repr(value)) < 40 else type(value).__name__
    )
