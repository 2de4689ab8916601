"""A suite that is green or red for what it tests, and not for how it was started."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import children, end_children

HERE = Path(__file__).parent
ASKING = """
import signal, subprocess, sys
sys.path.insert(0, sys.argv[1])
import conftest
line = "import signal; print([n.name for n in signal.Signals if signal.getsignal(n) == signal.SIG_IGN],"
line += " sorted(n.name for n in signal.pthread_sigmask(signal.SIG_BLOCK, [])))"
print(subprocess.run([sys.executable, "-c", line], capture_output=True, text=True).stdout)
"""


def test_signals_that_were_inherited_as_ignored_or_blocked_reach_no_child_of_a_test():
    ignored = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)

    def as_in_the_background():
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})

    command = [sys.executable, "-c", ASKING, str(HERE)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, preexec_fn=as_in_the_background)
    left = ended.stdout.split("[")[1].split("]")[0]
    assert not any(number.name in left for number in ignored), ended.stdout
    assert ended.stdout.strip().endswith("[]"), "nothing is blocked"


def test_a_process_that_is_left_running_is_ended():
    before = children()
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    if process.pid not in children():
        process.kill()
        pytest.skip("this system does not say which processes one has started")
    end_children(before)
    assert process.wait(60) == -signal.SIGKILL
