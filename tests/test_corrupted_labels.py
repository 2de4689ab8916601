"""500 damaged IEMOCAP summaries and 500 damaged ratings.csv: no traceback, and no total that differs in silence.

What "in silence" means is written down in ``corruptions.py``, which also has the readers that ours are compared with.
"""

from __future__ import annotations

import re

import pytest
from corpora_fixtures import block, rating, wav_path, write_iemocap, write_summary, write_wav
from corruptions import SPELLINGS, corrupted, read_ratings, read_summary

from s3prl_metaperser.corpora import load_corpus
from s3prl_metaperser.corpora.iemocap import LABEL_SET
from s3prl_metaperser.errors import UserError

COUNT = 500
DIALOG = "Ses01F_impro01"
TURNS = {
    "F000": [
        rating("C-E2", "Neutral;"),
        rating("C-E3", "Neutral; Anger;", "mildly aggravated; but staying polite"),
        rating("C-E4", "Frustration;", "tab\there; Anger;"),
        rating("C-F1", "Sadness;", "nested (sad; (very)) parentheses"),
    ],
    "M000": [
        rating("C-E2", "Excited; Happiness;"),
        rating("C-E3", "Other;", "caf\xe9 \x85 \x96"),
        rating("C-E4", "Surprise;"),
        rating("C-M1", "Fear; Other;"),
    ],
    "F001": [rating("C-E2", "Anger;"), rating("C-E3", "Disgust;"), rating("C-E4", "Neutral; Sadness;")],
    "F002": [rating("C-E2", "Happiness;"), rating("C-E3", "Excited;"), rating("C-E4", "Happiness;")],
}


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """A release whose first dialog is to be damaged, with the bytes of its summary; the second dialog is whole."""
    root = tmp_path_factory.mktemp("damaged") / "IEMOCAP"
    write_iemocap(root, {"Ses02F_impro01_F000": [rating("C-E1", "Fear;")]})
    for turn in TURNS:
        write_wav(wav_path(root, f"{DIALOG}_{turn}"))
    blocks = [block(f"{DIALOG}_{turn}", *lines) for turn, lines in TURNS.items()]
    path = write_summary(root, DIALOG, *blocks)
    return root, path, path.read_bytes()


def test_the_labels_that_are_known_are_those_that_are_written_down_and_no_other():
    assert {label: LABEL_SET.lookup(label) for label in SPELLINGS} == SPELLINGS
    assert {*LABEL_SET.classes, *LABEL_SET.spellings} <= SPELLINGS.keys()


def silent(root, path, data: bytes) -> str | None:
    """Why this damage passed in silence; None where it did not."""
    path.write_bytes(data)
    try:
        corpus = load_corpus("iemocap", root)
    except UserError:
        return None
    if any(problem.serious for problem in corpus.problems):
        return None
    truth = read_summary(data, DIALOG)
    read = {(r.utterance, r.rater): set(r.ticks) for r in corpus.ratings if r.utterance.startswith(DIALOG)}
    if read != truth.ratings:
        return f"read {read}, the file says {truth.ratings}"
    named = {int(p.path.rpartition(":")[2]) for p in corpus.problems if re.search(r":\d+$", p.path)}
    if not truth.odd <= named:
        return f"lines {truth.odd - named} are odd and not named"
    if corpus.dropped.get("ticks: other", 0) != truth.others:
        return f"{corpus.dropped} has not {truth.others} others"
    rated = {utterance for utterance, _ in read}
    left_out = sum(corpus.dropped.get(f"{what}", 0) for what in ("files: wav without a rating",))
    left_out += corpus.dropped.get("utterances: no rating left", 0)
    return None if len(rated) + left_out == len(TURNS) else f"{len(rated)} rated, {left_out} left out of {len(TURNS)}"


def test_the_undamaged_summary_is_read_as_the_other_reader_does(release):
    root, path, data = release
    assert silent(root, path, data) is None
    corpus = load_corpus("iemocap", root)
    assert ["not the whole published release" in problem.what for problem in corpus.problems] == [True]
    assert len(corpus.ratings) == 14


@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_500_damaged_summaries_give_no_traceback_and_no_silent_difference(release, newline):
    root, path, data = release
    data = data.replace(b"\n", newline)
    seeds = range(0, COUNT, 2) if newline == b"\n" else range(1, COUNT, 2)
    found = {seed: why for seed in seeds if (why := silent(root, path, corrupted(data, seed)))}
    path.write_bytes(data)
    assert found == {}


LONG = (
    "file,rater,label,note\n"
    "a/1.wav,anna,happy,\n"
    'a/1.wav,ben,neutral;happy,"quoted, with ""quotes"""\n'
    "a/2.wav,anna,Sadness,\n"
    'a/2.wav,"ben",other;sad,\n'
    'b/3.wav,zoé,frustration,"two\nlines"\n'
    "b/3.wav,anna,,not rated\n"
    "b/3.wav,ben,other,\n"
    "a/4.wav,anna,surprised;fear,\n"
    "a/4.wav,ben,disgust,\n"
)
WIDE = "file,anna,ben,zoé\na/1.wav,happy,neutral;happy,\na/2.wav,Sadness,other;sad,fear\nb/3.wav,,other,frustration\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ratings")
    for name in ("a/1.wav", "a/2.wav", "b/3.wav", "a/4.wav"):
        write_wav(folder / name)
    return folder


def silent_table(folder, data: bytes) -> str | None:
    (folder / "ratings.csv").write_bytes(data)
    try:
        corpus = load_corpus("ratings_csv", folder)
    except UserError:
        return None
    if any(problem.serious for problem in corpus.problems):
        return None
    truth = read_ratings(data)
    if truth is None:
        return f"read {len(corpus.ratings)} ratings from what is no ratings.csv"
    path_of = {u.id: u.path.relative_to(folder).as_posix() for u in corpus.utterances}
    read = {(path_of[r.utterance], r.rater): set(r.ticks) for r in corpus.ratings}
    if read != truth.ratings:
        return f"read {read}, the file says {truth.ratings}"
    counts = corpus.dropped.get("ratings: blank label", 0), corpus.dropped.get("ticks: other", 0)
    return None if counts == (truth.blank, truth.others) else f"{counts} for {truth.blank, truth.others}"


@pytest.mark.parametrize("content", [LONG, WIDE])
def test_the_undamaged_table_is_read_as_the_other_reader_does(folder, content):
    assert silent_table(folder, content.encode()) is None
    assert all("columns not used: note." in p.what for p in load_corpus("ratings_csv", folder).problems)


def test_500_damaged_ratings_csv_give_no_traceback_and_no_silent_difference(folder):
    found = {}
    for seed in range(COUNT):
        content = (LONG, WIDE)[seed % 2].replace("\n", ("\n", "\r\n")[seed // 2 % 2]).encode()
        if why := silent_table(folder, corrupted(content, 10_000 + seed)):
            found[seed] = why
    assert found == {}


def test_the_check_itself_notices_a_reader_that_keeps_silent(release, folder, monkeypatch):
    from s3prl_metaperser.corpora import iemocap

    root, path, data = release
    monkeypatch.setattr(iemocap, "_ATTRIBUTES", re.compile("A-.*"))
    assert "are odd and not named" in silent(root, path, data.replace(b"C-F1", b"A-F1", 1))
    monkeypatch.setattr(iemocap, "by_code", lambda label: iemocap.CODES.get(label[:3].lower()))
    assert "the file says" in silent(root, path, data.replace(b"Neutral; Anger", b"Neutral Anger", 1))
    path.write_bytes(data)
    assert silent_table(folder, b"file,rater,label\na/1.wav,anna,sad\n") is None
