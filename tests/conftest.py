"""Shared by all tests: one thread, no network, a cache of their own, signals as a terminal gives them."""

import contextlib
import os
import shutil
import signal
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"

import pytest

from s3prl_metaperser.s3prl_stack import compat

compat.apply()

import torch
from small_demo import trained_and_evaluated

torch.set_num_threads(1)


#: What a shell's background job, nohup or a supervisor may have made this process ignore, and so all that it starts.
INHERITED = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGCHLD", "SIGALRM", "SIGUSR1", "SIGUSR2")


def usual_signals():
    """Nothing that was inherited is ignored or blocked."""
    numbers = {getattr(signal, name) for name in INHERITED}
    for number in numbers:
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)


usual_signals()


def children() -> set[int]:
    """Processes that this one has started, where the system says."""
    found = set()
    for path in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found |= {int(number) for number in path.read_text().split()}
    return found


def end_children(but: set[int]) -> None:
    """Kill the processes that this one has started, but for some."""
    for number in children() - but:
        with contextlib.suppress(OSError):
            if b"resource_tracker" not in Path(f"/proc/{number}/cmdline").read_bytes():  # serves the whole session
                os.kill(number, signal.SIGKILL)


@pytest.fixture(autouse=True)
def nothing_left_running():
    """A process that a test leaves behind, having failed, say, is ended before the next one."""
    before = children()
    yield
    end_children(before)


@pytest.fixture(autouse=True, scope="session")
def private_cache(tmp_path_factory):
    """Nothing is read from or written to the user's own cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("METAPERSER_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        yield


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """(system, folder) -> the folder, a copy of its trained and evaluated experiment on the small demo corpus.

    A system is trained once a session.
    """
    home = tmp_path_factory.mktemp("finished")

    def copied(system, folder):
        if not (home / system).exists():
            trained_and_evaluated(home / system, "-v", system)
        return Path(shutil.copytree(home / system, folder))

    return copied
