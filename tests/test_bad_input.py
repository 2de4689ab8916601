"""What a user does wrong with a corpus, seen through the launcher: one clear error, and nothing half-written."""

from pathlib import Path

import pytest
from corpora_fixtures import write_wav
from small_demo import train_command

from s3prl_metaperser.s3prl_plugin import launcher


def train_on(folder, tmp_path, *options):
    chosen = ("downstream_expert.datarc.corpus=ratings_csv", f"downstream_expert.datarc.root={folder}", *options)
    return launcher.main(train_command(tmp_path / "exp", options=chosen))


def corpus(folder: Path, raters=("a", "b", "c", "d"), utterances=20, wavs=True) -> Path:
    """A corpus of one's own in which every rater rates everything."""
    labels = ("angry", "sad", "neutral;happy", "excited")
    rows = ["file,rater,label"]
    for number in range(utterances):
        if wavs:
            write_wav(folder / f"u{number}.wav", seconds=0.5 + number / 100)
        rows += [f"u{number}.wav,{rater},{labels[(number + place) % 4]}" for place, rater in enumerate(raters)]
    (folder / "ratings.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture
def own(tmp_path):
    folder = tmp_path / "own"
    folder.mkdir()
    return folder


def error(capsys):
    """The one error line that was said."""
    lines = [line for line in capsys.readouterr().err.splitlines() if "error" in line or "Traceback" in line]
    assert len(lines) == 1, lines
    return lines[0]


def left_behind(tmp_path):
    """Files in the experiment folder that a later run could take for results."""
    return [p.name for p in (tmp_path / "exp").glob("*") if p.suffix in (".ckpt", ".json", ".part")]


def test_a_missing_folder_is_named(tmp_path, capsys):
    assert train_on(tmp_path / "nowhere", tmp_path) == 2
    assert str(tmp_path / "nowhere") in error(capsys)


def test_an_empty_corpus_is_an_error(own, tmp_path, capsys):
    (own / "ratings.csv").write_text("file,rater,label\n")
    assert train_on(own, tmp_path) == 2
    assert "ratings.csv" in error(capsys)


def test_one_rater_only_is_an_error(own, tmp_path, capsys):
    assert train_on(corpus(own, raters=("a",)), tmp_path) == 2
    assert "needs at least 3 raters" in error(capsys)


def test_a_rater_with_too_few_utterances_for_k_is_named(own, tmp_path, capsys):
    assert train_on(corpus(own, utterances=8), tmp_path) == 2
    assert "8 rated utterance(s)" in error(capsys)
    assert left_behind(tmp_path) == []


def test_an_unreadable_wav_is_named_before_training(own, tmp_path, capsys):
    corpus(own)
    (own / "u7.wav").write_bytes(b"RIFF....not audio")
    assert train_on(own, tmp_path) == 2
    said = capsys.readouterr().err
    assert "u7.wav" in said
    assert "metaperser validate" in said
    assert "Traceback" not in said
    assert left_behind(tmp_path) == []


def test_a_truncated_wav_is_named_before_training(own, tmp_path, capsys):
    corpus(own)
    whole = (own / "u3.wav").read_bytes()
    (own / "u3.wav").write_bytes(whole[: len(whole) // 2])
    assert train_on(own, tmp_path) == 2
    assert "u3.wav" in capsys.readouterr().err
    assert left_behind(tmp_path) == []


def test_unseen_without_sessions_says_what_to_add(own, tmp_path, capsys):
    assert train_on(corpus(own), tmp_path, "downstream_expert.datarc.scenario=unseen") == 2
    assert "files.csv" in capsys.readouterr().err


def test_a_corpus_without_root_says_how_to_name_it(tmp_path, capsys):
    command = train_command(tmp_path / "exp", options=("downstream_expert.datarc.corpus=iemocap",))
    assert launcher.main(command) == 2
    assert "datarc.root=DIR" in error(capsys)


def test_a_bad_key_in_a_configuration_file_names_the_nearest(tmp_path, capsys):
    (tmp_path / "c.yaml").write_text("runner: {total_step: 3}\n")
    command = ["-d", "personalized_emotion", "-u", "fbank_no_cmvn", "-m", "train", "-c", str(tmp_path / "c.yaml")]
    assert launcher.main([*command, "-p", str(tmp_path / "exp")]) == 2
    assert "c.yaml.runner.total_step. Did you mean 'total_steps'" in error(capsys)
    assert not (tmp_path / "exp").exists()


def test_a_configuration_file_that_is_not_yaml_is_named(tmp_path, capsys):
    (tmp_path / "c.yaml").write_text("runner: [1,\n")
    command = ["-d", "personalized_emotion", "-u", "fbank_no_cmvn", "-m", "train", "-c", str(tmp_path / "c.yaml")]
    assert launcher.main([*command, "-p", str(tmp_path / "exp")]) == 2
    assert "c.yaml is not valid YAML" in error(capsys)


def test_a_checkpoint_that_would_run_code_is_not_opened(tmp_path, capsys):
    import pickle

    marker = tmp_path / "ran"

    class Hostile:
        def __reduce__(self):
            return (marker.touch, ())

    import torch

    torch.save({"Args": Hostile(), "Config": {}}, tmp_path / "states-1.ckpt", pickle_module=pickle)
    assert launcher.main(["-m", "evaluate", "-e", str(tmp_path / "states-1.ckpt")]) == 2
    assert "cannot be read safely" in capsys.readouterr().err.replace("not a checkpoint that can", "cannot")
    assert not marker.exists()
