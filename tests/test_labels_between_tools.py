"""Labels through every tool's form and back: answers, times, plays, skips, and second answers, without loss."""

import csv
import io
import json

import pytest
from corpora_fixtures import write_wav

from s3prl_metaperser.cli import main
from s3prl_metaperser.corpora import exported_labels, load_corpus, writers
from s3prl_metaperser.corpora.answer_facts import utc
from s3prl_metaperser.corpora.label_set import LabelSet
from s3prl_metaperser.listener.ratings import read_ratings

#: Kind of label set -> its file, and answers of one listener and another; the last clip is skipped.
KINDS = {
    "multi": ("{name: moods, kind: multi, classes: [calm, tense, cheerful]}", ["calm;cheerful", "tense"], "cheerful"),
    "single": ("{name: moods, kind: single, classes: [calm, tense]}", ["calm", "tense"], "tense"),
    "soft": ("{name: moods, kind: soft, classes: [calm, tense]}", ["calm:0.7;tense:0.3", "tense:1"], "calm:1"),
    "ordinal": ("{name: fluency, kind: ordinal, levels: [1, 2, 3, 4, 5]}", ["3.5", "1"], "5"),
}
HEADER = (
    "file,rater,label,status,plays,heard,response_time,labelled_at,"
    "again,again_plays,again_response_time,again_labelled_at"
)
NATIVE = ("label_studio", "potato", "prodigy", "audformat")


def table(root, kind):
    labels, (first, second), other = KINDS[kind]
    for name in ("a.wav", "b.wav", "c d.wav"):
        write_wav(root / "clips" / name)
    (root / "clips" / "labels.yaml").write_text(labels)
    rows = [
        HEADER,
        f"a.wav,anna,{first},,2,whole,3.250,2026-11-28T09:30:00Z,{second},1,1.125,2026-11-28T09:45:00Z",
        f"b.wav,anna,{second},,1,,0.875,2026-11-28T09:31:00Z,,,,",
        "c d.wav,anna,,skipped,1,whole,2.000,2026-11-28T09:32:00Z,,,,",
        f"a.wav,ben,{other},,,,,,,,,",
        f"b.wav,ben,{first},,3,whole,10.500,2026-11-29T00:00:01Z,,,,",
    ]
    (root / "clips" / "ratings.csv").write_text("\n".join(rows) + "\n")
    return root / "clips" / "ratings.csv"


def rows(path):
    found = csv.DictReader(io.StringIO(path.read_text()))
    return sorted((dict(row) for row in found), key=lambda row: (row["rater"], row["file"]))


def out_of(root, form):
    return root / f"out{writers()[form].writes}"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", NATIVE)
def test_labels_go_through_every_tools_form_and_come_back_equal(tmp_path, form, kind, capsys):
    given = table(tmp_path, kind)
    clips, out, back = tmp_path / "clips", out_of(tmp_path, form), tmp_path / "back.csv"
    labels = ["--labels", str(clips / "labels.yaml")]
    assert main(["convert-labels", str(given), "--to", form, "--out", str(out)]) == 0
    assert "4 answers of 2 listener(s) to 3 clips, and 1 skipped" in capsys.readouterr().out
    line = ["convert-labels", str(out), "--to", "ratings_csv", "--out", str(back), "--root", str(clips), *labels]
    assert main(line) == 0
    assert rows(back) == rows(given)


@pytest.mark.parametrize("form", NATIVE)
def test_what_is_written_is_read_as_a_corpus_and_adapted_to(tmp_path, form):
    given = table(tmp_path, "single")
    out = out_of(tmp_path / "clips", form)
    writers()[form].write(out, exported_labels(given))
    moods = LabelSet.from_yaml(tmp_path / "clips" / "labels.yaml")
    found = read_ratings(out, moods, rater="anna", root=tmp_path / "clips")
    assert (found.rater, found.labels.answers) == ("anna", (("calm",), ("tense",)))
    wanted = load_corpus("ratings_csv", tmp_path / "clips").ratings
    given.unlink()
    root = out.parent if writers()[form].writes else out
    if form == "audformat":  # the files of a database are its own
        for name in ("a.wav", "b.wav"):
            write_wav(root / name)
    if form == "potato":
        for name in ("a.wav", "b.wav", "labels.yaml"):
            (root / name).write_bytes((tmp_path / "clips" / name).read_bytes())
    assert list(load_corpus(form, root).ratings) == list(wanted)


@pytest.mark.filterwarnings("ignore:The inplace keyword:DeprecationWarning")  # audformat's own
def test_times_and_skips_stand_where_the_tools_have_them(tmp_path):
    labels = exported_labels(table(tmp_path, "multi"))
    for form in NATIVE:
        writers()[form].write(out_of(tmp_path, form), labels)
        out_of(tmp_path, form).rename(tmp_path / form)
    task = json.loads((tmp_path / "label_studio").read_text())[0]
    (anna, ben) = task["annotations"]
    assert (anna["lead_time"], anna["created_at"], anna["was_cancelled"]) == (3.25, "2026-11-28T09:30:00Z", False)
    assert anna["result"][0]["value"] == {"choices": ["calm", "cheerful"]}
    assert "lead_time" not in ben
    lines = [json.loads(line) for line in (tmp_path / "prodigy").read_text().splitlines()]
    assert [(line["answer"], line["accept"]) for line in lines][2] == ("ignore", [])
    assert lines[0]["_timestamp"] == 1795858200
    state = json.loads((tmp_path / "potato/annotation_output/anna/user_state.json").read_text())
    behaviour = state["instance_id_to_behavioral_data"]["a.wav"]
    assert (behaviour["total_time_ms"], behaviour["session_end"]) == (3250, 1795858200.0)
    assert "c d.wav" not in state["instance_id_to_label_to_value"]
    audformat = pytest.importorskip("audformat")
    database = audformat.Database.load(tmp_path / "audformat")
    assert list(database.tables["labels"].columns) == [
        "anna",
        "ben",
        *(
            f"{w}.{f}"
            for w in ("anna", "ben")
            for f in (
                "status",
                "plays",
                "heard",
                "response_time",
                "labelled_at",
                "again",
                "again_plays",
                "again_response_time",
                "again_labelled_at",
            )
        ),
    ]
    assert database.tables["labels"].df["anna"].tolist()[:2] == ["calm;cheerful", "tense"]


def test_times_of_the_tools_own_files_are_read(tmp_path):
    table(tmp_path, "single")
    clips = tmp_path / "clips"
    annotation = {"completed_by": 7, "lead_time": 4.288, "created_at": "2021-03-09T22:16:08.728353Z"}
    result = [{"from_name": "mood", "type": "choices", "value": {"choices": ["calm"]}}]
    tasks = [{"id": 1, "data": {"audio": "a.wav"}, "annotations": [{**annotation, "result": result}]}]
    (clips / "export.json").write_text(json.dumps(tasks))
    (given,) = exported_labels(clips / "export.json").given
    assert given.facts == {"response_time": "4.288", "labelled_at": "2021-03-09T22:16:08Z"}
    old = clips / "annotation_output" / "anna"
    old.mkdir(parents=True)
    line = {"id": "a.wav", "label_annotations": {"mood": {"calm": "true"}}}
    line["behavioral_data"] = {"time_string": "Time spent: 0d 0h 1m 5s "}
    (old / "annotated_instances.jsonl").write_text(json.dumps(line) + "\n")
    (given,) = exported_labels(old / "annotated_instances.jsonl", labels=str(clips / "labels.yaml")).given
    assert (given.parts, given.facts) == (("calm",), {"response_time": "65.000"})
    assert (utc("soon"), utc(None), utc(1e99), utc(0)) == ("", "", "", "1970-01-01T00:00:00Z")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to", "potatoe", "--out", "x"], "Unknown form of labels 'potatoe'. Did you mean 'potato'"),
        (["--to", "prodigy", "--out", "x"], "labels in the form prodigy are a file *.jsonl"),
        (["--to", "potato", "--out", "clips"], "is there already. Choose a new folder"),
        (["--to", "potato", "--out", "x", "--labels", "six"], "unknown label 'calm'"),
    ],
)
def test_what_cannot_be_converted_is_one_error_and_writes_nothing(tmp_path, monkeypatch, capsys, arguments, message):
    given = table(tmp_path, "single")
    (tmp_path / "six").write_text("{name: six, kind: single, classes: [joy, anger]}")
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    assert main(["convert-labels", str(given), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before
