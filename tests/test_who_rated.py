"""Whose labels are these? Columns and names that say it, those that do not, and spellings that may be one person."""

from __future__ import annotations

import pytest
from corpora_fixtures import write_ratings_csv

from s3prl_metaperser.cli import main
from s3prl_metaperser.corpora import load_corpus
from s3prl_metaperser.corpora.iemocap import LABEL_SET
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.listener.ratings import read_ratings
from s3prl_metaperser.listener.ratings_file import RatingsFile

ROWS = (("1.wav", "anna", "happy"), ("1.wav", "ben", "sad"), ("2.wav", "anna", "fear"))
#: Names under which labelling tools write the person.
RATER_COLUMNS = (
    *(
        "rater",
        "annotator",
        "Annotator ID",
        "worker_id",
        "WorkerId",
        "workers",
        "ASSIGNMENT:worker_id",
        "user",
        "user-id",
    ),
    *(
        "Annotator(s)",
        "_worker_id",
        "username",
        "listener",
        "participant",
        "evaluator",
        "rater_id",
        "judge",
        "coder",
        "completed_by",
        "localid",
    ),
    *("labeller", "annotated_by", "meta.annotator", "reviewer name"),
)
#: What stands beside people's columns and is nobody.
NO_PEOPLE = (
    *(
        "majority",
        "Majority Vote",
        "vote",
        "consensus",
        "gold",
        "gold_label",
        "ground_truth",
        "GT",
        "label1",
        "emotion",
    ),
    *("mean", "avg", "median", "primary", "secondary", "intended", "acted", "predicted", "model", "speaker", "session"),
    *(
        "split",
        "fold",
        "gender",
        "age",
        "text",
        "transcript",
        "dispEmo",
        "first",
        "kappa",
        "n_votes",
        "others",
        "majority_excl_anna",
        "labels",
        "valence",
        "MV",
        "most_common",
        "Annotator agreement",
        "rater_mean",
        "wav2vec2",
        "self_report",
        "prompted",
        "repetition",
    ),
)
WIDE = ("1.wav,happy,sad,happy\n", "2.wav,fear,fear,fear\n")


def table(folder, content, **options):
    return load_corpus("ratings_csv", write_ratings_csv(folder, content), **options)


def rated(corpus):
    return {(r.utterance, r.rater): r.ticks for r in corpus.ratings}


def wide(*names: str) -> str:
    return f"file,{','.join(names)}\n" + "".join(WIDE)


def adapted_to(folder, content, **options):
    return read_ratings(write_ratings_csv(folder, content) / "ratings.csv", LABEL_SET, **options)


@pytest.mark.parametrize("column", RATER_COLUMNS)
def test_a_persons_column_is_known_by_the_names_that_labelling_tools_give_it(tmp_path, column):
    corpus = table(tmp_path, f"audio,{column},emotion\n" + "".join(",".join(row) + "\n" for row in ROWS))
    assert corpus.raters() == ["anna", "ben"]
    anna = adapted_to(tmp_path, f"file,{column},label\n" + "".join(",".join(row) + "\n" for row in ROWS), rater="anna")
    assert [clip.name for clip in anna.clips] == ["1.wav", "2.wav"]
    with pytest.raises(UserError, match=r"2 raters: anna \(2 clips\), ben \(1 clips\)\. Choose one with --rater"):
        read_ratings(tmp_path / "ratings.csv", LABEL_SET)


@pytest.mark.parametrize("column", NO_PEOPLE)
def test_a_column_that_is_no_person_is_no_rater_unless_it_is_named(tmp_path, column):
    with pytest.raises(UserError, match=rf"whose labels are these\?.*{column!r} is no person.*--raters anna,ben"):
        table(tmp_path, wide("anna", "ben", column))
    corpus = table(tmp_path, wide("anna", "ben", column), raters=("anna", "ben"))
    assert corpus.raters() == ["anna", "ben"]
    assert [p.what for p in corpus.problems] == [f"columns not used: {column}."]
    assert column in table(tmp_path, wide("anna", "ben", column), raters=("anna", "ben", column)).raters()
    assert column in table(tmp_path, wide("anna", "ben", column), exclude_raters=(column,)).raters()


@pytest.mark.parametrize(
    "name",
    ["majority", "Gold", "consensus", "ground truth", "mean", "predicted", "unknown", "gold_standard_v2", "gpt-4o"],
)
def test_a_rater_that_is_no_person_is_a_question_unless_named(tmp_path, name):
    content = f"file,rater,label\n1.wav,anna,sad\n1.wav,{name},sad\n"
    with pytest.raises(UserError, match=r"ratings\.csv:3: .*is no person.*--raters"):
        table(tmp_path, content)
    assert table(tmp_path, content, raters=("anna",)).dropped == {"ratings: of raters that were not asked for": 1}
    assert table(tmp_path, content, raters=("anna", name)).raters() == sorted(["anna", name])


@pytest.mark.parametrize("blank", ["NA", "nan", "null"])
def test_a_rater_who_may_be_a_blank_is_a_question_unless_named(tmp_path, blank):
    """R writes NA where nobody is known."""
    content = f"file,rater,label\n1.wav,anna,sad\n1.wav,{blank},fear\n"
    with pytest.raises(UserError, match=rf"ratings\.csv:3: the rater is '{blank}'\..* Is it somebody\?.*--raters"):
        table(tmp_path, content)
    assert table(tmp_path, content, raters=("anna", blank)).raters() == sorted(["anna", blank])
    assert adapted_to(tmp_path, content, rater=blank).rater == blank


def test_an_intended_emotion_in_brackets_is_no_rater(tmp_path):
    for column in ("Emotion (intended)", "[gold]", "final?"):
        with pytest.raises(UserError, match=r"whose labels are these\?.*is no person"):
            table(tmp_path, wide("anna", "ben", column))


@pytest.mark.parametrize(
    "names",
    [
        ("Val", "Dom", "Max"),
        ("label_anna", "label_ben", "label_carl"),
        ("r1", "r2", "r10"),
        ("A3GPT7X0", "AQ2MV", "B1"),
    ],
)
def test_people_are_people(tmp_path, names):
    """Names of people that look a little like something else raise no question."""
    corpus = table(tmp_path, wide(*names))
    assert corpus.raters() == sorted(names)
    assert corpus.problems == ()


@pytest.mark.parametrize(
    "header", ["file,mood_giver,label", "file,name,label", "file,subject,label", "file,gold,label"]
)
def test_a_column_that_is_not_known_is_a_question(tmp_path, header):
    content = f"{header}\n" + "".join(",".join(row) + "\n" for row in ROWS)
    column = header.split(",")[1]
    with pytest.raises(UserError, match=r"ratings\.csv:1: whose labels are these\?.*--rater-column NAME.*--all-one"):
        adapted_to(tmp_path, content)
    with pytest.raises(UserError, match=r"whose labels are these\?.*--rater-column NAME"):
        table(tmp_path, content)
    assert table(tmp_path, content, rater_column=column).raters() == ["anna", "ben"]
    assert adapted_to(tmp_path, content, rater_column=column.upper(), rater="ben").rater == "ben"
    once = content.replace("1.wav,ben,sad\n", "")
    assert adapted_to(tmp_path, once, all_one=True, rater="me").rater == "me"
    with pytest.raises(UserError, match=r"ratings\.csv:1: Unknown column 'moodgiver2'"):
        table(tmp_path, content, rater_column="moodgiver2")


@pytest.mark.parametrize(
    "header", ["label", "emotion", "label,confidence", "emotion,speaker", "label,id", "label,comment", "Answer"]
)
def test_one_listeners_table_needs_no_rater(tmp_path, header):
    more = "," * header.count(",")
    found = adapted_to(tmp_path, f"file,{header}\n1.wav,sad{more}\n2.wav,fear{more}\n")
    assert (found.rater, len(found.clips)) == ("listener", 2)
    unused = [f"columns not used: {header.split(',')[1]}."] if more else []
    assert [p.what for p in found.problems] == unused


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("file,annotator,user,label", r"2 columns could say who rated: 'annotator' and 'user'.*--rater-column"),
        ("file,rater,Rater,label", r"2 columns could say who rated: 'rater' and 'Rater'"),
        ("filename,audio,rater,label", r"2 columns could name the file: 'filename' and 'audio'"),
        ("file,rater,emotion,answer", r"2 columns could hold the labels: 'emotion' and 'answer'"),
    ],
)
def test_two_columns_that_could_be_one_thing_are_one_question(tmp_path, header, message):
    with pytest.raises(UserError, match=message):
        table(tmp_path, f"{header}\n1.wav,a,sad,sad\n")


def test_which_of_two_columns_says_who_rated_can_be_said(tmp_path):
    content = "file,annotator,user,label\n1.wav,7,anna,sad\n2.wav,7,ben,sad\n"
    corpus = table(tmp_path, content, rater_column="user")
    assert corpus.raters() == ["anna", "ben"]
    assert [p.what for p in corpus.problems] == ["columns not used: annotator."]


ALIKE = [
    ("1", "01"),
    ("1", "1.0"),
    ("7", "\uff17"),
    ("anna", "Anna"),
    ("zo\u00e9", "zoe\u0301"),
    ("anna", "ann\u200ba"),
]
ALIKE += [
    ("rater_1", "rater 01"),
    ("'anna'", "anna"),
    ("anna b", "anna-b"),
    ("1,0", "1"),
    ("w07", "W7"),
    ("stra\u00dfe", "STRASSE"),
    ("anna", "\uff41nna"),
]


@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_spellings_of_one_name_are_one_question_and_not_two_people(tmp_path, one, other):
    content = f'file,rater,label\n1.wav,"{one}",sad\n2.wav,"{other}",fear\n1.wav,ben,sad\n'
    with pytest.raises(
        UserError, match=r"one rater or several\? .* \(line 2\) and .* \(line 3\)\..*--alike-raters one"
    ):
        table(tmp_path, content)
    with pytest.raises(UserError, match=r"one rater or several\?"):
        adapted_to(tmp_path, content, rater=one)
    assert rated(table(tmp_path, content, alike_raters="one")).keys() == {("1", one), ("2", one), ("1", "ben")}
    assert table(tmp_path, content, alike_raters="distinct").raters() == sorted([one, other, "ben"])
    assert table(tmp_path, content, raters=(one, other)).raters() == sorted([one, other])
    assert adapted_to(tmp_path, content, rater=other, alike_raters="one").rater == other
    assert len(adapted_to(tmp_path, content, rater=other, alike_raters="one").clips) == 2


def test_spellings_that_look_the_same_are_shown_apart(tmp_path):
    with pytest.raises(UserError, match=r"'zo\\xe9' \(line 2\) and 'zoe\\u0301' \(line 3\)"):
        table(tmp_path, "file,rater,label\n1.wav,zo\u00e9,sad\n2.wav,zoe\u0301,fear\n")


def test_two_rows_of_one_person_under_two_spellings_are_a_repeated_pair(tmp_path):
    content = "file,rater,label\n1.wav,anna,sad\n1.wav,Anna,fear\n"
    with pytest.raises(UserError, match=r"ratings\.csv:3: a second row for '1\.wav' by 'anna'; the first is line 2"):
        table(tmp_path, content, alike_raters="one")


@pytest.mark.parametrize("names", [("1", "2", "10"), ("a1", "a2", "a10"), ("1.1", "1.2", "11"), ("E1", "E10", "E100")])
def test_different_names_are_different_people(tmp_path, names):
    rows = "".join(f"1.wav,{name},sad\n" for name in names)
    assert table(tmp_path, f"file,rater,label\n{rows}").raters() == sorted(names)


def test_a_rater_who_was_asked_for_and_is_not_there_is_named(tmp_path):
    for content in ("file,rater,label\n1.wav,anna,sad\n1.wav,ben,sad\n", "file,anna,ben\n1.wav,sad,sad\n"):
        with pytest.raises(UserError, match=r"Unknown rater 'bem'\. Did you mean 'ben'\?"):
            table(tmp_path, content, raters=("anna", "bem"))


def test_the_options_are_said_alike_to_validate_and_in_python(tmp_path, capsys):
    folder = write_ratings_csv(tmp_path, wide("anna", "ben", "majority"))
    command = ["validate", "--corpus", "ratings_csv", "--root", str(folder)]
    assert main(command) == 2
    assert "--raters anna,ben (training: datarc.raters)" in capsys.readouterr().err
    assert main([*command, "--raters", "anna,ben"]) == 0
    assert "columns not used: majority." in capsys.readouterr().out
    write_ratings_csv(tmp_path, "file,who,label\n1.wav,anna,sad\n2.wav,Anna,sad\n")
    assert main([*command, "--rater-column", "who"]) == 2
    assert main([*command, "--rater-column", "who", "--alike-raters", "one"]) == 0
    assert "1 raters" in capsys.readouterr().out


def test_a_listening_session_never_rewrites_another_persons_row(tmp_path):
    """Whatever the person's column is called, and however a file is spelt."""
    for column in ("annotator", "Worker-ID", "who"):
        content = f"file,{column},label,note\n./1.wav,anna,sad,hers\n1.wav,ben,fear,his\n2.wav,ben,fear,\n"
        path = write_ratings_csv(tmp_path, content) / "ratings.csv"
        if column == "who":
            with pytest.raises(UserError, match=r"whose labels are these\?"):
                RatingsFile(path, tmp_path, LABEL_SET, "ben")
        said = {"rater_column": "who"} if column == "who" else {}
        file = RatingsFile(path, tmp_path, LABEL_SET, "anna", **said)
        assert file.answers == {"1.wav": ("sad",)}
        file.save("1.wav", ("happy",))
        file.save("2.wav", ("angry",))
        kept = f"file,{column},label,note\n./1.wav,anna,happy,hers\n1.wav,ben,fear,his\n2.wav,ben,fear,\n"
        assert path.read_text() == kept + "2.wav,anna,angry,\n"


def test_a_listening_session_fills_in_a_table_that_was_prepared(tmp_path):
    path = write_ratings_csv(tmp_path, "file,rater,label\n1.wav,anna,\n2.wav,anna,\n") / "ratings.csv"
    file = RatingsFile(path, tmp_path, LABEL_SET)
    assert (file.rater, file.answers) == ("anna", {})
    file.save("2.wav", ("sad",))
    assert path.read_text() == "file,rater,label\n1.wav,anna,\n2.wav,anna,sad\n"


def test_a_listener_under_another_spelling_is_asked_who_that_is(tmp_path):
    path = write_ratings_csv(tmp_path, "file,rater,label\n1.wav,Anna,sad\n1.wav,majority,sad\n") / "ratings.csv"
    before = path.read_text()
    with pytest.raises(UserError, match=r"one rater or several\? 'anna' and 'Anna' \(line 2\)"):
        RatingsFile(path, tmp_path, LABEL_SET, "anna")
    with pytest.raises(UserError, match=r"'majority' is no person.*--rater NAME"):
        RatingsFile(path, tmp_path, LABEL_SET)
    same = RatingsFile(path, tmp_path, LABEL_SET, "anna", alike_raters="one")
    assert same.answers == {"1.wav": ("sad",)}
    same.save("2.wav", ("fear",))
    assert path.read_text() == before + "2.wav,anna,fear\n"
    same.save("1.wav", ("fear",))
    assert path.read_text() == before.replace("Anna,sad", "Anna,fear") + "2.wav,anna,fear\n"


def test_all_one_overwrites_nobody(tmp_path):
    path = write_ratings_csv(tmp_path, "file,annotator,label\n1.wav,anna,sad\n") / "ratings.csv"
    with pytest.raises(UserError, match=r"says who rated, in column 'annotator'.*overwrite the labels of others"):
        RatingsFile(path, tmp_path, LABEL_SET, all_one=True)
    path = write_ratings_csv(tmp_path, "file,label,mystery\n1.wav,sad,x\n") / "ratings.csv"
    RatingsFile(path, tmp_path, LABEL_SET, all_one=True).save("1.wav", ("fear",))
    assert path.read_text() == "file,label,mystery\n1.wav,fear,x\n"
