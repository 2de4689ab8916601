"""``python -m s3prl_metaperser.grid.engines.tied COMMAND ...``: the command, ended with the process that starts it.

The command takes this process's place (exec), so that what is set here holds until it ends. It can be interrupted even
where a shell started all of this in the background, with SIGINT ignored.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_POLL_SECONDS = 0.5


def end_with_parent(parent: int | None = None) -> None:
    """Have Linux kill this process as soon as the one that started it is gone; on other systems do nothing.

    So nothing is left running when an engine is killed; a cell resumes from its checkpoint.

    Args:
        parent: its process id, where it may be gone already.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if parent is not None and os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)


def take_gpu(gpus: Sequence[str], locks: Path) -> tuple[str, int]:
    """Hold one of these GPUs until this process ends, also as another program; waits until one is free.

    Args:
        gpus: as ``CUDA_VISIBLE_DEVICES`` names them.
        locks: a folder that all jobs of this machine share.

    Returns:
        The GPU, and the open file that holds it.
    """
    locks.mkdir(parents=True, exist_ok=True)
    while True:
        for gpu in gpus:
            handle = os.open(locks / f"gpu-{gpu.replace('/', '_')}.lock", os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(handle)
                continue
            os.set_inheritable(handle, True)
            return gpu, handle
        time.sleep(_POLL_SECONDS)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parent", type=int, help="end at once if this is not the process that starts the command")
    parser.add_argument("--gpus", default="", help="take one of these for the command, such as 0,1")
    parser.add_argument("--gpu-locks", type=Path, default=Path(), help="folder of their locks")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args(argv)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    end_with_parent(arguments.parent)
    if arguments.gpus:
        os.environ["CUDA_VISIBLE_DEVICES"], _ = take_gpu(arguments.gpus.split(","), arguments.gpu_locks)
        print(f"GPU {os.environ['CUDA_VISIBLE_DEVICES']}", flush=True)
    os.execvp(arguments.command[0], arguments.command)


if __name__ == "__main__":
    main()
