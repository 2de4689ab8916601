#!/usr/bin/env python
"""The demo's main job in seconds, from the command to the printed table, and where they go.

    python benchmarks/speed/demo.py --json result.json
    python benchmarks/speed/demo.py --tiny                    # seconds: does it run?

The README's two commands, each in a process of its own: first with the consensus initialisation to train (``first``),
then with it in the cache (``again``). Before that the demo corpus, its features and its episodes are made where they
are missing. A last pair of processes is timed part by part.
"""

from __future__ import annotations

import argparse
import builtins
import contextlib
import functools
import importlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from s3prl_metaperser.storage.paths import cache_root

LAUNCHER = ROOT / "run_downstream.py"
#: Part of the job -> functions whose time it is, as "module:name".
PARTS = {
    "reading the corpus": ["s3prl_metaperser.corpora:open_corpus", "s3prl_metaperser.run.workspace:make_split"],
    "hashing the audio": ["s3prl_metaperser.corpora.contents:audio_hash"],
    "features from the store": ["s3prl_metaperser.run.workspace:Workspace.features"],
    "initialisation": ["s3prl_metaperser.methods.meta_perser:initialised"],
    "drawing episodes": ["s3prl_metaperser.protocol.loader:EpisodicDataset.__getitem__"],
    "outer steps": ["s3prl_metaperser.run.outer_loop:OuterLoop.update"],
    "validation": ["s3prl_metaperser.run.training:validated"],
    "checkpoints and logs": [
        "s3prl_metaperser.run.experiment:Experiment.write",
        "s3prl_metaperser.run.experiment:Experiment.log",
    ],
    "meta-testing": ["s3prl_metaperser.run.testing:meta_test"],
    "metrics and intervals": ["s3prl_metaperser.run.testing:Result.of"],
}


class Stopwatch:
    """Exclusive processor seconds: a part that begins within another stops the other's watch."""

    def __init__(self):
        self.seconds: dict[str, float] = {}
        self._running = ["all else"]
        self._since = time.process_time()

    def _switch(self) -> None:
        now = time.process_time()
        part = self._running[-1]
        self.seconds[part] = self.seconds.get(part, 0.0) + now - self._since
        self._since = now

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time within the block is this part's."""
        self._switch()
        self._running.append(name)
        try:
            yield
        finally:
            self._switch()
            self._running.pop()

    def on(self, name: str, function: Callable) -> Callable:
        """``function``, with its calls timed."""

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.part(name):
                return function(*args, **kwargs)

        return timed


def part_by_part(command: list[str], out: Path) -> None:
    """Run the launcher in this process and write processor seconds by part."""
    watch = Stopwatch()
    builtins.__import__ = watch.on("imports", builtins.__import__)
    importlib.import_module = watch.on("imports", importlib.import_module)
    from s3prl_metaperser.s3prl_plugin import launcher
    from s3prl_metaperser.s3prl_stack import compat

    compat.apply()

    for part, targets in PARTS.items():
        for target in targets:
            module, _, path = target.partition(":")
            owner: Any = importlib.import_module(module)
            *holders, name = path.split(".")
            for holder in holders:
                owner = getattr(owner, holder)
            setattr(owner, name, watch.on(part, getattr(owner, name)))
    status = launcher.main(command)
    watch._switch()
    out.write_text(json.dumps(watch.seconds))
    sys.exit(status)


def commands(folder: Path, options: list[str]) -> dict[str, list[str]]:
    """The README's two commands."""
    train = ["-d", "personalized_emotion", "-u", "fbank_no_cmvn", "-m", "train", "-p", str(folder), *options]
    return {"train": train, "evaluate": ["-m", "evaluate", "-e", str(folder)]}


def run(command: list[str], cache: Path) -> float:
    """Wall seconds of one process."""
    begun = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *command], env={**os.environ, "METAPERSER_CACHE": str(cache)}, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"{command} failed:\n{done.stderr[-2000:]}")
    return time.perf_counter() - begun


def job(folder: Path, options: list[str], cache: Path) -> dict[str, float]:
    """Wall seconds of the two commands in a fresh folder."""
    shutil.rmtree(folder, ignore_errors=True)
    return {name: run([str(LAUNCHER), *c], cache) for name, c in commands(folder, options).items()}


def measure(rounds: int, options: list[str], cache: Path) -> dict[str, Any]:
    """Rounds of the job, and its parts; with no rounds only the job that makes what is missing."""
    seconds: dict[str, list[dict[str, float]]] = {"first": [], "again": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "demo"
        unprepared = job(folder, options, cache)  # makes the corpus, the features and the episodes
        if not rounds:
            seconds = {"unprepared": [unprepared]}
        for _ in range(rounds):
            shutil.rmtree(cache / "initialisation")
            for which in seconds:
                seconds[which].append(job(folder, options, cache))
        shutil.rmtree(folder)
        shutil.rmtree(cache / "initialisation")
        parts = {}
        for which, command in commands(folder, options).items():
            out = Path(name) / "parts.json"
            run([__file__, "--inside", json.dumps([command, str(out)])], cache)
            parts[which] = json.loads(out.read_text())
    return {"seconds": seconds, "processor_seconds_by_part": parts}


def show(result: dict[str, Any]) -> None:
    """Seconds and parts as text."""
    for which, rounds in result["seconds"].items():
        whole = [sum(both.values()) for both in rounds]
        each = ", ".join(f"{name} {statistics.median(both[name] for both in rounds):.1f}" for name in rounds[0])
        print(f"{which}: {statistics.median(whole):.1f} s ({min(whole):.1f} to {max(whole):.1f}): {each}")
    for which, parts in result["processor_seconds_by_part"].items():
        print(f"{which}, processor seconds by part: {sum(parts.values()):.2f}")
        for part, seconds in sorted(parts.items(), key=lambda item: -item[1]):
            print(f"  {part:<26}{seconds:>7.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cache", type=Path, help="a cache to copy corpus and features from [the usual one]")
    parser.add_argument("--tiny", action="store_true", help="a small corpus and few steps, to try the script")
    parser.add_argument("--inside", type=json.loads, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.inside:
        command, out = chosen.inside
        part_by_part(command, Path(out))
    from timing import about

    options: list[str] = []
    if chosen.tiny:
        from tests.small_demo import overrides

        options, chosen.rounds = ["-o", overrides()], 0
    with tempfile.TemporaryDirectory() as name:
        cache = Path(name) / "cache"
        source = chosen.cache or cache_root()
        for kind in ("demo", "features"):
            if (source / kind).is_dir():
                shutil.copytree(source / kind, cache / kind)
        result = {**about(), "rounds": chosen.rounds, **measure(chosen.rounds, options, cache)}
    show(result)
    if chosen.json:
        chosen.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
