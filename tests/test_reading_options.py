"""What is done about second rows, unknown labels, parts of files and names in two Unicode forms, alike everywhere."""

import unicodedata

import pytest
from corpora_fixtures import write_ratings_csv, write_wav

from s3prl_metaperser.cli import main
from s3prl_metaperser.config.options import Options
from s3prl_metaperser.corpora import LABEL_SETS, load_corpus, open_corpus
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.listener.ratings import read_ratings
from s3prl_metaperser.listener.ratings_file import RatingsFile

UNKNOWN = "file,rater,label\n1.wav,anna,sad\n1.wav,ben,contempt\n2.wav,ben,happy;contempt\n"
TWICE = "file,rater,label\n1.wav,anna,sad\n1.wav,anna,happy\n2.wav,anna,sad\n"


def read(folder, content: str, **options):
    return load_corpus("ratings_csv", write_ratings_csv(folder, content), **options)


def ratings(corpus) -> list[tuple]:
    return [(r.utterance, r.rater, r.ticks) for r in corpus.ratings]


# -- labels that the set does not know --------------------------------------------------------------------------------


def test_unknown_labels_are_left_out_and_counted_on_request(tmp_path):
    corpus = read(tmp_path, UNKNOWN, unknown_labels="drop")
    assert ratings(corpus) == [("1", "anna", ("sad",)), ("2", "ben", ("happy",))]
    assert corpus.dropped == {"ratings: no class left": 1, "ticks: unknown label": 2}


def test_single_labels_may_go_to_a_class_to_other_or_out_and_are_counted(tmp_path):
    corpus = read(tmp_path, UNKNOWN, labels={"Contempt": "disgust", "happy": "excited"})
    assert "happy" not in corpus.classes
    assert ratings(corpus)[1:] == [("1", "ben", ("disgust",)), ("2", "ben", ("disgust", "excited"))]
    assert corpus.merged == {"Contempt -> disgust": 2, "happy -> excited": 1}
    assert read(tmp_path, UNKNOWN, labels={"contempt": "other"}).dropped["ticks: other"] == 2
    left_out = read(tmp_path, UNKNOWN, labels={"contempt": "-"})
    assert left_out.dropped["ticks: left out by the label set"] == 2
    with pytest.raises(UserError, match=r"'hapy' is not a class\. Did you mean 'happy'"):
        read(tmp_path, UNKNOWN, labels={"contempt": "hapy"})


def test_a_change_of_labels_goes_for_the_folders_own_set_and_is_another_corpus(tmp_path):
    (tmp_path / "labels.yaml").write_text("{name: mine, kind: multi, classes: [sad, happy, calm]}")
    corpus = read(tmp_path, UNKNOWN, labels={"contempt": "calm"})
    assert corpus.classes == ("sad", "happy", "calm")
    assert corpus.fingerprint() != read(tmp_path, UNKNOWN, unknown_labels="drop").fingerprint()


def test_training_takes_the_same_options(tmp_path):
    folder = write_ratings_csv(tmp_path, UNKNOWN)
    data = {"corpus": "ratings_csv", "root": str(folder), "labels": {"contempt": "other"}, "unknown_labels": "drop"}
    options = Options.from_config({"downstream_expert": {"datarc": data}})
    assert open_corpus(options.downstream_expert.datarc).dropped["ticks: other"] == 2


# -- the commands -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["validate", "adapt", "report", "listen"])
def test_every_command_that_reads_labels_has_the_same_options(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    shown = capsys.readouterr().out
    assert [name for name in ("--duplicates", "--outside", "--unknown-labels") if name not in shown] == []


def test_an_error_advises_what_the_command_has(tmp_path, capsys):
    folder = write_ratings_csv(tmp_path / "a", UNKNOWN)
    command = ["validate", "--corpus", "ratings_csv", "--root", str(folder), "--no-audio"]
    assert main(command) == 2
    assert "--unknown-labels drop (training: datarc.unknown_labels)" in capsys.readouterr().err
    assert main([*command, "--unknown-labels", "drop"]) == 0
    assert "2  ticks: unknown label" in capsys.readouterr().out
    write_ratings_csv(tmp_path / "a", TWICE)
    assert main(command) == 2
    assert "--duplicates union or first (training: datarc.duplicates)" in capsys.readouterr().err
    assert main([*command, "--duplicates", "first"]) == 0


def test_a_union_is_not_advised_where_one_answer_is_taken(tmp_path):
    with pytest.raises(UserError, match=r"say which: --duplicates first \("):
        read(tmp_path, TWICE, labels="big_six")


def test_a_listener_is_read_with_the_same_options(tmp_path):
    path = write_ratings_csv(tmp_path, TWICE) / "ratings.csv"
    label_set = LABEL_SETS.get("iemocap")
    with pytest.raises(UserError, match="a second row"):
        read_ratings(path, label_set)
    given = read_ratings(path, label_set, duplicates="union")
    assert given.labels.answers == (("sad", "happy"), ("sad",))
    write_ratings_csv(tmp_path, UNKNOWN)
    given = read_ratings(path, label_set, rater="ben", unknown_labels="drop")
    assert (given.labels.answers, given.dropped["ticks: unknown label"]) == ((("happy",),), 2)


# -- parts of files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("0", "0.05"),
        ("0.0", "0.045"),
        ("0 days", "0 days 00:00:00.050000"),
        ("0 days 00:00:00", "NaT"),
        ("", ""),
        ("NaT", "nan"),
        ("0:00:00", "00:00:00.06"),
        ("0.01", "0.05s"),
    ],
)
def test_segments_that_are_whole_files_are_read(tmp_path, start, end):
    corpus = read(tmp_path, f"file,start,end,anna,ben\n1.wav,{start},{end},happy,sad\n")
    assert ratings(corpus) == [("1", "anna", ("happy",)), ("1", "ben", ("sad",))]


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        ("0", "0.02", r"'1\.wav' is 0\.050 s long, and rated up to 0\.020 s\. Parts of files are not read\. Cut them"),
        ("0", "0.5", r"'1\.wav' is 0\.050 s long, and rated up to 0\.500 s"),
        ("0.03", "0.05", r"a segment that begins at 0\.030 s"),
        ("0", "50", r"rated up to 50\.000 s"),
        ("1 days", "NaT", r"begins at 86400\.000 s"),
        ("-1", "", r"'-1' is no time"),
        ("soon", "", r"'soon' is no time"),
        ("inf", "", r"'inf' is no time"),
    ],
)
def test_parts_of_files_are_refused_with_their_line(tmp_path, start, end, message):
    with pytest.raises(UserError, match=rf"ratings\.csv:3: .*{message}"):
        read(tmp_path, f"file,rater,label,start,end\n2.wav,anna,sad,0,\n1.wav,anna,sad,{start},{end}\n")


# -- files ------------------------------------------------------------------------------------------------------------


def test_audio_beside_rated_files_is_counted(tmp_path):
    for name in ("a/2.wav", "a/3.FLAC", "a/.4.wav", "a/notes.txt", "b/5.wav"):
        write_wav(tmp_path / "x.wav")
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / "x.wav").rename(tmp_path / name)
    corpus = read(tmp_path, "file,rater,label\na/1.wav,anna,sad\n")
    assert corpus.dropped == {"files: audio without a rating, beside rated files": 2}


@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
def test_accents_in_two_unicode_forms_are_one_file(tmp_path, on_disk):
    names = {form: unicodedata.normalize(form, "Zo\u00e9/\u00fc.wav") for form in ("NFC", "NFD")}
    write_wav(tmp_path / names[on_disk])
    other = names["NFD" if on_disk == "NFC" else "NFC"]
    rows = f"file,rater,label\n{other},anna,sad\n{names[on_disk]},ben,sad\n"
    (tmp_path / "ratings.csv").write_text(rows, encoding="utf-8")
    (tmp_path / "files.csv").write_text(f"file,speaker\n{names[on_disk]},s\n", encoding="utf-8")
    corpus = load_corpus("ratings_csv", tmp_path)
    (utterance,) = corpus.utterances
    assert utterance.path == tmp_path / names[on_disk]
    assert utterance.id == other.removesuffix(".wav")
    assert utterance.speaker == "s"
    assert corpus.raters() == ["anna", "ben"]
    (note,) = corpus.problems
    assert "1 names differ from those on disk in their Unicode form" in note.what
    assert not note.serious


def test_two_files_whose_names_differ_in_unicode_form_alone_are_two(tmp_path):
    names = [unicodedata.normalize(form, "\u00fc.wav") for form in ("NFC", "NFD")]
    for name in names:
        write_wav(tmp_path / name)
    corpus = read(tmp_path, "file,rater,label\n" + "".join(f"{name},anna,sad\n" for name in names))
    assert len(corpus.utterances) == 2
    assert corpus.problems == ()


def test_a_listening_session_knows_its_clip_in_either_form_and_leaves_one_row(tmp_path):
    clip, written = (unicodedata.normalize(form, "\u00fc.wav") for form in ("NFD", "NFC"))
    write_wav(tmp_path / clip)
    path = tmp_path / "ratings.csv"
    rows = [f"{written},anna,sad", f"{written},ben,sad", f"{written},anna,happy"]
    path.write_text("\n".join(["file,rater,label", *rows, ""]), encoding="utf-8")
    with pytest.raises(UserError, match="a second row"):
        RatingsFile(path, tmp_path, LABEL_SETS.get("iemocap"), "anna")
    file = RatingsFile(path, tmp_path, LABEL_SETS.get("iemocap"), "anna", duplicates="union")
    assert file.answers == {clip: ("sad", "happy")}
    file.save(clip, ("fear",))
    corpus = load_corpus("ratings_csv", tmp_path)
    assert [(rater, ticks) for _, rater, ticks in ratings(corpus)] == [("anna", ("fear",)), ("ben", ("sad",))]
