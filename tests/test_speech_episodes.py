"""Frozen episodes as prompts, and any system's predictions as results: no answer is shown, nothing is lost."""

import base64
import doctest
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from corpora_fixtures import write_iemocap, write_ratings_csv
from small_demo import SMALL, stored

from s3prl_metaperser.cli import main
from s3prl_metaperser.corpora.audio import load_audio
from s3prl_metaperser.corpora.label_set import LabelSet
from s3prl_metaperser.corpora.label_sets import LABEL_SETS
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.evaluation.collect import load_results
from s3prl_metaperser.evaluation.metrics import episode_scores
from s3prl_metaperser.exchange import clips, prompts, unanswered, with_audio, words
from s3prl_metaperser.exchange import record as append
from s3prl_metaperser.exchange.clips import copy_audio
from s3prl_metaperser.exchange.folder import prompt_rows
from s3prl_metaperser.exchange.prompts import Phrasing
from s3prl_metaperser.exchange.scoring import Answers, Rated, row_of
from s3prl_metaperser.exchange.words import Vocabulary

SYSTEM = "Linear-Few"


@pytest.fixture(scope="module")
def made(finished, tmp_path_factory):
    """A trained and evaluated experiment (``results/EXP``), and its episodes as chat prompts (``episodes``)."""
    work = tmp_path_factory.mktemp("speech")
    finished(SYSTEM, work / "results" / "exp")
    assert main(["episodes", str(work / "results" / "exp"), "--out", str(work / "episodes")]) == 0
    return work


def rows_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "prompts.jsonl").read_text().splitlines()]


def truth_of(work: Path) -> dict[str, str]:
    """id -> the listener's answer, by the result file that our own system was tested for."""
    result = stored(work / "results" / "exp" / "result_test.json")
    found = {}
    for e in result["episodes"]:
        for index, ticks in enumerate(e["ticks"]):
            id = f"demo/seen/fold1/{result['raters']['test']}/k8/seed{e['seed']}/{index}"
            found[id] = " and ".join(n for n, t in zip(result["classes"], ticks, strict=True) if t)
    return found


def write_lines(path: Path, lines) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def score(work: Path, predictions: Path, out: Path, *more: str) -> dict:
    assert main(["score", str(predictions), "--episodes", str(work / "episodes"), "--out", str(out), *more]) == 0
    return stored(out / "scores.json")["settings"]["demo seen, K=8"]


# -- prompts -------------------------------------------------------------------------------------------------------


def test_prompts_are_the_benchmarks_own_episodes_and_hold_no_answer(made):
    result = stored(made / "results" / "exp" / "result_test.json")
    rows, at = rows_of(made / "episodes"), 0
    for e in result["episodes"]:
        for utterance in e["query"]:
            row, twin = rows[at : at + 2]
            at += 2
            assert [Path(path).stem for path in row["audio"]] == [*e["support"], utterance]
            assert twin["id"] == row["id"] + "/k0"
            assert (twin["audio"], twin["shown"], twin["shots"]) == (row["audio"][-1:], [], 0)
            assert sorted(row["choices"]) == sorted(result["classes"])
            said = [m["content"] for m in row["messages"] if m["role"] == "assistant"]
            assert said == row["shown"], "eight labels of the listener, and no ninth"
            assert row["messages"][-1]["content"][-1] == {"type": "audio", "audio": row["audio"][-1]}
            assert set(row) == {"id", "listener", "episode", "choices", "shots", "audio", "shown", "messages"}
    assert at == len(rows)


def test_instructions_are_as_many_as_asked_for_and_no_class_gains_by_its_place():
    six = LABEL_SETS.get("crema_d")
    for rows in (100, 1000):
        phrasing = Phrasing(six, rows=rows, seed=3)
        said = [phrasing.alone(row) for row in range(rows)]
        assert len(set(said)) == max(10, rows // 20)
        assert {phrasing.choices(row)[0] for row in range(rows)} == set(six.classes)
        assert said == [Phrasing(six, rows=rows, seed=3).alone(row) for row in range(rows)]
        assert said != [Phrasing(six, rows=rows, seed=4).alone(row) for row in range(rows)]
    scale = Phrasing(LABEL_SETS.get("mos-1-5"), rows=200, seed=0)
    assert all("1" in scale.alone(row) and "5" in scale.alone(row) for row in range(200))


def test_the_same_rows_as_json_lines_and_as_parquet_and_audio_in_the_folder(made, tmp_path):
    pytest.importorskip("pyarrow")
    from pyarrow import parquet

    asked = ["episodes", str(made / "results" / "exp"), "--bundle"]
    for form in ("jsonl", "parquet"):
        assert main([*asked, "--format", form, "--out", str(tmp_path / form)]) == 0
    lines, table = rows_of(tmp_path / "jsonl"), parquet.read_table(tmp_path / "parquet" / "prompts.parquet").to_pylist()
    assert lines == table
    by_path = rows_of(made / "episodes")
    for row, original in zip(lines[:6], by_path, strict=False):
        assert row["id"] == original["id"]
        for copy, source in zip(row["audio"], original["audio"], strict=True):
            assert Path(source).stem not in copy, "a file's name may say what was acted"
            assert np.array_equal(load_audio(tmp_path / "jsonl" / copy), load_audio(source))
    assert f"clip {len(lines[0]['audio'])}" in lines[0]["instruction"]


def test_a_copy_of_any_format_is_read_to_the_same_samples(tmp_path):
    noise = np.random.default_rng(0).normal(0, 0.1, (4000, 2))
    for name, subtype in (("a.flac", "PCM_24"), ("b.wav", "PCM_16"), ("c.ogg", "VORBIS")):
        soundfile.write(tmp_path / name, noise, 22050, subtype=subtype)
        copy_audio(tmp_path / name, tmp_path / "copy.wav")
        assert np.array_equal(load_audio(tmp_path / "copy.wav"), load_audio(tmp_path / name))


CLIPS = "".join(f"{n}.wav,{rater},{label}\n" for n, label in enumerate(["happy", "sad"] * 3) for rater in "abc")


def test_audio_that_may_not_be_passed_on_is_not_copied(tmp_path, capsys):
    release = write_iemocap(
        tmp_path / "iemocap",
        {f"Ses0{s}F_impro01_F00{n}": [f"C-E{e}:\tHappiness;\t()" for e in (1, 2, 4)] for s in (1, 2) for n in range(3)},
    )
    few = ["--set", "downstream_expert.evalrc.shots=2", "--set", "downstream_expert.datarc.equal_audio=allow"]
    few += ["--set", "downstream_expert.datarc.equal_raters=allow", "--out", str(tmp_path / "out")]
    asked = ["episodes", "--corpus", "iemocap", "--root", str(release), *few]
    assert main([*asked, "--bundle", "--licence", "mine"]) == 2
    assert "may not be passed on (IEMOCAP is given out under a licence agreement" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main(asked) == 0
    assert Path(rows_of(tmp_path / "out")[0]["audio"][0]).is_absolute(), "it may be named by its path"
    shutil.rmtree(tmp_path / "out")
    own = write_ratings_csv(tmp_path / "own", "file,rater,label\n" + CLIPS)
    asked = ["episodes", "--corpus", "ratings_csv", "--root", str(own), "--folds", "all", *few, "--bundle"]
    assert main(asked) == 2
    assert "name its licence: --licence TEXT" in capsys.readouterr().err
    assert main([*asked, "--licence", "CC0"]) == 0
    assert "CC0" in (tmp_path / "out" / "README.md").read_text()
    assert {row["listener"] for row in rows_of(tmp_path / "out")} == {"a", "b", "c"}, "of every fold"


def test_a_grid_has_episodes_of_all_its_folds_and_scenarios(tmp_path):
    grid = tmp_path / "grid.yaml"
    given = dict(item.split("=") for item in SMALL)
    named = {key.rpartition(".")[2]: value for key, value in given.items() if ".evalrc." in key}
    options = "".join(f"      {name}: {value}\n" for name, value in named.items() if name != "shots")
    grid.write_text(
        f"corpus: demo\nupstreams: [{{name: fbank_no_cmvn}}]\nsystems: {{frozen: [{SYSTEM}, Random]}}\n"
        "scenarios: [seen, unseen]\nfolds: [fold1, fold2]\nshots: [4, 8]\n"
        f"options:\n  downstream_expert:\n    datarc: {{demo: {{utterances: 120}}}}\n    evalrc:\n{options}"
    )
    assert main(["episodes", str(grid), "--only", "shots=4", "--no-twins", "--out", str(tmp_path / "out")]) == 0
    found = {tuple(row["id"].split("/")[1:5]) for row in rows_of(tmp_path / "out")}
    tested = {"fold1": "C-E1", "fold2": "C-E2"}
    assert found == {(s, fold, rater, "k4") for s in ("seen", "unseen") for fold, rater in tested.items()}


# -- scores --------------------------------------------------------------------------------------------------------


def test_a_system_that_answers_the_label_is_right_exactly_or_by_mention(made, tmp_path):
    truth = truth_of(made)
    lines = [{"id": id, "answer": label.upper()} for id, label in truth.items()]
    lines += [{"id": f"{id}/k0", "answer": f"The answer is {label}."} for id, label in truth.items()]
    found = score(made, write_lines(tmp_path / "echo.jsonl", lines), tmp_path / "out")
    rates = {name: {k: v["mean"] for k, v in each["rates"].items()} for name, each in found["systems"].items()}
    assert rates["echo"] == {"exact": 1.0, "mention": 1.0, "not_applicable": 0.0}
    assert rates["echo:zero-shot"] == {"exact": 0.0, "mention": 1.0, "not_applicable": 0.0}
    assert found["systems"]["echo"]["metrics"]["micro_f1"]["mean"] == 1.0
    gain = found["gain_of_labelled_clips"]
    assert (gain["rates"]["exact"]["mean"], gain["metrics"]["micro_f1"]["mean"]) == (1.0, 0.0)
    assert main(["validate", "--all", str(tmp_path / "out")]) == 0


def test_our_own_predictions_come_back_as_our_own_result(made, tmp_path, capsys):
    mine = stored(made / "results" / "exp" / "result_test.json")
    ids = iter(truth_of(made))
    lines = [{"id": next(ids), "probabilities": p} for e in mine["episodes"] for p in e["probabilities"]]
    both = tmp_path / "results"
    shutil.copytree(made / "results", both)
    score(made, write_lines(tmp_path / "Peer.jsonl", lines), both / "peer", "--beside", str(both))
    (path,) = (both / "peer").rglob("result_test.json")
    theirs = stored(path)
    assert theirs["metrics"] == mine["metrics"]
    assert theirs["episodes"] == mine["episodes"], "queries, probabilities, answers, loss and metrics to the digit"
    same = ("corpus", "audio", "episodes", "features", "upstream_checkpoint")
    assert [theirs["hashes"][name] for name in same] == [mine["hashes"][name] for name in same]
    assert main(["validate", "--all", str(both)]) == 0
    assert {r.cell.system for r in load_results(both)} == {SYSTEM, "Peer"}
    assert main(["report", str(both), "--out", str(tmp_path / "report")]) == 0
    table = (tmp_path / "report" / "tables" / "table1.csv").read_text().splitlines()
    ours, peer = ([line.split(",", 3)[3] for line in table if f",{name}," in line] for name in (SYSTEM, "Peer"))
    assert ours[0].split(",")[0] == peer[0].split(",")[0]
    assert main(["score", str(tmp_path / "Peer.jsonl"), "--episodes", str(made / "episodes"), "--name", SYSTEM,
                 "--out", str(tmp_path / "no")]) == 2  # fmt: skip
    assert "a system of the benchmark has this name" in capsys.readouterr().err


def test_what_labelled_clips_gain_is_a_paired_difference(made, tmp_path):
    truth, draw = truth_of(made), np.random.default_rng(1)
    right = {id: draw.random(2) < (0.8, 0.4) for id in truth}
    lines = [{"id": id + end, "answer": label if right[id][at] else "I do not know"} for id, label in truth.items()
             for at, end in enumerate(("", "/k0"))]  # fmt: skip
    found = score(made, write_lines(tmp_path / "some.jsonl", lines), tmp_path / "out")
    gain = found["gain_of_labelled_clips"]
    each = np.array([one.astype(float) for one in right.values()]).reshape(3, 24, 2)  # episodes, queries
    difference = each[..., 0] - each[..., 1]
    assert gain["rates"]["mention"]["mean"] == pytest.approx(difference.mean(), abs=1e-12)
    assert found["systems"]["some"]["rates"]["not_applicable"]["mean"] == pytest.approx(1 - each[..., 0].mean())
    names = [u for e in stored(made / "results" / "exp" / "result_test.json")["episodes"] for u in e["query"]]
    per = (difference - difference.mean(1, keepdims=True)).ravel() / np.sqrt(24 * 23) / 3
    error = np.sqrt(sum(per[[n == u for n in names]].sum() ** 2 for u in set(names)))
    from scipy.stats import t

    half = t.ppf(0.975, len(set(names)) - 1) * error
    span = gain["rates"]["mention"]
    assert (span["high"] - span["low"]) / 2 == pytest.approx(half, rel=1e-9)
    results = {r.cell.system: r for r in load_results(tmp_path / "out")}
    own, twin = results["some"], results["some:zero-shot"]
    (control,) = own.controls
    assert control.metrics["micro_f1"] == tuple(e.metrics["micro_f1"] for e in twin.episodes)
    pairs = zip(own.episodes, twin.episodes, strict=True)
    better = np.mean([one.metrics["micro_f1"] - other.metrics["micro_f1"] for one, other in pairs])
    assert gain["metrics"]["micro_f1"]["mean"] == pytest.approx(better)


def test_rates_gain_nothing_where_one_side_has_an_episode_that_is_not_answered_in_words():
    def in_words(*episodes):
        return Answers(rated={"anna": [Rated((f"{e}a", f"{e}b"), np.eye(3)[:, :2]) for e in episodes]})

    assert in_words(0, 1).gain_over(in_words(0, 1)).rates["exact"].mean == 0
    assert in_words(0, 1).gain_over(in_words(0)).rates == {}


def test_an_answer_that_says_nothing_is_a_uniform_guess_and_favours_no_class():
    six = Vocabulary(LABEL_SETS.get("crema_d"))
    counts = np.eye(6)[0]
    rows = [row_of(f"row {n}", "I cannot hear audio.", counts, six, 0.05) for n in range(600)]
    assert all(row.rates == (0.0, 0.0, 1.0) and np.ptp(row.probabilities) < 1e-8 for row in rows)
    leads = np.bincount([six.label_set.decide(row.probabilities).argmax() for row in rows], minlength=6)
    assert leads.min() > 60
    several = Vocabulary(LABEL_SETS.get("iemocap"))
    row = row_of("row", "no idea", np.eye(9)[0], several, 0.05)
    assert episode_scores(row.probabilities[None], np.eye(9)[:1], several.label_set)["micro_f1"] == 0.0


SAID = [
    ("Frustriert, würde ich sagen.", ("frustrated",)),
    ("La personne semble EN COLÈRE", ("angry",)),
    ("この人は悲しいようです", ("sad",)),
    ("他听起来很高兴。", ("happy",)),
    ("세상에, 화난 목소리", ("angry",)),
    ("Она испуганная", ("fear",)),
    ("happy;sad", ("sad", "happy")),
    ("Happiness", ("happy",)),
    ("unhappy", ("sad",)),
    ("madrigal", None),
    ("", None),
]


@pytest.mark.parametrize(("text", "classes"), SAID)
def test_answers_are_understood_in_many_languages(text, classes):
    assert Vocabulary(LABEL_SETS.get("iemocap")).read(text) == classes


def test_further_words_languages_and_their_faults(tmp_path, capsys):
    own = tmp_path / "own.yaml"
    own.write_text("happy:\n  de: [prima]\n  fi: [iloinen]\n")
    plain = LabelSet("mood", "single", ("happy", "sad"))
    for text in ("Iloinen!", "prima", "fröhlich", "joy"):
        assert Vocabulary(plain, further=own).read(text) == ("happy",)
    assert Vocabulary(plain, ["de"]).read("joie") is None
    with pytest.raises(UserError, match=r"Unknown language 'xx'.*Available: "):
        Vocabulary(plain, ["xx"])
    own.write_text("happy:\n  de: prima\n")
    with pytest.raises(UserError, match=r"own\.yaml:2: Bad value 'prima' for happy\.de"):
        Vocabulary(plain, further=own)


# -- files of predictions ------------------------------------------------------------------------------------------


def test_answering_can_be_broken_off_at_any_byte_and_resumed(made, tmp_path):
    path = tmp_path / "p.jsonl"
    todo = [row["id"] for row in unanswered(made / "episodes", path)]
    assert len(todo) == 2 * 3 * 24
    for id in todo[:3]:
        append(path, id, "sad")
    whole = path.read_bytes()
    last = whole.rstrip(b"\n").rfind(b"\n") + 1
    for cut in (last + 1, last + 20, len(whole) - 2, len(whole) - 1, len(whole)):
        path.write_bytes(whole[:cut])
        left = [row["id"] for row in unanswered(made / "episodes", path)]
        assert left == todo[3 if cut >= len(whole) - 1 else 2 :]
        append(path, left[0], "happy")
        assert [json.loads(line)["id"] for line in path.read_text().splitlines()] == todo[: len(todo) - len(left) + 1]


def faulty(truth: dict[str, str]) -> dict[str, tuple[list, str]]:
    first, *others = truth
    rest = [{"id": id, "answer": "sad"} for id in others]
    p = {"id": first, "probabilities": {"sad": 0.9}}
    return {
        "missing": (rest, f"1 prompt(s) of folds that it answers have no prediction: {first}."),
        "extra": ([*rest, {"id": "x", "answer": "sad"}], "1 id(s) that no prompt in"),
        "two answers": ([*rest, {"id": others[0], "answer": "fear"}], "was answered otherwise in line 1"),
        "no answer": ([*rest, {"id": first}], f"72: neither answer nor probabilities for '{first}'"),
        "a sum": ([*rest, p], "p.jsonl:72: '" + first + "': its probabilities sum to 0.9"),
        "a class": ([*rest, {**p, "probabilities": {"sadd": 1}}], "Did you mean 'sad'?"),
        "a number": ([*rest, {**p, "probabilities": {"sad": "1"}}], "72: probability '1' for"),
        "too few": ([*rest, {**p, "probabilities": [1, 0]}], "2 probabilities for 9 classes"),
        "no object": ([*rest, [1]], "p.jsonl:72: no id"),
    }


@pytest.mark.parametrize("fault", list(faulty({"a": "", "b": ""})))
def test_what_is_wrong_with_predictions_is_named(made, tmp_path, capsys, fault):
    lines, said = faulty(truth_of(made))[fault]
    path = write_lines(tmp_path / "p.jsonl", lines)
    assert main(["score", str(path), "--episodes", str(made / "episodes"), "--out", str(tmp_path / "out")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_broken_repeated_scaled_and_missing_lines_are_counted(made, tmp_path, capsys):
    _, second, *others = truth_of(made)
    lines = [{"id": id, "answer": "sad"} for id in [*others, others[0]]]
    lines.append({"id": second, "probabilities": {"sad": 0.67, "fear": 0.34}})
    path = write_lines(tmp_path / "p.jsonl", lines)
    path.write_text(path.read_text() + '{"id": "demo/se')
    found = score(made, path, tmp_path / "out", "--missing", "na")
    counts = {name: found["systems"]["p"][name] for name in ("queries", "missing", "scaled", "in_words")}
    assert counts == {"queries": 72, "missing": 1, "scaled": 1, "in_words": 71}
    said = capsys.readouterr()
    assert "the last line is broken off" in said.err
    assert "1 line(s) repeat" in said.err
    assert "1 without a prediction, 1 scaled" in said.out


def test_chat_apis_get_the_clips_themselves(made):
    row = next(unanswered(made / "episodes", "none.jsonl"))
    messages = with_audio(row["messages"])
    parts = [part for m in messages if m["role"] == "user" for part in m["content"] if part["type"] == "input_audio"]
    assert len(parts) == 9
    for part, path in zip(parts, row["audio"], strict=True):
        assert part["input_audio"]["format"] == "wav"
        samples, rate = soundfile.read(io.BytesIO(base64.b64decode(part["input_audio"]["data"])), dtype="float32")
        assert rate == 16000
        assert np.abs(samples - load_audio(path)).max() <= 2**-15
    json.dumps(messages)


def test_an_edited_folder_of_episodes_is_refused(made, tmp_path):
    shutil.copytree(made / "episodes", tmp_path / "e")
    card = tmp_path / "e" / "episodes.json"
    card.write_text(card.read_text().replace('"shots": 8', '"shots": "eight"'))
    with pytest.raises(UserError, match=r"episodes\.json: Bad value 'eight'.*write the episodes again"):
        list(unanswered(tmp_path / "e", "p.jsonl"))
    with pytest.raises(UserError, match=r"not a folder of episodes"):
        list(unanswered(tmp_path, "p.jsonl"))


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_a_row_of_edited_prompts_without_an_id_is_named(form, tmp_path):
    path = tmp_path / f"prompts.{form}"
    if form == "parquet":
        pyarrow = pytest.importorskip("pyarrow", reason="the form needs pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(pyarrow.table({"id": ["a", None]}), path)
    else:
        path.write_text('{"id": "a"}\n{"id": null}\n')
    with pytest.raises(UserError, match=rf"prompts\.{form}:2: not a prompt \(id is no text\)"):
        list(prompt_rows(path))


def test_the_examples_of_the_modules_run():
    for module in (clips, prompts, words):
        assert doctest.testmod(module).failed == 0
