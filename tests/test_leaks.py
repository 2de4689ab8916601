"""What leaks by content: recordings under two names, people under two names, votes that stand among people."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
import soundfile
from small_demo import train_command

from s3prl_metaperser import cli
from s3prl_metaperser.config.options import Options
from s3prl_metaperser.corpora import open_corpus
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.run.workspace import Workspace
from s3prl_metaperser.s3prl_plugin import launcher

RATERS = ("anna", "ben", "carl", "dora")
LABELS = ("happy", "sad", "angry")


def clip(number):
    return np.random.default_rng(number).integers(-9000, 9000, 1600).astype(np.int16)


@pytest.fixture
def corpus(tmp_path):
    """24 clips in two sessions, each rated by four people who often disagree, as a table that tests add rows to."""
    draws, rows = np.random.default_rng(1), ["file,rater,label"]
    (tmp_path / "audio").mkdir()
    for number in range(24):
        soundfile.write(tmp_path / "audio" / f"c{number:02d}.wav", clip(number), 16000, "PCM_16")
        rows += [f"audio/c{number:02d}.wav,{rater},{LABELS[draws.integers(3)]}" for rater in RATERS]
    (tmp_path / "ratings.csv").write_text("\n".join(rows) + "\n")
    sessions = [f"audio/c{number:02d}.wav,s{number % 4},{'test' if number < 8 else 'train'}" for number in range(24)]
    (tmp_path / "files.csv").write_text("\n".join(["file,speaker,session", *sessions]) + "\n")
    return tmp_path


def add(corpus, file, session, raters=RATERS):
    """A row for each rater, and one for the session."""
    with open(corpus / "ratings.csv", "a") as table:
        table.writelines(f"{file},{rater},happy\n" for rater in raters)
    with open(corpus / "files.csv", "a") as table:
        table.write(f"{file},s9,{session}\n")


def as_flac(source, to):
    soundfile.write(to.with_suffix(".flac"), *soundfile.read(source), "PCM_16")


def data_of(corpus, **more):
    data = {"corpus": "ratings_csv", "root": str(corpus), "cache_dir": str(corpus / "cache"), **more}
    return {"test_sessions": ["test"], "test_raters": ["anna", "ben"], **data}


def check(corpus, **more):
    """What a run does before any feature is made."""
    workspace = Workspace(Options.from_config({"downstream_expert": {"datarc": data_of(corpus, **more)}}))
    workspace.refuse_leaks()
    return workspace


@pytest.mark.parametrize("scenario", ["seen", "unseen"])
def test_a_healthy_corpus_is_not_refused(corpus, scenario):
    check(corpus, scenario=scenario)


@pytest.mark.parametrize("copy", [shutil.copy, os.link, os.symlink, as_flac])
def test_a_test_clip_in_training_under_another_name_is_refused(corpus, copy):
    copy(corpus / "audio" / "c03.wav", corpus / "audio" / "new.wav")
    add(corpus, "audio/new.flac" if copy is as_flac else "audio/new.wav", "train")
    with pytest.raises(UserError, match=r"1 recording would be tested on and learned from: audio/c03.wav = audio/new"):
        check(corpus, scenario="unseen")
    left_out = check(corpus, scenario="unseen", equal_audio="first").corpus
    assert len(left_out.utterances) == 24
    assert left_out.dropped["utterances: the sound of one before"] == 1
    assert left_out.dropped["ratings: of an utterance with the sound of one before"] == 4
    assert len(check(corpus, scenario="unseen", equal_audio="allow").corpus.utterances) == 25


@pytest.mark.parametrize(("scenario", "session"), [("seen", "train"), ("unseen", "test")])
@pytest.mark.parametrize("rater", ["anna", "ben"])
def test_two_names_of_one_recording_never_are_support_and_query(corpus, scenario, session, rater):
    shutil.copy(corpus / "audio" / f"c{'03' if session == 'test' else '20'}.wav", corpus / "audio" / "new.wav")
    add(corpus, "audio/new.wav", session, [rater])
    if scenario == "unseen" and rater == "ben":  # who validates, on other sessions
        check(corpus, scenario=scenario)
        return
    with pytest.raises(UserError, match=f"support and query of one episode of .* rater {rater}: audio/c.* = audio/new"):
        check(corpus, scenario=scenario)


def test_a_held_out_session_is_held_out_by_content(corpus):
    files = (corpus / "files.csv").read_text().replace("c20.wav,s0,train", "c20.wav,s0,checked")
    (corpus / "files.csv").write_text(files.replace("c21.wav,s1,train", "c21.wav,s1,checked"))
    check(corpus, scenario="unseen", validation_session="checked")
    shutil.copy(corpus / "audio" / "c20.wav", corpus / "audio" / "new.wav")
    add(corpus, "audio/new.wav", "train")
    with pytest.raises(UserError, match=r"validated on and trained on: audio/c20.wav = audio/new.wav"):
        check(corpus, scenario="unseen", validation_session="checked")


def test_training_raters_may_share_a_recording_in_the_seen_scenario_and_silence_is_no_content(corpus):
    shutil.copy(corpus / "audio" / "c20.wav", corpus / "audio" / "new.wav")
    add(corpus, "audio/new.wav", "train", ["carl", "dora"])
    for name in ("quiet", "still"):
        soundfile.write(corpus / "audio" / f"{name}.wav", np.zeros(1600, np.int16), 16000, "PCM_16")
        add(corpus, f"audio/{name}.wav", "train")
    check(corpus, scenario="seen")


def test_a_run_stops_before_any_feature_is_made_and_validate_notes_the_pair(corpus, tmp_path, capsys):
    shutil.copy(corpus / "audio" / "c03.wav", corpus / "audio" / "new.wav")
    add(corpus, "audio/new.wav", "train")
    given = [f"downstream_expert.datarc.{name}={value}" for name, value in data_of(corpus, scenario="unseen").items()]
    assert launcher.main(train_command(tmp_path / "exp", "-v", "Random", options=tuple(given))) == 2
    said = capsys.readouterr().err
    assert "audio/c03.wav = audio/new.wav" in said
    assert "datarc.equal_audio: 'first' keeps" in said
    assert not (corpus / "cache" / "features").exists()
    assert cli.main(["validate", "--corpus", "ratings_csv", "--root", str(corpus)]) == 0
    assert "one recording under two names" in capsys.readouterr().out
    assert open_corpus(Options.from_config({"downstream_expert": {"datarc": data_of(corpus)}}).downstream_expert.datarc)
