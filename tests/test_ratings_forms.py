"""``metaperser publish`` of ratings: every form is read back by its own package, or by this project's reader."""

import csv
import json

import numpy as np
import pytest
from corpora_fixtures import write_wav

from s3prl_metaperser.cli import main
from s3prl_metaperser.corpora import exported_labels, load_corpus, reader_of, writers
from s3prl_metaperser.protocol.splits import make_split

RATERS = ("anna", "ben", "cleo", "dan")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Forty short clips of four speakers, one class each by four raters."""
    folder, draw = tmp_path_factory.mktemp("corpus"), np.random.default_rng(0)
    rows, files = ["file,rater,label"], ["file,speaker,session"]
    for number in range(40):
        write_wav(folder / "wav" / f"c{number:02d}.wav")
        files.append(f"wav/c{number:02d}.wav,s{number % 4},{'test' if number % 4 == 3 else 'train'}")
        rows += [f"wav/c{number:02d}.wav,{who},{draw.choice(['angry', 'happy', 'sad'])}" for who in RATERS]
    (folder / "ratings.csv").write_text("\n".join(rows) + "\n")
    (folder / "files.csv").write_text("\n".join(files) + "\n")
    (folder / "labels.yaml").write_text("name: three\nkind: single\nclasses: [angry, happy, sad]\n")
    return folder


def published(corpus, form, out, *more):
    return main(["publish", str(corpus), "--format", form, "--out", str(out), "--corpus", "ratings_csv", *more])


def test_crowd_kits_table_has_a_row_for_each_answer(corpus, tmp_path):
    assert published(corpus, "crowd_kit", tmp_path / "out") == 0
    rows = list(csv.DictReader((tmp_path / "out" / "ratings.csv").read_text().splitlines()))
    known = load_corpus("ratings_csv", corpus)
    assert [(r["task"], r["worker"], r["label"]) for r in rows] == [
        (f"wav/{known.utterance(r.utterance).path.name}", r.rater, r.ticks[0]) for r in known.ratings
    ]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # of pandas, which it uses
def test_audformats_database_is_read_by_its_package_and_read_back_without_loss(corpus, tmp_path):
    audformat = pytest.importorskip("audformat", reason="extra publish")
    assert published(corpus, "audformat", tmp_path / "out") == 0
    (tmp_path / "out" / "wav").symlink_to(corpus / "wav")
    table = audformat.Database.load(str(tmp_path / "out"))["labels"].get()
    known, again = load_corpus("ratings_csv", corpus), load_corpus("audformat", tmp_path / "out", outside=True)
    assert (len(table), list(table.columns[:4])) == (40, list(RATERS))
    said = {(u, r.rater): r.ticks for r in known.ratings for u in [known.utterance(r.utterance).path.name]}
    assert {(u, r.rater): r.ticks for r in again.ratings for u in [again.utterance(r.utterance).path.name]} == said
    assert all(table.loc[f"wav/{file}", rater] == ticks[0] for (file, rater), ticks in said.items())


def test_every_labelling_tools_form_is_read_back_without_loss(corpus, tmp_path):
    known = load_corpus("ratings_csv", corpus)
    said = {(known.utterance(r.utterance).path.name, r.rater): r.ticks for r in known.ratings}
    for form in set(writers()) - {"audformat"}:
        assert published(corpus, form, tmp_path / form) == 0
        (file,) = [path for path in [tmp_path / form, *(tmp_path / form).glob("ratings.*")] if reads(form, path)]
        labels = exported_labels(file, audio=corpus, labels=str(corpus / "labels.yaml"))
        again = {(each.file.rpartition("/")[2], each.who): each.parts for each in labels.given}
        assert again == said, form
    (tmp_path / "ratings_csv" / "wav").symlink_to(corpus / "wav")
    found = load_corpus("ratings_csv", tmp_path / "ratings_csv", labels=str(corpus / "labels.yaml"), outside=True)
    assert len(found.ratings) == len(known.ratings)


def reads(form, path):
    return (form == "ratings_csv" and path.is_file()) or ((own := reader_of(form).recognises) is not None and own(path))


def test_lewidis_parts_are_those_of_the_split_and_are_no_leak_but_in_raters(corpus, tmp_path, capsys):
    assert published(corpus, "lewidi", tmp_path / "out", "--fold", "fold2") == 0
    split = make_split(load_corpus("ratings_csv", corpus), scenario="seen", fold="fold2")
    for part, ratings in (("train", split.train), ("dev", split.validation), ("test", split.test)):
        items = json.loads((tmp_path / "out" / f"ratings_csv_{part}.json").read_text())
        assert sum(item["number of annotations"] for item in items.values()) == len(ratings)
        for item in items.values():
            assert item["annotators"].split(",") == list(item["annotations"])
            share = list(item["annotations"].values()).count("angry") / len(item["annotations"])
            assert item["soft_label"]["angry"] == pytest.approx(share)
            assert item["split"] == part
    capsys.readouterr()
    assert main(["audit-split", str(tmp_path / "out"), "--json", "--allow", "recordings"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {each["kind"] for each in found["splits"][0]["shared"]} == {"recordings"}


def test_persevals_sets_have_other_users_and_k_labels_to_adapt_by(corpus, tmp_path):
    assert published(corpus, "perseval", tmp_path / "out", "--shots", "8") == 0
    found = json.loads((tmp_path / "out" / "ratings_csv.json").read_text())
    train, adapt, test = (found[f"{name}_set"] for name in ("training", "adaptation", "test"))
    assert (len(adapt["annotation"]), len(test["annotation"])) == (8, 32)
    assert set(adapt["users"]) == set(test["users"])
    assert not set(train["users"]) & set(test["users"])
    assert not {a["instance_id"] for a in adapt["annotation"]} & {a["instance_id"] for a in test["annotation"]}
    assert set(test["texts"]) == {a["instance_id"] for a in test["annotation"]}
    assert found["labels"]["answer"] == ["angry", "happy", "sad"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # of rdflib, which it uses
def test_croissants_own_package_takes_the_card_of_a_task_and_reads_its_records(tmp_path):
    croissant = pytest.importorskip("mlcroissant", reason="extra publish")
    rows = {f"Task_{n}.wav": {"instruction": f"What? {n}", "label": "sad", "file": f"{n}.wav"} for n in range(3)}
    instance = tmp_path / "task" / "Task-8shot"
    (instance / "preprocessed").mkdir(parents=True)
    (instance / "preprocessed" / "metadata.json").write_text(json.dumps(rows))
    given = ["publish", str(tmp_path / "task"), "--format", "croissant", "--out", str(tmp_path / "out")]
    assert main([*given, "--licence", "CC-BY-4.0"]) == 2
    assert main([*given, "--licence", "CC-BY-4.0", "--url", "https://example.org/task"]) == 0
    (instance / "croissant.json").write_text((tmp_path / "out" / "Task-8shot" / "croissant.json").read_text())
    dataset = croissant.Dataset(jsonld=str(instance / "croissant.json"))
    records = [{key.rpartition("/")[2]: value for key, value in row.items()} for row in dataset.records("questions")]
    assert [{key: value.decode() for key, value in row.items()} for row in records] == list(rows.values())


@pytest.mark.parametrize(
    ("more", "message"), [([], "--corpus NAME"), (["--corpus", "ratings_csv", "--fold", "fold9"], "fold9")]
)
def test_what_is_missing_is_one_error(corpus, tmp_path, capsys, more, message):
    assert main(["publish", str(corpus), "--format", "lewidi", "--out", str(tmp_path / "out"), *more]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
