"""What was made from what: a change is noticed where it matters, told in words, and not noticed elsewhere."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from small_demo import demo_root, train_command, trained_and_evaluated

from s3prl_metaperser.corpora import Rating
from s3prl_metaperser.corpora.base import label_hashes
from s3prl_metaperser.s3prl_plugin import launcher
from s3prl_metaperser.s3prl_stack import compat
from s3prl_metaperser.storage.checkpoints import read_checkpoint
from s3prl_metaperser.storage.provenance import differences

compat.apply()
DATA = "downstream_expert.datarc"


# ------------------------------------------------------------------ differences, in words


@pytest.mark.parametrize(
    ("then", "now", "told"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": (1, 2)}, {"a": [1, 2]}, []),
        ({"lr": 1e-3}, {"lr": 1e-2}, ["lr 0.001 -> 0.01"]),
        ({"initrc": {"lr": 1e-3, "x": 1}}, {"initrc": {"lr": 1e-2, "x": 1}}, ["initrc.lr 0.001 -> 0.01"]),
        ({"a": "0" * 64}, {"a": "f" * 64}, [f"a {'0' * 12} -> {'f' * 12}"]),
        ({}, {"b": 2}, ["b nothing -> 2"]),
        ({"b": 2}, {}, ["b 2 -> nothing"]),
        ({"audio": {"x": 1, "y": 2}}, {"audio": {"x": 2, "y": 1}}, ["audio of 2 files changed (x, y)"]),
        ({"audio": {"x": 1}}, {"audio": {"y": 1}}, ["audio of 1 file missing (x)", "audio of 1 file new (y)"]),
        ({"labels": {"C-E1": 1, "C-E2": 2}}, {"labels": {"C-E1": 1, "C-E2": 3}}, ["labels of 1 rater changed (C-E2)"]),
        (
            {"audio": {str(n): 0 for n in range(5)}},
            {"audio": {str(n): 1 for n in range(5)}},
            ["audio of 5 files changed (0, 1, 2, ...)"],
        ),
    ],
)
def test_a_difference_is_told_in_words(then, now, told):
    assert differences(then, now) == told


def test_one_tick_changes_the_hash_of_its_rater_alone():
    ratings = [Rating(u, r, ("sad",)) for u in ("u1", "u2") for r in ("a", "b")]
    changed = [
        dataclasses.replace(r, ticks=("angry",)) if (r.utterance, r.rater) == ("u2", "b") else r for r in ratings
    ]
    before, after = label_hashes(ratings), label_hashes(changed)
    assert before["a"] == after["a"]
    assert before["b"] != after["b"]
    assert label_hashes(reversed(ratings)) == before


# ------------------------------------------------------------------ a trained experiment, and its corpus changed


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A corpus of one's own (the demo's labels and audio, in IEMOCAP's layout), a cache, and an experiment."""
    base = tmp_path_factory.mktemp("identity")
    corpus = shutil.copytree(demo_root(), base / "corpus")
    options = (f"{DATA}.corpus=iemocap", f"{DATA}.root={corpus}", f"{DATA}.cache_dir={base / 'cache'}")
    trained_and_evaluated(base / "exp", options=options)
    return base


@pytest.fixture
def changed(trained, tmp_path):
    """A copy of all three that may be changed, and the options that name it."""
    for name in ("corpus", "cache", "exp"):
        shutil.copytree(trained / name, tmp_path / name)
    where = f"config.{DATA}.root={tmp_path / 'corpus'},,config.{DATA}.cache_dir={tmp_path / 'cache'}"
    return tmp_path, where


def made(folder) -> dict[str, int]:
    """How many features and initialisations the cache holds."""
    shards = (folder / "cache").glob("features/*/shard-*.safetensors")
    rows = sum(len(json.loads(_metadata(path)["audio"])) for path in shards)
    return {"features": rows, "initialisations": len(list((folder / "cache").glob("initialisation/*.safetensors")))}


def _metadata(path) -> dict[str, str]:
    with safe_open(path, framework="pt") as file:
        return file.metadata()


def evaluated(folder, where: str, capsys, *more: str) -> tuple[int, str]:
    capsys.readouterr()
    status = launcher.main(["-m", "evaluate", "-e", str(folder / "exp"), "-o", ",,".join([where, *more])])
    return status, capsys.readouterr().err


def options_of(where: str) -> tuple[str, ...]:
    return (f"{DATA}.corpus=iemocap", *(part.removeprefix("config.") for part in where.split(",,")))


def trained_again(folder, where: str, *more: str) -> dict[str, int]:
    command = train_command(folder / "again", "-v", "Linear-Zero", options=(*options_of(where), *more))
    assert launcher.main(command) == 0
    return made(folder)


def summaries(folder, session: int):
    return sorted((folder / "corpus" / f"Session{session}/dialog/EmoEvaluation").glob("*.txt"))


def edit_label(folder, rater: str) -> None:
    """Give one rating of this rater another label."""
    for path in (path for session in range(1, 6) for path in summaries(folder, session)):
        lines = path.read_text(encoding="latin-1").split("\n")
        for number, line in enumerate(lines):
            if line.startswith(f"{rater}:"):
                other = "Anger;" if "Anger" not in line else "Fear;"
                lines[number] = f"{rater}:\t{other}\t()"
                path.write_text("\n".join(lines), encoding="latin-1")
                return
    raise AssertionError(rater)


def test_nothing_changed_and_moved_folders_are_not_noticed(changed, capsys):
    folder, where = changed
    before = made(folder)
    status, said = evaluated(folder, where, capsys, "config.runner.threads=2", f"config.{DATA}.num_workers=0")
    assert status == 0
    assert "the upstream is not loaded" in said
    assert made(folder) == before == {"features": 120, "initialisations": 1}


def test_two_swapped_audio_files_keep_their_own_features_and_are_told(changed, capsys):
    folder, where = changed
    one, other = sorted((folder / "corpus/Session1").rglob("*.wav"))[:2]
    before = made(folder)
    assert one.read_bytes() != other.read_bytes()
    one.rename(folder / "aside")
    other.rename(one)
    (folder / "aside").rename(other)
    status, said = evaluated(folder, where, capsys)
    assert status == 2
    assert f"audio of 2 files changed ({one.stem}, {other.stem})" in said
    assert "labels" not in said.split("stored -> current:")[1]
    assert made(folder) == before  # nothing had to be made: features are found by content
    assert trained_again(folder, where) == {"features": 120, "initialisations": 2}


@pytest.mark.parametrize(("rater", "remade"), [("C-E4", 1), ("C-E2", 1), ("C-E1", 0)])
def test_an_edited_label_is_told_with_its_rater_and_never_remakes_features(changed, capsys, rater, remade):
    """C-E4 trains, C-E2 validates and C-E1 is tested: its labels are no part of an initialisation."""
    folder, where = changed
    edit_label(folder, rater)
    status, said = evaluated(folder, where, capsys)
    assert status == 2
    assert f"labels of 1 rater changed ({rater})" in said
    assert "audio of" not in said
    assert trained_again(folder, where) == {"features": 120, "initialisations": 1 + remade}


def test_no_option_that_training_went_by_can_be_changed_by_evaluating(changed, capsys):
    folder, where = changed
    before = (folder / "exp/result_test.json").read_text()
    for option, told in (
        ("downstream_expert.initrc.lr=0.5", "initrc.lr 0.001 -> 0.5"),
        ("downstream_expert.metarc.inner_lr=0.5", "metarc.inner_lr 0.05 -> 0.5"),
        ("optimizer.lr=0.5", "optimizer.lr 9e-05 -> 0.5"),
        (f"{DATA}.smoothing=0.2", "smoothing 0.05 -> 0.2"),
        (f"{DATA}.fold=fold2", "split.fold 'fold1' -> 'fold2'"),
        ("downstream_expert.modelrc.standardize=false", "features.standardized True -> False"),
    ):
        status, said = evaluated(folder, where, capsys, f"config.{option}")
        assert status == 2
        assert told in said
    assert (folder / "exp/result_test.json").read_text() == before


def test_an_option_of_meta_testing_can_be_changed_and_the_result_says_so(changed, capsys):
    folder, where = changed
    status, _ = evaluated(folder, where, capsys, "config.downstream_expert.evalrc.steps=3")
    assert status == 0
    result = json.loads((folder / "exp/result_test-steps3.json").read_text())
    assert result["cell"]["steps"] == result["options"]["downstream_expert"]["evalrc"]["steps"] == 3


def test_an_initialisation_is_made_again_for_what_it_depends_on_alone(changed):
    folder, where = changed
    expected = 1
    for option, remade in (
        ("downstream_expert.initrc.lr=2.0e-3", True),
        ("downstream_expert.modelrc.projector_dim=8", True),
        (f"{DATA}.smoothing=0.1", True),
        ("downstream_expert.evalrc.shots=7", False),
        ("downstream_expert.metarc.inner_lr=0.1", False),
        ("downstream_expert.modelrc.batch_size=4", False),
        ("runner.total_steps=13", False),
    ):
        expected += remade
        shutil.rmtree(folder / "again", ignore_errors=True)
        assert trained_again(folder, where, option) == {"features": 120, "initialisations": expected}, option


def test_an_option_changed_on_resuming_is_in_the_log(changed):
    folder, where = changed
    more = f"{where},,config.runner.total_steps=13,,config.optimizer.lr=1e-9"
    assert launcher.main(["-m", "train", "-e", str(folder / "exp"), "-o", more]) == 0
    log = (folder / "exp/log.log").read_text()
    assert "Options changed at step 12: optimizer.lr 9e-05 -> 1e-09" in log
    assert "Options changed at step 12: runner.total_steps 12 -> 13" in log


# ------------------------------------------------------------------ what a stored thing says of itself


def test_every_stored_thing_says_what_it_was_made_from(trained):
    content = read_checkpoint(trained / "exp/dev-best.ckpt")
    assert content["MadeFrom"]["upstream"]["upstream"] == "fbank_no_cmvn"
    assert len(content["MadeFrom"]["audio"]) == 120
    (initialisation,) = (trained / "cache/initialisation").glob("*.safetensors")
    said = json.loads(_metadata(initialisation)["made_from"])
    assert said["labels"].keys() == content["MadeFrom"]["labels"].keys() - {"C-E1"}
    shard = next((trained / "cache/features").rglob("shard-*.safetensors"))
    assert json.loads(_metadata(shard)["identity"])["recipe"] == 1
    hashes = json.loads((trained / "exp/result_test.json").read_text())["hashes"]
    assert hashes["task"] == content["Task"]
    assert all(hashes.values())


def test_the_parameters_of_a_result_are_those_of_its_checkpoint_wherever_it_lies(changed, capsys):
    folder, where = changed
    first = json.loads((folder / "exp/result_test.json").read_text())["hashes"]["parameters"]
    assert evaluated(folder, where, capsys)[0] == 0
    assert json.loads((folder / "exp/result_test.json").read_text())["hashes"]["parameters"] == first
    (folder / "exp/dev-best.ckpt").unlink()
    last = read_checkpoint(folder / "exp/states-12.ckpt")
    assert evaluated(folder, where, capsys)[0] == 0
    other = json.loads((folder / "exp/result_test.json").read_text())["hashes"]["parameters"]
    assert (other == first) == (last["Best"]["step"] == 12)


def rewritten(path, **metadata: str | None) -> None:
    kept = {**_metadata(path), **metadata}
    save_file(load_file(path), path, metadata={key: value for key, value in kept.items() if value is not None})


def test_an_initialisation_of_something_else_is_refused_with_the_difference(changed, capsys):
    folder, where = changed
    (path,) = (folder / "cache/initialisation").glob("*.safetensors")
    said = json.loads(_metadata(path)["made_from"])
    command = train_command(folder / "again", "-v", "Linear-Zero", options=options_of(where))
    for change, told in (
        (json.dumps({**said, "initrc": {**said["initrc"], "lr": 0.7}}), "initrc.lr 0.7 -> 0.001"),
        (json.dumps({**said, "labels": {**said["labels"], "C-E4": "x"}}), "labels of 1 rater changed (C-E4)"),
        (None, "does not record what it was made from"),
        ("{", "does not record what it was made from"),
    ):
        rewritten(path, made_from=change)
        capsys.readouterr()
        assert launcher.main(command) == 2
        assert told in capsys.readouterr().err


def test_a_feature_shard_of_something_else_is_refused_with_the_difference(changed, capsys):
    folder, where = changed
    path = next((folder / "cache/features").rglob("shard-*.safetensors"))
    identity, audio = (json.loads(_metadata(path)[name]) for name in ("identity", "audio"))
    for change, told in (
        ({"identity": json.dumps({**identity, "normalize": True})}, "normalize True -> False"),
        ({"identity": json.dumps({**identity, "checkpoint": "0" * 64})}, f"checkpoint {'0' * 12} -> "),
        ({"identity": json.dumps(identity), "audio": json.dumps(audio[1:])}, "does not record what it was made from"),
        ({"identity": "?", "audio": json.dumps(audio)}, "does not record what it was made from"),
    ):
        rewritten(path, **change)
        status, said = evaluated(folder, where, capsys)
        assert status == 2
        assert told in said


def flip_a_low_bit(path) -> None:
    """Flip the lowest bit of the file's last four-byte number."""
    content = bytearray(path.read_bytes())
    content[-4] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("kind", "advice"), [("features", "compute its features again"), ("initialisation", "train it again")]
)
def test_a_flipped_bit_of_what_is_stored_is_noticed_and_made_again_to_the_same_bits(changed, capsys, kind, advice):
    folder, where = changed
    assert launcher.main(train_command(folder / "whole", "-v", "Linear-Zero", options=options_of(where))) == 0
    path = next((folder / "cache" / kind).rglob("*.safetensors"))
    flip_a_low_bit(path)
    capsys.readouterr()
    command = train_command(folder / "again", "-v", "Linear-Zero", options=options_of(where))
    assert launcher.main(command) == 2
    said = capsys.readouterr().err
    assert f"{path} does not hold what was written" in said
    assert advice in said
    path.unlink()
    assert launcher.main(command) == 0
    assert not differing(folder / "whole" / "dev-best.ckpt", folder / "again" / "dev-best.ckpt")


def differing(one, other) -> list[str]:
    first, second = read_checkpoint(one)["Downstream"], read_checkpoint(other)["Downstream"]
    return [name for name in first if not torch.equal(first[name], second[name])]
