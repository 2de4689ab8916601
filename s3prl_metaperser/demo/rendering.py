"""Runs the synthesiser: one process per speaker, a few at a time."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from s3prl_metaperser.demo.voice import Delivery, to_json
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.storage.disk import reported

_CODE = "from s3prl_metaperser.demo.voice import main; main()"


def require_parselmouth() -> None:
    """Raise a ``UserError`` that says what to install where the synthesiser is missing."""
    if importlib.util.find_spec("parselmouth") is None:
        raise UserError(
            "praat-parselmouth is not installed; it synthesises the demo corpus. "
            "Install it: pip install 's3prl-metaperser[demo]'"
        )


def render_speakers(
    plans: Sequence[Sequence[Delivery]],
    folder: Path,
    *,
    workers: int,
    done: Callable[[int], object],
    finished: Callable[[int], object] = lambda _: None,
) -> dict[str, int]:
    """Render every plan in its own process, ``workers`` at a time; none survives this call.

    Args:
        plans: one list of deliveries per speaker.
        folder: where the corpus is being written.
        workers: how many processes at once.
        done: called with 1 after each file.
        finished: called with a plan's number after its last file, in any thread.

    Returns:
        Path of each WAV file (as in its delivery) -> number of samples.
    """
    require_parselmouth()
    running: set[subprocess.Popen] = set()
    lock = threading.Lock()
    stopped = threading.Event()
    samples: dict[str, int] = {}

    def render(number: int, plan: Sequence[Delivery]) -> None:
        with lock:
            if stopped.is_set():
                return
            process = subprocess.Popen(
                [sys.executable, "-c", _CODE],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=_environment(),
                cwd=folder,  # "-c" looks for modules there first, and it has none
            )
            running.add(process)
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        written = 0
        try:
            with contextlib.suppress(BrokenPipeError):  # a process that dies at once says why on stderr
                process.stdin.write(to_json(plan, folder))
                process.stdin.close()
            for line in process.stdout:
                samples[plan[written].path] = int(line)
                written += 1
                done(1)
            error = process.stderr.read().strip()
            process.wait()
        finally:
            _end(process)
            with lock:
                running.discard(process)
        if (process.returncode or written < len(plan)) and not stopped.is_set():
            why = error.splitlines()[-1] if error else f"exit status {process.returncode}"
            if code := reported(why):
                raise OSError(code, os.strerror(code), str(folder))
            raise UserError(f"Praat's synthesiser stopped after {written} of {len(plan)} files of one speaker: {why}")
        if not stopped.is_set():
            finished(number)

    with ThreadPoolExecutor(max_workers=workers) as pool:
        futures = [pool.submit(render, number, plan) for number, plan in enumerate(plans) if plan]
        try:
            for future in futures:
                future.result()
        except BaseException:
            stopped.set()
            with lock:
                for process in running:
                    process.kill()
            for future in futures:
                future.cancel()
            raise
    return samples


def _end(process: subprocess.Popen) -> None:
    """Kill the process if it still runs, and close its pipes."""
    process.kill()
    process.wait()
    for pipe in filter(None, (process.stdin, process.stdout, process.stderr)):
        with contextlib.suppress(BrokenPipeError):
            pipe.close()


def _environment() -> dict[str, str]:
    """This process's, with this package importable and one thread per process."""
    package_parent = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [package_parent, os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
