"""A grid through every engine, with interruptions: equal tables, whatever happens on the way.

    METAPERSER_INTEGRATION=1 pytest tests/integration -v
    METAPERSER_INTEGRATION=1 METAPERSER_INTEGRATION_GRID=demo pytest tests/integration -v -k tables

The smoke grid, or another of ``benchmarks/`` that is of the frozen scope and the demo corpus. It starts processes,
kills them, and installs and starts a Slurm of one node on this machine (``slurm_node.sh``): it runs only when it is
asked for. Each test that cannot run here says why.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from s3prl_metaperser.grid.cells import expand, select
from s3prl_metaperser.grid.definition import read_grid

if not os.environ.get("METAPERSER_INTEGRATION"):
    pytest.skip("set METAPERSER_INTEGRATION=1 to run grids through every engine", allow_module_level=True)
psutil = pytest.importorskip("psutil", reason="comes with Snakemake: pip install 's3prl-metaperser[grid]'")
pytest.importorskip("snakemake", reason="pip install 's3prl-metaperser[grid]'")

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
GRID = ROOT / "benchmarks" / f"{os.environ.get('METAPERSER_INTEGRATION_GRID', 'smoke')}.yaml"
NODE = HERE / "slurm_node.sh"
SOME = "scenario=seen,system=Random|Linear-Few|Multi-Few|Meta-PerSER"
CELLS = expand(read_grid(GRID))
SOME_CELLS = len(select(CELLS, SOME))
#: Fields of a result that say how it went, not what came out.
OF_THE_RUN = ("seconds", "adapt_seconds", "peak_memory_bytes")
SNAKEMAKE = ("--engine", "snakemake", "--cores", "2")
SLURM = ("--engine", "snakemake", "--profile", "slurm")
LIMIT = 3000


class Runs:
    """Calls of ``run_all.sh`` on the smoke grid, each with results and a cache of its own."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.seconds = 0.0  # of an undisturbed run of Snakemake; measured by the fixture cores

    def start(self, name: str, *options: str) -> subprocess.Popen:
        cache = self.folder / f"cache-{name}"
        if not cache.exists() and (self.folder / "cache-reference").exists():  # the corpus, but no features of it
            shutil.copytree(self.folder / "cache-reference" / "demo", cache / "demo")
        environment = {
            **os.environ,
            "METAPERSER_CACHE": str(cache),
            "VIRTUAL_ENV": sys.prefix,
            "OMP_NUM_THREADS": "1",
        }
        line = [
            "bash",
            str(ROOT / "benchmarks" / "run_all.sh"),
            str(GRID),
            "--results",
            str(self.results(name)),
            *options,
        ]
        with open(self.folder / f"{name}.log", "a", encoding="utf-8") as log:
            return subprocess.Popen(line, env=environment, stdout=log, stderr=subprocess.STDOUT, cwd=self.folder)

    def run(self, name: str, *options: str) -> int:
        with self.start(name, *options) as process:
            return process.wait(LIMIT)

    def results(self, name: str) -> Path:
        return self.folder / f"result-{name}"

    def done(self, name: str) -> int:
        return sum(1 for _ in self._files(name))

    def numbers(self, name: str) -> dict[str, dict]:
        """Cell -> its result, but for how it went."""
        return {
            str(path.relative_to(self.results(name)).parent): {
                key: value
                for key, value in json.loads(path.read_text(encoding="utf-8")).items()
                if key not in OF_THE_RUN
            }
            for path in self._files(name)
        }

    def tables(self, name: str) -> dict[str, str]:
        folder = self.results(name) / "report" / "tables"
        return {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.csv")}

    def log(self, name: str) -> str:
        """What all calls said, and Snakemake in the last one."""
        said = (self.results(name) / ".engine" / GRID.stem).glob("*/snakemake.log")
        text = (self.folder / f"{name}.log").read_text(encoding="utf-8")
        return text + "".join(path.read_text(encoding="utf-8") for path in said)

    def _files(self, name: str):
        return (path for path in self.results(name).rglob("result_test.json") if "previous-cells" not in path.parts)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Runs:
    """With the undisturbed run of the engine own as ``reference``."""
    found = Runs(tmp_path_factory.mktemp("engines"))
    assert found.run("reference") == 0, found.log("reference")
    assert found.done("reference") == len(CELLS)
    return found


@pytest.fixture(scope="module")
def cores(runs) -> Runs:
    """With an undisturbed run of Snakemake as ``cores``, too."""
    begun = time.monotonic()
    assert runs.run("cores", *SNAKEMAKE) == 0, runs.log("cores")
    runs.seconds = time.monotonic() - begun
    return runs


@pytest.fixture(scope="module")
def slurm():
    if os.environ.get("METAPERSER_SLURM") != "there":  # else: this machine submits to a Slurm already
        up = subprocess.run(["bash", str(NODE), "up"], capture_output=True, text=True, check=False)
        if up.returncode == 77:
            pytest.skip(up.stderr.strip().splitlines()[-1])
        assert up.returncode == 0, up.stderr
    yield
    if os.environ.get("METAPERSER_SLURM") != "there":
        subprocess.run(["bash", str(NODE), "down"], check=True)


def kill_everything(process: subprocess.Popen) -> None:
    """kill -9 of a call and of all that it started."""
    family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    for member in family:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue
    process.wait()


def wait_for(condition, process: subprocess.Popen) -> bool:
    """False where the call ended first."""
    while process.poll() is None:
        if condition():
            return True
        time.sleep(0.2)
    return False


def some(numbers: dict[str, dict]) -> dict[str, dict]:
    systems = ("Random-", "Linear-Few-", "Multi-Few-", "Meta-PerSER-k")
    return {cell: of for cell, of in numbers.items() if "/seen/" in cell and cell.split("/")[2].startswith(systems)}


def test_snakemake_gives_the_tables_of_the_engine_own(cores):
    assert cores.numbers("cores") == cores.numbers("reference")
    assert cores.tables("cores") == cores.tables("reference")


def test_a_second_call_runs_nothing(cores):
    assert cores.run("cores", *SNAKEMAKE) == 0, cores.log("cores")
    assert "Nothing to be done" in cores.log("cores")


def test_what_another_engine_did_is_not_done_again(runs):
    assert runs.run("reference", *SNAKEMAKE) == 0
    assert "rule system:" not in runs.log("reference")


def test_a_changed_option_reruns_the_systems_that_it_touches_and_no_others(cores):
    assert cores.run("cores", *SNAKEMAKE, "--dry-run", "--set", "downstream_expert.fewrc.classifier_lr=0.5") == 0
    said = (cores.folder / "cores.log").read_text(encoding="utf-8").rpartition("Building DAG")[2]
    touched = {line.partition("job=")[2].rpartition("-")[0] for line in said.splitlines() if "wildcards: job=" in line}
    touched -= {""}  # the report
    assert touched == {f"fbank_no_cmvn-{s}-{m}" for s in ("seen", "unseen") for m in ("Linear-Few", "Multi-Few")}


def test_a_failing_cell_fails_alone_and_the_next_call_runs_it_alone(runs):
    (cell,) = (path for path in some(runs.numbers("reference")) if "Multi-Few" in path and "/fold1" in path)
    obstacle = runs.results("failing") / cell / "cell.json"
    obstacle.mkdir(parents=True)
    (obstacle / "file").touch()
    assert runs.run("failing", *SNAKEMAKE, "--only", SOME, "--retries", "0") == 1
    assert "1 failed" in runs.log("failing")
    assert (runs.results("failing") / "report" / "report.html").is_file()
    shutil.rmtree(obstacle)
    assert runs.run("failing", *SNAKEMAKE, "--only", SOME) == 0, runs.log("failing")
    assert f"{SOME_CELLS} done (1 now, {SOME_CELLS - 1} before)" in runs.log("failing")
    assert runs.numbers("failing") == some(runs.numbers("reference"))


def test_kill_9_of_everything_at_random_moments_changes_no_table(cores):
    moments = [random.uniform(2, 0.35 * cores.seconds) for _ in range(5)]
    reached = []
    for moment in moments:
        process = cores.start("killed", *SNAKEMAKE)
        time.sleep(moment)
        if process.poll() is None:
            kill_everything(process)
        reached.append(cores.done("killed"))
    print(f"killed after {moments} s, with {reached} cells done")  # shown with -s
    assert cores.run("killed", *SNAKEMAKE) == 0, cores.log("killed")
    assert cores.numbers("killed") == cores.numbers("reference")
    assert cores.tables("killed") == cores.tables("reference")


def test_only_the_caller_is_killed_and_nothing_is_left_at_work(runs):
    process = runs.start("orphan", *SNAKEMAKE, "--only", SOME)
    jobs = Path("/proc")
    assert wait_for(lambda: _at_work(runs, "orphan", jobs), process), runs.log("orphan")
    for member in psutil.Process(process.pid).children():
        member.kill()
    process.wait()
    end = time.monotonic() + 10
    while _at_work(runs, "orphan", jobs) and time.monotonic() < end:
        time.sleep(0.2)
    assert not _at_work(runs, "orphan", jobs)


@pytest.mark.parametrize("with_signal", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_call_ends_with_all_its_jobs(runs, with_signal):
    name = f"interrupted-{with_signal.name}"
    process = runs.start(name, *SNAKEMAKE, "--only", SOME)
    assert wait_for(lambda: _at_work(runs, name, Path("/proc")), process), runs.log(name)
    for member in psutil.Process(process.pid).children():
        member.send_signal(with_signal)
    assert process.wait(90) != 0
    assert not _at_work(runs, name, Path("/proc"))


def test_slurm_gives_the_same_tables(runs, slurm):
    assert runs.run("slurm", *SLURM) == 0, runs.log("slurm")
    assert runs.numbers("slurm") == runs.numbers("reference")
    assert runs.tables("slurm") == runs.tables("reference")


def test_a_job_that_slurm_cancels_in_mid_run_is_retried(runs, slurm):
    process = runs.start("cancelled", *SLURM, "--only", SOME)
    assert wait_for(lambda: runs.done("cancelled") >= 1 and _slurm_jobs(runs, "cancelled", "R"), process), runs.log(
        "cancelled"
    )
    job = _slurm_jobs(runs, "cancelled", "R")[0]
    subprocess.run(["scancel", job], check=True)
    assert process.wait(LIMIT) == 0, runs.log("cancelled")
    log = runs.log("cancelled")
    assert "Trying to restart job" in log
    assert f"SLURM-job '{job}' failed" in log
    assert runs.numbers("cancelled") == some(runs.numbers("reference"))


def test_kill_9_in_mid_grid_on_slurm_leaves_no_jobs_beside_those_of_the_next_call(runs, slurm):
    process = runs.start("slurm-killed", *SLURM, "--only", SOME)
    name = "slurm-killed"
    assert wait_for(lambda: runs.done(name) >= 1 and _slurm_jobs(runs, name, "R,PD"), process), runs.log(name)
    kill_everything(process)
    left = _slurm_jobs(runs, name, "R,PD")
    process = runs.start(name, *SLURM, "--only", SOME)
    assert wait_for(lambda: not _in_queue(["--jobs", ",".join(left)]) if left else True, process), runs.log(name)
    assert process.wait(LIMIT) == 0, runs.log("slurm-killed")
    assert runs.numbers("slurm-killed") == some(runs.numbers("reference"))


def _at_work(runs: Runs, name: str, proc: Path) -> list[str]:
    """Command lines of jobs that work for these results."""
    found = []
    for path in proc.glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if "s3prl_metaperser.cli run" in line and "--stage" in line and f"{runs.results(name)} " in line:
            found.append(line)
    return found


def _slurm_jobs(runs: Runs, name: str, states: str) -> list[str]:
    """Those of the last call alone: the Slurm may be one that others use."""
    run = re.findall(r"SLURM run ID: (\S+)", runs.log(name))
    return _in_queue(["--me", "--name", run[-1], "-t", states]) if run else []


def _in_queue(options: list[str]) -> list[str]:
    asked = subprocess.run(["squeue", "-h", *options, "-o", "%i"], capture_output=True, text=True, check=False)
    return asked.stdout.split()  # nothing, and an error, where all of --jobs are forgotten already
