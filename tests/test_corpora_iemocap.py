import math
from pathlib import Path

import pytest
from corpora_fixtures import block, rating, wav_path, write_iemocap, write_summary, write_wav

from s3prl_metaperser.corpora import load_corpus
from s3prl_metaperser.corpora.iemocap import CLASSES
from s3prl_metaperser.errors import UserError

UTTERANCE = "Ses01F_impro01_F000"


def read_lines(folder: Path, *lines: str):
    """A release whose one utterance has these lines, and its ratings: rater -> ticks."""
    corpus = load_corpus("iemocap", write_iemocap(folder, {UTTERANCE: lines}))
    return corpus, {r.rater: r.ticks for r in corpus.ratings}


def odd(corpus) -> list:
    """The problems, but for the note that a corpus of a few files is not the whole release."""
    return [problem for problem in corpus.problems if "not the whole published release" not in problem.what]


def serious(corpus) -> list[str]:
    return [problem.what for problem in corpus.problems if problem.serious]


def test_sample_block_of_the_release_reads_as_written(tmp_path):
    corpus, ticks = read_lines(
        tmp_path,
        rating("C-E2", "Neutral;"),
        rating("C-E3", "Neutral;"),
        rating("C-E4", "Neutral;"),
        rating("C-F1", "Neutral; Anger;", "curious"),
    )
    neutral = ("neutral",)
    assert ticks == {"C-E2": neutral, "C-E3": neutral, "C-E4": neutral, "C-F1": ("angry", "neutral")}
    (utterance,) = corpus.utterances
    assert utterance.id == UTTERANCE
    assert utterance.path == wav_path(tmp_path, UTTERANCE)
    assert utterance.seconds == pytest.approx(0.05)
    assert corpus.name == "iemocap"
    assert corpus.classes == CLASSES
    assert corpus.dropped == {}
    assert odd(corpus) == []


@pytest.mark.parametrize(
    ("name", "speaker", "session"),
    [
        ("Ses01F_impro01_M003", "Ses01M", "Ses01"),
        ("Ses01M_impro01_F003", "Ses01F", "Ses01"),
        ("Ses03M_impro05a_M010", "Ses03M", "Ses03"),
        ("Ses05M_script01_1b_F021", "Ses05F", "Ses05"),
    ],
)
def test_speaker_is_the_last_letter_never_the_motion_capture_letter(tmp_path, name, speaker, session):
    corpus = load_corpus("iemocap", write_iemocap(tmp_path, {name: [rating("C-E1", "Sadness;")]}))
    assert (corpus.utterance(name).speaker, corpus.utterance(name).session) == (speaker, session)


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("Neutral", "neutral"),
        ("Neutral state", "neutral"),
        ("NEUTRAL", "neutral"),
        ("Happiness", "happy"),
        ("Excited", "excited"),
        ("exc", "excited"),
        ("Frustration", "frustrated"),
        ("Anger", "angry"),
        ("Sadness", "sad"),
        ("Surprise", "surprise"),
        ("Fear", "fear"),
        ("Disgust", "disgust"),
    ],
)
def test_every_spelling_of_a_label_is_its_class(tmp_path, spelling, name):
    _, ticks = read_lines(tmp_path, rating("C-E1", f"{spelling};"))
    assert ticks == {"C-E1": (name,)}


@pytest.mark.parametrize(
    "comment",
    [
        "",
        "mildly aggravated but staying polite, attitude",
        "tab\there; Anger; semicolon",
        "nested (sad; (very)) parentheses",
        "ends with Happiness;",
        "unclosed (parenthesis",
        "caf\xe9 \x85 \x96 Latin-1",
    ],
)
def test_a_comment_is_never_taken_for_a_label(tmp_path, comment):
    corpus, ticks = read_lines(tmp_path, rating("C-E1", "Fear; Surprise;", comment))
    assert ticks == {"C-E1": ("fear", "surprise")}
    assert odd(corpus) == []


def test_labels_come_in_class_order_and_once(tmp_path):
    _, ticks = read_lines(tmp_path, rating("C-E1", "Happiness; Anger; Happiness;"))
    assert ticks == {"C-E1": ("angry", "happy")}


def test_the_last_semicolon_may_be_missing(tmp_path):
    _, ticks = read_lines(tmp_path, "C-E1: Anger; Sadness (x)", "C-E2:\tFear;")
    assert ticks == {"C-E1": ("angry", "sad"), "C-E2": ("fear",)}


def test_windows_line_ends_and_a_byte_order_mark_change_nothing(tmp_path):
    root = write_iemocap(tmp_path, {UTTERANCE: [rating("C-E1", "Neutral;")]})
    plain = load_corpus("iemocap", root)
    path = next((root / "Session1/dialog/EmoEvaluation").glob("*.txt"))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert load_corpus("iemocap", root) == plain


def test_other_is_dropped_and_counted(tmp_path):
    corpus, ticks = read_lines(
        tmp_path,
        rating("C-E1", "Other; Anger;"),
        rating("C-E2", "Other;", "curious"),
        rating("C-E3", ";"),
        rating("C-E4", "Sadness;"),
    )
    assert ticks == {"C-E1": ("angry",), "C-E4": ("sad",)}
    assert corpus.dropped == {"ticks: other": 2, "ratings: no class left": 2}


def test_an_utterance_without_a_class_left_is_left_out_and_counted(tmp_path):
    root = write_iemocap(
        tmp_path, {UTTERANCE: [rating("C-E1", "Other;")], "Ses01F_impro01_F001": [rating("C-E1", "Fear;")]}
    )
    corpus = load_corpus("iemocap", root)
    assert [u.id for u in corpus.utterances] == ["Ses01F_impro01_F001"]
    assert corpus.dropped == {
        "ratings: no class left": 1,
        "ticks: other": 1,
        "utterances: no rating left": 1,
    }


def test_self_raters_are_raters(tmp_path):
    _, ticks = read_lines(tmp_path, rating("C-F1", "Neutral;"), rating("C-M3", "Excited;"))
    assert ticks == {"C-F1": ("neutral",), "C-M3": ("excited",)}


@pytest.mark.parametrize("rater", ["C-E7", "C-X1", "C-E", "C-F6", "C-e1"])
def test_an_unknown_rater_is_noted_dropped_and_counted(tmp_path, rater):
    corpus, ticks = read_lines(tmp_path, rating(rater, "Neutral;"), rating("C-E1", "Fear;"))
    assert ticks == {"C-E1": ("fear",)}
    assert corpus.dropped == {"ratings: unknown rater": 1}
    (problem,) = odd(corpus)
    assert repr(rater) in problem.what
    assert problem.path.endswith("Ses01F_impro01.txt:4")
    assert not problem.serious


def test_an_unknown_label_is_noted_dropped_and_counted(tmp_path):
    corpus, ticks = read_lines(tmp_path, rating("C-E1", "Boredom; Fear;"))
    assert ticks == {"C-E1": ("fear",)}
    assert corpus.dropped == {"ticks: unknown label": 1}
    (problem,) = odd(corpus)
    assert "'Boredom'" in problem.what
    assert not problem.serious


def test_two_lines_of_one_rater_are_united_and_noted(tmp_path):
    corpus, ticks = read_lines(tmp_path, rating("C-E1", "Neutral;"), rating("C-E1", "Anger;"))
    assert ticks == {"C-E1": ("angry", "neutral")}
    (problem,) = odd(corpus)
    assert "C-E1" in problem.what
    assert "united" in problem.what
    assert "not serious" in problem.what
    assert problem.path.endswith("Ses01F_impro01.txt:5")
    assert not problem.serious


@pytest.mark.parametrize("rest", ["C-E2:\tNeu", "C-E2:", "C-E2", "C"])
def test_a_rating_that_is_cut_short_is_serious_and_dropped(tmp_path, rest):
    root = write_iemocap(tmp_path, {UTTERANCE: [rating("C-E1", "Fear;")]})
    cut = block("Ses01F_impro01_F001", rating("C-E1", "Fear;"), rest, attributes=()).rstrip("\n")
    write_wav(wav_path(root, "Ses01F_impro01_F001"))
    write_summary(root, "Ses01F_impro01", block(UTTERANCE, rating("C-E1", "Fear;")), cut)
    corpus = load_corpus("iemocap", root)
    assert {(r.utterance[-4:], r.rater) for r in corpus.ratings} == {("F000", "C-E1"), ("F001", "C-E1")}
    assert corpus.dropped == {"ratings: line cut short": 1}
    assert any("cut short" in what for what in serious(corpus))


@pytest.mark.parametrize("header", ["[6.29 - 8.2", "[6.29 - 8.23]\tSes01F_impro01_F0", "[6.29 - 8.23]\tSes01F\tneu"])
def test_a_header_that_is_cut_short_is_serious(tmp_path, header):
    root = write_iemocap(tmp_path, {UTTERANCE: [rating("C-E1", "Fear;")]})
    write_summary(root, "Ses01F_impro01", block(UTTERANCE, rating("C-E1", "Fear;")), header)
    corpus = load_corpus("iemocap", root)
    assert [r.utterance for r in corpus.ratings] == [UTTERANCE]
    assert any("header damaged" in what for what in serious(corpus))


def test_ratings_under_a_damaged_header_do_not_go_to_the_block_before(tmp_path):
    root = write_iemocap(tmp_path, {UTTERANCE: [rating("C-E1", "Fear;")]})
    damaged = block("x", rating("C-E2", "Anger;"), attributes=()).replace("[2.5000", "2.5000")
    write_summary(root, "Ses01F_impro01", block(UTTERANCE, rating("C-E1", "Fear;")), damaged)
    corpus = load_corpus("iemocap", root)
    assert [(r.rater, r.ticks) for r in corpus.ratings] == [("C-E1", ("fear",))]
    assert corpus.dropped == {"ratings: in a block without a usable header": 1}


def test_a_block_without_ratings_is_serious(tmp_path):
    root = write_iemocap(tmp_path, {UTTERANCE: [rating("C-E1", "Fear;")], "Ses01F_impro01_F001": []})
    corpus = load_corpus("iemocap", root)
    assert [u.id for u in corpus.utterances] == [UTTERANCE]
    assert corpus.dropped == {"utterances: no rating left": 1}
    assert any("Ses01F_impro01_F001 has no categorical" in what for what in serious(corpus))


def test_a_last_block_without_attributes_is_noted(tmp_path):
    root = write_iemocap(tmp_path, {UTTERANCE: [rating("C-E1", "Fear;")]})
    last = block("Ses01F_impro01_F001", rating("C-E1", "Fear;"), attributes=())
    write_wav(wav_path(root, "Ses01F_impro01_F001"))
    write_summary(root, "Ses01F_impro01", block(UTTERANCE, rating("C-E1", "Fear;")), last)
    (problem,) = odd(load_corpus("iemocap", root))
    assert "may have been cut short" in problem.what
    assert not problem.serious


def test_a_rating_before_the_first_header_is_serious(tmp_path):
    root = write_iemocap(tmp_path, {UTTERANCE: [rating("C-E1", "Fear;")]})
    write_summary(root, "Ses01F_impro01", rating("C-E2", "Anger;"), block(UTTERANCE, rating("C-E1", "Fear;")))
    corpus = load_corpus("iemocap", root)
    assert corpus.raters() == ["C-E1"]
    assert serious(corpus) == ["a rating before the first block header, left out."]


def test_a_line_that_is_no_line_of_a_summary_is_noted_and_counted(tmp_path):
    corpus, ticks = read_lines(tmp_path, rating("C-E1", "Fear;"), "of two lines)")
    assert ticks == {"C-E1": ("fear",)}
    assert corpus.dropped == {"lines: not understood": 1}
    assert [problem.serious for problem in odd(corpus)] == [False]


def test_only_summary_files_are_read(tmp_path):
    root = write_iemocap(tmp_path, {UTTERANCE: [rating("C-E1", "Fear;")]})
    folder = root / "Session1/dialog/EmoEvaluation"
    (folder / "._Ses01F_impro01.txt").write_bytes(b"\x00\x05\x16\x07\x00")
    (folder / ".DS_Store").write_bytes(b"\x00\x00\x00\x01Bud1")
    (folder / "Ses01F_impro01.anvil").write_text("<annotation/>")
    for name in ("Categorical/Ses01F_impro01_e2_cat.txt", "Self-evaluation/Ses01F_impro01_f1_cat.txt"):
        (folder / name).parent.mkdir()
        (folder / name).write_text(f"{UTTERANCE} :Anger; ()\n")
    write_wav(root / "Session1/sentences/wav/Ses01F_impro01/other.wav").rename(
        root / f"Session1/sentences/wav/Ses01F_impro01/._{UTTERANCE}.wav"
    )
    corpus = load_corpus("iemocap", root)
    assert [(r.rater, r.ticks) for r in corpus.ratings] == [("C-E1", ("fear",))]
    assert corpus.dropped == {"files: hidden": 3, "files: neither summary nor wav": 1}
    assert odd(corpus) == []


def test_a_file_not_named_like_a_dialog_is_noted_and_counted(tmp_path):
    root = write_iemocap(tmp_path, {UTTERANCE: [rating("C-E1", "Fear;")]})
    home_made = root / "Session1/dialog/EmoEvaluation/IEMOCAP_EmoEvaluation.txt"
    home_made.write_text(block(UTTERANCE, rating("C-E1", "Anger;")))
    corpus = load_corpus("iemocap", root)
    assert corpus.ratings[0].ticks == ("fear",)
    assert corpus.dropped == {"files: summary not read": 1}
    assert [(p.path, p.serious) for p in odd(corpus)] == [(str(home_made), False)]


def test_a_summary_in_another_sessions_folder_is_serious(tmp_path):
    root = write_iemocap(tmp_path, {UTTERANCE: [rating("C-E1", "Fear;")]})
    write_summary(root, "Ses02F_impro01", block("Ses02F_impro01_F000", rating("C-E1", "Anger;")), session=1)
    corpus = load_corpus("iemocap", root)
    assert [u.id for u in corpus.utterances] == [UTTERANCE]
    assert serious(corpus) == ["a dialog of session 2 in the folder of session 1; not read."]


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("Ses02F_impro01_F000", "another session"),
        ("Ses01F_impro02_F000", "another dialog"),
        ("Ses01F_impro01_X000", "no utterance name"),
    ],
)
def test_a_block_that_does_not_belong_to_its_file_is_serious(tmp_path, name, what):
    root = write_iemocap(tmp_path, {UTTERANCE: [rating("C-E1", "Fear;")]})
    blocks = [block(UTTERANCE, rating("C-E1", "Fear;")), block(name, rating("C-E1", "Anger;"))]
    write_summary(root, "Ses01F_impro01", *blocks)
    corpus = load_corpus("iemocap", root)
    assert [u.id for u in corpus.utterances] == [UTTERANCE]
    assert corpus.dropped == {"ratings: in a block without a usable header": 1}
    assert len(serious(corpus)) == 1
    assert what in serious(corpus)[0]


def test_a_rated_utterance_without_audio_is_serious_and_kept(tmp_path):
    root = write_iemocap(tmp_path, {UTTERANCE: [rating("C-E1", "Fear;")]})
    wav_path(root, UTTERANCE).unlink()
    corpus = load_corpus("iemocap", root)
    assert math.isnan(corpus.utterance(UTTERANCE).seconds)
    (problem,) = odd(corpus)
    assert problem.path == str(wav_path(root, UTTERANCE))
    assert "no such audio file" in problem.what
    assert problem.serious


def test_an_audio_header_that_cannot_be_read_is_serious(tmp_path):
    root = write_iemocap(tmp_path, {UTTERANCE: [rating("C-E1", "Fear;")]})
    wav_path(root, UTTERANCE).write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    corpus = load_corpus("iemocap", root)
    assert math.isnan(corpus.utterance(UTTERANCE).seconds)
    assert [p.path for p in corpus.problems if p.serious] == [str(wav_path(root, UTTERANCE))]


def test_audio_without_a_rating_is_counted(tmp_path):
    root = write_iemocap(tmp_path, {UTTERANCE: [rating("C-E1", "Fear;")]})
    write_wav(wav_path(root, "Ses01F_impro01_F001"))
    write_wav(wav_path(root, "Ses01F_impro09_F001"))
    corpus = load_corpus("iemocap", root)
    assert corpus.dropped == {"files: wav without a rating": 2}
    (problem,) = odd(corpus)  # of the second: its dialog has no summary
    assert Path(problem.path).name == "Ses01F_impro09"
    assert "so its 1 wavs have no ratings" in problem.what
    assert not problem.serious


def test_an_empty_summary_file_is_serious(tmp_path):
    root = write_iemocap(tmp_path, {UTTERANCE: [rating("C-E1", "Fear;")]})
    (root / "Session2/dialog/EmoEvaluation/Ses02F_impro01.txt").write_bytes(b"")
    assert serious(load_corpus("iemocap", root)) == ["this file contains no ratings. Unpack it again from the release."]


def test_missing_sessions_are_noted_and_the_rest_is_read(tmp_path):
    write_summary(tmp_path, "Ses04F_impro01", block("Ses04F_impro01_F000", rating("C-E1", "Fear;")))
    write_wav(wav_path(tmp_path, "Ses04F_impro01_F000"))
    corpus = load_corpus("iemocap", tmp_path)
    assert [u.session for u in corpus.utterances] == ["Ses04"]
    assert [(Path(p.path).name, p.serious) for p in odd(corpus)] == [(f"Session{n}", False) for n in (1, 2, 3, 5)]


def test_a_session_without_its_ratings_folder_is_serious(tmp_path):
    root = write_iemocap(tmp_path, {UTTERANCE: [rating("C-E1", "Fear;")]})
    (root / "Session3/dialog/EmoEvaluation").rmdir()
    assert len(serious(load_corpus("iemocap", root))) == 1


def test_the_folder_around_the_release_will_do(tmp_path):
    release = write_iemocap(tmp_path / "IEMOCAP_full_release", {UTTERANCE: [rating("C-E1", "Fear;")]})
    assert load_corpus("iemocap", tmp_path) == load_corpus("iemocap", release)
    assert load_corpus("iemocap", tmp_path).root == release


def test_a_wrong_folder_says_what_to_give(tmp_path):
    with pytest.raises(UserError, match=r"nowhere does not exist.*IEMOCAP_full_release"):
        load_corpus("iemocap", tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"neither Session1.*IEMOCAP_full_release"):
        load_corpus("iemocap", tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is not a folder"):
        load_corpus("iemocap", tmp_path / "file")


def test_nothing_rated_is_an_empty_corpus(tmp_path):
    with pytest.raises(UserError, match="empty corpus"):
        load_corpus("iemocap", write_iemocap(tmp_path, {UTTERANCE: [rating("C-E1", "Other;")]}))


def test_utterances_and_ratings_are_sorted(tmp_path):
    names = ["Ses02M_impro01_M000", "Ses01M_impro01_F000", "Ses01F_impro02_F001", UTTERANCE]
    lines = [rating("C-M1", "Fear;"), rating("C-E2", "Fear;")]
    corpus = load_corpus("iemocap", write_iemocap(tmp_path, dict.fromkeys(names, lines)))
    assert [u.id for u in corpus.utterances] == sorted(names)
    keys = [(r.utterance, r.rater) for r in corpus.ratings]
    assert keys == sorted(keys)
    assert len(keys) == 8


@pytest.mark.parametrize("start", ["C-E2", "(calm)", "A-E3", "[6.2901"])
def test_lines_that_were_overwritten_with_nul_bytes_are_serious(tmp_path, start):
    lines = [rating("C-E2", "Neutral;", "calm"), rating("C-E3", "Anger;"), rating("C-E4", "Sadness;")]
    write_iemocap(tmp_path, {"Ses01F_impro01_F000": lines, "Ses01F_impro01_F001": lines})
    path = tmp_path / "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
    data = path.read_bytes()
    at = data.index(start.encode()) + 3
    path.write_bytes(data[:at] + bytes(60) + data[at + 60 :])
    problems = load_corpus("iemocap", tmp_path).problems
    assert any(p.serious and "NUL" in p.what and p.path.startswith(f"{path}:") for p in problems)


def test_an_actor_who_rates_another_session_is_noted(tmp_path):
    write_iemocap(tmp_path, {"Ses01F_impro01_F000": [rating("C-F1", "Neutral;"), rating("C-F2", "Neutral;")]})
    (problem,) = odd(load_corpus("iemocap", tmp_path))
    assert not problem.serious
    assert "C-F2 is an actor of session 2" in problem.what


# -- whole copies ---------------------------------------------------------------------------------------------------


def test_a_copy_that_is_not_the_whole_release_says_what_each_session_has(tmp_path):
    write_iemocap(tmp_path, {UTTERANCE: [rating("C-E1", "Fear;")]})
    (note,) = load_corpus("iemocap", tmp_path).problems
    assert "Session1 has 1 of 28 summaries and 1 of 1819 wavs; Session2 has 0 of 30 summaries" in note.what
    assert not note.serious


def test_published_numbers_are_no_news(tmp_path, monkeypatch):
    from s3prl_metaperser.corpora import iemocap

    write_iemocap(tmp_path, {UTTERANCE: [rating("C-E1", "Fear;")]})
    monkeypatch.setattr(iemocap, "PUBLISHED", {1: (1, 1), **dict.fromkeys((2, 3, 4, 5), (0, 0))})
    assert load_corpus("iemocap", tmp_path).problems == ()


def test_a_corpus_in_the_releases_layout_has_no_published_numbers_but_no_empty_session_either(tmp_path):
    from s3prl_metaperser.corpora.iemocap import read_layout

    write_iemocap(tmp_path, {UTTERANCE: [rating("C-E1", "Fear;")]})
    notes = [(Path(p.path).name, p.serious) for p in read_layout(tmp_path).problems]
    assert notes == [(f"Session{n}", False) for n in (2, 3, 4, 5)]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("ses01f_impro02.txt", "Did you mean 'ses01f_impro02.txt'?"),
        ("Ses01F_impro02", "Did you mean 'Ses01F_impro02'?"),
    ],
)
def test_a_summary_that_is_named_otherwise_is_asked_for(tmp_path, name, hint):
    root = write_iemocap(tmp_path, {n: [rating("C-E1", "Fear;")] for n in (UTTERANCE, "Ses01F_impro02_F000")})
    folder = root / "Session1/dialog/EmoEvaluation"
    (folder / "Ses01F_impro02.txt").rename(folder / name)
    corpus = load_corpus("iemocap", root)
    assert corpus.dropped["files: wav without a rating"] == 1
    assert any(hint in problem.what for problem in odd(corpus))


def test_a_summary_in_capitals_is_read(tmp_path):
    root = write_iemocap(tmp_path, {UTTERANCE: [rating("C-E1", "Fear;")]})
    plain = load_corpus("iemocap", root)
    path = root / "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
    path.rename(path.with_suffix(".TXT"))
    assert load_corpus("iemocap", root) == plain


def test_many_lost_summaries_are_one_note(tmp_path):
    names = [f"Ses01F_impro0{n}_F000" for n in range(8)]
    root = write_iemocap(tmp_path, {name: [rating("C-E1", "Fear;")] for name in names})
    for path in sorted((root / "Session1/dialog/EmoEvaluation").glob("*.txt"))[1:]:
        path.unlink()
    (problem,) = odd(load_corpus("iemocap", root))
    assert "no summaries of 7 dialogs, so 7 wavs have no ratings" in problem.what


def test_linked_and_hidden_files_are_counted(tmp_path):
    root = write_iemocap(tmp_path / "release", {UTTERANCE: [rating("C-E1", "Fear;")]})
    write_wav(tmp_path / "elsewhere/Ses01F_impro02_F000.WAV")
    wavs = root / "Session1/sentences/wav"
    (wavs / "Ses01F_impro02").symlink_to(tmp_path / "elsewhere")
    (wavs / "Ses01F_impro01/loop").symlink_to(wavs)
    (wavs / ".DS_Store").touch()
    (wavs / "Ses01F_impro01/notes.doc").touch()
    corpus = load_corpus("iemocap", root)
    assert corpus.dropped == {
        "files: hidden": 1,
        "files: neither summary nor wav": 1,
        "files: wav without a rating": 1,
    }


def test_a_missing_session_that_is_spelt_otherwise_is_asked_for(tmp_path):
    root = write_iemocap(tmp_path, {UTTERANCE: [rating("C-E1", "Fear;")]})
    (root / "Session4").rename(root / "session4")
    assert any("Did you mean 'session4'?" in problem.what for problem in load_corpus("iemocap", root).problems)


# -- comments ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "comment",
    [
        "C-E1: joke",
        "C-E1:\tAnger;",
        "as C-F1: and A-E3: val 3",
        "like Ses01F_impro02_F003 [6.29 - 8.23]",
        "nested (C-E4:\tAnger;\t()) parentheses",
        "C-M1: (laughs)",
        "laughs :) C-E1: joke",
        "sad :( C-E1: joke",
        "he says :) where C-E1: Neutral",
        "(a) and (b), as C-E1: sad; C-F1: Anger",
        ":) same words as Ses01F_impro01_F001, [6.29 - 8.23]",
    ],
)
def test_a_comment_that_speaks_of_raters_is_no_rating_and_no_fault(tmp_path, comment):
    corpus, ticks = read_lines(tmp_path, rating("C-E6", "Surprise;", comment))
    assert ticks == {"C-E6": ("surprise",)}
    assert odd(corpus) == []


@pytest.mark.parametrize(
    "line",
    [
        "C-E2:\tNeutral;\t()C-E3:\tAnger;\t()",
        "C-E2:\tNeutral;\t(comC-E3:\tAnger;\t()",
        "C-E2:\tNeutral;\t(calm)A-E3:\tval 3; act 2; dom  2;\t()",
        "C-E2:\tNeutral;C-E3:\tAnger;\t()",
        "C-E2:\tNeutral;\t()[10.0100 - 11.3925]\tSes01F_impro01_F001\tneu\t[2.5000, 2.5000, 2.5000]",
        "C-E2: Neutral; ()C-E3: Anger; ()",
        "A-E3:\tval 3; act 2; dom  2;\t()C-E3:\tAnger;\t()",
    ],
)
def test_lines_that_lost_the_break_between_them_are_serious(tmp_path, line):
    corpus, _ = read_lines(tmp_path, rating("C-E1", "Fear;"), line)
    assert any("run together" in what for what in serious(corpus))
