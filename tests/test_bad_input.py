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


def test_a_rater_with_too_few_utterances_for_k_is_named(own, tmp_path, capsys):
    assert train_on(corpus(own, utterances=8), tmp_path) == 2
    assert "8 rated utterance(s)" in error(capsys)
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize("damaged", [lambda whole: b"RIFF....not audio", lambda whole: whole[: len(whole) // 2]])
def test_a_damaged_wav_is_named_before_training(own, tmp_path, capsys, damaged):
    path = corpus(own) / "u7.wav"
    path.write_bytes(damaged(path.read_bytes()))
    assert train_on(own, tmp_path) == 2
    said = capsys.readouterr().err
    assert "u7.wav" in said
    assert "metaperser validate" in said
    assert "Traceback" not in said
    assert left_behind(tmp_path) == []


def test_a_corpus_without_root_says_how_to_name_it(tmp_path, capsys):
    command = train_command(tmp_path / "exp", options=("downstream_expert.datarc.corpus=iemocap",))
    assert launcher.main(command) == 2
    assert "datarc.root=DIR" in error(capsys)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("runner: {total_step: 3}\n", "c.yaml.runner.total_step. Did you mean 'total_steps'"),
        ("runner: [1,\n", "c.yaml is not valid YAML"),
    ],
)
def test_a_mistake_in_a_configuration_file_is_told_and_nothing_is_made(tmp_path, capsys, text, told):
    (tmp_path / "c.yaml").write_text(text)
    command = ["-d", "personalized_emotion", "-u", "fbank_no_cmvn", "-m", "train", "-c", str(tmp_path / "c.yaml")]
    assert launcher.main([*command, "-p", str(tmp_path / "exp")]) == 2
    assert told in error(capsys)
    assert not (tmp_path / "exp").exists()
