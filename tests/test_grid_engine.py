"""Jobs of the engine Snakemake: which cells, after what, with what, and which of them are left to do."""

import dataclasses
import importlib.util
import os
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from small_grid import write_grid

from s3prl_metaperser.cli import main
from s3prl_metaperser.commands.run import NOT_RUN
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.grid.cells import expand, select
from s3prl_metaperser.grid.definition import read_grid
from s3prl_metaperser.grid.engines import profile, snakemake_engine
from s3prl_metaperser.grid.engines.tied import take_gpu
from s3prl_metaperser.grid.jobs import jobs_left, jobs_of, resources
from s3prl_metaperser.grid.opened import open_grid
from s3prl_metaperser.grid.results import Results

GRIDS = Path(__file__).resolve().parents[1] / "benchmarks"
CHANGED = ("downstream_expert.fewrc.classifier_lr=0.5",)


def cells_of(name, *changes):
    return expand(read_grid(GRIDS / f"{name}.yaml"), changes=changes)


@pytest.fixture
def finished(monkeypatch):
    """A set of cells that count as done."""
    done = set()
    monkeypatch.setattr(Results, "is_done", lambda self, cell: cell.identity in done)
    monkeypatch.setattr("s3prl_metaperser.grid.stages.Stage.exists", lambda self, fingerprint=None: False)
    return done


# -- jobs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["smoke", "demo", "table1", "table_a4"])
@pytest.mark.parametrize("folds", [None, 2])
@pytest.mark.parametrize("only", [None, "scenario=unseen,fold=fold1|fold2"])
def test_every_cell_is_in_one_job_and_only_names_these_cells(name, folds, only):
    everything = cells_of(name)
    chosen = select(everything, only)
    jobs = jobs_of(chosen, folds)
    counts = Counter(cell.path for job in jobs if job.kind == "system" for cell in job.cells)
    assert counts == {cell.path: 1 for cell in chosen}
    for job in jobs:
        assert {cell.path for cell in select(everything, job.only)} == {cell.path for cell in job.cells}
    assert len({job.name for job in jobs}) == len(jobs)


def test_a_job_comes_after_what_its_cells_share_and_after_nothing_else():
    jobs = jobs_of(cells_of("table1"))
    named = {job.name: job for job in jobs}
    for number, job in enumerate(jobs):
        before = [named[name] for name in job.needs]
        assert all(jobs.index(other) < number for other in before)
        made = {stage.key for other in before for stage in other.stages}
        if job.kind == "features":
            assert not before
        elif job.kind == "initialisation":
            assert made == {cell.features for cell in job.cells}
        else:
            wanted = {cell.features for cell in job.cells} | {cell.initialisation for cell in job.cells} - {None}
            assert made == wanted


def test_frozen_folds_share_a_process_and_finetuned_ones_do_not():
    jobs = [job for job in jobs_of(cells_of("table1")) if job.kind == "system"]
    assert {len(job.cells) for job in jobs if not job.finetuned} == {5}
    assert {len(job.cells) for job in jobs if job.finetuned} == {1}
    assert {len(job.cells) for job in jobs_of(cells_of("table1"), 3) if job.kind == "system"} == {3, 2}
    assert len([job for job in jobs_of(cells_of("demo")) if job.kind == "system"]) == 24


def test_only_what_is_fine_tuned_takes_a_gpu_and_the_memory_of_the_plan():
    for job in jobs_of(cells_of("table1")):
        asked, on_cpu = resources(job, on_gpu=True), resources(job, on_gpu=False)
        if job.finetuned and job.kind != "features":
            assert asked["gpu"] == 1
            assert on_cpu["gpu"] == 0
            assert 8192 < asked["mem_mb"] < on_cpu["mem_mb"]  # on a CPU the activations are in it
        else:
            assert asked == {"threads": 1}


# -- what is left to do -------------------------------------------------------------------------------------------


def test_a_changed_option_leaves_the_jobs_that_it_touches_and_no_others(tmp_path, finished):
    results = Results(tmp_path / "results")
    cells = cells_of("smoke")
    assert jobs_left(cells, results) == jobs_of(cells)
    finished.update(cell.identity for cell in cells)
    assert jobs_left(cells, results) == []

    left = jobs_left(cells_of("smoke", *CHANGED), results)
    few = {"Linear-Few", "Multi-Few"}
    assert {job.cells[0].system for job in left if job.kind == "system"} == few
    assert {cell.system for job in left for cell in job.cells} == few
    assert jobs_left(cells, results) == []  # and back


def test_what_exists_already_is_no_job_and_nobody_waits_for_it(tmp_path, finished, monkeypatch):
    monkeypatch.setattr("s3prl_metaperser.grid.stages.Stage.exists", lambda self, _: self.kind == "features")
    left = jobs_left(cells_of("smoke"), Results(tmp_path / "results"))
    assert {job.kind for job in left} == {"initialisation", "system"}
    assert {name for job in left for name in job.needs} <= {job.name for job in left}
    assert {bool(job.needs) for job in left if job.kind == "initialisation"} == {False}
    assert {job.kind for job in jobs_left(cells_of("smoke"), Results(tmp_path), last="initialisation")} == {
        "initialisation"
    }


def test_a_job_whose_results_were_deleted_is_to_run_again(tmp_path, finished):
    results = Results(tmp_path / "results")
    cells = cells_of("smoke")
    finished.update(cell.identity for cell in cells)
    gone = next(cell for cell in cells if cell.system == "Random")
    finished.discard(gone.identity)
    left = jobs_left(cells, results)
    assert [job.kind for job in left] == ["features", "system"]  # Random starts from no initialisation
    assert [job.cells for job in left] == [(gone,), (gone,)]


def test_the_report_is_made_again_where_it_is_older_than_a_result(tmp_path, finished):
    opened = open_grid(str(write_grid(tmp_path)))
    finished.update(cell.identity for cell in opened.cells)
    result = opened.results.of(opened.cells[0]) / "result_test.json"
    page = tmp_path / "results" / "report" / "report.html"
    for path in (result, page):
        path.parent.mkdir(parents=True)
        path.touch()
    settings = snakemake_engine.Settings(command=["GRID"])

    def planned(**changes):
        asked = dataclasses.replace(settings, **changes)
        return list(snakemake_engine.plan_of(opened, asked, [], elsewhere=False))

    os.utime(result, (page.stat().st_mtime - 9,) * 2)
    assert planned() == []
    os.utime(result, (page.stat().st_mtime + 9,) * 2)
    assert planned() == ["report"]
    assert planned(stage="system") == []
    page.unlink()
    assert planned() == ["report"]


def test_two_engines_do_not_work_in_one_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(snakemake_engine, "LOCK_SECONDS", 0.1)

    def second():
        with snakemake_engine.held_engine(tmp_path):
            pass

    with snakemake_engine.held_engine(tmp_path), ThreadPoolExecutor(1) as other:
        refused = other.submit(second).exception()
    assert f"is still in use by process {os.getpid()} on" in str(refused) or "is in use by" in str(refused)
    second()


# -- processes ---------------------------------------------------------------------------------------------------


def test_each_gpu_is_given_to_one_job_at_a_time(tmp_path):
    (first, held), (second, other) = (take_gpu(["2", "5"], tmp_path) for _ in range(2))
    assert (first, second) == ("2", "5")
    os.close(held)
    again, held = take_gpu(["2", "5"], tmp_path)
    assert again == "2"
    os.close(held)
    os.close(other)


def test_a_job_holds_its_gpu_until_it_ends(tmp_path):
    tied = [sys.executable, "-m", "s3prl_metaperser.grid.engines.tied", "--gpus", "2,5", "--gpu-locks", str(tmp_path)]
    job = [*tied, sys.executable, "-c", "import os; print(os.environ['CUDA_VISIBLE_DEVICES'], flush=True); input()"]
    with subprocess.Popen(job, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert [process.stdout.readline() for _ in range(2)] == ["GPU 2\n", "2\n"]
        other, held = take_gpu(["2", "5"], tmp_path)
        os.close(held)
        process.communicate("\n")
    again, held = take_gpu(["2", "5"], tmp_path)
    os.close(held)
    assert (other, again, process.returncode) == ("5", "2", 0)


@pytest.mark.skipif(sys.platform != "linux", reason="the system tells of a parent's end on Linux only")
def test_a_job_ends_with_the_process_that_started_it(tmp_path):
    job = (
        "from s3prl_metaperser.grid.engines.tied import end_with_parent as end; import os, time; end();"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(3000)"
    )
    engine = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {job!r}])"
    with subprocess.Popen([sys.executable, "-c", engine]) as process:
        pid = _until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
        process.kill()
    assert _until(lambda: not _alive(int(pid)))


def test_the_gpus_of_a_machine_are_those_that_cuda_may_see(monkeypatch):
    for named, seen in [("0,3", ["0", "3"]), ("", []), ("-1", []), ("GPU-8f", ["GPU-8f"])]:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
        assert snakemake_engine.visible_gpus() == seen


def test_jobs_on_several_gpus_of_one_machine_take_one_each_and_those_of_a_cluster_what_it_gives(tmp_path):
    opened = open_grid(str(GRIDS / "table1.yaml"), results=str(tmp_path), only="fold=fold1,scenario=seen")
    settings = snakemake_engine.Settings(command=["GRID"])
    for gpus, elsewhere, taking in [(["0", "1"], False, True), (["0"], False, False), ([], True, False)]:
        plan = snakemake_engine.plan_of(opened, settings, gpus, elsewhere)
        asking = [job for job in plan.values() if job["resources"].get("gpu")]
        assert asking
        assert all(("--gpus 0,1" in job["command"]) is taking for job in asking)
        assert not any("--gpus" in job["command"] for job in plan.values() if job not in asking)
    plan = snakemake_engine.plan_of(opened, settings, [], elsewhere=False)
    assert not any(job["resources"].get("gpu") for job in plan.values())


def test_a_profile_of_this_machine_shares_its_gpus_out_too(tmp_path):
    settings = snakemake_engine.Settings(command=["GRID"])
    for given, told in [({"cores": 3}, True), ({"resources": ["gpu=2"]}, False), ({"executor": "slurm"}, False)]:
        mine = profile.Profile(tmp_path, {**given, "slurm-status-command": "squeue"})
        line = snakemake_engine.command_line(settings, mine, ["0"], tmp_path)
        assert ("gpu=1" in line) is told


# -- the command line --------------------------------------------------------------------------------------------


def test_without_the_extra_the_error_says_how_to_install_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(snakemake_engine, "find_spec", lambda name: None)
    assert main(["run", str(write_grid(tmp_path)), "--engine", "snakemake"]) == NOT_RUN
    assert "pip install 's3prl-metaperser[grid]'" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--cores", "2"], "--cores needs --engine snakemake"),
        (["--retries", "0"], "--retries needs --engine snakemake"),
        (["--engine", "snakemake", "--jobs", "2"], "Use --cores N"),
    ],
)
def test_an_option_of_another_engine_is_an_error(tmp_path, capsys, options, message):
    assert main(["run", str(write_grid(tmp_path)), *options]) == NOT_RUN
    assert message in capsys.readouterr().err


def test_profiles_are_found_by_name_and_by_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(profile, "find_spec", lambda name: True)
    assert profile.find_profile("slurm").executor == "slurm"
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "config.yaml").write_text(yaml.safe_dump({"cores": 3}))
    assert profile.find_profile(str(mine)).executor is None
    with pytest.raises(UserError, match="Did you mean 'slurm'"):
        profile.find_profile("slurn")
    monkeypatch.setattr(profile, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install snakemake-executor-plugin-slurm"):
        profile.find_profile("slurm")


def test_a_slurm_without_accounting_is_asked_by_its_queue_unless_the_profile_says_otherwise(tmp_path, monkeypatch):
    monkeypatch.setattr(profile, "_accounting", lambda: False)
    options = profile.Profile(tmp_path, {"executor": "slurm"}).without_accounting()
    assert options == ["--slurm-status-command", "squeue", "--slurm-no-account"]
    assert profile.Profile(tmp_path, {"executor": "slurm", "slurm-status-command": "sacct"}).without_accounting() == []
    assert profile.Profile(tmp_path, {"executor": "kubernetes"}).without_accounting() == []
    monkeypatch.setattr(profile, "_accounting", lambda: True)
    assert profile.Profile(tmp_path, {"executor": "slurm"}).without_accounting() == []


@pytest.mark.skipif(importlib.util.find_spec("snakemake") is None, reason="pip install 's3prl-metaperser[grid]'")
def test_a_dry_run_says_what_would_run_and_leaves_nothing_behind(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("METAPERSER_CACHE", str(tmp_path / "cache"))
    assert main(["run", str(write_grid(tmp_path)), "--engine", "snakemake", "--cores", "2", "--dry-run"]) == 0
    said = capfd.readouterr().out
    for rule, jobs in {"features": 1, "initialisation": 1, "system": 2, "report": 1}.items():
        assert said.count(f"rule {rule}:") == jobs
    assert not (tmp_path / "results").exists()


@pytest.mark.skipif(importlib.util.find_spec("snakemake") is None, reason="pip install 's3prl-metaperser[grid]'")
def test_snakemake_runs_what_a_change_touches_upstream_and_downstream_and_nothing_else(
    tmp_path, finished, monkeypatch, capfd
):
    there = {"features"}
    monkeypatch.setattr("s3prl_metaperser.grid.stages.Stage.exists", lambda self, fingerprint=None: self.kind in there)
    systems = ["Random", "Linear-Zero", "Multi-Few", "Meta-PerSER"]
    grid = str(write_grid(tmp_path, systems={"frozen": systems}))
    opened = open_grid(grid)
    finished.update(cell.identity for cell in opened.cells)
    page = tmp_path / "results" / "report" / "report.html"
    page.parent.mkdir(parents=True)
    page.touch()

    def would_run(*options):
        capfd.readouterr()
        assert main(["run", grid, "--engine", "snakemake", "--cores", "2", "--dry-run", *options]) == 0
        said = capfd.readouterr().out
        jobs = [line.partition("job=fbank_no_cmvn-seen-")[2].rpartition("-")[0] for line in said.splitlines()]
        return {job for job in jobs if job} | {rule for rule in ("initialisation", "report") if f"rule {rule}:" in said}

    assert would_run() == set()
    touched = would_run("--set", "downstream_expert.initrc.total_steps=39")
    assert touched == {"Linear-Zero", "Multi-Few", "Meta-PerSER", "initialisation", "report"}
    assert would_run("--set", "downstream_expert.fewrc.classifier_lr=0.5") == {"Multi-Few", "report"}
    finished.discard(next(cell.identity for cell in opened.cells if cell.system == "Random"))
    there.clear()
    assert would_run() == {"Random", "report"}  # its results were deleted, and features that others were made with


@pytest.mark.skipif(importlib.util.find_spec("snakemake") is None, reason="pip install 's3prl-metaperser[grid]'")
def test_snakemake_takes_a_path_as_it_stands(tmp_path, monkeypatch, capfd):
    odd = tmp_path / "a b #1 {x} 'q': ü"
    odd.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(odd))
    monkeypatch.setenv("METAPERSER_CACHE", str(odd / "cache"))
    grid = str(write_grid(odd, name="of {x} #2"))
    assert main(["run", grid, "--engine", "snakemake", "--cores", "2", "--dry-run"]) == 0
    assert capfd.readouterr().out.count("rule system:") == 2


def _until(condition, seconds=300.0):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


def _alive(pid):
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
