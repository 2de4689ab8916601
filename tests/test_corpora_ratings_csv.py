import csv
import math
import time

import pytest
from corpora_fixtures import write_ratings_csv, write_wav

from s3prl_metaperser.corpora import load_corpus
from s3prl_metaperser.corpora.iemocap import CLASSES, LABEL_SET
from s3prl_metaperser.errors import UserError

LONG = "file,rater,label\na/1.wav,anna,happy\na/1.wav,ben,neutral;happy\na/2.wav,anna,sad\n"
LONG_RATINGS = [
    ("a/1", "anna", ("happy",)),
    ("a/1", "ben", ("neutral", "happy")),
    ("a/2", "anna", ("sad",)),
]


def read(folder, content: str, files: str | None = None, **options):
    return load_corpus("ratings_csv", write_ratings_csv(folder, content, files), **options)


def ratings(corpus) -> list[tuple]:
    return [(r.utterance, r.rater, r.ticks) for r in corpus.ratings]


def one_label(folder, label: str):
    return read(folder, f"file,rater,label\n1.wav,anna,{label}\n").ratings[0].ticks


def test_the_long_form_reads_as_written(tmp_path):
    corpus = read(tmp_path, LONG)
    assert ratings(corpus) == LONG_RATINGS
    assert corpus.name == "ratings_csv"
    assert corpus.classes == CLASSES
    assert corpus.root == tmp_path
    assert (corpus.dropped, corpus.problems) == ({}, ())
    utterance = corpus.utterance("a/1")
    assert (utterance.path, utterance.speaker, utterance.session) == (tmp_path / "a/1.wav", "unknown", "")
    assert utterance.seconds == pytest.approx(0.05)


def test_the_csv_file_itself_will_do(tmp_path):
    folder = write_ratings_csv(tmp_path, LONG)
    (folder / "ratings.csv").rename(folder / "mine.csv")
    assert ratings(load_corpus("ratings_csv", folder / "mine.csv")) == LONG_RATINGS


@pytest.mark.parametrize(
    "content",
    [
        "\ufeff" + LONG,
        LONG.replace("\n", "\r\n"),
        LONG.replace("file,rater", "task,worker"),
        LONG.replace("file", "name", 1),
        LONG.replace("file,rater,label", " File , RATER,Label"),
        LONG.replace("file,rater,label", '"file","rater","label"'),
        LONG + "\n,,\n\n",
        LONG.rstrip("\n"),
        LONG.replace("a/2.wav", "./a/b/../2.wav"),
        LONG.replace(",anna,", ", anna ,"),
        "label,x,file,rater\nhappy,1,a/1.wav,anna\nneutral; happy;,,a/1.wav,ben\nsad,,a/2.wav,anna\n",
        ",file,rater,label,start,end\n0,a/1.wav,anna,happy,0 days,NaT\n1,a/1.wav,ben,neutral;happy,,\n"
        "2,a/2.wav,anna,sad,,\n",
        "file,anna,ben\na/1.wav,happy,neutral;happy\na/2.wav,sad,\n",
        "ben,file,start,end,anna\nhappy;neutral,a/1.wav,0,,happy\n,a/2.wav,0,NaT,sad\n",
    ],
)
def test_every_form_of_the_same_ratings_reads_the_same(tmp_path, content):
    for name in ("a/1.wav", "a/2.wav"):
        write_wav(tmp_path / name)
    corpus = read(tmp_path, content)
    assert ratings(corpus) == LONG_RATINGS
    unused = [(p.what, p.serious) for p in corpus.problems]
    assert unused == ([("columns not used: x.", False)] if "x" in content.split("\n")[0].split(",") else [])


def test_windows_separators_are_separators(tmp_path):
    write_wav(tmp_path / "a/1.wav")
    assert ratings(read(tmp_path, "file,rater,label\na\\1.wav,anna,sad\n")) == [("a/1", "anna", ("sad",))]


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("ANGRY", "angry"),
        ("anger", "angry"),
        ("Sadness", "sad"),
        ("happiness", "happy"),
        ("frustration", "frustrated"),
        ("excitement", "excited"),
        ("surprised", "surprise"),
        ("fearful", "fear"),
        ("Disgusted", "disgust"),
        ("Neutral state", "neutral"),
        ("neutral_state", "neutral"),
        *((name[:3], name) for name in CLASSES),
        *((name, name) for name in CLASSES),
    ],
)
def test_labels_go_by_name_synonym_or_code(tmp_path, label, name):
    assert one_label(tmp_path, label) == (name,)


@pytest.mark.parametrize("label", ["other", "Other", "oth", "Other-confused", "others"])
def test_other_is_other(label):
    assert LABEL_SET.lookup(label) == "other"


def test_unlike_codes_names_are_compared_whole():
    assert LABEL_SET.lookup("disappointed") is None
    assert LABEL_SET.lookup("surly") is None


def test_blank_labels_and_other_are_counted(tmp_path):
    corpus = read(
        tmp_path,
        "file,rater,label\n1.wav,a,\n1.wav,b, ; \n1.wav,c,other\n1.wav,d,other;sad\n2.wav,a,other\n3.wav,a,",
    )
    assert ratings(corpus) == [("1", "d", ("sad",))]
    assert corpus.dropped == {
        "files: audio without a rating, beside rated files": 1,  # 3.wav, whose only cell is blank
        "ratings: blank label": 3,
        "ratings: no class left": 2,
        "ticks: other": 3,
        "utterances: no rating left": 1,
    }


def test_an_unknown_label_names_line_value_and_the_nearest_known(tmp_path):
    content = "file,rater,label\n1.wav,anna,sad\n1.wav,ben,hapy\n"
    with pytest.raises(UserError, match=r"ratings\.csv:3: unknown label 'hapy'.*Did you mean 'happy'\?.*angry"):
        read(tmp_path, content)


def test_a_repeated_pair_is_an_error_that_names_both_lines(tmp_path):
    with pytest.raises(UserError, match=r"ratings\.csv:4: .*'1\.wav' by 'anna'; the first is line 2\..*--duplicates"):
        read(tmp_path, "file,rater,label\n1.wav,anna,sad\n2.wav,anna,sad\n./1.wav,anna,sad\n")


REPEATED = "file,rater,label\n1.wav,a,sad\n1.wav,a,angry;other\n1.wav,b,other\n1.wav,b,happy\n"


def test_repeated_pairs_are_united_on_request(tmp_path):
    corpus = read(tmp_path, REPEATED, duplicates="union")
    assert ratings(corpus) == [("1", "a", ("angry", "sad")), ("1", "b", ("happy",))]
    assert corpus.dropped == {"ticks: other": 2}
    assert [(p.what[:15], p.serious) for p in corpus.problems] == [("2 repeated rows", False)]


def test_the_first_of_repeated_pairs_is_used_on_request(tmp_path):
    corpus = read(tmp_path, REPEATED, duplicates="first")
    assert ratings(corpus) == [("1", "a", ("sad",))]
    assert corpus.dropped == {
        "ratings: no class left": 1,
        "ratings: repeated, the first is used": 2,
        "ticks: other": 1,
    }


def test_an_unknown_value_of_duplicates_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"'onion' for duplicates\. Did you mean 'union'\?"):
        read(tmp_path, LONG, duplicates="onion")


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("/etc/1.wav", "is absolute"),
        ("C:\\audio\\1.wav", "is absolute"),
        ("../1.wav", "is outside the folder"),
        ("a/../../1.wav", "is outside the folder"),
        ("a\\..\\..\\1.wav", "is outside the folder"),
        ("..", "is outside the folder"),
        (".", "is outside the folder"),
        ("1\0.wav", "NUL"),
        (" ", "is blank"),
    ],
)
@pytest.mark.parametrize("table", ["ratings.csv", "files.csv"])
def test_a_file_outside_the_folder_is_refused_with_its_line(tmp_path, table, name, fault):
    bad_ratings = f"file,rater,label\n1.wav,a,sad\n{name},a,sad\n"
    bad_files = f"file,speaker\n1.wav,s\n{name},s\n"
    content = (bad_ratings, None) if table == "ratings.csv" else (LONG, bad_files)
    with pytest.raises(UserError, match=rf"{table}:3: .*({fault})"):
        read(tmp_path, *content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"ratings.csv:1: column 'file' is missing; it has nothing"),
        ("file|rater|label\n1.wav|a|sad\n", r"column 'file' is missing.* by commas"),
        ("fil,rater,label\n1.wav,a,sad\n", r"column 'file' is missing; it has fil, rater, label"),
        ("file,rater,x\n1.wav,a,sad\n", r"column 'label' is missing"),
        ("file,label\n1.wav,sad\n", r"whose labels are these\? The column 'rater' is missing; it has file, label"),
        ("file,rater,value\n1.wav,a,3\n", r"'value' holds numbers of a scale, and this label set has none"),
        ("file,value\n1.wav,3\n", r"'value' holds numbers of a scale, and this label set has none"),
        ("file,rater,label,label\n1.wav,a,sad,sad\n", r":1: two columns are named 'label'"),
        ("file\n1.wav\n", r":1: no ratings, only file"),
        ("file,,ben\n1.wav,sad,sad\n", r":2: 'sad' stands here, but column 2 has no name"),
        ("file,,\n1.wav,,\n", r":1: no ratings, only file"),
        ("file,rater,label\n1.wav,a,sad\n1.wav,b,sad,x\n", r":3: 4 fields where the header has 3"),
        ("file,rater,label\n1.wav,a\n", r":2: 2 fields where the header has 3"),
        ("file,rater,label\n1.wav,,sad\n", r":2: the rater is blank"),
        ('file,rater,label\n1.wav,a,sad\n1.wav,"b,sad\n1.wav,c,sad\n', r":3: not valid CSV"),
        ('file,rater,label\n1.wav,"b"c,sad\n', r":2: not valid CSV"),
        ("file,rater,label,start,end\n1.wav,a,sad,0,\n1.wav,b,sad,1.5,2\n", r":3: a segment that begins at 1\.500 s"),
        ("file,rater,label\n", r"empty corpus"),
        ("file,rater,label\n1.wav,a,other\n", r"empty corpus"),
    ],
)
def test_a_table_that_cannot_be_read_says_where_and_why(tmp_path, content, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, content)


def test_the_line_of_an_error_counts_lines_not_rows(tmp_path):
    content = 'file,rater,label,note\n1.wav,a,sad,"two\nlines"\n\n1.wav,b,bad,\n'
    with pytest.raises(UserError, match=r"ratings\.csv:5: unknown label 'bad'"):
        read(tmp_path, content)


def test_a_file_that_is_not_utf8_names_the_line(tmp_path):
    (tmp_path / "ratings.csv").write_bytes("file,rater,label\n1.wav,a,sad\n2.wav,Zoé,sad\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"ratings\.csv:3: not UTF-8"):
        load_corpus("ratings_csv", tmp_path)


def test_a_missing_folder_or_table_says_what_to_give(tmp_path):
    for root in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UserError, match=r"does not exist\. Give a folder with ratings\.csv"):
            load_corpus("ratings_csv", root)


def test_files_csv_says_who_speaks_and_in_which_session(tmp_path):
    files = "gender,session,speaker,file,split\nf,day1,mary,a/1.wav,train\nm,,,a/2.wav,test\nm,day1,tom,3.wav,x\n"
    corpus = read(tmp_path, LONG, files)
    assert [(u.id, u.speaker, u.session) for u in corpus.utterances] == [
        ("a/1", "mary", "day1"),
        ("a/2", "unknown", ""),
    ]
    assert corpus.dropped == {"files: in files.csv without a rating": 1}


def test_a_split_is_not_a_session(tmp_path):
    corpus = read(tmp_path, LONG, "file,speaker,split\na/1.wav,mary,train\na/2.wav,mary,test\n")
    assert {u.session for u in corpus.utterances} == {""}


def test_a_rated_file_that_files_csv_lacks_is_noted(tmp_path):
    corpus = read(tmp_path, LONG, "file,speaker\na/1.wav,mary\n")
    assert corpus.utterance("a/2").speaker == "unknown"
    (problem,) = corpus.problems
    assert "1 rated files are missing from it, e.g. 'a/2.wav'" in problem.what
    assert not problem.serious


def test_a_file_twice_in_files_csv_is_an_error_that_names_both_lines(tmp_path):
    with pytest.raises(UserError, match=r"files\.csv:4: .*'a/1\.wav'; the first is line 2"):
        read(tmp_path, LONG, "file,speaker\na/1.wav,mary\na/2.wav,mary\na/1.wav,tom\n")


def test_files_csv_needs_a_speaker(tmp_path):
    with pytest.raises(UserError, match=r"files\.csv:1: column 'speaker' is missing"):
        read(tmp_path, LONG, "file,gender\na/1.wav,f\n")


def test_ids_keep_the_extension_only_where_they_would_clash(tmp_path):
    names = ["1.wav", "1.flac", "2.wav", "3.flac", "3.flac.wav", "4.x.wav"]
    for name in names:
        (tmp_path / name).touch()
    corpus = read(tmp_path, "file,rater,label\n" + "".join(f"{name},a,sad\n" for name in names))
    ids = {u.path.name: u.id for u in corpus.utterances}
    assert ids == {
        "1.wav": "1.wav",
        "1.flac": "1.flac",
        "2.wav": "2",
        "3.flac": "3",
        "3.flac.wav": "3.flac.wav",
        "4.x.wav": "4.x",
    }
    assert [r.utterance for r in corpus.ratings] == sorted(ids.values())


def test_a_missing_or_unreadable_audio_file_is_serious_and_kept(tmp_path):
    folder = write_ratings_csv(tmp_path, LONG)
    (folder / "a/1.wav").unlink()
    (folder / "a/2.wav").write_text("no audio")
    corpus = load_corpus("ratings_csv", folder)
    assert ratings(corpus) == LONG_RATINGS
    assert all(math.isnan(u.seconds) for u in corpus.utterances)
    assert [(p.path, p.serious) for p in corpus.problems] == [
        (str(tmp_path / "a/1.wav"), True),
        (str(tmp_path / "a/2.wav"), True),
    ]


def test_many_rows_take_no_time_that_grows_with_their_square(tmp_path):
    write_wav(tmp_path / "1.wav")
    with open(tmp_path / "ratings.csv", "w", newline="") as handle:
        table = csv.writer(handle)
        table.writerow(["file", "rater", "label"])
        table.writerows(["1.wav", f"w{n}", "sad;happy"] for n in range(100_000))
    start = time.process_time()
    corpus = load_corpus("ratings_csv", tmp_path)
    assert len(corpus.ratings) == 100_000
    assert len(corpus.rater_summary()) == 100_000
    assert time.process_time() - start < 120, "100,000 squared would be hours"


def test_a_quote_that_is_never_closed_does_not_swallow_the_file(tmp_path):
    (tmp_path / "ratings.csv").write_text(
        'file,rater,label\n1.wav,a,"sad\n' + "1.wav,b,sad\n" * 100_000, encoding="utf-8"
    )
    with pytest.raises(UserError, match=r"ratings\.csv:2: not valid CSV"):
        load_corpus("ratings_csv", tmp_path)
