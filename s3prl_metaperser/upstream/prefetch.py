"""Work done ahead in a few threads, returned in order: audio is decoded while the upstream computes."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from s3prl_metaperser.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")

#: More threads gain nothing: decoding is a small part of the work.
MOST_THREADS = 4
#: Items that one thread takes at a time, so that overhead is small even for small items.
BLOCK = 8


def cores() -> int:
    """How many CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def prefetched(
    work: Callable[[Item], Result], items: Sequence[Item], ahead: int
) -> Iterator[Iterator[tuple[Item, Result | UserError]]]:
    """Within the block, each item with ``work(item)``, in order, started at least ``ahead`` items in advance.

    A UserError of an item takes the place of its result; any other exception is raised there. On leaving the block,
    also by an interrupt, pending work is cancelled.

    Args:
        work: runs in other threads, so it must be thread-safe.
    """
    pool = ThreadPoolExecutor(max(1, min(MOST_THREADS, cores())), "prefetch")
    try:
        yield _in_order(pool, work, items, 1 + -(-ahead // BLOCK))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _in_order(
    pool: ThreadPoolExecutor, work: Callable[[Item], Result], items: Sequence[Item], ahead: int
) -> Iterator[tuple[Item, Result | UserError]]:
    blocks = [items[start : start + BLOCK] for start in range(0, len(items), BLOCK)]
    begun: deque[Future] = deque()
    for index, block in enumerate(blocks):
        while len(begun) <= ahead and index + len(begun) < len(blocks):
            begun.append(pool.submit(_done, work, blocks[index + len(begun)]))
        yield from zip(block, begun.popleft().result(), strict=True)


def _done(work: Callable[[Item], Result], block: Sequence[Item]) -> list[Result | UserError]:
    found: list[Result | UserError] = []
    for item in block:
        try:
            found.append(work(item))
        except UserError as error:
            found.append(error)
    return found
