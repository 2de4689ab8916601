"""Readers of public formats with the people who rated: made-up files in the documented form, with each known quirk."""

import csv
import io
import json

import pytest
from corpora_fixtures import write_wav

from s3prl_metaperser.cli import main
from s3prl_metaperser.corpora import load_corpus
from s3prl_metaperser.errors import UserError


def ratings(corpus) -> list[tuple]:
    return [(r.utterance, r.rater, r.ticks) for r in corpus.ratings]


def notes(corpus, serious: bool = False) -> list[str]:
    return [problem.what for problem in corpus.problems if problem.serious == serious]


# -- Label Studio -----------------------------------------------------------------------------------------------------


def annotation(number: int, who, *values: dict, **facts) -> dict:
    result = [{"from_name": "emotion", "to_name": "audio", "type": "choices", "value": value} for value in values]
    return {"id": number, "completed_by": who, "was_cancelled": False, "result": result, **facts}


def task(number: int, file: str, *annotations: dict, **facts) -> dict:
    return {"id": number, "data": {"audio": file}, "annotations": list(annotations), **facts}


UPLOADS = "/data/upload/3/"
TASKS = [
    task(
        1,
        f"{UPLOADS}0a1b2c3d-a.wav",
        annotation(1, 7, {"choices": ["Happy", "Excited"]}),
        annotation(2, {"id": 8, "email": "b@x.org"}, {"choices": ["Sad"]}),
        annotation(3, 9, was_cancelled=True),
        predictions=[{"result": [{"value": {"choices": ["Angry"]}}]}],
    ),
    task(
        2,
        f"{UPLOADS}11112222-my_clip.wav",
        annotation(4, 7, {"choices": ["Neutral"], "start": 0, "end": 0.05, "channel": 0}),
        annotation(5, 9),
    ),
]
STUDIO = [("a", "7", ("excited", "happy")), ("a", "b@x.org", ("sad",)), ("my clip", "7", ("neutral",))]
MIN = [
    {"audio": f"{UPLOADS}0a1b2c3d-a.wav", "id": 1, "emotion": {"choices": ["Happy", "Excited"]}, "annotator": 7},
    {"audio": f"{UPLOADS}0a1b2c3d-a.wav", "id": 1, "emotion": "Sad", "annotator": "b@x.org", "annotation_id": 2},
    {"audio": f"{UPLOADS}11112222-my_clip.wav", "id": 2, "emotion": "Neutral", "annotator": 7, "lead_time": 3.2},
]


@pytest.fixture
def studio(tmp_path):
    for name in ("a.wav", "my clip.wav"):
        write_wav(tmp_path / name)
    return tmp_path


def export(folder, content, name: str = "project-3.json"):
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return folder


def as_csv(rows: list[dict]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, ["annotation_id", "annotator", "audio", "created_at", "emotion", "id", "lead_time"])
    writer.writeheader()
    for row in rows:
        cell = row["emotion"]
        writer.writerow({**row, "emotion": cell if isinstance(cell, str) else json.dumps(cell)})
    return text.getvalue()


def test_every_form_of_an_export_reads_the_same(studio):
    corpus = load_corpus("label_studio", export(studio, TASKS))
    assert ratings(corpus) == STUDIO
    assert corpus.dropped == {
        "ratings: predictions of a model, and drafts": 1,
        "ratings: skipped or without an answer": 2,
    }
    assert corpus.problems == ()
    export(studio, MIN)
    assert ratings(load_corpus("label_studio", studio)) == STUDIO
    (studio / "project-3.json").unlink()
    export(studio, as_csv(MIN), "project-3.csv")
    assert ratings(load_corpus("label_studio", studio)) == STUDIO
    assert ratings(load_corpus("label_studio", studio / "project-3.csv")) == STUDIO


@pytest.mark.parametrize(
    ("url", "file"),
    [
        (f"{UPLOADS}0a1b2c3d-a.wav", "a.wav"),
        (f"{UPLOADS}0a1b2c3d-a.wav", "0a1b2c3d-a.wav"),
        ("/data/local-files/?d=sub/a.wav", "sub/a.wav"),
        ("https://host/media/a%20b.wav?sig=x", "a b.wav"),
        ("s3://bucket/set/a.wav", "deep/er/a.wav"),
        (f"{UPLOADS}0a1b2c3d-a_b1.wav", "a b(1).wav"),
        ("a.wav", "a.wav"),
    ],
)
def test_the_audio_is_found_by_what_label_studio_calls_it(tmp_path, url, file):
    write_wav(tmp_path / file)
    corpus = load_corpus("label_studio", export(tmp_path, [task(1, url, annotation(1, 7, {"choices": ["Sad"]}))]))
    assert [u.path for u in corpus.utterances] == [tmp_path / file]
    assert corpus.problems == ()


def test_two_uploads_of_one_name_are_never_one_recording(studio):
    answer = annotation(1, 7, {"choices": ["Sad"]})
    twice = [task(1, f"{UPLOADS}0a1b2c3d-a.wav", answer), task(2, f"{UPLOADS}99998888-a.wav", answer)]
    with pytest.raises(UserError, match=r"task 2, annotation 1: .*are both called 'a\.wav' here"):
        load_corpus("label_studio", export(studio, twice))
    for name in ("0a1b2c3d-a.wav", "99998888-a.wav"):
        write_wav(studio / name)
    assert len(load_corpus("label_studio", studio).utterances) == 2
    for name in ("one/x.wav", "two/x.wav"):
        write_wav(studio / name)
    with pytest.raises(UserError, match=r"may be one/x\.wav or two/x\.wav"):
        load_corpus("label_studio", export(studio, [task(1, f"{UPLOADS}0a1b2c3d-x.wav", answer)]))


def test_of_several_answers_one_must_be_named(studio, capsys):
    quality = {"from_name": "quality", "type": "rating", "value": {"rating": 4}}
    note = {"from_name": "note", "type": "textarea", "value": {"text": ["fine"]}}
    tasks = json.loads(json.dumps(TASKS))
    tasks[0]["annotations"][0]["result"] += [quality, note]
    export(studio, tasks)
    command = ["validate", "--corpus", "label_studio", "--root", str(studio), "--no-audio"]
    assert main(command) == 2
    assert "which answer is the label, emotion, quality? Say it: --option answer=emotion" in capsys.readouterr().err
    assert main([*command, "--option", "answer=emotion"]) == 0
    assert "answers not used: quality" in capsys.readouterr().out
    (studio / "labels.yaml").write_text("{name: quality, kind: ordinal, levels: [1, 2, 3, 4, 5]}")
    (rating,) = load_corpus("label_studio", studio, answer="quality").ratings
    assert rating.value == 4
    with pytest.raises(UserError, match=r"Unknown answer 'emotoin'.*Did you mean 'emotion'"):
        load_corpus("label_studio", studio, answer="emotoin")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[" * 200_000, "not valid JSON"),
        ("{}", "no export of Label Studio"),
        ([1, 2], "no export of Label Studio"),
        (
            [{"id": 1, "data": {"text": "x"}, "annotations": []}],
            "task 1: no field 'audio' names the audio; it has text",
        ),
        (
            [task(1, "data:audio/wav;base64," + "A" * 5000, annotation(1, 7, {}))],
            "task 1: '.*' holds the recording itself",
        ),
        ([task(1, "a.wav", annotation(1, None, {"choices": ["Sad"]}))], "task 1, annotation 1: nothing says who"),
        ([task(1, "a.wav", {"completed_by": 1, "result": "x"})], "no annotation. Export it again"),
        ([task(1, "a.wav", annotation(1, 7, {"text": ["x"]}))], "no annotation has an answer"),
        ([task(1, "a.wav", annotation(1, 7, {"choices": ["Bored"]}))], r"annotation 1: unknown label 'Bored'"),
        ([task(1, "a.wav", annotation(1, 7, {"choices": ["Sad"], "start": 0.01, "end": 0.02}))], "rated up to 0.020 s"),
        (
            [task(1, "a.wav", annotation(1, 7, {"choices": ["Sad"]}), annotation(2, 7, {"choices": ["Sad"]}))],
            "a second row",
        ),
    ],
)
def test_an_export_that_cannot_be_read_is_one_error(studio, content, message):
    with pytest.raises(UserError, match=message):
        load_corpus("label_studio", export(studio, content))


@pytest.mark.parametrize("name", ["http://[::1/none.wav", "a" * 300 + ".wav"])
def test_a_name_that_no_file_can_have_is_missing_audio(studio, name):
    corpus = load_corpus("label_studio", export(studio, [task(1, name, annotation(1, 7, {"choices": ["Sad"]}))]))
    assert ["there is no such audio file" in problem.what for problem in corpus.problems if problem.serious] == [True]


def test_an_export_cannot_name_a_file_outside_its_folder(studio):
    (studio / "in").mkdir()
    outside = [task(1, "../a.wav", annotation(1, 7, {"choices": ["Sad"]}))]
    with pytest.raises(UserError, match=r"annotation 1: '\.\./a\.wav' is outside the folder"):
        load_corpus("label_studio", export(studio / "in", outside))


def test_what_a_task_says_of_its_recording_is_no_answer(studio):
    rows = "annotation_id,annotator,audio,duration,emotion,id,speaker,text\n1,7,a.wav,2.4,Happy,1,mary,so it is\n"
    assert ratings(load_corpus("label_studio", export(studio, rows, "project-3.csv"))) == [("a", "7", ("happy",))]


def test_missing_audio_of_an_export_is_serious(studio):
    (studio / "a.wav").unlink()
    corpus = load_corpus("label_studio", export(studio, TASKS))
    assert ["no such audio file" in what for what in notes(corpus, serious=True)] == [True]


def test_a_folder_of_two_exports_asks_for_one(studio):
    export(studio, TASKS)
    export(studio, as_csv(MIN), "project-3.csv")
    with pytest.raises(UserError, match=r"expected one export .*found project-3\.csv, project-3\.json"):
        load_corpus("label_studio", studio)


# -- CREMA-D ----------------------------------------------------------------------------------------------------------

CREMA = """"","localid","pos","ans","ttr","queryType","numTries","clipNum","questNum","subType","clipName",\
"sessionNums","respEmo","respLevel","dispEmo","dispVal","dispLevel"
"1","SSI_1",3,"N_60","2100",1,0,37,1,4,"1001_TAI_SAD_XX",11,"N","60","S",50,"X"
"2","SSI_1",4,"S_40","1900",2,0,37,2,4,"1001_TAI_SAD_XX",11,"S","40","S",50,"X"
"312183","SSI_2",113,"H","62684",1,0,4740,14,4,"1059_IEO_HAP_MD",3961,"H","H","H",50,"M"
"312184","SSI_2",114,"A","71576",1,1,4740,14,4,"1059_IEO_HAP_MD",3961,"A","A","H",50,"M"
"5","SSI_3",2,"A_90","-12448",1,0,4740,1,4,"1059_IEO_HAP_MD",12,"A","90","H",80,"M"
"6","SSI_3",1,"A_90","900",1,0,7443,2,4,"ANG_HI_practice",12,"A","90","A",80,"H"
"7","SSI_3",5,"S_90","900",1,0,5551,3,4,"1076_MTI_SAD_XX",12,"S","90","S",80,"X"
"""
SLOW = """"","localid","sessionNums","queryType","questNum","pos","ttr"
"1","SSI_1",11,1,1,3,10400
"2","SSI_3",12,1,1,2,900
"""


@pytest.fixture
def crema(tmp_path):
    (tmp_path / "finishedResponses.csv").write_text(CREMA)
    (tmp_path / "finishedEmoResponses.csv").write_text(SLOW)
    for clip in ("1001_TAI_SAD_XX", "1059_IEO_HAP_MD"):
        write_wav(tmp_path / "AudioWAV" / f"{clip}.wav")
    return tmp_path


def test_crema_ds_voice_ratings_read_as_written(crema):
    corpus = load_corpus("crema_d", crema)
    assert ratings(corpus) == [
        ("1001_TAI_SAD_XX", "SSI_1", ("neutral",)),
        ("1059_IEO_HAP_MD", "SSI_2", ("angry",)),  # the later of two answers
        ("1059_IEO_HAP_MD", "SSI_3", ("angry",)),
    ]
    assert corpus.dropped == {
        "ratings: of a clip without a signal": 1,
        "ratings: of another modality": 1,
        "ratings: practice clip": 1,
        "ratings: replaced by the rater's later answer": 1,
    }
    assert [(u.speaker, u.session) for u in corpus.utterances] == [("1001", "A"), ("1059", "D")]
    assert notes(corpus) == [
        "2 answers without a level; they are read.",
        "1 answers with a negative response time; they are read.",
    ]
    assert notes(corpus, serious=True) == []
    assert corpus.root == crema


def test_crema_ds_options(crema):
    assert ratings(load_corpus("crema_d", crema, modality="face")) == [("1001_TAI_SAD_XX", "SSI_1", ("sad",))]
    kept = load_corpus("crema_d", crema, slow="drop")
    assert (len(kept.ratings), kept.dropped["ratings: answered after 10 s"]) == (2, 1)
    (crema / "finishedEmoResponses.csv").unlink()
    with pytest.raises(UserError, match=r"finishedEmoResponses\.csv does not exist"):
        load_corpus("crema_d", crema, slow="drop")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"N","60"', '"X","60"', r":2: respEmo 'X' is none of A, D, F, H, N, S"),
        (',1,0,37,1,4,"1001', ',4,0,37,1,4,"1001', r":2: queryType '4'"),
        ("1001_TAI_SAD_XX", "TAI_SAD", r":2: the clip 'TAI_SAD' or its rater"),
        ('"localid",', "", r"fields|column 'localid' is missing"),
        ('3,"N_60"', 'x,"N_60"', r":2: 'x' is no number"),
    ],
)
def test_a_row_that_is_none_of_crema_d_is_one_error(crema, old, new, message):
    (crema / "finishedResponses.csv").write_text(CREMA.replace(old, new, 1))
    with pytest.raises(UserError, match=message):
        load_corpus("crema_d", crema)


def test_a_clip_that_is_a_pointer_of_git_lfs_says_so(crema):
    path = crema / "AudioWAV/1001_TAI_SAD_XX.wav"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    assert notes(load_corpus("crema_d", crema), serious=True) == [
        "this is a pointer of Git LFS, the audio was never fetched. Run `git lfs pull`."
    ]


# -- MSP-Podcast ------------------------------------------------------------------------------------------------------

TEXT = """MSP-PODCAST_0001_0139.wav; N; A:2.400000; V:4.000000; D:2.800000;
WORKER00000001; Other-confused; Concerned,Confused; A:3.000000; V:3.000000; D:4.000000;
WORKER00000018; Contempt; Neutral,Dissapointed; A:1.000000; V:4.000000; D:NaN;
WORKER00000018; Sad; Neutral; A:1.000000; V:4.000000; D:2.000000;

MSP-PODCAST_0002_0001.wav; H; A:5.000000; V:6.000000; D:4.000000;
WORKER00000018; Happy; Happy,Amused; A:5.500000; V:6.000000; D:4.000000;
"""
FLAT = """FileName,{worker},EmoClass_Major,EmoClass_Second,EmoAct,EmoVal,EmoDom
MSP-PODCAST_0001_0139.wav,WORKER00000001,Other-confused,"Concerned,Confused",3,3,4
MSP-PODCAST_0001_0139.wav,WORKER00000018,Contempt,"Neutral,Dissapointed",1,4,NaN
MSP-PODCAST_0002_0001.wav,WORKER00000018,Happy,"Happy,Amused",5.5,6,4
"""
ONE, TWO = "MSP-PODCAST_0001_0139", "MSP-PODCAST_0002_0001"


@pytest.fixture
def podcast(tmp_path):
    (tmp_path / "Labels").mkdir()
    for name in (ONE, TWO):
        write_wav(tmp_path / "Audios" / f"{name}.wav")
    (tmp_path / "Labels/labels_consensus.csv").write_text(
        f"FileName,EmoClass,SpkrID,Gender,Split_Set\n{ONE}.wav,N,17,Male,Train\n{TWO}.wav,H,Unknown,Unknown,Test1\n"
    )
    return tmp_path


def details() -> str:
    rows = [("FileName", "EmoDetail")]
    file = ""
    for line in TEXT.splitlines():
        file = line.split(";")[0] if line.startswith("MSP") else file
        rows += [(file, line)] if line.startswith("WORKER") else []
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()


def as_json() -> str:
    found: dict[str, dict] = {}
    for row in csv.DictReader(io.StringIO(FLAT.format(worker="Worker"))):
        file, worker = row.pop("FileName"), row.pop("Worker")
        found.setdefault(file, {})[worker] = row
    return json.dumps(found)


ENCODINGS = {
    "labels.txt": TEXT,
    "Labels.TXT": TEXT.replace("\n", "\r\n"),
    "labels_detailed.csv": details(),
    "Labels_Detailed.csv": FLAT.format(worker="Workers"),
    "labels_DETAILED.csv": FLAT.format(worker="WorkerID"),
    "labels_detailed.json": as_json(),
}


@pytest.mark.parametrize("name", ENCODINGS)
def test_every_encoding_of_msp_podcast_reads_the_same(podcast, name):
    (podcast / "Labels" / name).write_text(ENCODINGS[name], newline="")
    corpus = load_corpus("msp_podcast", podcast)
    assert ratings(corpus) == [(ONE, "WORKER00000018", ("contempt",)), (TWO, "WORKER00000018", ("happy",))]
    repeated = {"ratings: repeated, the first is used": 1} if "WORKER00000018; Sad" in ENCODINGS[name] else {}
    assert corpus.dropped == {"ratings: no class left": 1, "ticks: other": 1, **repeated}
    assert [u.speaker for u in corpus.utterances] == ["17", "unknown"]
    assert notes(corpus) == ["1 of 2 rated files have no known speaker; they may share one with others."]
    assert notes(corpus, serious=True) == []
    second = load_corpus("msp_podcast", podcast / "Labels" / name, answer="secondary")
    assert ratings(second)[:2] == [
        (ONE, "WORKER00000001", ("concerned", "confused")),
        (ONE, "WORKER00000018", ("neutral", "disappointed")),
    ]
    dominance = load_corpus("msp_podcast", podcast, answer="dominance")
    assert [rating.value for rating in dominance.ratings] == [4.0, 4.0]
    assert dominance.dropped["ratings: blank label"] == 1


def test_encodings_that_disagree_are_serious(podcast):
    (podcast / "Labels/labels.txt").write_text(TEXT)
    (podcast / "Labels/labels_detailed.json").write_text(as_json())
    assert notes(load_corpus("msp_podcast", podcast), serious=True) == []
    (podcast / "Labels/labels.txt").write_text(TEXT.replace("; Happy; ", "; Sad; "))
    (what,) = notes(load_corpus("msp_podcast", podcast), serious=True)
    assert what.startswith("1 answers differ from those in labels_detailed.json, e.g. WORKER00000018 for")


@pytest.mark.parametrize(
    "line", ["WORKER00000019; Happy", "WORKER00000019; Happy; Happy; A:x; V:1; D:2;", "Happy; Happy; A:1; V:1; D:1;"]
)
def test_a_line_that_is_none_of_msp_podcast_is_serious_and_counted(podcast, line):
    (podcast / "Labels/labels.txt").write_text(f"{TEXT}{line}\n")
    corpus = load_corpus("msp_podcast", podcast)
    assert ["line not understood" in what for what in notes(corpus, serious=True)] == [True]
    assert corpus.dropped["lines: not understood"] == 1


@pytest.mark.parametrize("nobody", ["", "nan"])
def test_an_answer_of_nobody_in_msp_podcast_is_serious_and_counted(podcast, nobody):
    head = "FileName,Workers,EmoClass_Major,EmoClass_Second,EmoAct,EmoVal,EmoDom\n"
    row = "MSP-PODCAST_0001_0139.wav,{},Happy,Happy,3,3,4\n"
    for path in (podcast / "Labels").iterdir():
        path.unlink()
    (podcast / "Labels/labels_detailed.csv").write_text(head + row.format("WORKER1") + row.format(nobody))
    corpus = load_corpus("msp_podcast", podcast)
    assert corpus.raters() == ["WORKER1"]
    assert ["no worker" in what for what in notes(corpus, serious=True)] == [True]
    assert corpus.dropped["lines: not understood"] == 1


def test_an_unknown_word_of_msp_podcast_is_an_error_or_counted(podcast):
    (podcast / "Labels/labels.txt").write_text(TEXT.replace("; Happy; ", "; Hapy; "))
    with pytest.raises(UserError, match=r"labels\.txt:7: unknown label 'Hapy'"):
        load_corpus("msp_podcast", podcast)
    assert load_corpus("msp_podcast", podcast, unknown_labels="drop").dropped["ticks: unknown label"] == 1


def test_nothing_rated_says_what_was_left_out(podcast):
    (podcast / "Labels/labels.txt").write_text("\n".join(TEXT.splitlines()[:2]))
    with pytest.raises(UserError, match=r"empty corpus.* Left out: 1 x ticks: other"):
        load_corpus("msp_podcast", podcast)


# -- Emozionalmente, MSP-IMPROV, speechocean762 -----------------------------------------------------------------------


def test_emozionalmentes_evaluators_read_as_written(tmp_path):
    write_wav(tmp_path / "audio/1.wav")
    (tmp_path / "metadata").mkdir()
    samples = "file_name,sentence,sentence_language,actor,emotion_expressed\n1.wav,ciao,it,u3,joy\n"
    rated = "file_name,evaluator,audio_quality,emotion_recognized\n1.wav,u7,good,joy\n1.wav,u9,bad,neutrality\n"
    (tmp_path / "metadata/samples.csv").write_text(samples)
    (tmp_path / "metadata/evaluations.csv").write_text(rated)
    corpus = load_corpus("emozionalmente", tmp_path)
    assert ratings(corpus) == [("1", "u7", ("joy",)), ("1", "u9", ("neutrality",))]
    assert [u.speaker for u in corpus.utterances] == ["u3"]
    assert (dict(corpus.traits), notes(corpus)) == ({}, [])
    (tmp_path / "metadata/users.csv").write_text("username,gender,age,mother_tongue\nu7,female,31,italian\n")
    corpus = load_corpus("emozionalmente", tmp_path)
    assert corpus.traits == {"u7": {"gender": "female", "age": "31", "mother_tongue": "italian"}}
    assert notes(corpus) == ["1 of 2 evaluators are not in it, e.g. 'u9'."]
    good = load_corpus("emozionalmente", tmp_path, quality="good")
    assert good.dropped == {"ratings: the evaluator calls the audio bad": 1}
    (tmp_path / "metadata/evaluations.csv").write_text(rated.replace("1.wav,u9", "2.wav,u9"))
    with pytest.raises(UserError, match=r"evaluations\.csv:3: '2\.wav' is not in samples\.csv"):
        load_corpus("emozionalmente", tmp_path)


IMPROV = """UTD-IMPROV-S01A-F01-S-FM01.avi; N; A:3.000000; V:3.500000; D:3.000000 ; N:4.200000;
abc-p1; Neutral; Neutral,Other (calm; quiet); A:2.000000; V:3.000000; D:NaN; N:NaN;
abc-p1; Sad; Sad; A:2.000000; V:3.000000; D:1.000000; N:3.000000;
xyz-p2; Other; Other (odd); A:5.000000; V:1.000000; D:2.000000; N:4.000000;
"""


def test_msp_improvs_workers_read_as_written(tmp_path):
    write_wav(tmp_path / "Audio/session1/S01A/S/MSP-IMPROV-S01A-F01-S-FM01.wav")
    (tmp_path / "Evalution.txt").write_text(IMPROV)
    corpus = load_corpus("msp_improv", tmp_path)
    assert [(rater, ticks) for _, rater, ticks in ratings(corpus)] == [("abc-p1", ("neutral",))]
    assert corpus.dropped == {
        "ratings: no class left": 1,
        "ratings: repeated, the first is used": 1,
        "ticks: other": 1,
    }
    assert [(u.speaker, u.session) for u in corpus.utterances] == [("F01", "01")]
    assert corpus.problems == ()
    activation = load_corpus("msp_improv", tmp_path, answer="activation")
    assert [(r.rater, r.value) for r in activation.ratings] == [("abc-p1", 4.0), ("xyz-p2", 1.0)]
    assert load_corpus("msp_improv", tmp_path, answer="dominance").dropped["ratings: blank label"] == 1
    (tmp_path / "Evalution.txt").rename(tmp_path / "Evaluation.txt")
    with open(tmp_path / "Evaluation.txt", "a") as file:
        file.write("xyz-p3; Happy; Happy; A:2.0\n")
    assert notes(load_corpus("msp_improv", tmp_path), serious=True) == [
        "line not understood, left out: 'xyz-p3; Happy; Happy; A:2.0'."
    ]


def test_speechocean762s_experts_are_places_in_a_list_and_that_is_noted(tmp_path):
    write_wav(tmp_path / "WAVE/SPEAKER0001/000010011.WAV")
    (tmp_path / "resource").mkdir()
    (tmp_path / "train").mkdir()
    (tmp_path / "train/utt2spk").write_text("000010011\t0001\n")
    scores = {"text": "WE CALL IT BEAR", "accuracy": [8] * 5, "fluency": [9, 9, 8, 10, 9.5], "prosodic": [9, 8, 9, 9]}
    (tmp_path / "resource/scores-detail.json").write_text(json.dumps({"000010011": scores}))
    corpus = load_corpus("speechocean762", tmp_path)
    assert [(r.rater, r.value) for r in corpus.ratings][3:] == [("expert4", 10.0), ("expert5", 9.5)]
    assert [u.speaker for u in corpus.utterances] == ["0001"]
    (note,) = notes(corpus)
    assert "is taken for one expert throughout" in note
    with pytest.raises(UserError, match=r"json:000010011: prosodic is \[9, 8, 9, 9\], expected a list of 5"):
        load_corpus("speechocean762", tmp_path, answer="prosodic")


def test_linked_audio_is_refused_with_an_option_that_the_reader_has(crema, tmp_path):
    (tmp_path / "AudioWAV").rename(tmp_path.parent / f"{tmp_path.name}-elsewhere")
    (tmp_path / "AudioWAV").symlink_to(tmp_path.parent / f"{tmp_path.name}-elsewhere")
    assert len(load_corpus("crema_d", crema).ratings) == 3  # the folder itself may be a link
    clip = tmp_path / "AudioWAV/1001_TAI_SAD_XX.wav"
    clip.rename(tmp_path / "x.wav")
    clip.symlink_to(tmp_path / "x.wav")
    with pytest.raises(UserError, match=r"a link out of the folder.*--outside"):
        load_corpus("crema_d", crema)
    assert len(load_corpus("crema_d", crema, outside=True).ratings) == 3
