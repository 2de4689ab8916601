import json
import os
import subprocess
import sys

import pytest
from corpora_fixtures import rating, write_iemocap, write_ratings_csv

from s3prl_metaperser.cli import main


def test_help_needs_no_torch_and_few_modules():
    code = "import sys; from s3prl_metaperser import cli; cli.build_parser(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = done.stdout.split()
    assert "torch" not in modules
    assert len(modules) < 250, "each of them is time that help takes"


def test_without_a_word_the_commands_are_shown(capsys):
    assert main([]) == 2
    assert "Start with `metaperser demo`" in capsys.readouterr().err


def test_list_names_systems_corpora_and_upstreams(capsys):
    for what, name in (("systems", "Meta-PerSER"), ("corpora", "ratings_csv"), ("upstreams", "wavlm_base")):
        assert main(["list", what]) == 0
        assert any(line.split()[:1] == [name] for line in capsys.readouterr().out.splitlines())


def test_demo_corpus_validates_as_iemocap(tmp_path, capsys):
    folder = tmp_path / "demo"
    assert main(["demo-corpus", str(folder), "--utterances", "20"]) == 0
    assert "validate --corpus iemocap" in capsys.readouterr().out
    assert main(["validate", "--corpus", "iemocap", "--root", str(folder), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert set(report) == {"utterances", "speakers", "raters", "label_set", "merged", "dropped", "problems"}
    assert report["utterances"] == 20
    assert report["speakers"] == 10


def test_a_problem_that_would_change_results_is_exit_status_one(tmp_path, capsys):
    root = write_iemocap(tmp_path, {"Ses01F_impro01_F000": ["C-E1:\tNeutral;\t()"]})
    wav = next(root.rglob("*.wav"))
    wav.write_bytes(b"RIFF")
    assert main(["validate", "--corpus", "iemocap", "--root", str(root)]) == 1
    assert wav.name in capsys.readouterr().out


def test_no_audio_is_decoded_when_told_not_to(tmp_path, monkeypatch):
    root = write_iemocap(tmp_path, {"Ses01F_impro01_F000": ["C-E1:\tNeutral;\t()"]})
    monkeypatch.setattr("s3prl_metaperser.corpora.validate.read_audio", lambda *_, **__: pytest.fail("decoded"))
    assert main(["validate", "--corpus", "iemocap", "--root", str(root), "--no-audio"]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["validate", "--corpus", "iemocapp", "--root", "."], "Did you mean 'iemocap'"),
        (["validate", "--corpus", "iemocap", "--root", "nowhere"], "nowhere"),
        (["demo-corpus", "x", "--raters", "oposed"], "opposed"),
        (["card", "iemocap", "--corpus", "demo"], "Two corpora are named"),
        (["card"], "No corpus is named"),
    ],
)
def test_mistakes_are_one_line_and_status_two(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith("metaperser: error: ")
    assert message in said


@pytest.mark.parametrize(
    "arguments",
    [
        ["validate", "--all", "~nobody-of-this-name/x"],
        ["adapt", "MODEL", "--ratings", "r.csv", "--out", "~nobody-of-this-name/x"],
        ["report", "~nobody-of-this-name/x", "--out", "y"],
        ["validate", "--corpus", "iemocap", "--root", "x" * 300],
        ["validate", "--corpus", "ratings_csv", "--root", "x" * 5000],
        ["validate", "--all", "x" * 300],
    ],
)
def test_a_place_that_cannot_be_is_one_line(arguments, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("metaperser: error: ")
    assert error.count("\n") == 1


def test_json_on_the_terminal_is_valid_and_holds_no_control_characters(tmp_path, capsys):
    names = ["x\x9b2J", "y\u202e", "zo\xe9"]
    write_ratings_csv(tmp_path, "file,rater,label\n" + "".join(f"a.wav,{name},sad\n" for name in names))
    (tmp_path / "files.csv").write_text("file,speaker\na.wav,s\n")
    assert main(["validate", "--corpus", "ratings_csv", "--root", str(tmp_path), "--json"]) == 0
    out = capsys.readouterr().out
    assert set(json.loads(out)["raters"]) == set(names)
    assert all(c.isprintable() or c == "\n" for c in out)
    assert "zo\xe9" in out


def test_json_of_a_file_name_that_is_no_text_can_be_printed(tmp_path):
    write_iemocap(tmp_path, {"Ses01F_impro01_F000": [rating("C-E1", "Neutral;")]})
    (tmp_path / "Session1/dialog/EmoEvaluation/bad\udcff.txt").write_text("x")
    command = ["-m", "s3prl_metaperser.cli", "validate", "--corpus", "iemocap", "--root", str(tmp_path), "--json"]
    encoding = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    found = subprocess.run([sys.executable, *command], env=encoding, capture_output=True, check=True)
    assert "bad\udcff.txt" in json.loads(found.stdout)["problems"][0]["path"]
