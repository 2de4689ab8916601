"""benchmarks/same_numbers.py notices a changed bit, and nothing else."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
from same_numbers import main

NAMES = ("corpus", "upstream", "scope", "scenario", "fold", "system", "split", "shots", "protocol")
RESULT = {
    "schema": 3,
    "cell": dict.fromkeys(NAMES, "x"),
    "classes": ["a", "b"],
    "metrics": {"macro_f1": {"mean": 0.1, "low": 0.0, "high": 0.2}},
    "episodes": [{"seed": 0, "probabilities": [[0.25, 0.75]], "ticks": [[0, 1]]}],
    "hashes": {"corpus": "c", "parameters": "p", "code": "1"},
    "seconds": 1.0,
}


def written(folder: Path, content: dict, weights: float = 1.0) -> str:
    """A folder with one result and one file of tensors."""
    (folder / "demo").mkdir(parents=True)
    (folder / "demo" / "result_test.json").write_text(json.dumps(content), encoding="utf-8")
    save_file({"w": np.array([weights], dtype=np.float32)}, folder / "demo" / "model.safetensors")
    return str(folder)


def test_another_version_schema_and_further_metrics_are_no_difference(tmp_path, capsys):
    other = copy.deepcopy(RESULT)
    other |= {"schema": 4, "seconds": 2.0, "task": "t"}
    other["hashes"]["code"] = "2"
    other["metrics"]["nats"] = {"mean": 1.0, "low": 0.0, "high": 2.0}
    assert main([written(tmp_path / "a", RESULT), written(tmp_path / "b", other)]) == 0
    assert "1 results, 2 probabilities: 1 equal to the bit, 0 different" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("section", "change"),
    [
        ("episodes", [{"seed": 0, "probabilities": [[0.25, 0.7500000000000001]], "ticks": [[0, 1]]}]),
        ("metrics", {"macro_f1": {"mean": 0.1, "low": 0.0, "high": 0.20000000000000004}}),
        ("metrics", {}),
        ("classes", ["b", "a"]),
        ("hashes", {"corpus": "c", "parameters": "q"}),
    ],
)
def test_the_last_bit_of_a_number_is_a_difference(tmp_path, capsys, section, change):
    before = written(tmp_path / "a", RESULT)
    assert main([before, written(tmp_path / "b", {**RESULT, section: change})]) == 1
    assert f"{section}" in capsys.readouterr().out


def test_a_missing_result_and_other_weights_are_differences(tmp_path, capsys):
    before = written(tmp_path / "a", RESULT)
    assert main([before, written(tmp_path / "b", RESULT, float(np.nextafter(np.float32(1), np.float32(2))))]) == 1
    assert "model.safetensors: w" in capsys.readouterr().out
    (tmp_path / "b" / "demo" / "result_test.json").unlink()
    assert main([before, str(tmp_path / "b")]) == 2
