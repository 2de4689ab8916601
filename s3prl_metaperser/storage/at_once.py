"""Independent pieces of work, shared out over the machine's cores."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from threadpoolctl import threadpool_limits

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
    with _rare_collection(), multiprocessing.get_context("fork").Pool(cores, _take, (function, items)) as pool:
        yield from pool.imap(_do, range(len(items)), chunk)


@contextlib.contextmanager
def _rare_collection() -> Iterator[None]:
    """Cycles are looked for a hundredth as often: what is read and sent holds none, in millions of objects."""
    often, *older = gc.get_threshold()
    gc.set_threshold(100 * often, *older)
    try:
        yield
    finally:
        gc.set_threshold(often, *older)


def _take(function: Callable[[Any], Any], items: Sequence[Any]) -> None:
    global _work
    _work = function, items
    gc.freeze()  # what came with the fork is the parent's to collect
    threadpool_limits(1)  # every core has a process; threads of small matrix products would only wait for each other


def _do(number: int) -> Any:
    function, items = _work
    return function(items[number])
