"""Axes of a benchmark grid that a task brings, besides corpus, upstream, scope, system and protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Axis:
    """What cells of one corpus, upstream, scope and system differ in.

    Attributes:
        name: in ``--only`` and in reports of a grid's state, such as ``fold``.
        key: in a grid's file, where it has a list of values, such as ``folds``.
        option: that it sets, such as ``downstream_expert.datarc.fold``.
        kind: type of one value, as :mod:`s3prl_metaperser.config.validator` takes it.
        values: the values where the file has none, given the options of that part of the grid.
        role: what cells along it share. ``data``: neither training data nor a table; ``unit``: a row of a table, which
            is a mean over it; ``test``: all but how they are tested.
        letter: before its value in texts (``K=32``) and folders (``k32``), with the role ``test``.
        closed: whether other values than ``values`` are mistakes.
    """

    name: str
    key: str
    option: str
    kind: Any
    values: Callable[[Mapping[str, Any]], tuple[Any, ...]]
    role: Literal["data", "unit", "test"]
    letter: str = ""
    closed: bool = False
