"""Interleaved rounds, and what is said of the machine: shared by the benchmarks of this folder."""

from __future__ import annotations

import datetime
import gc
import os
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

CLOCKS = {"process": time.process_time, "wall": time.perf_counter}


def interleaved(runs: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, dict[str, list[float]]]:
    """Seconds of each run by processor and by the clock on the wall, one number a round.

    In every round each run has its turn, so that what else happens on the machine meets all of them alike. A turn is a
    run that does not count and one that does: the first gives back to the system what the run before it has left (the
    C library does so at the next large ``free``, 12 ms after an unrolled loop), and fills the caches.
    """
    found: dict[str, dict[str, list[float]]] = {name: {clock: [] for clock in CLOCKS} for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            run()
            gc.collect()
            begun = {clock: now() for clock, now in CLOCKS.items()}
            run()
            for clock, now in CLOCKS.items():
                found[name][clock].append(now() - begun[clock])
    return found


def medians(seconds: Mapping[str, Mapping[str, list[float]]], clock: str = "process") -> dict[str, float]:
    """Run -> median over rounds."""
    return {name: statistics.median(clocks[clock]) for name, clocks in seconds.items()}


def ratio(seconds: Mapping[str, Mapping[str, list[float]]], one: str, other: str, clock: str = "process") -> float:
    """How many times as long ``one`` takes as ``other``: the median of the rounds' own ratios."""
    pairs = zip(seconds[one][clock], seconds[other][clock], strict=True)
    return statistics.median(a / b for a, b in pairs)


def about() -> dict[str, Any]:
    """Date and machine, without the machine's name."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "date": datetime.date.today().isoformat(),
        "machine": {"device": f"CPU, {cores} cores", "threads": torch.get_num_threads(), "torch": torch.__version__},
        "load_at_the_end": load,
    }
