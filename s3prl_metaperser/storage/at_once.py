"""Independent pieces of work, shared out over the machine's cores."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

Item = TypeVar("Item")
Found = TypeVar("Found")

_work: tuple[Callable[[Any], Any], Sequence[Any]]


def at_once(function: Callable[[Item], Found], items: Sequence[Item], *, few: int, chunk: int = 1) -> Iterator[Found]:
    """``map(function, items)``, in order, by as many processes as there are cores.

    The processes are forked: no interpreter starts, nobody's script runs twice, and only what is found is copied.

    Args:
        few: up to so many items this process does alone, as it does without a second core, and where forking is not
            safe (anywhere but on Linux).
        chunk: items that a process takes at a time.

    Examples:
        >>> list(at_once(abs, [-1, -2, -3], few=1))
        [1, 2, 3]
    """
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else 1
    if len(items) <= few or cores == 1 or multiprocessing.current_process().daemon:
        yield from map(function, items)
        return
    with multiprocessing.get_context("fork").Pool(cores, _take, (function, items)) as pool:
        yield from pool.imap(_do, range(len(items)), chunk)


def _take(function: Callable[[Any], Any], items: Sequence[Any]) -> None:
    global _work
    _work = function, items


def _do(number: int) -> Any:
    function, items = _work
    return function(items[number])
