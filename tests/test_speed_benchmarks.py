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
