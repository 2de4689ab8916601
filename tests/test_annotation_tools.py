"""Exports of annotation tools: made-up files in the documented form, each tool's quirks, one corpus in every form."""

import json
import re

import pytest
from corpora_fixtures import write_ratings_csv, write_wav

from s3prl_metaperser.corpora import LabelSet, load_corpus
from s3prl_metaperser.corpora.audio import audio_seconds, read_audio
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.listener.ratings import read_ratings

MOODS = "{name: moods, kind: multi, classes: [calm, tense, cheerful]}"
SCALE = "{name: fluency, kind: ordinal, levels: [1, 2, 3, 4, 5]}"
#: (file, rater, ticks)
GIVEN = [
    ("a.wav", "anna", ["calm"]),
    ("a.wav", "ben", ["tense", "cheerful"]),
    ("b.wav", "anna", ["cheerful"]),
    ("b.wav", "ben", ["tense"]),
    ("b.wav", "cat", ["calm", "tense"]),
]


def ratings(corpus) -> list[tuple]:
    return [(r.utterance, r.rater, r.ticks) for r in corpus.ratings]


def serious(corpus) -> list[str]:
    return [problem.what for problem in corpus.problems if problem.serious]


def folder(root, labels: str = MOODS):
    for name in ("a.wav", "b.wav"):
        write_wav(root / "clips" / name)
    if labels:
        (root / "labels.yaml").write_text(labels)
    return root


# -- one corpus in every form -----------------------------------------------------------------------------------------


def as_table(root, given):
    rows = [f"clips/{file},{rater},{';'.join(ticks)}" for file, rater, ticks in given]
    (root / "ratings.csv").write_text("\n".join(["task,worker,label", *rows, ""]))


def as_label_studio(root, given):
    tasks = [
        {
            "id": number,
            "data": {"audio": f"/data/upload/1/0a1b2c3d-{file}"},
            "annotations": [
                {
                    "id": f"{number}{rater}",
                    "completed_by": rater,
                    "result": [{"from_name": "mood", "type": "choices", "value": {"choices": ticks}}],
                }
                for name, rater, ticks in given
                if name == file
            ],
        }
        for number, file in enumerate(sorted({file for file, _, _ in given}), 1)
    ]
    (root / "export.json").write_text(json.dumps(tasks))


def as_prodigy(root, given):
    options = [{"id": number, "text": name} for number, name in enumerate(("calm", "tense", "cheerful"))]
    numbers = {option["text"]: option["id"] for option in options}
    lines = [
        {
            "audio": f"data:audio/wav;base64,{'A' * 40}",
            "path": f"/somewhere/clips/{file}",
            "_input_hash": 1,
            "_task_hash": 2,
            "options": options,
            "accept": [numbers[tick] for tick in ticks],
            "answer": "accept",
            "_view_id": "choice",
            "_timestamp": 1764200000,
            "_annotator_id": rater,
            "_session_id": rater,
        }
        for file, rater, ticks in given
    ]
    (root / "moods.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def as_potato(root, given, *, version: int = 2):
    (root / "config.yaml").write_text(
        "annotation_task_name: moods\n"
        "data_files: [data/items.json]\nitem_properties: {id_key: number, text_key: text}\n"
        "annotation_schemes: [{annotation_type: multiselect, name: mood, labels: [calm, tense, cheerful]}]\n"
    )
    (root / "data").mkdir()
    items = [
        {"number": f"item_{file[0]}", "text": f'<audio controls src="clips/{file}"></audio>'}
        for file in ("a.wav", "b.wav")
    ]
    (root / "data/items.json").write_text("".join(json.dumps(item) + "\n" for item in items))
    for rater in sorted({rater for _, rater, _ in given}):
        out = root / "annotation_output" / rater
        out.mkdir(parents=True)
        mine = {f"item_{file[0]}": ticks for file, name, ticks in given if name == rater}
        if version == 2:
            labels = {item: [[{"schema": "mood", "name": t}, "true"] for t in ticks] for item, ticks in mine.items()}
            state = {"user_id": rater, "instance_id_ordering": list(mine), "instance_id_to_label_to_value": labels}
            (out / "user_state.json").write_text(json.dumps(state))
        else:
            rows = [
                {
                    "id": item,
                    "displayed_text": "",
                    "label_annotations": {"mood": {t: str(n) for n, t in enumerate(ticks, 1)}},
                }
                for item, ticks in mine.items()
            ]
            (out / "annotated_instances.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


FORMS = {
    "ratings_csv": as_table,
    "label_studio": as_label_studio,
    "prodigy": as_prodigy,
    "potato": as_potato,
    "potato 1": lambda root, given: as_potato(root, given, version=1),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_same_ratings_in_the_form_of_every_tool_are_the_same_corpus(tmp_path, form):
    FORMS[form](folder(tmp_path), GIVEN)
    corpus = load_corpus(form.split()[0], tmp_path)
    assert ratings(corpus) == [(f"clips/{file[0]}", rater, tuple(ticks)) for file, rater, ticks in sorted(GIVEN)]
    assert serious(corpus) == []
    assert corpus.dropped == {}
    assert [utterance.path for utterance in corpus.utterances] == [tmp_path / "clips/a.wav", tmp_path / "clips/b.wav"]


EXPORTS = {"ratings_csv": "ratings.csv", "label_studio": "export.json", "prodigy": "moods.jsonl"}


@pytest.mark.parametrize("form", FORMS)
def test_adapting_takes_what_the_tools_export(tmp_path, form):
    FORMS[form](folder(tmp_path), GIVEN)
    export, moods = tmp_path / EXPORTS.get(form, ""), LabelSet.from_yaml(tmp_path / "labels.yaml")
    given = read_ratings(export, moods, rater="cat")
    assert (given.rater, given.clips, given.labels.answers) == (
        "cat",
        (tmp_path / "clips/b.wav",),
        (("calm", "tense"),),
    )
    with pytest.raises(UserError, match=r"has 3 raters: anna \(2 clips\), ben \(2 clips\), cat \(1 clips\)"):
        read_ratings(export, moods)
    with pytest.raises(UserError, match=r"Unknown option of .* 'scheme'"):
        read_ratings(export, moods, rater="cat", scheme="mood")
    everybody = read_ratings(export, moods, all_one=True, duplicates="union")
    assert (everybody.rater, len(everybody.clips)) == ("listener", 2)
    if form != "ratings_csv":
        with pytest.raises(UserError, match="names its annotators itself: leave out --rater-column"):
            read_ratings(export, moods, rater_column="worker")


def test_adapting_takes_an_audformat_database_and_one_question_of_several(database):
    moods = LabelSet("moods", "single", ("calm", "tense"))
    with pytest.raises(UserError, match="which answer is the label, arousal, mood"):
        read_ratings(database, moods)
    given = read_ratings(database, moods, rater="anna", answer="mood")
    assert given.labels.answers == (("calm",), ("tense",))
    assert given.dropped["ratings: of raters that were not asked for"] == 1


def test_an_unnamed_session_may_be_the_listener(tmp_path):
    prodigy(folder(tmp_path), {"accept": ["calm"], "_annotator_id": "2026-02-06_10-17-19"})
    assert read_ratings(tmp_path / "set.jsonl", LabelSet.from_yaml(tmp_path / "labels.yaml")).labels.answers == (
        ("calm",),
    )


def test_numbers_for_a_model_of_classes_are_said_to_be_that(tmp_path):
    (folder(tmp_path) / "ratings.csv").write_text("file,rater,value\nclips/a.wav,anna,3\n")
    with pytest.raises(
        UserError, match=r"this model's listeners answer classes: numbers cannot adapt it\. Give classes"
    ):
        read_ratings(tmp_path / "ratings.csv", LabelSet.from_yaml(tmp_path / "labels.yaml"))


def test_a_table_given_as_audio_is_said_to_be_text(tmp_path):
    (tmp_path / "ratings.csv").write_text("file,rater,label\na.wav,anna,calm\n")
    for read in (audio_seconds, read_audio):
        with pytest.raises(UserError, match=r"It is text, not audio\. Give audio files here") as error:
            read(tmp_path / "ratings.csv")
        assert "ffmpeg" not in str(error.value)


# -- Prodigy ----------------------------------------------------------------------------------------------------------


def prodigy(root, *tasks: dict):
    base = {"path": "clips/a.wav", "answer": "accept", "_view_id": "choice", "_annotator_id": "anna"}
    lines = [
        json.dumps({name: value for name, value in {**base, **task}.items() if value is not None}, ensure_ascii=False)
        for task in tasks
    ]
    (root / "set.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


def test_only_what_was_accepted_in_prodigy_is_an_answer(tmp_path):
    prodigy(
        folder(tmp_path),
        {"accept": ["calm"], "text": "one line\u2028for JSON"},
        {"accept": ["calm"], "answer": "reject", "path": "clips/b.wav"},
        {"accept": [], "answer": "ignore", "path": "clips/b.wav"},
        {"accept": [], "path": "clips/b.wav"},
        {"accept": ["tense"], "_view_id": "review", "_annotator_id": "boss"},
        {"accept": ["tense"], "_annotator_id": None, "_session_id": "moods-ben"},
    )
    corpus = load_corpus("prodigy", tmp_path)
    assert ratings(corpus) == [("clips/a", "anna", ("calm",)), ("clips/a", "moods-ben", ("tense",))]
    assert corpus.dropped == {
        "files: audio without a rating, beside rated files": 1,
        "ratings: ignored": 1,
        "ratings: made in a review of those of others": 1,
        "ratings: rejected": 1,
        "ratings: skipped or without an answer": 1,
    }


def test_prodigys_binary_labels_are_read_where_they_were_accepted(tmp_path):
    prodigy(folder(tmp_path), {"label": "calm"}, {"label": "tense", "answer": "reject"}, {"label": "cheerful"})
    corpus = load_corpus("prodigy", tmp_path, duplicates="union")
    assert ratings(corpus) == [("clips/a", "anna", ("calm", "cheerful"))]


def test_a_session_without_a_name_is_nobody_in_prodigy_until_it_is_named(tmp_path):
    session = "2026-02-06_10-17-19"
    prodigy(folder(tmp_path), {"accept": ["calm"], "_annotator_id": session}, {"accept": ["tense"]})
    with pytest.raises(UserError, match=r"annotator '2026-.*' is the time at which a session began.*Name whom to read"):
        load_corpus("prodigy", tmp_path)
    named = load_corpus("prodigy", tmp_path, raters=(session, "anna"))
    assert named.raters() == [session, "anna"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{]\n", r"set\.jsonl:1: not valid JSON"),
        ("[1]\n", r":1: \[1\] is no JSON object"),
        ('{"a": ' * 5000 + "1" + "}" * 5000, r":1: not valid JSON"),
        ('{"path": "clips/a.wav"}', r":1: 'answer' is None, expected accept, reject or ignore"),
        ('{"path": "clips/a.wav", "answer": "accept", "accept": ["calm"]}', r":1: nothing says who annotated"),
        ('{"text": "x", "answer": "accept", "accept": ["calm"], "_annotator_id": "a"}', r":1: no field 'audio' names"),
        (
            '{"path": "clips/a.wav", "answer": "accept", "accept": "calm", "_annotator_id": "a"}',
            r":1: 'accept' is 'calm'",
        ),
        (
            '{"path": "clips/a.wav", "answer": "accept", "accept": [["calm"]], "_annotator_id": "a"}',
            r":1: 'accept' is \['calm'\], expected the name of a choice",
        ),
        (
            '{"path": "clips/a.wav", "answer": "accept", "audio_spans": [], "_annotator_id": "a"}',
            "no annotation has an answer",
        ),
        (
            '{"path": "clips/a.wav", "answer": "accept", "accept": ["odd"], "_annotator_id": "a"}',
            r":1: unknown label 'odd'",
        ),
    ],
)
def test_a_dataset_of_prodigy_that_cannot_be_read_is_one_error(tmp_path, content, message):
    (folder(tmp_path) / "set.jsonl").write_text(content)
    with pytest.raises(UserError, match=message):
        load_corpus("prodigy", tmp_path)


# -- Potato -----------------------------------------------------------------------------------------------------------


def potato(root, labels: dict, user: str = "anna", **facts):
    out = root / "annotation_output" / user
    out.mkdir(parents=True)
    state = {"user_id": user, "instance_id_to_label_to_value": labels, **facts}
    (out / "user_state.json").write_text(json.dumps(state))
    return root


def label(name: str, value="true", schema: str = "mood") -> list:
    return [{"schema": schema, "name": name}, value]


def test_potatos_ways_to_store_an_answer_are_read(tmp_path):
    potato(folder(tmp_path), {"clips/a.wav": [label("calm", True), label("tense", "false")], "clips/b.wav": []}, "anna")
    potato(tmp_path, {"clips/a.wav": [label("mood", "tense")], "clips/b.wav": [label("cheerful", "3")]}, "ben")
    potato(tmp_path, {"clips/a.wav": {"mood": {"labels": {"calm": True, "cheerful": None}}}}, "cat")
    potato(tmp_path, {"clips/a.wav": [label("calm")]}, "gpt-9", origin={"kind": "model", "version": "9"})
    corpus = load_corpus("potato", tmp_path)
    assert ratings(corpus) == [
        ("clips/a", "anna", ("calm",)),
        ("clips/a", "ben", ("tense",)),
        ("clips/a", "cat", ("calm",)),
        ("clips/b", "ben", ("cheerful",)),
    ]
    assert corpus.dropped == {
        "ratings: predictions of a model, and drafts": 1,
        "ratings: skipped or without an answer": 1,
    }
    assert load_corpus("potato", tmp_path / "annotation_output").ratings == corpus.ratings


@pytest.mark.parametrize(("name", "value"), [("4", "true"), ("scale_4", "4"), ("scale_4", "true"), ("fluency", 4)])
def test_a_likert_answer_of_potato_is_its_number(tmp_path, name, value):
    potato(folder(tmp_path, SCALE), {"clips/a.wav": [label(name, value)]})
    assert [rating.value for rating in load_corpus("potato", tmp_path).ratings] == [4.0]


def test_all_annotators_of_potato_may_stand_in_one_file(tmp_path):
    (folder(tmp_path) / "annotation_output").mkdir()
    rows = [
        {"id": f"clips/{file}", "user": rater, "label_annotations": {"mood": dict.fromkeys(ticks, "true")}}
        for file, rater, ticks in GIVEN
    ]
    path = tmp_path / "annotation_output/annotated_instances.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert load_corpus("potato", tmp_path).raters() == load_corpus("potato", path).raters() == ["anna", "ben", "cat"]


def test_attention_checks_of_potato_are_left_out_by_name_and_counted(tmp_path):
    potato(folder(tmp_path), {"clips/a.wav": [label("calm")], "check_1": [label("tense")]})
    corpus = load_corpus("potato", tmp_path, skip="check_.*")
    assert (len(corpus.ratings), corpus.dropped["ratings: of items that are left out by name"]) == (1, 1)
    with pytest.raises(UserError, match=r"item 'check_1' is in none of the project's data files"):
        load_corpus("potato", tmp_path)
    with pytest.raises(UserError, match="no regular expression"):
        load_corpus("potato", tmp_path, skip="(")


def test_of_several_schemes_of_potato_one_must_be_named(tmp_path):
    potato(folder(tmp_path), {"clips/a.wav": [label("calm"), label("5", "5", "sure")]})
    with pytest.raises(UserError, match=r"which answer is the label, mood, sure\? Say it: --option answer=mood"):
        load_corpus("potato", tmp_path)
    potato(folder(tmp_path), {"clips/a.wav": [label("5", "5", "sure")]}, user="bea")
    corpus = load_corpus("potato", tmp_path, answer="mood")
    assert [problem.what for problem in corpus.problems] == ["answers not used: sure."]
    assert corpus.dropped["raters: answered other questions alone"] == 1


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ("[" * 100_000, "not valid JSON"),
        ("[]", "no instance_id_to_label_to_value"),
        (
            '{"instance_id_to_label_to_value": {"clips/a.wav": [["calm"]]}}',
            r"item 'clips/a\.wav': \['calm'\] is no label",
        ),
        ('{"instance_id_to_label_to_value": {"clips/a.wav": 3}}', "is no label"),
        ('{"instance_id_to_label_to_value": {}}', "no annotation has an answer"),
    ],
)
def test_a_project_of_potato_that_cannot_be_read_is_one_error(tmp_path, state, message):
    potato(folder(tmp_path), {})
    (tmp_path / "annotation_output/anna/user_state.json").write_text(state)
    with pytest.raises(UserError, match=message):
        load_corpus("potato", tmp_path)


def test_what_is_no_project_of_potato_says_what_was_looked_for(tmp_path):
    with pytest.raises(UserError, match=r"no annotation_output/USER/user_state\.json"):
        load_corpus("potato", folder(tmp_path))
    as_potato(tmp_path, GIVEN)
    (tmp_path / "data/items.json").unlink()
    with pytest.raises(UserError, match=r"config\.yaml: the data file .* does not exist"):
        load_corpus("potato", tmp_path)


# -- audformat --------------------------------------------------------------------------------------------------------

HEADER = """\
name: moods
source: internal
usage: research
languages: [eng]
raters:
  anna: {type: human, gender: female}
  ben: {type: human}
  net: {type: machine}
  all: {type: vote}
schemes:
  mood:
    dtype: str
    labels:
      c: {name: calm}
      t: {name: tense}
  arousal: {dtype: float, minimum: 1, maximum: 5}
  speaker: {dtype: str}
tables:
  arousal:
    type: segmented
    columns:
      anna: {scheme_id: arousal, rater_id: anna}
  files:
    type: filewise
    columns:
      speaker: {scheme_id: speaker}
  mood.train:
    type: filewise
    columns:
      anna: {scheme_id: mood, rater_id: anna}
      second: {scheme_id: mood, rater_id: ben}
      net: {scheme_id: mood, rater_id: net}
      all: {scheme_id: mood, rater_id: all}
  mood.test:
    type: filewise
    columns:
      anna: {scheme_id: mood, rater_id: anna}
"""
TABLES = {
    "arousal": "file,start,end,anna\nclips/a.wav,0 days,0 days 00:00:00.050000,3.5\nclips/b.wav,0 days,,2.0\n",
    "files": "file,speaker\nclips/a.wav,s1\nclips/b.wav,s2\n",
    "mood.train": "file,anna,second,net,all\nclips/a.wav,c,t,t,c\n",
    "mood.test": "file,anna\nclips/b.wav,t\n",
}


@pytest.fixture
def database(tmp_path):
    (folder(tmp_path, "") / "db.yaml").write_text(HEADER)
    for name, content in TABLES.items():
        (tmp_path / f"db.{name}.csv").write_text(content)
    return tmp_path


def test_an_audformat_database_has_its_people_its_labels_and_its_speakers(database):
    corpus = load_corpus("audformat", database, answer="mood")
    assert ratings(corpus) == [
        ("clips/a", "anna", ("calm",)),
        ("clips/a", "ben", ("tense",)),
        ("clips/b", "anna", ("tense",)),
    ]
    assert (corpus.label_set.kind, corpus.classes) == ("single", ("calm", "tense"))
    assert corpus.dropped == {"ratings: of raters that are no people": 2}
    assert corpus.traits == {"anna": {"gender": "female"}, "ben": {}}
    assert [utterance.speaker for utterance in corpus.utterances] == ["s1", "s2"]
    assert [p.what for p in corpus.problems] == [
        "columns of raters that are no people (type is not human), left out: all, net.",
        "answers not used: arousal.",
    ]


def test_a_scale_of_audformat_is_one(database):
    corpus = load_corpus("audformat", database, answer="arousal")
    assert [(r.utterance, r.rater, r.value) for r in corpus.ratings] == [
        ("clips/a", "anna", 3.5),
        ("clips/b", "anna", 2.0),
    ]
    assert corpus.label_set.levels == (1, 2, 3, 4, 5)


def test_labels_of_audformat_may_be_read_with_another_set(database):
    (database / "labels.yaml").write_text("{name: own, kind: multi, classes: [quiet, tense], spellings: {c: quiet}}")
    corpus = load_corpus("audformat", database, answer="mood")
    assert ratings(corpus)[0] == ("clips/a", "anna", ("quiet",))


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("db.yaml", "schemes:", "other:", "no schemes. Give the header"),
        ("db.yaml", "name: moods", "name: [", r"db\.yaml is not valid YAML"),
        ("db.yaml", "  speaker: {dtype: str}", "", "which answer is the label, arousal, mood"),
        ("db.mood.test.csv", "anna", "bert", r"db\.mood\.test\.csv:1: column 'anna' is missing"),
        ("db.mood.test.csv", "wav,t", "wav,x", r"db\.mood\.test\.csv:2: unknown label 'x'"),
        ("db.arousal.csv", "0 days,,2.0", "0 days 00:00:01,,2.0", "a segment that begins at 1.000 s"),
    ],
)
def test_a_database_that_cannot_be_read_is_one_error(database, file, old, new, message):
    path = database / file
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(UserError, match=message):
        load_corpus("audformat", database, **({} if "which" in message else {"answer": "mood"}))


def test_tables_that_are_not_csv_say_how_to_save_them(database):
    (database / "db.mood.test.csv").unlink()
    with pytest.raises(UserError, match=r"db\.mood\.test\.csv does not exist.*storage_format='csv'"):
        load_corpus("audformat", database, answer="mood")


# -- WHiSER and crowd-kit ---------------------------------------------------------------------------------------------

WHISER = """006-040.1-2_13.wav; A; A:5.0; V:2.0; D:5.0;
WORKER1; Angry; Angry,Annoyed; A:6.0; V:2.0; D:5.0;
WORKER2; Other-tired; Depressed; A:2.0; V:3.0; D:3.0;
"""


def test_whiser_is_read_as_msp_podcast_with_its_own_folders(tmp_path):
    (tmp_path / "WHiSER/Labels").mkdir(parents=True)
    (tmp_path / "WHiSER/Labels/labels.txt").write_text(WHISER)
    (tmp_path / "WHiSER/Labels/labels_consensus.csv").write_text("FileName,EmoClass\n006-040.1-2_13.wav,A\n")
    write_wav(tmp_path / "wavs/006-040.1-2_13.wav")
    corpus = load_corpus("whiser", tmp_path)
    assert (corpus.name, corpus.root) == ("whiser", tmp_path)
    assert ratings(corpus) == [("006-040.1-2_13", "WORKER1", ("angry",))]
    assert corpus.dropped == {"ratings: no class left": 1, "ticks: other": 1}
    assert serious(corpus) == []
    assert [p.what for p in corpus.problems] == [
        "no column SpkrID: who speaks is unknown, so that speakers cannot be kept apart."
    ]
    assert [r.value for r in load_corpus("whiser", tmp_path, answer="arousal").ratings] == [6.0, 2.0]


def test_crowd_kits_tables_are_read_under_either_name_of_a_worker(tmp_path):
    for worker in ("worker", "performer"):
        table = f"task,{worker},label\na.wav,w1,happy\na.wav,w2,sad\n"
        corpus = load_corpus("ratings_csv", write_ratings_csv(tmp_path / worker, table))
        assert ratings(corpus) == [("a", "w1", ("happy",)), ("a", "w2", ("sad",))]
    truth = write_ratings_csv(tmp_path / "truth", "task,worker,label,true_label\na.wav,w1,happy,sad\n")
    corpus = load_corpus("ratings_csv", truth)
    assert [re.sub(r"\.$", "", p.what) for p in corpus.problems] == ["columns not used: true_label"]
