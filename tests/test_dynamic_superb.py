"""Tasks for Dynamic-SUPERB: the editors' rules hold, the rows are the benchmark's own, answers are scored."""

import json
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import soundfile
from label_set_fixtures import write_corpus
from sklearn.metrics import accuracy_score, f1_score
from small_demo import stored
from tiny_audio_model import write_tiny_model

from s3prl_metaperser.cli import main
from s3prl_metaperser.corpora import load_corpus
from s3prl_metaperser.corpora.audio import load_audio
from s3prl_metaperser.exchange.task_check import check_task
from s3prl_metaperser.exchange.task_files import instances
from s3prl_metaperser.protocol.splits import make_split

NAME = "PersonalizedEmotionRecognition_Demo"


class Echo:
    """Says the label, which it has been told by the test."""

    labels: ClassVar[dict] = {}
    said = "{}"

    def __init__(self):
        self.asked = 0

    def respond(self, audios, instruction):
        assert all(audio.dtype == np.float32 and audio.ndim == 1 for audio in audios)
        assert len(audios) in (1, 9)
        self.asked += 1
        return self.said.format(self.labels[len(audios), audios[0].tobytes(), instruction])


class Talker(Echo):
    said = "The answer is {}."


@pytest.fixture(scope="module")
def made(finished, tmp_path_factory):
    """A trained Meta-PerSER with its result, its exported model, and its episodes as a task."""
    work = tmp_path_factory.mktemp("superb")
    finished("Meta-PerSER", work / "exp")
    assert main(["export", str(work / "exp"), "--out", str(work / "model")]) == 0
    assert main(["export-task", str(work / "exp"), "--out", str(work / "task")]) == 0
    return work


def metadata(task: Path, shots: int) -> dict[str, dict]:
    return stored(task / f"{NAME}-{shots}shot" / "preprocessed" / "metadata.json")


def evaluated(made, out: Path, *arguments: str) -> dict:
    assert main(["evaluate-task", str(made / "task"), "--out", str(out), *arguments]) == 0
    return stored(out / "scores.json")


def means(scores: dict, shots: int, what: str = "rates") -> dict[str, float]:
    return {name: span["mean"] for name, span in scores[f"{NAME}-{shots}shot"][what].items()}


# -- what is exported ----------------------------------------------------------------------------------------------


def test_a_task_is_the_benchmarks_own_episodes_with_one_answer(made):
    result, rows = stored(made / "exp" / "result_test.json"), metadata(made / "task", 8)
    single = {
        f"C-E1-{e['seed']}-{at}": (result["classes"][int(np.argmax(ticks))], e)
        for e in result["episodes"]
        for at, ticks in enumerate(e["ticks"])
        if np.count_nonzero(ticks) == 1
    }
    assert {row["file"]: row["label"] for row in rows.values()} == {file: label for file, (label, _) in single.items()}
    folder = made / "task" / f"{NAME}-8shot" / "preprocessed"
    first = rows[f"{NAME}-8shot_C-E1-1-0.wav"] if f"{NAME}-8shot_C-E1-1-0.wav" in rows else next(iter(rows.values()))
    episode = single[first["file"]][1]
    index = int(first["file"].rpartition("-")[2])
    (demo,) = (Path(os.environ["METAPERSER_CACHE"]) / "demo").glob("*120*")
    for number, utterance in enumerate([episode["query"][index], *episode["support"]], start=1):
        pair = "" if number == 1 else f"_pair{number}"
        (source,) = demo.rglob(f"{utterance}.wav")
        assert (folder / f"{NAME}-8shot_{first['file']}{pair}.wav").read_bytes() == source.read_bytes()
    assert not (folder / f"{NAME}-8shot_{first['file']}_pair10.wav").exists()
    shown = first["shown"].split("; ")
    for number, label in enumerate(shown, start=2):
        assert f"clip {number}: {label}" in first["instruction"]
    twin = metadata(made / "task", 0)
    assert [row["file"] for row in twin.values()] == [row["file"] for row in rows.values()]
    assert all(row["shown"] == "" and "clip 2" not in row["instruction"] for row in twin.values())


def test_the_editors_find_nothing_and_the_data_set_says_the_same(made, capsys):
    assert main(["check-task", str(made / "task")]) == 0
    said = capsys.readouterr().out
    assert said.count("nothing is wrong") == 2
    assert "write it in when there is one" in said
    parquet = pytest.importorskip("pyarrow.parquet")
    (file,) = (made / "task" / f"{NAME}-8shot" / "dataset").rglob("*.parquet")
    assert file.name == "test-00000-of-00001.parquet"
    table = parquet.read_table(file)
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert [n for n, kind in features.items() if kind["_type"] == "Audio"] == [
        "audio",
        *(f"audio{n}" for n in range(2, 10)),
    ]
    rows = metadata(made / "task", 8)
    for row, (key, other) in zip(table.to_pylist(), rows.items(), strict=True):
        assert {name: row[name] for name in other} == other
        assert row["audio"]["path"] == key
    distinct = len({row["instruction"] for row in rows.values()})
    assert distinct >= max(10, len(rows) // 20)


def damaged(task: Path) -> dict:
    """Fault -> what is said of it, and what makes it in ``task``."""
    instance = task / f"{NAME}-8shot"
    data, card = instance / "preprocessed", instance / "instance.json"
    rows = stored(data / "metadata.json")
    key = next(iter(rows))
    parquet = instance / "dataset" / "data" / "test-00000-of-00001.parquet"

    def change(**fields):
        return lambda: edit(data / "metadata.json", {key: {**rows[key], **fields}})

    same = {k: {**row, "instruction": "x"} for k, row in rows.items()}
    return {
        "name": ("name is 'x'", lambda: edit(card, {"name": "x"})),
        "path": ("path is 'Mine/x'", lambda: edit(card, {"path": "Mine/x"})),
        "metrics": ("metrics is []", lambda: edit(card, {"metrics": []})),
        "one instruction": ("1 different instruction(s) in", lambda: edit(data / "metadata.json", same)),
        "a text column": ("column text: the editors' script takes it for audio", change(text="x")),
        "an audio field": ("audio_notes of", change(audio_notes="x")),
        "no text": ("1 row(s) have no instruction, or one that is no text", change(instruction=["x"])),
        "no label": ("1 row(s) have no label", change(label="")),
        "a tenth clip": (
            "column audio10: the editors' script counts audio to audio9",
            lambda: shutil.copy(data / key, data / f"{Path(key).stem}_pair10.wav"),
        ),
        "a lost clip": ("there is no such file", lambda: (data / key).unlink()),
        "two splits": (
            "splits test, train, expected one, test",
            lambda: shutil.copy(parquet, parquet.with_name("train-0.parquet")),
        ),
        "no page": ("there is no such page", lambda: (instance / "README.md").unlink()),
        "no section": ("no section 'References'", lambda: cut(task / "README.md", "## References")),
        "no file": ("1 row(s) have no file", lambda: forget_first_file(parquet)),
        "other rows": ("the data set have different rows", change(label="fear!")),
    }


def forget_first_file(path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(path)
    files = pyarrow.array([None, *table["file"].to_pylist()[1:]])
    pyarrow.parquet.write_table(table.set_column(table.schema.get_field_index("file"), "file", files), path)


def edit(path: Path, changes: dict) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def cut(path: Path, heading: str) -> None:
    path.write_text(path.read_text().replace(heading, ""))


def test_what_the_editors_would_not_take_is_named(made, tmp_path):
    pytest.importorskip("pyarrow")
    for fault in damaged(made / "task"):
        shutil.copytree(made / "task", tmp_path / "task")
        said, damage = damaged(tmp_path / "task")[fault]
        damage()
        faults = [each for checked in check_task(tmp_path / "task") for each in checked.faults]
        assert any(said in each for each in faults), (fault, faults)
        shutil.rmtree(tmp_path / "task")


def test_what_no_task_can_be_made_of_is_refused(tmp_path, capsys):
    scale = write_corpus(tmp_path / "scale", "ordinal")
    few = [
        "--set",
        "downstream_expert.datarc.equal_audio=allow",
        "--set",
        "downstream_expert.datarc.equal_raters=allow",
    ]
    asked = ["export-task", "--out", str(tmp_path / "out"), *few]
    for arguments, said in (
        (["--shots", "9"], "K=9: Dynamic-SUPERB counts 9 audio columns, a query and at most 8 labelled clips"),
        (["--corpus", "ratings_csv", "--root", str(scale)], "are ordinal, and an answer is one word here"),
    ):
        assert main([*asked, *arguments]) == 2
        assert said in capsys.readouterr().err
    single = write_corpus(tmp_path / "single", "single")
    asked += ["--corpus", "ratings_csv", "--root", str(single), "--shots", "2"]
    assert main(asked) == 2
    assert "name its licence: --licence TEXT" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main([*asked, "--local"]) == 0
    assert "its audio may not be uploaded or passed on" in (tmp_path / "out" / "README.md").read_text()
    assert main(["check-task", str(tmp_path / "out")]) == 0


# -- what is answered ----------------------------------------------------------------------------------------------


def test_the_label_is_right_and_the_answer_is_the_label_by_mention(made, tmp_path):
    Echo.labels = {}
    for instance in instances(made / "task"):
        for q in instance.questions:
            Echo.labels[len(q.paths), load_audio(q.paths[0]).tobytes(), q.instruction] = q.label
    exact = evaluated(made, tmp_path / "echo", "--responder", "test_dynamic_superb:Echo")
    assert means(exact, 8) == means(exact, 0) == {"exact": 1.0, "mention": 1.0, "not_applicable": 0.0}
    assert means(exact, 8, "metrics")["accuracy"] == 1.0
    talk = evaluated(made, tmp_path / "talk", "--responder", "test_dynamic_superb:Talker")
    assert means(talk, 8) == {"exact": 0.0, "mention": 1.0, "not_applicable": 0.0}
    theirs = tmp_path / "talk" / f"{NAME}-8shot.json"
    assert {row["sllm_response"][:14] for row in stored(theirs).values()} == {"The answer is "}
    again = evaluated(made, tmp_path / "again", "--responses", str(theirs))
    assert again[f"{NAME}-8shot"] == talk[f"{NAME}-8shot"]
    assert f"{NAME}-0shot" not in again


def test_meta_perser_answers_as_it_does_in_the_benchmark(made, tmp_path):
    result = stored(made / "exp" / "result_test.json")
    by = {(e["seed"], at): p for e in result["episodes"] for at, p in enumerate(e["probabilities"])}
    scores = evaluated(made, tmp_path, "--responder", "meta-perser", "--option", f"model={made / 'model'}")
    answers = stored(tmp_path / f"{NAME}-8shot.json")
    truth, said = [], []
    for row in answers.values():
        _, _, seed, at = row["file"].split("-")
        assert row["sllm_response"] == result["classes"][int(np.argmax(by[int(seed), int(at)]))]
        truth.append(row["label"])
        said.append(row["sllm_response"])
    zero = evaluated(made, tmp_path / "zero", "--responder", "zero-shot", "--option", f"model={made / 'model'}")
    assert means(zero, 8) == means(zero, 0) == means(scores, 0)
    difference = means(scores, 8)["exact"] - means(zero, 8)["exact"]
    assert scores["gain_of_labelled_clips"]["rates"]["exact"]["mean"] == pytest.approx(difference, abs=1e-12)
    by_draw = {s: [row for row in answers.values() if row["episode"] == s] for s in (0, 1, 2)}
    oracle = [accuracy_score([r["label"] for r in d], [r["sllm_response"] for r in d]) for d in by_draw.values()]
    assert means(scores, 8, "metrics")["accuracy"] == pytest.approx(np.mean(oracle), abs=1e-12)
    macro = []
    for d in by_draw.values():
        t, s = [r["label"] for r in d], [r["sllm_response"] for r in d]
        macro.append(f1_score(t, s, average="macro", labels=sorted({*t, *s}), zero_division=0))
    assert means(scores, 8, "metrics")["macro_f1_union"] == pytest.approx(np.mean(macro), abs=1e-9)


def test_a_model_that_may_know_the_listeners_of_another_fold_is_said_to_and_its_results_say_so(made, tmp_path, capsys):
    asked = ["evaluate-task", str(tmp_path / "own"), "--limit", "2", "--responder", "zero-shot"]
    asked += ["--option", f"model={made / 'model'}", "--out"]
    assert main(["episodes", str(made / "exp"), "--format", "jsonl", "--out", str(tmp_path / "own")]) == 0
    assert main([*asked, str(tmp_path / "a")]) == 0
    assert "is no test" not in capsys.readouterr().err
    for name in ("episodes.json", "prompts.jsonl"):
        file = tmp_path / "own" / name
        file.write_text(file.read_text().replace("fold1", "fold2"))
    assert main([*asked, str(tmp_path / "b")]) == 0
    told = "where the listeners of seen/fold2 may be training or validation raters"
    assert told in capsys.readouterr().err
    scored = ["score", str(tmp_path / "b" / "zero-shot.jsonl"), "--missing", "na", "--episodes", str(tmp_path / "own")]
    assert main([*scored, "--out", str(tmp_path / "r")]) == 0
    results = [stored(path) for path in (tmp_path / "r").rglob("result_test.json")]
    assert [[told in doubt for doubt in result["doubts"]] for result in results] == [[True], [True]]


def test_floors_know_the_shown_labels_or_nothing(made, tmp_path):
    scores = evaluated(made, tmp_path / "m", "--responder", "majority")
    rows = metadata(made / "task", 8)
    for key, row in stored(tmp_path / "m" / f"{NAME}-8shot.json").items():
        counted = Counter(name for label in rows[key]["shown"].split("; ") for name in label.split(" and "))
        assert counted[row["sllm_response"]] == max(counted.values())
    (demo,) = (Path(os.environ["METAPERSER_CACHE"]) / "demo").glob("*120*")
    split = make_split(load_corpus("demo", demo, utterances=120), scenario="seen", fold="fold1")
    (most, _), *_ = Counter(tick for rating in split.train for tick in rating.ticks).most_common(1)
    assert {row["sllm_response"] for row in stored(tmp_path / "m" / f"{NAME}-0shot.json").values()} == {most}
    assert set(scores) == {f"{NAME}-8shot", f"{NAME}-0shot", "gain_of_labelled_clips"}
    said = evaluated(made, tmp_path / "r", "--responder", "random", "--option", "seed=1", "--limit", "5")
    assert said[f"{NAME}-8shot"]["rows"] == 5


def test_answers_are_kept_and_not_asked_again(made, tmp_path):
    first = evaluated(made, tmp_path, "--responder", "random", "--limit", "4")
    (tmp_path / f"{NAME}-8shot.jsonl").write_bytes((tmp_path / f"{NAME}-8shot.jsonl").read_bytes()[:-9])
    again = evaluated(made, tmp_path, "--responder", "random", "--limit", "4")
    assert again == first
    lines = (tmp_path / f"{NAME}-8shot.jsonl").read_text().splitlines()
    assert len(lines) == 4


def test_answers_of_another_system_or_to_other_questions_are_not_taken_for_its_own(made, tmp_path, capsys):
    first = evaluated(made, tmp_path / "out", "--responder", "random", "--limit", "3")
    task, again = made / "task", ["--out", str(tmp_path / "out"), "--limit", "3"]
    for asked, what in (
        (["--responder", "majority"], "responder"),
        (["--responder", "random", "--option", "seed=1"], "options"),
    ):
        assert main(["evaluate-task", str(task), *again, *asked]) == 2
        assert f"has answers of random, and not the same {what} as here" in capsys.readouterr().err
    other = shutil.copytree(task, tmp_path / "task")
    rows = other / f"{NAME}-8shot" / "preprocessed" / "metadata.json"
    rows.write_text(rows.read_text().replace("clip 2: ", "clip 2 is "))
    assert main(["evaluate-task", str(other), *again, "--responder", "random"]) == 2
    assert "not the same questions" in capsys.readouterr().err
    assert stored(tmp_path / "out" / "scores.json") == first


def test_what_cannot_be_asked_or_read_is_one_error(made, tmp_path, capsys):
    rows = metadata(made / "task", 8)
    key = next(iter(rows))
    files = {
        "none": ({}, "The files have no response to this task"),
        "part": ({key: {**rows[key], "sllm_response": "sad"}}, "have no response:"),
        "strange": ({"x.wav": {"sllm_response": "sad"}}, "1 recording(s) of the responses are not in the task: x.wav"),
        "no answer": (rows, "no sllm_response"),
    }
    for name, (content, said) in files.items():
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(content))
        assert main(["evaluate-task", str(made / "task"), "--responses", str(path), "--out", str(tmp_path / "o")]) == 2
        assert said in capsys.readouterr().err
    for responder, said in (
        ("majorty", "Did you mean 'majority'?"),
        ("no_module:X", "No module named 'no_module'"),
        ("json:loads", "has no respond(audios, instruction)"),
        ("meta-perser", "missing 1 required positional argument: 'model'"),
    ):
        asked = ["evaluate-task", str(made / "task"), "--responder", responder, "--out", str(tmp_path / "o")]
        assert main(asked) == 2
        assert said in capsys.readouterr().err


def test_a_local_audio_language_model_is_loaded_and_asked(made, tmp_path, capsys):
    model = write_tiny_model(tmp_path / "model")
    asked = ["--responder", "huggingface", "--option", f"model={model}", "--option", "max_new_tokens=4", "--limit", "2"]
    scores = evaluated(made, tmp_path / "a", *asked)
    assert scores[f"{NAME}-8shot"]["rows"] == 2
    assert evaluated(made, tmp_path / "b", *asked) == scores, "the most probable words are the same ones"
    from s3prl_metaperser.exchange.huggingface import HuggingFace

    responder = HuggingFace(str(model), max_new_tokens=6)
    seen = {}
    responder.model.generate = lambda **inputs: seen.update(inputs) or inputs["input_ids"]
    noise = [np.random.default_rng(n).normal(0, 0.1, 8000).astype(np.float32) for n in range(2)]
    assert responder.respond(noise, "Which?") == ""
    assert seen["input_features"].shape[0] == 2, "both clips reach the model"
    text = responder.processor.batch_decode(seen["input_ids"])[0]
    assert "Which?" in text
    assert text.count("<|audio_bos|>") == 2
    (tmp_path / "empty").mkdir()
    wrong = ["evaluate-task", str(made / "task"), "--out", str(tmp_path / "c"), "--responder", "huggingface"]
    assert main([*wrong, "--option", f"model={tmp_path / 'empty'}"]) == 2
    assert "cannot be loaded" in capsys.readouterr().err


def test_prompts_of_episodes_are_answered_by_a_responder_and_scored(made, tmp_path, capsys):
    folder = tmp_path / "episodes"
    assert main(["episodes", str(made / "exp"), "--format", "jsonl", "--out", str(folder)]) == 0
    assert main(["evaluate-task", str(folder), "--responder", "majority", "--out", str(tmp_path / "out")]) == 0
    file = tmp_path / "out" / "majority.jsonl"
    assert main(["score", str(file), "--episodes", str(folder), "--out", str(tmp_path / "r")]) == 0
    assert "majority:zero-shot: 72 queries" in capsys.readouterr().out
    prompts = folder / "prompts.jsonl"
    prompts.write_text(prompts.read_text().replace('"instruction"', '"anweisung"'))
    assert main(["evaluate-task", str(folder), "--responder", "random", "--out", str(tmp_path / "again")]) == 2
    assert "no 'instruction'. Write the episodes again" in capsys.readouterr().err


def test_other_formats_of_audio_are_exported_as_wav_with_the_same_samples(tmp_path):
    corpus = write_corpus(tmp_path / "corpus", "single")
    for wav in corpus.glob("**/*.wav"):
        samples, rate = soundfile.read(wav)
        soundfile.write(wav.with_suffix(".flac"), samples, rate)
        wav.unlink()
    for table in corpus.glob("*.csv"):
        table.write_text(table.read_text().replace(".wav", ".flac"))
    asked = ["export-task", "--corpus", "ratings_csv", "--root", str(corpus), "--shots", "2", "--licence", "CC0"]
    assert main([*asked, "--no-twins", "--out", str(tmp_path / "out")]) == 0
    heard = {load_audio(path).tobytes() for path in corpus.glob("**/*.flac")}
    (instance,) = instances(tmp_path / "out")
    assert {load_audio(path).tobytes() for q in instance.questions for path in q.paths} <= heard
