"""kill -9 wherever something is written: the next run ends as if nothing had been, and nothing half-written passes."""

import json
import os
import random
import shutil
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from small_demo import train_command

from s3prl_metaperser.demo import write_demo_corpus
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.evaluation.result import Result
from s3prl_metaperser.report.folder import publish
from s3prl_metaperser.s3prl_plugin import launcher
from s3prl_metaperser.storage.checkpoints import read_checkpoint, save_checkpoint
from s3prl_metaperser.storage.events import Events

HERE = Path(__file__).parent
#: Where a run is killed, then the next one, and so on. Evaluations are at 3, 6, 9, 12, checkpoints at 4, 8, 12, lines
#: in the log at 5, 10, 12 (killing_program.py).
PLACES = [
    "half written: features",
    "half written: initialisation",  # before the first evaluation and the first checkpoint
    "in place: dev",  # between an evaluation and the checkpoint that will know of it
    "half a line: log #3",  # after a checkpoint, with losses that are not logged yet
    "half written: states #2",
    "not in place: result",
]


def program(name, *arguments):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(HERE / name), *map(str, arguments)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-3000:]
    return json.loads(ended.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Every checkpoint of a training that evaluates at 4, 8, 12 and saves at 3, 6, 9, 12; the cache has its corpus."""
    folder = tmp_path_factory.mktemp("crashes") / "exp"
    options = ("runner.save_step=3", "runner.max_keep=9")
    assert launcher.main(train_command(folder, options=options)) == 0
    return folder


def copied(trained, folder, states, best=True):
    """The experiment folder as it was when only these checkpoints were there."""
    folder.mkdir()
    for name in [*(f"states-{step}.ckpt" for step in states), *(["dev-best.ckpt"] if best else [])]:
        shutil.copy(trained / name, folder / name)
    return folder


def same_tensors(one, other):
    one, other = read_checkpoint(one), read_checkpoint(other)
    return all(torch.equal(one[part][k], other[part][k]) for part in ("Downstream", "InnerRates") for k in one[part])


@pytest.mark.skipif(
    not Path("/proc/self/fd").is_dir(), reason="the program that kills finds out by /proc what is written"
)
def test_killed_where_it_writes_the_next_run_ends_with_the_undisturbed_bits_and_log(tmp_path, trained):
    (found,) = program("killing_program.py", os.environ["METAPERSER_CACHE"], tmp_path / "work", *PLACES)
    assert found == {"places": PLACES, "killed": [-9] * len(PLACES), "again": 0, "differs": [], "left": []}


def test_two_processes_on_one_store_ten_times_make_one_set_of_files_and_both_read_it_right(tmp_path):
    rounds = program("two_processes_program.py", tmp_path, 12, 2)
    digests = {digest for found in rounds for said in found["said"] if said for _, digest in [said]}
    assert len(digests) == 1
    assert len({tuple(sorted(found["files"])) for found in rounds}) == 1
    for number, found in enumerate(rounds):
        made = sorted(said[0] for said in found["said"] if said)
        if number < 2:  # one was killed after two shards of four, or found that the other had made everything
            assert made in ([10], [18], [0, 18])
        else:
            assert made == [0, 18]


def test_a_killed_demo_corpus_leaves_nothing_that_looks_whole_and_the_next_run_clears_it(tmp_path):
    folder = tmp_path / "demo"
    code = "import sys; from s3prl_metaperser.demo import write_demo_corpus as w; w(sys.argv[1], utterances=60)"
    with subprocess.Popen([sys.executable, "-c", code, str(folder)], stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 600
        while not list(tmp_path.rglob("*.wav")) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        process.kill()
        process.wait()
    left = {path.name.rpartition(".")[2] for path in tmp_path.iterdir() if path.name.startswith(".demo.")}
    assert left == {"part", "lock"}, "the lock of a dead process is nobody's"
    assert not folder.exists()
    write_demo_corpus(folder, utterances=10, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]
    assert len(list(folder.rglob("*.wav"))) == 10


KILLED_REPORT = """
import os, signal, sys
from pathlib import Path
from s3prl_metaperser.report.folder import publish
left = int(sys.argv[2])
def watched(replace):
    def replacing(source, target):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)
    return replacing
os.replace = watched(os.replace)
publish({"tables/a.md": b"new a", "tables/b.md": b"new b", "report.html": b"new page"}, Path(sys.argv[1]))
"""


@pytest.mark.parametrize("moment", [1, 2, 3, 4, 5, 6])
def test_a_killed_report_is_of_one_making_or_has_no_page_and_the_next_one_is_whole(tmp_path, moment):
    old = {"tables/a.md": b"old a", "tables/c.md": b"old c", "report.html": b"old page"}
    new = {"tables/a.md": b"new a", "tables/b.md": b"new b", "report.html": b"new page"}
    out = tmp_path / "report"
    publish(old, out)
    (out / "mine.txt").write_text("mine")
    ended = subprocess.run([sys.executable, "-c", KILLED_REPORT, str(out), str(moment)], check=False)
    assert ended.returncode == -9
    there = {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}
    if "report.html" in there:
        assert any(all(there.get(name) == content for name, content in one.items()) for one in (old, new))
    publish(new, out)
    there = {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}
    assert {name: content for name, content in there.items() if not name.endswith(".json")} == {
        **new,
        "mine.txt": b"mine",
    }
    assert [p.name for p in tmp_path.iterdir()] == ["report"]


@pytest.mark.parametrize(
    "states", [(3,), (3, 6), (3, 6, 9)], ids=["before the first evaluation", "after one", "after two"]
)
def test_a_checkpoint_between_evaluations_goes_on_to_the_same_bits(tmp_path, trained, states):
    folder = copied(trained, tmp_path / "exp", states)
    options = ("runner.save_step=3", "runner.max_keep=9")
    assert launcher.main([*train_command(folder, options=options), "-a"]) == 0
    for name in ("dev-best.ckpt", "states-12.ckpt"):
        assert same_tensors(folder / name, trained / name)
        assert read_checkpoint(folder / name)["Best"] == read_checkpoint(trained / name)["Best"]


def test_with_other_options_the_best_so_far_is_not_one_of_the_abandoned_future(tmp_path, trained):
    """dev-best.ckpt is of step 12 or 8, the checkpoint of step 6 knows that of step 4, and step 4 is gone."""
    folder = copied(trained, tmp_path / "exp", (6,))
    still = "config.optimizer.lr=1e-9,,config.optimizer.weight_decay=0.0"
    assert (
        read_checkpoint(folder / "states-6.ckpt")["Best"]["step"]
        == 4
        < read_checkpoint(folder / "dev-best.ckpt")["Step"]
    )
    assert launcher.main(["-m", "train", "-e", str(folder), "-o", still]) == 0
    best, start = read_checkpoint(folder / "dev-best.ckpt"), read_checkpoint(folder / "states-6.ckpt")
    for name, value in start["Downstream"].items():  # hardly anything moves
        assert torch.allclose(best["Downstream"][name], value, rtol=0, atol=1e-7)
    assert best["Best"]["step"] == best["Step"] in (8, 12)
    assert read_checkpoint(folder / "states-12.ckpt")["Best"] == best["Best"]


def test_going_on_from_an_earlier_checkpoint_puts_the_later_ones_aside(tmp_path, trained):
    folder = copied(trained, tmp_path / "exp", (3, 6, 9, 12))
    few = "config.runner.total_steps=4,,config.runner.max_keep=1"
    assert launcher.main(["-m", "train", "-e", str(folder / "states-3.ckpt"), "-o", few]) == 0
    assert [p.name for p in folder.glob("states-*.ckpt")] == ["states-4.ckpt"], "not that of the old step 12"
    assert {p.name for p in folder.glob("previous-*/states-*.ckpt")} == {f"states-{s}.ckpt" for s in (6, 9, 12)}


def test_going_on_in_another_folder_takes_the_best_so_far_along(tmp_path, trained):
    folder = copied(trained, tmp_path / "exp", (12,))
    still = "config.runner.total_steps=13,,config.optimizer.lr=1e-9"
    assert launcher.main(["-m", "train", "-e", str(folder), "-p", str(tmp_path / "on"), "-o", still]) == 0
    best = read_checkpoint(tmp_path / "on" / "dev-best.ckpt")
    assert best["Best"] == read_checkpoint(tmp_path / "on" / "states-13.ckpt")["Best"]


def test_a_damaged_checkpoint_or_one_of_another_format_is_one_error(tmp_path, trained, capsys):
    folder = copied(trained, tmp_path / "exp", (12,))
    content = read_checkpoint(folder / "states-12.ckpt")
    save_checkpoint(folder / "dev-best.ckpt", {**content, "Format": 99})
    assert launcher.main(["-m", "evaluate", "-e", str(folder)]) == 2
    assert "has checkpoint format 99, this version reads 1" in capsys.readouterr().err
    whole = (trained / "dev-best.ckpt").read_bytes()
    (folder / "dev-best.ckpt").write_bytes(whole[: len(whole) // 2])
    assert launcher.main(["-m", "evaluate", "-e", str(folder)]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert "dev-best.ckpt is not a checkpoint that can be read safely" in said[-1]
    assert "Traceback" not in "".join(said)


def test_no_damaged_checkpoint_is_read_but_where_no_content_is_damaged(tmp_path, trained):
    """Between the parts of an archive is padding; a bit of that may flip and nothing is lost."""

    def saved(path):
        torch.save(read_checkpoint(path), tmp_path / "again.ckpt")
        return (tmp_path / "again.ckpt").read_bytes()

    whole, draw = (trained / "dev-best.ckpt").read_bytes(), random.Random(1)
    content, refused = saved(trained / "dev-best.ckpt"), []
    for kind in range(80):
        damaged, at = bytearray(whole), draw.randrange(len(whole))
        if kind % 4 == 0:
            damaged = damaged[:at]
        elif kind % 4 == 1:
            damaged[at] ^= 1 << draw.randrange(8)
        elif kind % 4 == 2:
            damaged = bytearray(draw.randbytes(draw.randrange(300)))
        else:
            damaged[at % 3000 : at % 3000 + 20] = draw.randbytes(draw.randrange(40))
        (tmp_path / "x.ckpt").write_bytes(damaged)
        try:
            assert saved(tmp_path / "x.ckpt") == content
        except UserError as error:
            refused.append(str(error))
    assert len(refused) >= 75
    assert all("x.ckpt is not a" in text for text in refused)


def test_a_checkpoint_of_the_first_versions_still_evaluates(tmp_path, trained):
    folder = copied(trained, tmp_path / "exp", (12,))
    content = read_checkpoint(folder / "dev-best.ckpt")
    older = {key: value for key, value in content.items() if key not in ("Format", "Losses", "Training", "Adapted")}
    torch.save(older, folder / "dev-best.ckpt")
    assert launcher.main(["-m", "evaluate", "-e", str(folder)]) == 0
    assert (folder / "result_test.json").is_file()


@pytest.mark.parametrize("text", ['{"schema": 2, "cell": {}}', '{"schema": 3, "cell"', "", "[]"])
def test_an_old_or_torn_result_file_is_refused_with_what_to_do(tmp_path, text):
    (tmp_path / "result_test.json").write_text(text)
    with pytest.raises(UserError, match=r"result_test\.json (has result schema|is not a result file)"):
        Result.read(tmp_path / "result_test.json")


def test_a_damaged_progress_of_ssl_e_is_one_error(tmp_path):
    from s3prl_metaperser.methods.initialisation import _resume

    for content in (b"", b"PK\x03\x04 half", b"\x80\x02}q\x00."):
        (tmp_path / "progress.ckpt").write_bytes(content)
        with pytest.raises(UserError, match=r"Cannot resume from .*progress\.ckpt .* Delete it"):
            _resume(tmp_path / "progress.ckpt", dict(torch.nn.Linear(1, 1).named_parameters()), None)


def records(path):
    """The records of an event file, by TensorFlow's record format."""
    data, at, found = path.read_bytes(), 0, []
    while at < len(data):
        (length,) = struct.unpack("<Q", data[at : at + 8])
        found.append(data[at + 12 : at + 12 + length])
        at += 16 + length
    return found


def test_every_event_is_on_the_disk_when_the_process_dies(tmp_path):
    from tensorboardX.proto import event_pb2

    events = Events(tmp_path, 5)
    events.add("task/train-loss", 1.5, 5)
    events.add("task/dev-loss", 2.5, 6)
    (path,) = tmp_path.glob("events.out.tfevents.*")
    read = [event_pb2.Event.FromString(record) for record in records(path)]
    events.close()
    assert read[0].file_version == "brain.Event:2"
    assert (read[1].session_log.status, read[1].step) == (event_pb2.SessionLog.START, 5), "hides what is done again"
    assert [(e.step, e.summary.value[0].tag, e.summary.value[0].simple_value) for e in read[2:]] == [
        (5, "task/train-loss", 1.5),
        (6, "task/dev-loss", 2.5),
    ]


def test_starting_anew_twice_in_one_second_puts_both_aside(tmp_path, trained, monkeypatch):
    monkeypatch.setattr("s3prl_metaperser.storage.paths.time.strftime", lambda form: "2000-01-01-00-00-00")
    from s3prl_metaperser.storage.paths import new_previous

    names = {new_previous(tmp_path).name for _ in range(3)}
    assert names == {f"previous-2000-01-01-00-00-00{suffix}" for suffix in ("", "-2", "-3")}
