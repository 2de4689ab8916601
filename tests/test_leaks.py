"""What leaks by content: recordings under two names, people under two names, votes that stand among people."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections import Counter

import numpy as np
import pytest
import soundfile
from small_demo import train_command

from s3prl_metaperser import cli
from s3prl_metaperser.config.options import Options
from s3prl_metaperser.corpora import LABEL_SETS, Rating, labels_without_audio, open_corpus
from s3prl_metaperser.corpora.alike import Answers
from s3prl_metaperser.corpora.label_sets import set_of
from s3prl_metaperser.corpora.validate import validation_report
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.protocol.splits import make_split
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
    given += ["downstream_expert.evalrc.shots=4"]
    assert launcher.main(train_command(tmp_path / "exp", "-v", "Random", options=tuple(given))) == 2
    said = capsys.readouterr().err
    assert "audio/c03.wav = audio/new.wav" in said
    assert "datarc.equal_audio: 'first' keeps" in said
    assert not (corpus / "cache" / "features").exists()
    assert cli.main(["validate", "--corpus", "ratings_csv", "--root", str(corpus)]) == 0
    assert "one recording under two names" in capsys.readouterr().out
    assert open_corpus(Options.from_config({"downstream_expert": {"datarc": data_of(corpus)}}).downstream_expert.datarc)


# ------------------------------------------------------------------ people under two names, and votes


def joined(corpus, name, answers):
    """The corpus with a further rater."""
    further = [dataclasses.replace(rating, rater=name) for rating in answers]
    ratings = sorted([*corpus.ratings, *further], key=lambda r: (r.utterance, r.rater))
    return dataclasses.replace(corpus, ratings=tuple(ratings))


def majority(corpus):
    """The most frequent class of every utterance, the first in the alphabet of those."""
    ticks = {}
    for rating in corpus.ratings:
        ticks.setdefault(rating.utterance, Counter()).update(rating.ticks)
    winners = {u: min(c for c in found if found[c] == max(found.values())) for u, found in ticks.items()}
    return [Rating(utterance, "", (winner,)) for utterance, winner in winners.items()]


def some_wrong(corpus, answers, every):
    return [
        dataclasses.replace(r, ticks=(next(c for c in corpus.classes if c not in r.ticks),)) if n % every == 0 else r
        for n, r in enumerate(answers, start=1)
    ]


@pytest.fixture(scope="module")
def people():
    return dataclasses.replace(labels_without_audio("demo", {"utterances": 300}), drawn=False)


@pytest.mark.parametrize("fold", ["fold1", "fold2"])  # C-E2 is tested in one and validates in the other
@pytest.mark.parametrize("scenario", ["seen", "unseen"])
@pytest.mark.parametrize("answers", [slice(None), slice(0, None, 3), slice(60, 120)])
def test_a_held_out_rater_under_a_second_name_is_refused(people, fold, scenario, answers):
    copied = joined(people, "zoe", people.all_of("C-E2")[answers])
    with pytest.raises(UserError, match=r"(C-E2 and zoe|zoe and C-E2) gave equal(?s:.*)exclude_raters: \[zoe\]"):
        make_split(copied, scenario=scenario, fold=fold)
    assert make_split(copied, scenario=scenario, fold=fold, exclude_raters=["zoe"]).doubts == ()
    (doubt,) = make_split(copied, scenario=scenario, fold=fold, equal_raters="allow").doubts
    assert "C-E2" in doubt
    assert "zoe" in doubt


def test_raters_whom_a_program_drew_from_one_table_are_under_no_suspicion():
    drawn = labels_without_audio("demo", {"utterances": 240, "raters": "opposed"})
    as_people = dataclasses.replace(drawn, drawn=False)
    doubts, suspicions = (make_split(corpus, scenario="seen", fold="fold2").doubts for corpus in (drawn, as_people))
    assert doubts == ()
    assert "C-E2 and C-M3" in suspicions[0]
    assert validation_report(drawn, decode_audio=False)["problems"] == []


def test_a_copy_with_a_few_changes_is_noted_and_one_among_training_raters_leaks_nothing(people):
    copied = joined(people, "zoe", some_wrong(people, people.all_of("C-E2"), every=25))
    (doubt,) = make_split(copied, scenario="seen", fold="fold2").doubts
    assert "perhaps one person under two names" in doubt
    twice = joined(people, "zoe", people.all_of("C-E5"))
    assert make_split(twice, scenario="seen", fold="fold1").doubts == ()
    (found,) = validation_report(twice, decode_audio=False)["problems"]
    assert found["serious"]
    assert "raters C-E5 and zoe" in found["what"]


@pytest.mark.parametrize("scenario", ["seen", "unseen"])
def test_a_majority_among_the_raters_is_refused(people, scenario):
    voted = joined(people, "zoe", majority(people))
    with pytest.raises(UserError, match=r"rater zoe gave the vote of the others(?s:.*)exclude_raters: \[zoe\]"):
        make_split(voted, scenario=scenario, fold="fold1")
    assert make_split(voted, scenario=scenario, fold="fold1", exclude_raters=["zoe"]).doubts == ()


@pytest.mark.parametrize("vote", [np.mean, lambda values: round(float(np.mean(values))), np.median])
def test_a_mean_among_the_raters_of_a_scale_is_found(vote):
    draws, scale = np.random.default_rng(0), LABEL_SETS.get("mos-1-5")
    values = {f"u{n:03d}": np.clip(np.rint(draws.normal(3, 0.7) + draws.normal(0, 0.8, 5)), 1, 5) for n in range(200)}

    def rating(utterance, rater, value):
        return Rating(utterance, rater, (scale.classes[int(np.clip(round(value), 1, 5)) - 1],), value=float(value))

    ratings = [rating(u, f"r{n}", value) for u, five in values.items() for n, value in enumerate(five)]
    assert Answers.of(ratings, scale).all_alike() == []
    (found,) = Answers.of([*ratings, *(rating(u, "mean", vote(five)) for u, five in values.items())], scale).all_alike()
    assert (found.rater, found.other, found.certain) == ("mean", "", True)


@pytest.mark.parametrize("kind", ["paper", "identical", "opposed", "misspecified"])
def test_raters_who_agree_a_lot_are_people(kind):
    assert labels_without_audio("demo", {"utterances": 600, "raters": kind}).answers.all_alike() == []


@pytest.mark.parametrize(
    ("accuracy", "share", "clips", "raters"),
    [
        (0.95, 0.5, 400, 5),
        (0.99, 0.5, 60, 3),
        (0.9, 0.98, 400, 5),
        (0.7, 0.5, 2000, 60),
        (1.0, 0.5, 100, 4),
        (0.3, 1.0, 300, 4),
    ],
)
def test_healthy_raters_of_two_classes_are_no_copies(accuracy, share, clips, raters):
    draws = np.random.default_rng(raters)
    truth = draws.random(clips) < share
    ratings = [
        Rating(f"u{n:04d}", f"r{r:02d}", ("hi" if truth[n] == (draws.random() < accuracy) or share == 1.0 else "lo",))
        for n in range(clips)
        for r in range(raters)
        if raters < 10 or draws.random() < 0.1
    ]
    assert Answers.of(ratings, set_of({"name": "two", "kind": "single", "classes": ["lo", "hi"]})).all_alike() == []


def test_two_real_people_of_a_small_corpus_may_agree_by_chance():
    few = [Rating(f"u{n}", rater, ("sad", "happy")[n % 2 : n % 2 + 1]) for n in range(9) for rater in ("a", "b")]
    others = [Rating(f"u{n}", "c", ("happy",)) for n in range(9)]
    assert Answers.of([*few, *others], LABEL_SETS.get("iemocap")).all_alike() == []


def test_a_second_name_is_found_through_a_second_name_of_the_recordings(corpus, tmp_path):
    """zoe rates copies of the clips, as anna rated the originals: the two share no utterance by name."""
    rows = [line.split(",") for line in (corpus / "ratings.csv").read_text().splitlines()[1:]]
    with open(corpus / "ratings.csv", "a") as table, open(corpus / "files.csv", "a") as files:
        for file, rater, label in rows:
            if rater == "anna":
                copy = file.replace("audio/c", "audio/z")
                shutil.copy(corpus / file, corpus / copy)
                table.write(f"{copy},zoe,{label}\n")
                files.write(f"{copy},s0,train\n")
    with pytest.raises(UserError, match="anna and zoe gave equal answers to 24 of 24"):
        check(corpus)


def test_speakers_on_both_sides_are_said(people):
    assert make_split(people, scenario="unseen", fold="fold1").doubts == ()
    moved = tuple(dataclasses.replace(u, speaker="Ses01F") for u in people.utterances)
    (doubt,) = make_split(dataclasses.replace(people, utterances=moved), scenario="unseen", fold="fold1").doubts
    assert "speakers are not" in doubt
    assert "(Ses01F)" in doubt
    unknown = tuple(dataclasses.replace(u, speaker="unknown") for u in people.utterances)
    (doubt,) = make_split(dataclasses.replace(people, utterances=unknown), scenario="unseen", fold="fold1").doubts
    assert "not known who speaks" in doubt
