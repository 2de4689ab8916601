"""What spreadsheets and labelling tools write, and can mean only one thing, is read; what can mean two is refused."""

import codecs

import pytest
from corpora_fixtures import write_ratings_csv, write_wav

from s3prl_metaperser.corpora import LabelSet, load_corpus
from s3prl_metaperser.corpora.label_set import LabelError
from s3prl_metaperser.errors import UserError

LONG = "file,rater,label\na/1.wav,anna,happy\na/1.wav,ben,neutral\na/2.wav,anna,sad\n"
READ = [("a/1", "anna", ("happy",)), ("a/1", "ben", ("neutral",)), ("a/2", "anna", ("sad",))]
WIDE = "file,anna,ben\na/1.wav,happy,neutral\na/2.wav,sad,\n"


@pytest.fixture
def folder(tmp_path):
    for name in ("1.wav", "2.wav"):
        write_wav(tmp_path / "a" / name)
    return tmp_path


def read(folder, content: str | bytes):
    data = content if isinstance(content, bytes) else content.encode()
    (folder / "ratings.csv").write_bytes(data)
    return load_corpus("ratings_csv", folder)


def ratings(corpus) -> list[tuple]:
    return [(r.utterance, r.rater, r.ticks) for r in corpus.ratings]


SEMICOLONS = LONG.replace(",", ";")
TABS = LONG.replace(",", "\t")
NEWLINE_IN_QUOTES = LONG.replace("label\n", "label,note\n").replace("happy\n", 'happy,"two\nlines; and\ttab"\n')
DIALECTS = {
    "semicolons": SEMICOLONS,
    "tabs": TABS,
    "semicolons, wide": WIDE.replace(",", ";"),
    "tabs, wide": WIDE.replace(",", "\t"),
    "sep=,": "sep=,\n" + LONG,
    "sep=;": "sep=;\r\n" + SEMICOLONS.replace("\n", "\r\n"),
    "sep=tab": "SEP=\t\n" + TABS,
    "sep=|": '"sep=|"\n' + LONG.replace(",", "|"),
    "mark and sep": "\ufeffsep=;\n" + SEMICOLONS,
    "UTF-16, little end first": codecs.BOM_UTF16_LE + TABS.encode("utf-16-le"),
    "UTF-16, big end first": codecs.BOM_UTF16_BE + LONG.encode("utf-16-be"),
    "UTF-16 and sep": codecs.BOM_UTF16_LE + f"sep=;\r\n{SEMICOLONS}".encode("utf-16-le"),
    "two marks": "\ufeff\ufeff" + LONG,
    "a sep line that is not true": "sep=;\n" + LONG,
    "rows that end with empty fields": LONG.replace("y\n", "y,,\n").replace("l\n", "l,,\n").replace("sad\n", "sad,,\n"),
    "CR alone": LONG.replace("\n", "\r"),
    "CR CR LF": LONG.replace("\n", "\r\r\n"),
    "empty last columns": LONG.replace("\n", ",,\n") + ",,,,\n , , , , \n",
    "rows without the fields of columns without a name": LONG.replace("label\n", "label,,\n").replace(
        "sad\n", "sad,,\n"
    ),
    "empty last column, wide": WIDE.replace("\n", ",\n"),
    "empty first and last column, wide": "\n".join(f";{row};" for row in WIDE.replace(",", ";").splitlines()),
    "a note of two lines": NEWLINE_IN_QUOTES.replace("neutral\n", "neutral,\n").replace("sad\n", "sad,\n"),
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_unambiguous_dialect_reads_the_same(folder, dialect):
    corpus = read(folder, DIALECTS[dialect])
    assert ratings(corpus) == READ
    assert [p.what for p in corpus.problems if p.what != "columns not used: note."] == []


def test_a_raters_name_may_hold_the_other_separators(folder):
    corpus = read(folder, 'file;"Smith, Anna";ben\na/1.wav;happy;neutral\n')
    assert corpus.raters() == ["Smith, Anna", "ben"]


def test_files_csv_has_the_same_dialects(folder):
    (folder / "files.csv").write_text("sep=;\nfile;speaker;session\na/1.wav;mary;one\na/2.wav;tom;two\n")
    assert [(u.speaker, u.session) for u in read(folder, SEMICOLONS).utterances] == [("mary", "one"), ("tom", "two")]


@pytest.mark.parametrize("blank", ["nan", "NaN", "N/A", "NA", "None", "null", "<NA>", "#N/A", "NaT", " ", "[]"])
@pytest.mark.parametrize(
    "form", ["file,anna,ben\na/1.wav,happy,{}\n", "file,rater,label\na/1.wav,anna,happy\na/1.wav,b,{}\n"]
)
def test_what_means_nothing_is_a_blank_cell_and_counted(folder, blank, form):
    corpus = read(folder, form.format(blank))
    assert ratings(corpus) == READ[:1]
    assert corpus.dropped["ratings: blank label"] == 1


def test_a_class_that_is_called_none_is_no_blank():
    assert LabelSet("signs", "single", ("none", "some")).checked("None").ticks == ("none",)


@pytest.mark.parametrize(
    ("cell", "ticks"),
    [
        ('["Happy", "Sad"]', ("sad", "happy")),
        ('{"choices": ["Happy", "Sad"]}', ("sad", "happy")),
        ('{"choices":["Happy"]}', ("happy",)),
        ('[{"choices": ["Happy"]}]', ("happy",)),
        ("['Happy', 'Sad']", ("sad", "happy")),
        ('"[""Happy""]"', ("happy",)),
        ('["Happy", null]', ("happy",)),
    ],
)
def test_json_lists_and_choices_are_labels(folder, cell, ticks):
    quoted = cell if cell.startswith('"') else '"' + cell.replace('"', '""') + '"'
    assert ratings(read(folder, f"file,rater,label\na/1.wav,anna,{quoted}\n")) == [("a/1", "anna", ticks)]


def test_json_numbers_and_shares_are_answers():
    scale = LabelSet("fluency", "ordinal", levels=(1.0, 2.0, 3.0, 4.0))
    assert [scale.checked(cell).value for cell in ('{"rating": 3}', '[{"rating": 3.5}]', "[2]", "2")] == [3, 3.5, 2, 2]
    shares = LabelSet("mood", "soft", ("calm", "tense"))
    assert shares.checked('{"calm": 0.75, "tense": 0.25}').shares == (0.75, 0.25)


@pytest.mark.parametrize(
    "cell", ['{"Happy": true}', '{"text": ["Happy"]}', "[" * 5000 + "]" * 5000, '["Happy"', "[1e999]", "{}", "[true]"]
)
def test_json_that_is_no_label_is_refused(cell):
    with pytest.raises(LabelError):
        LabelSet("mood", "multi", ("happy", "sad")).checked(cell)


def test_two_answers_where_one_is_taken_are_refused():
    with pytest.raises(LabelError, match="2 labels"):
        LabelSet("mood", "single", ("happy", "sad")).checked('{"choices": ["happy", "sad"]}')


@pytest.mark.parametrize("cell", ["3,5", "3,4", "1_0"])
def test_a_decimal_comma_may_be_two_answers_and_is_refused(folder, cell):
    (folder / "labels.yaml").write_text("{name: mine, kind: ordinal, levels: [1, 2, 3, 4, 5, 10, 35]}")
    with pytest.raises(UserError, match=r"ratings\.csv:3: .*is not on the scale.*one number from 1 to 35"):
        read(folder, f"file;rater;value\na/1.wav;anna;2.5\na/1.wav;ben;{cell}\n")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (LONG.replace("anna", "Zoé").encode("cp1252"), r":2: not UTF-8.*Excel.*UTF-8"),
        (codecs.BOM_UTF16_LE + TABS.encode("utf-16-le")[:-1], "not UTF-8"),
        (TABS.encode("utf-16-le"), "NUL|column 'file' is missing"),
        (LONG.replace("happy", "happy;sad;x").replace(",", ";"), r":2: 5 fields where the header has 3.*';'"),
        (LONG.replace("ben,neutral", "ben,neutral,"), r":3: 4 fields where the header has 3"),
        (LONG.replace("anna,happy", "anna,happy,"), r":3: 3 fields where the rows before have 4"),
        (LONG.replace("\n", ",x\n").replace("label,x", "label"), r":2: 4 fields where the header has 3"),
        (SEMICOLONS.replace("file;rater", "file;rater,label"), "two columns|is missing|fields where"),
    ],
)
def test_what_could_mean_two_things_is_refused_with_its_line(folder, content, message):
    with pytest.raises(UserError, match=message):
        read(folder, content)


@pytest.mark.parametrize("words", ['[{"id": 1, "data": {}}]', '{"file": "a.wav"}'])
def test_json_is_said_to_be_no_table(folder, words):
    with pytest.raises(UserError, match=r"ratings\.csv: this is JSON, and a table was expected\. Export it as CSV"):
        read(folder, words)


def test_a_word_for_nothing_among_labels_is_no_misspelt_label(folder):
    with pytest.raises(UserError, match="unknown label 'nan'") as caught:
        read(folder, 'file,rater,label\na/1.wav,anna,"[""happy"", ""nan""]"\n')
    assert "Did you mean" not in str(caught.value)


def test_an_absolute_name_asks_for_the_file_that_is_here(folder):
    write_wav(folder / "clip.wav")
    for name in ("/data/upload/1/0c1b2d3e-clip.wav", "/home/anna/clip.wav", "C:\\audio\\clip.wav"):
        with pytest.raises(UserError, match=r"is absolute\. Give the path relative to .*, such as 'clip\.wav', or"):
            read(folder, f"file,rater,label\n{name},anna,happy\n")


def test_a_listening_session_continues_in_the_table_of_a_spreadsheet(folder):
    from s3prl_metaperser.corpora.iemocap import LABEL_SET
    from s3prl_metaperser.listener.ratings_file import RatingsFile

    path = folder / "ratings.csv"
    path.write_text(SEMICOLONS.replace("neutral", "sad"))
    file = RatingsFile(path, folder, LABEL_SET, "anna")
    assert file.answers == {"a/1.wav": ("happy",), "a/2.wav": ("sad",)}
    file.save("a/2.wav", ("fear",))
    assert ratings(load_corpus("ratings_csv", folder))[1:] == [("a/1", "ben", ("sad",)), ("a/2", "anna", ("fear",))]


def test_a_field_behind_the_last_column_is_never_left_out(tmp_path):
    """A header that lost a comma, over rows of which the first ends with an empty field."""
    with pytest.raises(UserError, match=r"ratings\.csv:3: 4 fields where the header has 3"):
        load_corpus(
            "ratings_csv", write_ratings_csv(tmp_path, "file,annaben,zoe\na.wav,sad,fear,\nb.wav,sad,fear,sad\n")
        )
