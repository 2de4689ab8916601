"""A full disk at every stage that writes: one clear error, nothing half-written, and the next run ends as undisturbed.

Once by a real full disk, a small tmpfs, where this process may mount one; once by the limit on a file's size, which
works everywhere and fails in the same calls.
"""

import contextlib
import errno
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from small_demo import stored, train_command
from small_grid import VOLATILE

from s3prl_metaperser import cli
from s3prl_metaperser.corpora import contents
from s3prl_metaperser.report.folder import publish
from s3prl_metaperser.run.experiment import Experiment
from s3prl_metaperser.s3prl_plugin import launcher
from s3prl_metaperser.storage import disk
from s3prl_metaperser.storage.atomic import replacing, write_json, write_text
from s3prl_metaperser.storage.checkpoints import save_checkpoint
from s3prl_metaperser.storage.disk import CannotWrite, clear_leftovers, new_folder, refusal, reported, writing
from s3prl_metaperser.storage.events import Events

#: What is written -> (the limit on a file's size, the room on the disk) with which only what is before fits.
STAGES = {
    "demo/paper-120-seed0": (16_000, 500_000),
    "features/": (60_000, 60_000),
    "episodes/": (2_030, 12_288),  # beside the lock, the arguments and the configuration
    "initialisation/": (10_000, 20_000),
    "dev-best.ckpt": (40_000, 50_000),
    "result_test.json": (20_000, 20_000),
}


@contextlib.contextmanager
def limited(size):
    """No file of this process and those it starts may get longer than ``size`` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextlib.contextmanager
def filled(folder, room):
    """The disk of ``folder`` has only ``room`` bytes left."""
    ballast = folder / "ballast"
    free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
    ballast.write_bytes(b"\0" * (free - room))
    try:
        yield
    finally:
        ballast.unlink()


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 20 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no disk can be mounted here (that takes root); the limit on a file's size stands in for it")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def whole_run(folder):
    for arguments in ([*train_command(folder), "-a"], ["-m", "evaluate", "-e", str(folder)]):
        if status := launcher.main(arguments):
            return status
    return 0


def result(folder):
    content = stored(folder / "result_test.json")
    return {key: value for key, value in content.items() if key not in VOLATILE}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed") / "exp"
    assert whole_run(folder) == 0
    return result(folder), Path(os.environ["METAPERSER_CACHE"])


def through_all_stages(home, undisturbed, pressure, reason, monkeypatch, capsys):
    monkeypatch.setenv("METAPERSER_CACHE", str(home / "cache"))
    monkeypatch.setattr(contents, "FRESH_SECONDS", 1e9)  # else it depends on the time whether digests take room, too
    monkeypatch.setattr("time.strftime", lambda form: "2000-01-01-00-00-00")  # else one more configuration takes room
    folder = home / "exp"
    for stage, amounts in STAGES.items():
        with pressure(amounts):
            assert whole_run(folder) == 2, stage
        said = capsys.readouterr().err.strip().splitlines()
        assert said[-1].startswith("[MetaPerSER] error: ")
        assert stage in said[-1], said[-1]
        assert f": {reason}. " in said[-1]
        assert "Cannot write" in said[-1]
        assert "run the same command again" in said[-1]
        assert not any("Traceback" in line for line in said)
        assert not list(home.rglob(".*.part")), "nothing half-written stays"
        assert not [path for path in home.rglob("*") if stage in str(path) and path.is_file() and path.stat().st_size]
        if (kept := Path(stage).parts[0]) in ("demo", "features", "episodes", "initialisation"):
            shutil.copytree(undisturbed[1] / kept, home / "cache" / kept, dirs_exist_ok=True)
        elif stage == "dev-best.ckpt":
            assert launcher.main([*train_command(folder), "-a"]) == 0
    assert whole_run(folder) == 0
    assert result(folder) == undisturbed[0]


def test_a_full_disk_at_every_stage_is_one_error_and_the_next_run_ends_as_undisturbed(
    small_disk, undisturbed, monkeypatch, capsys
):
    def pressure(amounts):
        return filled(small_disk, amounts[1])

    through_all_stages(small_disk, undisturbed, pressure, "No space left on device", monkeypatch, capsys)


def test_files_that_may_not_grow_at_every_stage_are_one_error_and_the_next_run_ends_as_undisturbed(
    tmp_path, undisturbed, monkeypatch, capsys
):
    def pressure(amounts):
        return limited(amounts[0])

    through_all_stages(tmp_path, undisturbed, pressure, "File too large", monkeypatch, capsys)


def test_the_checkpoint_of_before_is_still_there_when_the_next_one_does_not_fit(tmp_path):
    path = tmp_path / "states-1.ckpt"
    save_checkpoint(path, {"Step": 1})
    before = path.read_bytes()
    with limited(20_000), pytest.raises(CannotWrite, match=r"states-1\.ckpt: File too large"):
        save_checkpoint(path, {"Step": 2, "w": torch.zeros(100_000)})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["states-1.ckpt"]


def test_safetensors_that_do_not_fit_are_the_same_error(tmp_path):
    from safetensors.torch import save_file

    def save():
        with replacing(tmp_path / "a.safetensors") as partial:
            save_file({"w": torch.zeros(100_000)}, partial)

    with limited(20_000), pytest.raises(CannotWrite, match="File too large"):
        save()
    assert not list(tmp_path.iterdir())


def test_an_event_that_does_not_fit_is_an_error_at_once_and_not_a_wait_for_ever(tmp_path):
    events = Events(tmp_path, 1)

    def add_many():
        for step in range(1000):
            events.add("loss", 1.0, step)

    with limited(1000), pytest.raises(CannotWrite, match=r"events\.out\.tfevents"):
        add_many()
    events.close()


def test_a_line_of_the_log_that_does_not_fit_is_not_mistaken_for_a_whole_one(tmp_path):
    experiment = Experiment(tmp_path, "task", {})
    experiment.note("dev loss at step 4: 1.25")
    with limited(48), pytest.raises(CannotWrite, match=r"log\.log"):
        experiment.note("dev loss at step 8: 1.125")
    assert (tmp_path / "log.log").read_text().endswith("dev loss at step 8: 1.1"), "torn where the disk was full"
    experiment.note("dev loss at step 8: 1.125")
    assert (tmp_path / "log.log").read_text() == "dev loss at step 4: 1.25\ndev loss at step 8: 1.125\n"


def test_a_report_that_does_not_fit_leaves_the_earlier_one(tmp_path):
    out = tmp_path / "report"
    publish({"a.md": b"old", "report.html": b"old page"}, out)
    with limited(20_000), pytest.raises(CannotWrite, match=r"report: File too large"):
        publish({"a.md": b"new", "b.md": b"x" * 30_000, "report.html": b"new page"}, out)
    assert {p.name: p.read_bytes() for p in out.iterdir() if p.suffix != ".json"} == {
        "a.md": b"old",
        "report.html": b"old page",
    }
    assert [p.name for p in tmp_path.iterdir()] == ["report"]


def test_a_model_folder_that_does_not_fit_is_one_error(tmp_path):
    from listener_fixtures import random_model

    from s3prl_metaperser.listener.folder import read_card, write_folder

    card = read_card(random_model(tmp_path / "small"))
    with limited(20_000), pytest.raises(CannotWrite, match=r"model: File too large"):
        write_folder(tmp_path / "model", card, {"w": torch.zeros(100_000)})
    assert [path.name for path in tmp_path.iterdir()] == ["small"]


def test_where_no_writer_is_prepared_the_commands_still_end_with_one_line(tmp_path, monkeypatch, capsys):
    def full(arguments):
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "x"))

    from s3prl_metaperser.commands import listing

    monkeypatch.setattr(listing, "run", full)
    assert cli.main(["list", "corpora"]) == 2
    assert f"Cannot write {tmp_path}/x: No space left on device" in capsys.readouterr().err
    monkeypatch.setattr(launcher, "run", lambda *_: full(None))
    assert launcher.main(["-m", "train"]) == 2
    assert "MB left. Free some space" in capsys.readouterr().err


def test_other_errors_are_not_taken_for_a_full_disk(tmp_path):
    assert refusal(ValueError("no")) is None
    assert refusal(ConnectionResetError(errno.ECONNRESET, "reset")) is None
    assert reported("it says (os error 28)") == errno.ENOSPC
    assert reported("OSError: [Errno 27] File too large") == errno.EFBIG
    assert reported("[Errno 2] No such file") is None
    assert disk.system_error(PermissionError(errno.EACCES, "denied")) is None
    with pytest.raises(ZeroDivisionError), writing(tmp_path):
        raise ZeroDivisionError


def test_a_place_that_may_not_be_written_is_named_with_what_to_do(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotWrite, match=r"file/x\.json: (Not a directory|File exists)"):
        write_json(tmp_path / "file" / "x.json", {})
    with pytest.raises(CannotWrite, match="Fix the permissions of"), writing(tmp_path / "a" / "b"):
        raise PermissionError(errno.EACCES, "Permission denied")


HOLDER = """
import sys, time
from pathlib import Path
from s3prl_metaperser.storage.disk import new_file, new_folder
with new_folder(Path(sys.argv[1]) / "corpus") as folder, new_file(Path(sys.argv[1]) / "a.json") as file:
    (folder / "half").write_text("half")
    file.write_text("half")
    print("held", flush=True)
    time.sleep(3000)
"""


def test_what_a_live_process_writes_is_left_alone_and_what_a_dead_one_left_is_removed(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        held = sorted(tmp_path.iterdir())
        assert len(held) == 2
        assert clear_leftovers(tmp_path) == []
        write_text(tmp_path / "a.json", "whole")
        with new_folder(tmp_path / "corpus"):
            assert set(held) <= set(tmp_path.iterdir())
        process.kill()
        process.wait()
    write_text(tmp_path / "a.json", "whole")
    assert [p.name for p in tmp_path.iterdir() if "a.json" in p.name] == ["a.json"]
    with new_folder(tmp_path / "corpus") as mine:
        assert [p for p in tmp_path.iterdir() if p.is_dir()] == [mine]
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_folders_of_other_names_and_links_are_not_taken_for_leftovers(tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / ".corpus.x.part").symlink_to(tmp_path / "kept")
    (tmp_path / ".corpus2.y.part").mkdir()
    with new_folder(tmp_path / "corpus"):
        pass
    assert {p.name for p in tmp_path.iterdir()} == {"kept", ".corpus.x.part", ".corpus2.y.part"}
    assert Path(tmp_path / "kept").is_dir()


def test_a_disk_whose_inodes_are_used_up_is_said_to_be_that(tmp_path, capsys):
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=20m,nr_inodes=8", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no disk can be mounted here (that takes root)")

    def fill():
        for number in range(20):
            write_text(folder / f"{number}.json", "{}")

    try:
        with pytest.raises(CannotWrite, match=r"No inodes left\. The file system of .* although \d+\.\d MB are free"):
            fill()
        arguments = ["demo-corpus", str(folder / "0" / "demo"), "--utterances", "10"]
        for path in folder.iterdir():
            path.unlink()
        assert cli.main(arguments) == 2
        said = capsys.readouterr().err
        assert "No inodes left" in said.splitlines()[-1]
        assert "Wave_write" not in said
        assert "Traceback" not in said
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_the_inodes_of_a_file_system_that_has_none_to_count_are_not_used_up(tmp_path, monkeypatch):
    for total, left, used_up in ((0, 0, False), (100, 0, True), (100, 5, False)):
        monkeypatch.setattr(
            os, "statvfs", lambda _, t=total, n=left: os.statvfs_result((1, 1, 9, 9, 9, t, n, n, 0, 255))
        )
        assert disk.no_inodes(tmp_path) == used_up
        text = str(CannotWrite(tmp_path / "x", errno.ENOSPC))
        assert ("No inodes left" in text) == used_up
