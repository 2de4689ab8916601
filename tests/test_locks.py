"""One writer at a time, wherever something is written; also where a file system has no locks."""

import errno
import fcntl
import json
import os
import platform
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from s3prl_metaperser.s3prl_plugin import doctor
from s3prl_metaperser.storage import locks
from s3prl_metaperser.storage.locks import Held, Holder, beside, held, trial

HERE = Path(__file__).parent
#: Both processes of a pair end well: the second waits for the first, and finds what it made.
SHARED = {"demo-corpus", "run"}


def test_two_simultaneous_runs_of_every_command_that_writes_give_one_result_and_one_error(tmp_path):
    command = [sys.executable, str(HERE / "simultaneous_program.py"), str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-3000:]
    found = json.loads(ended.stdout.splitlines()[-1])
    for name, (first, second) in found["ended"].items():
        assert first["status"] == 0, (name, first)
        if name in SHARED:
            assert second["status"] == 0, (name, second)
        else:
            assert second["status"] == 2, (name, second)
            assert f"in use by process {first['process']} on {platform.node()}" in second["said"][0], name
    names = found["files"]
    assert not [name for name in names if name.endswith((".lock", ".part", ".held"))], "nothing is left behind"
    tops = [name for name in names if name.startswith("exp/") and name.count("/") == 1]
    assert sum(name.startswith("exp/states-") for name in tops) == 1
    assert len({name.split("/")[1] for name in names if name.startswith("exp/previous-")}) == 1, "put aside once"
    assert len(found["rows"]) == len(set(found["rows"])) == 400, "no label of two listening sessions is lost"


def in_another_thread(lock, **how):
    """How asking for a lock ends while this thread does what it does."""

    def ask():
        with held(lock, "The folder x", **how):
            return "got it"

    with ThreadPoolExecutor(1) as other:
        future = other.submit(ask)
        return future.exception() or future.result()


def test_the_second_is_refused_with_the_first_ones_process_and_host(tmp_path):
    with held(tmp_path / ".lock", "x"), held(tmp_path / ".lock", "x"):  # in one thread blocks may be nested
        refused = in_another_thread(tmp_path / ".lock")
    assert isinstance(refused, Held)
    assert f"The folder x is in use by process {os.getpid()} on {platform.node()}, since " in str(refused)
    assert list(tmp_path.iterdir()) == [], "the lock's file goes with its holder"
    assert in_another_thread(tmp_path / ".lock") == "got it"


@pytest.mark.parametrize("content", ["", "process 1 on elsewhere", '{"process": 1}', "[" * 5000, "\0\0"])
def test_lock_files_left_from_better_days_block_nobody(tmp_path, content):
    (tmp_path / ".lock").write_text(content)
    assert in_another_thread(tmp_path / ".lock") == "got it"


def test_who_waits_says_for_whom_and_gives_up(tmp_path, capsys):
    with held(tmp_path / ".lock", "x"):
        given_up = in_another_thread(tmp_path / ".lock", wait=1.3)
    assert "is still in use by process" in str(given_up)
    assert f"[MetaPerSER] The folder x: waiting for process {os.getpid()} on" in capsys.readouterr().err


def test_a_lock_that_becomes_free_while_somebody_waits_is_taken(tmp_path):
    free, got = threading.Event(), []

    def hold():
        with held(tmp_path / ".lock", "x"):
            free.wait(30)

    def wait():
        with held(tmp_path / ".lock", "x", wait=30):
            got.append(True)

    threads = [threading.Thread(target=each) for each in (hold, wait)]
    for thread in threads:
        thread.start()
    free.set()
    for thread in threads:
        thread.join(30)
    assert got == [True]


@pytest.fixture
def no_locks(monkeypatch):
    """A function that makes this process's file systems refuse locks with one error."""

    def refuse(number):
        def flock(handle, operation):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(fcntl, "flock", flock)
        monkeypatch.setattr(locks, "_told", set())

    return refuse


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL, errno.EIO, errno.ENOSYS])
def test_without_locks_a_file_stands_in_for_one_and_it_is_said(tmp_path, no_locks, capsys, number):
    no_locks(number)
    with held(tmp_path / ".lock", "x"):
        refused = in_another_thread(tmp_path / ".lock")
    assert f"process {os.getpid()} on" in str(refused)
    assert f"If it is not running any more, delete {tmp_path / '.lock.held'}." in str(refused)
    assert in_another_thread(tmp_path / ".lock") == "got it"
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().err.count("this file system has no locks") == 1
    assert trial(tmp_path) == os.strerror(number)


def ended_process() -> int:
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    return child


def stand_in(**changed):
    return json.dumps({**vars(Holder.this()), **changed})


def test_a_stand_in_of_a_process_that_is_gone_blocks_nobody(tmp_path, no_locks):
    no_locks(errno.ENOLCK)
    gone = [stand_in(process=ended_process()), stand_in(begun="1"), "", "torn {"]  # a number may be used again
    for text in gone:
        (tmp_path / ".lock.held").write_text(text)
        os.utime(tmp_path / ".lock.held", (1, 1))
        assert in_another_thread(tmp_path / ".lock") == "got it", text
    (tmp_path / ".lock.held").write_text(stand_in(process=ended_process(), host="elsewhere"))
    assert "on elsewhere" in str(in_another_thread(tmp_path / ".lock")), "nobody here can know"


def test_what_a_dead_process_started_is_waited_for(tmp_path, monkeypatch):
    """A data loader's worker lives on for a moment, and holds what it has inherited."""
    monkeypatch.setattr(locks, "AFTERLIFE", 0.3)
    with held(tmp_path / ".lock", "x"):
        (tmp_path / ".lock").write_text(stand_in(process=ended_process()))
        with ThreadPoolExecutor(1) as other:
            waiting = other.submit(in_another_thread, tmp_path / ".lock")
            assert isinstance(waiting.result(), Held)


def test_doctor_tries_a_lock(tmp_path, no_locks, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("METAPERSER_CACHE", str(tmp_path))
    assert all("locks work" in finding.detail for finding in doctor._disk())
    no_locks(errno.ENOLCK)
    for finding in doctor._disk():
        assert finding.state == "note"
        assert f"no locks ({os.strerror(errno.ENOLCK)})" in finding.detail
        assert "one process" in finding.fix


def test_the_lock_of_a_file_or_folder_lies_beside_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert beside("model/") == beside(tmp_path / "model") == tmp_path / ".model.lock"
