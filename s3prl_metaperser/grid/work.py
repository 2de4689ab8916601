"""All cells, one after another, or shared among processes through each cell's lock.

Every process goes through the same list: it skips finished cells, leaves those that another one works on, and returns
to them at the end. So ``--jobs``, a second ``metaperser run`` beside the first, and a run after a crash are the same.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from s3prl_metaperser.errors import UserError
from s3prl_metaperser.grid.cells import Cell
from s3prl_metaperser.grid.results import Results
from s3prl_metaperser.storage.locks import PATIENCE, Held

#: Between two looks at cells that other processes hold.
POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Event:
    """What happened.

    Attributes:
        kind: ``begun``, ``progress`` (of ``text``), ``done`` (by this run), ``found`` (was done already), ``failed``
            (``text`` is the error's first line).
    """

    kind: Literal["begun", "progress", "done", "found", "failed"]
    cell: int
    text: str = ""


@dataclass(frozen=True)
class Work:
    """What is to be done, and how.

    Attributes:
        since: when the run began, in seconds since the epoch: a failure recorded later is this run's own.
    """

    cells: Sequence[Cell]
    results: Results
    device: str
    keep_going: bool
    since: float


def in_this_process(work: Work, tell: Callable[[Event], None], first: int = 0, stop=lambda: False) -> None:
    """Work until no cell is left that is neither done nor failed.

    Args:
        first: the index to begin at; the others follow.
        stop: called before each cell; true ends the work.
    """
    from s3prl_metaperser.grid.session import Session

    at = 0
    session = Session(work.device, lambda text: tell(Event("progress", at, text)))
    left, moved = [*range(first, len(work.cells)), *range(first)], time.monotonic()
    while left:
        others = []
        for at in left:
            if stop():
                return
            ended = _attempt(work, at, session, tell)
            if ended == "failed" and not work.keep_going:
                return
            if ended is None:
                others.append(at)
        if len(others) == len(left):
            _wait(work, others, time.monotonic() - moved, tell)
        else:
            moved = time.monotonic()
        left = others


def in_processes(work: Work, jobs: int, tell: Callable[[Event], None]) -> None:
    """The same in ``jobs`` processes.

    Raises:
        UserError: every process was ended from outside, so that cells are left.
    """
    context = multiprocessing.get_context("spawn")
    events = context.Queue()
    size = len(work.cells)
    workers = [
        context.Process(target=_worker, args=(work, events, jobs, number * size // jobs, os.getpid()), daemon=True)
        for number in range(jobs)
    ]
    ended: set[int] = set()
    for worker in workers:
        worker.start()
    try:
        for event in _events(events, workers):
            if event.kind in ("done", "found", "failed"):
                if event.cell in ended:
                    continue  # another process has reported it
                ended.add(event.cell)
            tell(event)
    finally:
        for worker in workers:
            worker.join(timeout=10)
            if worker.is_alive():
                worker.terminate()
    codes = [worker.exitcode for worker in workers if worker.exitcode not in (0, None)]
    if codes and work.keep_going and len(ended) < size:
        killed = min(codes) < 0
        hint = "The cause is most often a lack of memory: run again with fewer --jobs." if killed else ""
        raise UserError(
            f"{len(codes)} of {jobs} processes ended {f'by signal {-min(codes)}' if killed else 'with an error'}, and "
            f"{size - len(ended)} cell(s) are left; finished work is kept. {hint}".rstrip()
        )


def _attempt(work: Work, at: int, session, tell: Callable[[Event], None]) -> str | None:
    """How the cell ended; None where another process works on it."""
    cell, results = work.cells[at], work.results
    if ended := _ended(work, at, tell):
        return ended
    with results.working_on(cell) as mine:
        if not mine:
            return None
        if ended := _ended(work, at, tell):
            return ended
        tell(Event("begun", at))
        try:
            session.run(cell, results)
        except Exception as error:
            tell(Event("failed", at, results.fail(cell, error)))
            return "failed"
        tell(Event("done", at))
        return "done"


def _wait(work: Work, left: Sequence[int], waited: float, tell: Callable[[Event], None]) -> None:
    """Wait for other processes, whose cells are all that is left."""
    cell = work.cells[left[0]]
    if waited > PATIENCE:
        raise Held(f"cell {cell}", work.results.holders[cell.place], None, waited)
    tell(Event("progress", left[0], f"waiting for {work.results.holders[cell.place]}"))
    time.sleep(POLL_SECONDS)


def _ended(work: Work, at: int, tell: Callable[[Event], None]) -> str | None:
    cell, results = work.cells[at], work.results
    if results.is_done(cell):
        tell(Event("found", at))
        return "found"
    failure = results.failure(cell)
    if failure is not None and float(failure.get("time", 0)) >= work.since:
        tell(Event("failed", at, str(failure.get("error", ""))))
        return "failed"
    return None


def _worker(work: Work, events, jobs: int, first: int, parent: int) -> None:
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // jobs)))
    try:
        in_this_process(work, events.put, first, stop=lambda: os.getppid() != parent)
    except KeyboardInterrupt:
        sys.exit(130)


def _events(events, workers) -> Iterator[Event]:
    """Until every worker has ended and nothing is left in the queue."""
    while True:
        alive = any(worker.is_alive() for worker in workers)
        try:
            yield events.get(timeout=POLL_SECONDS)
        except queue.Empty:
            if not alive:
                return
