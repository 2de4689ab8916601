"""The speed benchmarks run, and their result says what its reader needs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks" / "speed"
RESULT = {"date", "setting", "machine", "parameters", "higher", "memory", "seconds", "relative_error", "ratios"}


def test_a_fine_tuned_step_is_measured_end_to_end(tmp_path):
    file = tmp_path / "result.json"
    options = ["--tiny", "--engines", "adjoint", "unrolled", "--inner-steps", "2", "--growth", "--seconds", "0.3"]
    command = [sys.executable, str(FOLDER / "finetuned_step.py"), *options, "--rounds", "1", "--json", str(file)]
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result = json.loads(file.read_text())
    assert set(result) == RESULT
    assert [case["engine"] for case in result["memory"]] == ["adjoint", "unrolled"]
    assert all(case["peak_bytes"] > 0 for case in result["memory"])
    assert set(result["seconds"]) == {"adjoint 2", "unrolled 2"}
    assert result["relative_error"]["adjoint 2"] < 1e-4
    assert "memory, unrolled to adjoint, S=2" in result["ratios"]
    assert "ratio" in done.stdout


def test_every_stored_result_is_of_that_form_and_names_no_host():
    files = sorted((FOLDER / "results").glob("*-step-*.json"))
    assert files
    for file in files:
        result = json.loads(file.read_text())
        assert set(result) == RESULT
        assert set(result["machine"]) == {"device", "threads", "torch"}


def result_of(tmp_path, script, *options):
    """What a script writes with ``--tiny``, and prints."""
    file = tmp_path / f"{script}.json"
    command = [sys.executable, "-W", "ignore", str(FOLDER / f"{script}.py"), "--tiny", *options, "--json", str(file)]
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result = json.loads(file.read_text())
    assert set(result["machine"]) == {"device", "threads", "torch"}
    return result, done.stdout


def test_an_outer_step_is_measured_beside_its_floor_and_agrees_with_the_loop(tmp_path):
    result, shown = result_of(tmp_path, "meta_step", "--growth")
    assert {"floor", "closed form", "loop", "closed form, first order"} <= set(result["seconds"])
    assert result["to_floor"]["floor"] == 1
    assert result["relative_error"]["closed form"] < 1e-12
    assert result["relative_error"]["closed form, first order"] < 1e-12
    assert set(result["growth"]) == {"raters", "shots", "steps"}
    for name in ("higher", "torchopt", "learn2learn"):
        assert (name in result["seconds"]) != (f"{name}: not installed" in shown)
        assert result["relative_error"].get(name, 0) < 1e-12


def test_meta_testing_is_measured_and_gives_the_loops_probabilities(tmp_path):
    result, shown = result_of(tmp_path, "meta_test")
    assert set(result["times_as_fast"]) == {"Meta-PerSER", "Linear-Few", "Multi-Few"}
    assert max(result["probabilities_apart"].values()) < 1e-5
    assert "times as fast" in shown


def test_extraction_is_measured_beside_the_plain_loop_and_padding_is_shown_to_be_wrong(tmp_path):
    result, shown = result_of(tmp_path, "features")
    for case in result["cases"].values():
        ours = [name for name in case["difference"] if name.startswith("ours")]
        assert len(ours) == 2
        assert max(case["difference"][name] for name in ours) < 1e-4 < case["difference"]["padded, batches of 2"]
    assert "padded" in shown


def test_a_step_of_domain_generalisation_is_measured_beside_plain_passes(tmp_path):
    result, shown = result_of(tmp_path, "dg_step", "--no-memory")
    assert result["to_batch"]["two plain passes"] == 1
    assert set(result["relative_error"]) == {"MLDG", "DA-MLDG", "DA-MLDG, attached"}
    assert max(result["relative_error"].values()) < 1e-13
    assert "MLDG, unrolled graph" in shown


def test_the_demo_job_is_measured_part_by_part(tmp_path):
    result, shown = result_of(tmp_path, "demo")
    assert [set(one) for one in result["seconds"]["unprepared"]] == [{"train", "evaluate"}]
    assert {"imports", "outer steps", "initialisation"} <= set(result["processor_seconds_by_part"]["train"])
    assert "meta-testing" in result["processor_seconds_by_part"]["evaluate"]
    assert "imports" in shown


def test_the_gpu_script_writes_every_part_and_goes_on_after_one_that_runs_out_of_memory(tmp_path):
    for name in ("numpy", "yaml", "s3prl"):  # what torch does not bring along
        (tmp_path / f"{name}.py").write_text(f"raise ModuleNotFoundError('No module named {name}')")
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHON": sys.executable, "PYTHONPATH": str(tmp_path)}
    whole = ["bash", str(FOLDER.parent / "gpu" / "run.sh"), str(tmp_path), "--tiny"]
    command = [*whole, "--only", "training_step", "features", "shortage"]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "gpu.json").read_text())
    assert [part["part"] for part in result["parts"]] == ["shortage", "features", "training_step"]
    assert [part.get("error") for part in result["parts"]] == ["out of memory", None, None]
    assert result["parts"][2]["peak_bytes"] > 0
    assert (tmp_path / "gpu.md").read_text().rstrip() in done.stdout
    done = subprocess.run([*whole, "--minutes", "0"], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {p["error"] for p in json.loads((tmp_path / "gpu.json").read_text())["parts"]} == {"not begun: out of time"}
