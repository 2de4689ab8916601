"""The wheel and the source distribution: what is in them, what is not, and that an index would take them."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

import s3prl_metaperser

ROOT = Path(__file__).resolve().parents[1]
MISSING = [name for name in ("build", "twine") if importlib.util.find_spec(name) is None]
MISSING += ["setuptools 70.1 or newer"] * (tuple(map(int, metadata.version("setuptools").split(".")[:2])) < (70, 1))
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)} (the extra test)")
IGNORED = (
    ".git",
    ".venv",
    "build",
    "dist",
    "result",
    "site",
    "*.egg-info",
    "__pycache__",
    ".*_cache",
    ".hypothesis",
    "metaperser-*",
)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """(wheel, source distribution), built from a copy without network."""
    folder = tmp_path_factory.mktemp("built")
    shutil.copytree(ROOT, folder / "copy", ignore=shutil.ignore_patterns(*IGNORED), symlinks=True)
    line = [sys.executable, "-m", "build", "--no-isolation", "-o", str(folder / "dist"), str(folder / "copy")]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-1500:]
    return next((folder / "dist").glob("*.whl")), next((folder / "dist").glob("*.tar.gz"))


def test_the_wheel_has_every_module_and_data_file_and_nothing_else(built):
    with zipfile.ZipFile(built[0]) as wheel:
        names = set(wheel.namelist())
        said = wheel.read(next(name for name in names if name.endswith(".dist-info/METADATA"))).decode()
    package = ROOT / "s3prl_metaperser"
    files = [path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert {path.relative_to(ROOT).as_posix() for path in files} <= names, "what the checkout has, an installation has"
    inside = {"grids": "benchmarks", "paper": "benchmarks/paper", "upstream_configs": "upstream_configs"}
    for folder, place in inside.items():
        shipped = {name.rpartition("/")[2] for name in names if name.startswith(f"s3prl_metaperser/{folder}/")}
        assert shipped == {path.name for path in (ROOT / place).glob("*.yaml")}, folder
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"s3prl_metaperser", "s3prl"}
    assert {name.split("/")[2] for name in names if name.startswith("s3prl/")} == {
        *("personalized_emotion", "domain_generalized_emotion"),
    }, "beside s3prl's own downstreams, and none of them is replaced"
    assert f"\nVersion: {s3prl_metaperser.__version__}\n" in said
    assert "Project-URL: " in said


def test_the_source_distribution_is_the_repository(built):
    with tarfile.open(built[1]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = [
        "tests/conftest.py",
        "docs/start/demo.md",
        "docs/notebooks/demo.ipynb",
        "benchmarks/run_all.sh",
        "LICENSE",
    ]
    wanted += ["constraints.txt", ".ci/run", ".ci/site.py", "mkdocs.yml", "downstream/personalized_emotion/config.yaml"]
    wanted += ["CITATION.cff", "CHANGELOG.md", "run_downstream.py", "setup.py", "benchmarks/speed/meta_step.py"]
    assert [name for name in wanted if name not in names] == []
    assert [name for name in names if "__pycache__" in name or name.endswith((".pyc", ".ckpt", ".wav"))] == []


def test_an_index_would_take_both(built):
    line = [sys.executable, "-m", "twine", "check", "--strict", *map(str, built)]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("PASSED") == 2
