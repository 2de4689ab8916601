"""Grids in several processes, and after some of them were killed: each cell once, and the same results."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from small_grid import results_below, write_grid

from s3prl_metaperser.cli import main
from s3prl_metaperser.grid.cells import expand
from s3prl_metaperser.grid.definition import read_grid
from s3prl_metaperser.grid.results import LOG, RESULT

REPOSITORY = Path(__file__).resolve().parents[1]
SYSTEMS = {"frozen": ["Random", "Linear-Few", "Meta-PerSER", "Multi-Few"]}
AXES = {"systems": SYSTEMS, "folds": ["fold1", "fold2"], "scenarios": ["seen"]}
#: Long enough to be interrupted, with a checkpoint at every other step.
STEPS = ("runner.total_steps=40", "runner.eval_step=4", "runner.save_step=2", "runner.log_step=2")


def start(grid: Path, results: Path, *more: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "s3prl_metaperser.cli", "run", str(grid), "--results", str(results)]
    return subprocess.Popen(
        [*command, "--device", "cpu", *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # a shell's background job ignores SIGINT, and so would all that it starts
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A grid and its results in one process without interruption."""
    folder = tmp_path_factory.mktemp("grid")
    grid = write_grid(folder, *STEPS, **AXES)
    assert main(["run", str(grid), "--device", "cpu"]) == 0
    return grid, results_below(folder / "results")


def trainings(results: Path) -> dict[str, int]:
    """Cell -> how often it was trained to its end."""
    return {str(log.parent): log.read_text().count("Trained ") for log in results.rglob(LOG)}


def test_two_runs_at_once_share_the_cells_and_make_what_they_share_once(tmp_path, undisturbed):
    _, expected = undisturbed
    grid = write_grid(tmp_path, *STEPS, "downstream_expert.initrc.eval_step=7", **AXES)  # initialisations of its own
    first, second = (start(grid, tmp_path / "results") for _ in range(2))
    outputs = [process.communicate(timeout=300)[0] for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), outputs
    assert set(trainings(tmp_path / "results").values()) == {1}
    assert len(trainings(tmp_path / "results")) == len(expected)
    logs = "".join(log.read_text() for log in (tmp_path / "results").rglob(LOG))
    assert logs.count("features exist") + logs.count("exist; the upstream is not loaded") >= len(expected)


def test_interrupted_and_killed_a_run_ends_with_the_same_results_in_several_processes(tmp_path, undisturbed):
    grid, expected = undisturbed
    draw = random.Random(5)
    for attempt in range(5):  # on a busy machine a run may be over before it is ended
        results = tmp_path / f"results{attempt}"
        if all(
            _ended_in_its_middle(grid, results, draw, *how) for how in ((signal.SIGINT, "1"), (signal.SIGKILL, "2"))
        ):
            break
    else:
        pytest.fail("no run could be ended in its middle")
    before = len(list(results.rglob(RESULT)))
    process = start(grid, results, "--jobs", "2")
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert f"{len(expected)} cells: {len(expected)} done" in output
    assert 0 < before < len(expected)
    assert results_below(results) == expected
    assert not list(results.rglob(".*.part"))
    assert main(["status", str(grid), "--results", str(results)]) == 0


def _ended_in_its_middle(grid, results, draw, ending, jobs):
    """Whether a run could be sent a signal before it was over by itself."""
    before = len(list(results.rglob(RESULT)))
    process = start(grid, results, "--jobs", jobs)
    limit = time.monotonic() + 600
    while time.monotonic() < limit and process.poll() is None:
        if len(list(results.rglob(RESULT))) > before and list(results.rglob("states-*.ckpt")):
            break
        time.sleep(0.02)
    time.sleep(draw.uniform(0.0, 0.4))
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, ending)
    output, _ = process.communicate(timeout=300)
    if process.returncode == 0:
        return False
    if ending == signal.SIGINT:
        assert process.returncode == 130, output
        assert "metaperser: interrupted" in output
        assert "Traceback" not in output
    return True


def test_two_processes_make_one_demo_corpus(tmp_path, monkeypatch):
    from s3prl_metaperser.demo import reader as demo
    from s3prl_metaperser.demo import write

    made, whole = [], write._write

    def counted(*given):
        made.append(threading.get_ident())
        time.sleep(0.2)
        whole(*given)

    monkeypatch.setattr(write, "_write", counted)
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(demo.read(tmp_path / "demo", utterances=10).fingerprint()))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert len(set(found)) == 1


def run_all(*arguments: str, folder: Path, **environment: str) -> subprocess.CompletedProcess:
    command = ["bash", str(REPOSITORY / "benchmarks" / "run_all.sh"), *arguments]
    python = Path(sys.executable).parent.parent
    return subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "VIRTUAL_ENV": str(python), **environment},
    )


def test_run_all_runs_a_grid_and_writes_its_report_from_any_directory(tmp_path, undisturbed):
    grid, expected = undisturbed
    again = run_all(str(grid), folder=tmp_path)
    assert again.returncode == 0, again.stderr
    assert f"({0} now, {len(expected)} before)" in again.stdout
    page = grid.parent / "results" / "report" / "report.html"
    written = page.stat().st_mtime_ns
    assert "up to date" in run_all(str(grid), folder=tmp_path).stdout
    assert page.stat().st_mtime_ns == written


def test_run_all_finds_the_results_where_the_shell_left_a_tilde(tmp_path, undisturbed):
    grid, _ = undisturbed
    again = run_all(str(grid), "--results=~/results", folder=tmp_path, HOME=str(grid.parent))
    assert again.returncode == 0, again.stderr
    assert f"{grid.parent}/results/report/report.html: up to date" in again.stdout


def test_run_all_passes_its_options_on_and_takes_the_demo_grid_by_default(tmp_path):
    dry = run_all("--dry-run", "--only", "fold=fold2,system=Random", "--keep-going", folder=tmp_path)
    assert dry.returncode == 0, dry.stderr
    cells = [line for line in dry.stdout.splitlines() if line.startswith("run ")]
    wanted = [(cell.axes["fold"], cell.system) for cell in expand(read_grid(REPOSITORY / "benchmarks/demo.yaml"))]
    assert len(cells) == wanted.count(("fold2", "Random"))
    assert not list(tmp_path.iterdir())
    wrong = run_all("--only", "fold=fold9", folder=tmp_path)
    assert wrong.returncode == 101
    assert "fold9" in wrong.stderr
