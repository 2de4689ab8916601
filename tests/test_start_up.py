"""What is asked for often starts without what only training needs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import torch
from small_demo import train_command
from small_grid import write_grid

from s3prl_metaperser import cli
from s3prl_metaperser.meta.model import Head
from s3prl_metaperser.s3prl_plugin import launcher

GRID = Path(__file__).resolve().parents[1] / "benchmarks" / "smoke.yaml"
COMMANDS = [
    ["--help"],
    *[["list", what] for what in ("corpora", "labels", "metrics", "systems", "tasks", "upstreams")],
    ["plan", "wavlm_base"],
    ["plan", "--help"],
    ["status", str(GRID)],
]


def modules_after(code: str, *arguments: str) -> set[str]:
    """What a fresh interpreter has imported after ``code``."""
    code += "\nimport json, sys\nprint('\\n' + json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_help_list_plan_and_status_import_neither_torch_nor_s3prl(tmp_path):
    code = f"""
import contextlib, os
from s3prl_metaperser import cli
from s3prl_metaperser.s3prl_plugin import launcher
os.chdir({str(tmp_path)!r})
for main, command in [(cli.main, c) for c in {COMMANDS!r}] + [(launcher.main, ["--help"])]:
    with contextlib.suppress(SystemExit):
        assert main(command) == 0, command
"""
    found = modules_after(code)
    assert "s3prl_metaperser.grid.status" in found, "the commands ran"
    heavy = {"torch", "torchaudio", "s3prl", "transformers", "scipy", "sklearn", "matplotlib"}
    assert not found & heavy


def test_a_report_imports_neither_torch_nor_s3prl(tmp_path):
    more = (f"downstream_expert.evalrc.{option}" for option in ("controls=[unadapted, swapped]", "trajectory=[0, 2]"))
    grid = write_grid(tmp_path, *more, systems={"frozen": ["Linear-Few"]})
    assert cli.main(["run", str(grid)]) == 0
    code = "import sys; from s3prl_metaperser import cli; assert cli.main(['report', *sys.argv[1:]]) == 0"
    found = modules_after(code, str(tmp_path / "results"), "--out", str(tmp_path / "report"))
    assert (tmp_path / "report" / "tables" / "controls.csv").is_file(), "it has the tables that need predictions"
    assert not found & {"torch", "torchaudio", "s3prl", "transformers", "sklearn"}


def test_a_cell_whose_features_exist_imports_no_upstream(tmp_path):
    assert launcher.main(train_command(tmp_path / "first")) == 0
    code = "import sys; from s3prl_metaperser.s3prl_plugin.launcher import main; assert main(sys.argv[1:]) == 0"
    found = modules_after(code, *train_command(tmp_path / "second"))
    assert (tmp_path / "second" / "dev-best.ckpt").is_file()
    assert "torch" in found
    upstreams = {name for name in found if name.startswith("s3prl.upstream.") and name.split(".")[2] != "interfaces"}
    assert not upstreams
    assert "s3prl_metaperser.demo" in found
    assert not found & {"transformers", "fairseq", "scipy.stats", "parselmouth"}


def test_a_run_says_what_it_is_before_torch_is_imported(tmp_path):
    """Which takes seconds on a busy machine."""
    code = """
import sys
from s3prl_metaperser.s3prl_plugin import launcher
launcher.say = lambda line: sys.exit()
try:
    launcher.main(sys.argv[1:])
except SystemExit:
    pass
else:
    raise AssertionError("it said nothing")
"""
    found = modules_after(code, *train_command(tmp_path / "exp", "-v", "Linear-Zero"))
    assert "s3prl_metaperser.s3prl_stack.hub_index" in found, "the name of the upstream was checked"
    assert not found & {"torch", "s3prl", "transformers", "requests"}


def test_a_head_is_made_and_second_order_is_taken_without_half_of_torchs_compiler():
    code = """
import torch
from s3prl_metaperser import meta
from s3prl_metaperser.meta.model import Head
Head(1, 3, 4, 5, torch.Generator())
loss = lambda model, batch: torch.nn.functional.cross_entropy(model(batch[0]), batch[1])
meta.outer_gradient(torch.nn.Linear(2, 2), (torch.ones(3, 2), torch.tensor([0, 1, 1])), None, loss, 0.1, steps=2)
"""
    assert "sympy" not in modules_after(code)


def test_a_head_leaves_the_global_generator_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    one, two = (Head(2, 3, 4, 5, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one.projector.weight, two.projector.weight)


def test_commands_answer_where_torch_cannot_be_imported(tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('no torch here')\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "s3prl_metaperser.cli", "list", "systems"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
