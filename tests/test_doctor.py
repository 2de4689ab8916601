"""``metaperser doctor``: what works here, and that what does not is said with what to do, and never a traceback."""

import configparser
import contextlib
import json
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from s3prl_metaperser import cli
from s3prl_metaperser.corpora import CORPORA, LABEL_SETS
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.evaluation.metrics import METRICS
from s3prl_metaperser.methods import OUTPUTS, SYSTEMS
from s3prl_metaperser.s3prl_plugin import doctor
from s3prl_metaperser.s3prl_stack import compat
from s3prl_metaperser.tasks import TASKS


def found(name):
    (only,) = [finding for finding in doctor.examine() if finding.name == name]
    return only


def test_this_machine_is_fine_and_everything_is_looked_at(capsys):
    assert cli.main(["doctor"]) == 0
    said = capsys.readouterr().out
    for name in (
        "Python",
        "packages",
        "torch",
        "torchaudio",
        "s3prl",
        "upstreams",
        "features",
        "cores",
        "cache",
        "here",
    ):
        assert f"works  {name}: " in said, name
    for name in ("wavlm_base", "parselmouth", "matplotlib", "snakemake", "pandas"):
        assert f" {name}: " in said, name
    assert "no network was used" in said


def test_it_says_the_same_as_json(capsys):
    assert cli.main(["doctor", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["status"] == 0
    assert {finding["state"] for finding in content["found"]} <= {"works", "note"}
    assert all(set(finding) == {"name", "state", "detail", "fix"} for finding in content["found"])


def test_a_mended_stack_says_what_was_mended():
    import torchaudio

    detail = found("s3prl").detail
    assert "its runner imports" in detail
    assert ("torchaudio.info is missing" in detail) == (
        torchaudio.info.__module__ == "s3prl_metaperser.s3prl_stack.stand_ins"
    )


def test_a_package_that_is_missing_or_too_old_is_broken_with_the_fix(monkeypatch, capsys):
    wanted = ["nowhere-to-be-found>=1", "torch>=99", 'no-such-extra; extra == "x"']
    monkeypatch.setattr(doctor, "requires", lambda name: wanted)
    assert cli.main(["doctor"]) == 1
    said = capsys.readouterr().out
    assert 'BROKEN nowhere-to-be-found: not installed\n       -> pip install "nowhere-to-be-found>=1"' in said
    assert "BROKEN torch: " in said
    assert 'pip install "torch>=99"' in said
    assert "no-such-extra" not in said
    assert "2 of " in said


def test_used_from_its_source_folder_is_worth_a_note(monkeypatch):
    def absent(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(doctor, "requires", absent)
    assert found("package").state == "note"


@pytest.mark.parametrize("error", [OSError("undefined symbol: x"), UserError("torch is not installed."), KeyError("x")])
def test_what_fails_on_the_way_is_a_finding_and_the_rest_is_still_looked_at(monkeypatch, error, capsys):
    def fails():
        raise error

    monkeypatch.setattr(compat, "apply", fails)
    assert cli.main(["doctor"]) == 1
    said = capsys.readouterr()
    assert "BROKEN torchaudio: " in said.out
    assert str(error).strip("'") in said.out
    assert " cache: " in said.out
    assert "Traceback" not in said.out + said.err


def test_a_cache_that_cannot_be_written_is_broken(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("METAPERSER_CACHE", str(tmp_path / "file" / "cache"))
    cache = found("cache")
    assert cache.state == "broken"
    assert cache.fix == "Choose another location: METAPERSER_CACHE or datarc.cache_dir."


def test_little_room_and_missing_extras_are_notes(monkeypatch):
    monkeypatch.setattr(doctor, "LITTLE", 10**18)
    monkeypatch.setattr(doctor, "EXTRAS", {"demo": ("no_such_module", "demo corpus")})
    assert found("here").state == "note"
    assert found("no_such_module").fix == "pip install 's3prl-metaperser[demo]'"


def test_a_gpu_is_named_with_its_memory(monkeypatch):
    import torch

    class Properties:
        total_memory = 80 * 10**9

    ones = torch.ones
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: Properties)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "a GPU")
    monkeypatch.setattr(torch, "ones", lambda size, device: ones(size))
    assert str(next(doctor._devices())) == "works  cuda:0: a GPU, 80 GB"


def test_every_extra_that_is_named_can_be_installed():
    setup = configparser.ConfigParser()
    setup.read(Path(__file__).parents[1] / "setup.cfg")
    assert set(doctor.EXTRAS) <= set(setup["options.extras_require"])


TAKEN = {
    "s3prl_metaperser.corpora": ("corpora", "iemocap"),
    "s3prl_metaperser.systems": ("systems", "Meta-PerSER"),
    "s3prl_metaperser.metrics": ("metrics", "macro_f1"),
    "s3prl_metaperser.tasks": ("tasks", "personalized_emotion"),
    "s3prl_metaperser.label_sets": ("labels", "iemocap"),
    "s3prl_metaperser.outputs": ("systems", "bias"),
}


@pytest.mark.parametrize("group", TAKEN)
def test_a_plug_in_that_takes_a_built_in_name_is_one_error_that_names_both_packages(
    tmp_path, monkeypatch, capsys, group
):
    listed, name = TAKEN[group]
    info = tmp_path / "grabber-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: grabber\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{name} = grabber:X\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with contextlib.ExitStack() as stack:
        for registry in (CORPORA, SYSTEMS, OUTPUTS, METRICS, TASKS, LABEL_SETS):
            stack.enter_context(registry.read_again())
        assert cli.main(["list", listed]) == 2
        said = capsys.readouterr().err
        broken = [finding for finding in doctor._plugins() if finding.state == "broken"]
    assert len(said.splitlines()) == 1
    assert len(broken) == 1
    for text in (said, broken[0].detail):
        assert f"{name!r} is registered twice: " in text
        assert "(of s3prl-metaperser) and grabber:X (of grabber). Uninstall grabber, or rename it there." in text
