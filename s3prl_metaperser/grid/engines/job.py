"""A job's process: ``python -m s3prl_metaperser.grid.engines.job ... -- run GRID ...``.

It is ``metaperser`` itself, but ends with the process that started it, takes one GPU for itself where a machine has
several, and leaves a note of what it ran with when all went well.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from s3prl_metaperser.storage.atomic import write_text

_PR_SET_PDEATHSIG = 1
_POLL_SECONDS = 0.5


def end_with_parent(parent: int | None = None) -> None:
    """Have the system kill this process as soon as the one that started it is gone; on Linux, elsewhere nothing.

    So nothing is left at work when an engine is killed; a cell goes on from its checkpoint.

    Args:
        parent: its process id, where it may be gone already.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if parent is not None and os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)


@contextlib.contextmanager
def one_gpu(gpus: Sequence[str], locks: Path) -> Iterator[str]:
    """Hold one of these GPUs, waiting until one is free.

    Args:
        gpus: as ``CUDA_VISIBLE_DEVICES`` names them.
        locks: a folder that all jobs of this machine share.
    """
    locks.mkdir(parents=True, exist_ok=True)
    while True:
        for gpu in gpus:
            lock = FileLock(locks / f"gpu-{gpu.replace('/', '_')}.lock")
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            try:
                yield gpu
            finally:
                lock.release()
            return
        time.sleep(_POLL_SECONDS)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--identity", type=Path, help="what the job runs with")
    parser.add_argument("--made", type=Path, required=True, help="where to note it when the job is done")
    parser.add_argument("--cwd", type=Path, required=True, help="where the command was typed")
    parser.add_argument("--gpus", default="", help="take one of these, such as 0,1")
    parser.add_argument("--gpu-locks", type=Path, default=Path(), help="folder of their locks")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="-- and what follows `metaperser`")
    arguments = parser.parse_args(argv)
    end_with_parent()
    # before the work: what changes meanwhile is another identity's
    identity = arguments.identity.read_text(encoding="utf-8") if arguments.identity else "{}\n"
    made = arguments.made.absolute()
    os.chdir(arguments.cwd)
    with contextlib.ExitStack() as stack:
        if arguments.gpus:
            gpu = stack.enter_context(one_gpu(arguments.gpus.split(","), arguments.gpu_locks))
            os.environ["CUDA_VISIBLE_DEVICES"] = gpu
            print(f"GPU {gpu}", flush=True)
        from s3prl_metaperser.cli import main as metaperser

        status = metaperser(arguments.command[1:])
    if status == 0:
        write_text(made, identity)
    return status


if __name__ == "__main__":
    sys.exit(main())
