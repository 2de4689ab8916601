"""Export, adapt, predict: a model for one listener, by the very path of the benchmark."""

import doctest
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import torch
from listener_fixtures import LABELS, random_model, write_clips
from random_checkpoints import make_checkpoint
from small_demo import demo_root, stored, train_command

import s3prl_metaperser
from s3prl_metaperser import PersonalizedEmotionRecognizer
from s3prl_metaperser.cli import main
from s3prl_metaperser.corpora import LabelSet, load_corpus
from s3prl_metaperser.corpora.iemocap import LABEL_SET
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.evaluation.metrics import episode_scores, main_metrics
from s3prl_metaperser.listener import labels, recognizer
from s3prl_metaperser.listener.folder import CHECKSUM, card_checksum, read_folder
from s3prl_metaperser.listener.labels import ListenerLabels, answer_of
from s3prl_metaperser.listener.leave_out import leave_out
from s3prl_metaperser.protocol.loss import class_balanced_loss
from s3prl_metaperser.s3prl_plugin import launcher
from s3prl_metaperser.s3prl_plugin.runner import MetaRunner
from s3prl_metaperser.storage.hashing import file_hash

pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask:UserWarning")
SYSTEMS = ("Meta-PerSER", "Linear-Few")


@pytest.fixture(scope="module")
def trained(finished, tmp_path_factory):
    """System -> a finished experiment on the small demo corpus."""
    folder = tmp_path_factory.mktemp("listener")
    return {system: finished(system, folder / system) for system in SYSTEMS}


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    """System -> its model folder."""
    folder = tmp_path_factory.mktemp("models")
    for system, experiment in trained.items():
        assert main(["export", str(experiment), "--out", str(folder / system), "--licence", "CC0"]) == 0
    return {system: folder / system for system in trained}


@pytest.fixture(scope="module")
def corpus(trained):
    return load_corpus("iemocap", demo_root())


@pytest.fixture(scope="module")
def random_folder(tmp_path_factory):
    return random_model(tmp_path_factory.mktemp("random") / "model")


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return write_clips(tmp_path_factory.mktemp("clips"), len(LABELS))


@pytest.fixture(scope="module")
def wavlm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wavlm")
    weights = make_checkpoint("wavlm", folder / "tiny.pt")
    frozen = random_model(folder / "frozen", "wavlm_local", weights, (3, 16))
    return weights, frozen, random_model(folder / "finetuned", "wavlm_local", weights, (3, 16), finetuned=True)


def audio(corpus, utterances):
    return [corpus.utterance(name).path for name in utterances]


# -- the folder ------------------------------------------------------------------------------------------------------


def test_a_model_folder_is_safetensors_and_a_card_and_nothing_else(exported, trained):
    folder, result = exported["Meta-PerSER"], stored(trained["Meta-PerSER"] / "result_test.json")
    assert sorted(path.name for path in folder.iterdir()) == ["card.json", "model.safetensors"]
    card = json.loads((folder / "card.json").read_text())
    assert card["sha256"] == file_hash(folder / "model.safetensors")
    assert card["classes"] == result["classes"]
    assert card["upstream"]["checkpoint"] == result["hashes"]["upstream_checkpoint"]
    assert card["training"]["fingerprint"] == result["hashes"]["corpus"]
    assert {name: card["metrics"][name] for name in result["metrics"]} == result["metrics"]
    used = card["adaptation"]
    assert (used["shots"], used["steps"], used["inner_steps"], used["learned_rates"]) == (8, 6, 2, True)
    assert card["licences"]["model"] == "CC0"
    assert os.environ["METAPERSER_CACHE"] not in json.dumps(card)


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_same_episode_gives_the_benchmarks_numbers(exported, trained, corpus, system):
    """Linear-Few to the bit; the closed form adapts a benchmark's seeds at once, and BLAS rounds another way then."""
    recognizer, result = (
        PersonalizedEmotionRecognizer.load(exported[system]),
        stored(trained[system] / "result_test.json"),
    )
    labels = corpus.ratings_of(result["raters"]["test"])
    for episode in result["episodes"]:
        given = [labels[name] for name in episode["support"]]
        adapted = recognizer.adapt(audio(corpus, episode["support"]), given)
        found = adapted.predict_proba(audio(corpus, episode["query"]))
        wanted = np.array(episode["probabilities"], dtype=np.float32)
        assert np.array_equal(found, wanted) if system == "Linear-Few" else np.abs(found - wanted).max() < 1e-6
        scores = episode_scores(found, np.array(episode["ticks"]), recognizer.label_set)
        assert scores == pytest.approx(episode["metrics"], abs=1e-5)
        by_decisions = [metric.name for metric in main_metrics(recognizer.label_set) if metric.of_decisions]
        assert [scores[name] for name in by_decisions] == [episode["metrics"][name] for name in by_decisions]
        assert np.abs(recognizer.predict_proba(audio(corpus, episode["query"])) - wanted).max() > 1e-3


def test_s3prls_inference_is_the_exported_models_zero_shot_prediction_to_the_bit(
    exported, trained, corpus, monkeypatch, capsys
):
    clip, returned = corpus.utterances[3].path, []
    inference = MetaRunner.inference
    monkeypatch.setattr(MetaRunner, "inference", lambda self: returned.append(inference(self)))
    assert launcher.main(["-m", "inference", "-t", str(clip), "-e", str(trained["Meta-PerSER"])]) == 0
    capsys.readouterr()
    assert main(["predict", str(exported["Meta-PerSER"]), str(clip), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["predictions"][0]["probabilities"] == returned[0]


PROGRAM = """
import socket, sys
def refuse(*arguments): raise OSError("no network in this test")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
from s3prl_metaperser import PersonalizedEmotionRecognizer
weights = sys.argv[2] or None
found = PersonalizedEmotionRecognizer.load(sys.argv[1], upstream_ckpt=weights).predict_proba(sys.argv[3:])
print(found.tobytes().hex())
"""


@pytest.mark.parametrize("kind", ["fbank listener", "wavlm -f listener"])
def test_moved_and_loaded_elsewhere_without_network_it_predicts_the_same_bits(exported, wavlm, clips, tmp_path, kind):
    weights, model = (None, exported["Meta-PerSER"]) if kind.startswith("fbank") else (wavlm[0], wavlm[2])
    adapted = PersonalizedEmotionRecognizer.load(model, upstream_ckpt=weights).adapt(clips, LABELS)
    wanted = adapted.predict_proba(clips)
    shutil.move(adapted.save(tmp_path / "made"), tmp_path / "moved")
    environment = {
        **os.environ,
        "HOME": str(tmp_path),
        "METAPERSER_CACHE": str(tmp_path / "none"),
        "OMP_NUM_THREADS": "1",
    }
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-c",
        PROGRAM,
        str(tmp_path / "moved"),
        str(weights or ""),
        *map(str, clips),
    ]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == wanted.tobytes().hex()
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("system", ["Meta-PerSER", "FOMAML", "ANIL", "LoRA"])
def test_an_exported_finetuned_model_adapts_as_in_the_benchmark(tmp_path, trained, wavlm, corpus, capsys, system):
    from test_finetuned_runner import command

    few = ("downstream_expert.initrc.total_steps=1", "runner.total_steps=1", "runner.eval_step=1")
    assert launcher.main(command(tmp_path / "exp", wavlm[0], options=few, system=system)) == 0
    assert launcher.main(["-m", "evaluate", "-e", str(tmp_path / "exp")]) == 0
    assert main(["export", str(tmp_path / "exp"), "--out", str(tmp_path / "model")]) == 0
    assert f"--ratings my_ratings.csv -k {wavlm[0]} --out LISTENER" in capsys.readouterr().out
    result = stored(tmp_path / "exp" / "result_test.json")
    recognizer = PersonalizedEmotionRecognizer.load(tmp_path / "model", upstream_ckpt=wavlm[0])
    labels, episode = corpus.ratings_of(result["raters"]["test"]), result["episodes"][0]
    adapted = recognizer.adapt(audio(corpus, episode["support"]), [labels[name] for name in episode["support"]])
    found = adapted.predict_proba(audio(corpus, episode["query"]))
    np.testing.assert_array_equal(found, np.array(episode["probabilities"], dtype=np.float32))


def test_export_refuses_what_it_cannot_do_and_leaves_nothing(tmp_path, trained, corpus, capsys, monkeypatch):
    experiment, out = trained["Meta-PerSER"], tmp_path / "model"
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "thesis.txt").write_text("mine")
    assert launcher.main(train_command(tmp_path / "zero", "-v", "Linear-Zero")) == 0
    for arguments, message in (
        ([experiment, "--out", tmp_path / "used"], "not empty"),
        ([experiment, "--out", tmp_path / "used" / "thesis.txt"], "this is a file"),
        (
            [tmp_path / "zero", "--out", out],
            "Linear-Zero, which cannot be adapted to a listener. These can: ",
        ),
        ([tmp_path / "used", "--out", out], "not an experiment folder"),
        ([tmp_path / "nowhere", "--out", out], "no such experiment folder"),
    ):
        assert main(["export", *map(str, arguments)]) == 2
        assert message in capsys.readouterr().err
    full = OSError(28, "No space left on device")
    monkeypatch.setattr("safetensors.torch.save_file", lambda *_: (_ for _ in ()).throw(full))
    assert main(["export", str(experiment), "--out", str(out)]) == 2
    assert "No space left" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["used", "zero"]


def test_a_damaged_or_edited_folder_is_refused(random_folder, tmp_path):
    def edited(change):
        copy = tmp_path / str(len(list(tmp_path.iterdir())))
        shutil.copytree(random_folder, copy)
        change(copy)
        with pytest.raises(UserError) as caught:
            PersonalizedEmotionRecognizer.load(copy)
        return str(caught.value)

    def rewrite(sealed=card_checksum, **changes):
        def change(folder):
            card = json.loads((folder / "card.json").read_text())
            for key, value in changes.items():
                card[key] = {**card[key], **value} if isinstance(value, dict) else value
            (folder / "card.json").write_text(json.dumps(card if sealed is None else {**card, CHECKSUM: sealed(card)}))

        return change

    def flip(folder):
        content = bytearray((folder / "model.safetensors").read_bytes())
        content[-1] ^= 1
        (folder / "model.safetensors").write_bytes(content)

    assert "the file was changed or is damaged" in edited(flip)
    assert "Its checksum is not that of its content" in edited(rewrite(None, training={"seed": 5}))
    assert "has schema 99" in edited(rewrite(schema=99))
    assert "adaptation.steps is 7, but options say 4" in edited(rewrite(adaptation={"steps": 7}))
    assert "card.json: Unknown key options.evalrc.stepz" in edited(rewrite(options={"evalrc": {"stepz": 3}}))
    assert "no card.json" in edited(lambda folder: (folder / "card.json").unlink())
    assert "The key kind is missing" in edited(lambda folder: (folder / "card.json").write_text('{"schema": 1}'))


def test_a_model_and_a_listener_of_version_0_1_0_predict_and_adapt_as_they_did(clips):
    """Both were written by that version (schema 1: classes alone), from LABELS on the clips of write_clips."""
    folder = Path(__file__).parent / "fixtures" / "listener-0.1.0"
    wanted = json.loads((folder / "predictions.json").read_text())
    model, listener = (PersonalizedEmotionRecognizer.load(folder / name) for name in ("model", "listener"))
    assert model.label_set.lookup("joy") == "happy"
    assert (model.card["schema"], listener.listener["rater"]) == (2, "anna")
    for found, version in (
        (model, wanted["model"]),
        (listener, wanted["listener"]),
        (model.adapt(clips, LABELS), wanted["listener"]),
    ):
        np.testing.assert_allclose(found.predict_proba(clips), version, rtol=0, atol=1e-6)


def test_other_upstream_weights_are_an_error_that_shows_both(wavlm, random_folder, tmp_path):
    weights, frozen, _ = wavlm
    other = make_checkpoint("wavlm", tmp_path / "other.pt", seed=5)
    with pytest.raises(UserError) as caught:
        PersonalizedEmotionRecognizer.load(frozen, upstream_ckpt=other)
    assert file_hash(weights) in str(caught.value)
    assert file_hash(other) in str(caught.value)
    with pytest.raises(UserError, match=r"needs the weights of its upstream wavlm_local \(tiny.pt\): add -k FILE"):
        PersonalizedEmotionRecognizer.load(frozen)
    with pytest.raises(UserError, match="takes no checkpoint file"):
        PersonalizedEmotionRecognizer.load(random_folder, upstream_ckpt=weights)


def test_a_downloadable_upstream_takes_its_weights_from_a_file(wavlm, tmp_path, clips):
    weights, frozen, _ = wavlm
    shutil.copytree(frozen, tmp_path / "model")
    card = json.loads((frozen / "card.json").read_text())
    card["upstream"]["name"] = "wavlm_base"
    card[CHECKSUM] = card_checksum(card)
    (tmp_path / "model" / "card.json").write_text(json.dumps(card))
    one, other = (PersonalizedEmotionRecognizer.load(f, upstream_ckpt=weights) for f in (frozen, tmp_path / "model"))
    np.testing.assert_array_equal(one.predict_proba(clips[0]), other.predict_proba(clips[0]))


# -- Python ----------------------------------------------------------------------------------------------------------


def test_importing_the_package_does_not_import_torch():
    code = "import sys, s3prl_metaperser; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    assert "PersonalizedEmotionRecognizer" in s3prl_metaperser.__all__
    with pytest.raises(AttributeError):
        _ = s3prl_metaperser.Recognizer


@pytest.mark.parametrize("scope", ["frozen", "finetuned"])
def test_adapting_never_changes_the_recogniser_it_was_called_on(wavlm, clips, scope):
    weights, frozen, finetuned = wavlm
    recognizer = PersonalizedEmotionRecognizer.load(frozen if scope == "frozen" else finetuned, upstream_ckpt=weights)
    before = recognizer.predict_proba(clips)
    kept = {name: value.clone() for name, value in recognizer.model.state.parameters().items()}
    adapted = recognizer.adapt(clips, LABELS)
    assert not np.array_equal(adapted.predict_proba(clips), before)
    np.testing.assert_array_equal(recognizer.predict_proba(clips), before)
    assert all(torch.equal(value, kept[name]) for name, value in recognizer.model.state.parameters().items())
    assert recognizer.listener is None
    assert adapted.listener["clips"] == len(clips)
    with pytest.raises(UserError, match="already adapted"):
        adapted.adapt(clips, LABELS)


@pytest.mark.parametrize("scope", ["frozen", "finetuned"])
def test_threads_predict_what_one_alone_predicts(wavlm, clips, scope):
    """Exact batching and functional calls both work on the shared upstream, so that without a lock this fails."""
    weights, frozen, finetuned = wavlm
    recognizer = PersonalizedEmotionRecognizer.load(frozen if scope == "frozen" else finetuned, upstream_ckpt=weights)
    both = [recognizer, recognizer.adapt(clips, LABELS)]
    parts = [clips[:3], clips[3:], clips[1::2], clips]
    wanted = {(who, n): both[who].predict_proba(part, batch_size=3) for who in (0, 1) for n, part in enumerate(parts)}
    wrong, switch = [], sys.getswitchinterval()

    def work(who, number):
        for _ in range(4):
            found = both[who].predict_proba(parts[number], batch_size=3)
            if not np.array_equal(found, wanted[who, number]):
                wrong.append((who, number))

    threads = [threading.Thread(target=work, args=key) for key in wanted]
    try:
        sys.setswitchinterval(1e-5)
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(switch)
    assert not wrong


def test_arrays_and_tensors_give_the_bits_of_their_files(random_folder, clips, tmp_path):
    recognizer = PersonalizedEmotionRecognizer.load(random_folder)
    samples, rate = soundfile.read(clips[2], dtype="float32")
    wanted = recognizer.predict_proba(clips[2])
    whole, _ = soundfile.read(clips[2], dtype="int16")
    for form in (samples, torch.from_numpy(samples), samples[None], whole, samples.astype(np.float64)):
        np.testing.assert_array_equal(recognizer.predict_proba([form], sampling_rate=rate), wanted)
        np.testing.assert_array_equal(recognizer.predict_proba(form, sampling_rate=rate), wanted)
    half = torch.from_numpy(samples).bfloat16()
    rounded = recognizer.predict_proba([half.float()], sampling_rate=rate)
    np.testing.assert_array_equal(recognizer.predict_proba([half], sampling_rate=rate), rounded)
    fast = soxr.resample(samples, 16000, 44100).astype(np.float32)
    soundfile.write(tmp_path / "fast.wav", fast, 44100, subtype="FLOAT")
    np.testing.assert_array_equal(
        recognizer.predict_proba(fast, sampling_rate=44100), recognizer.predict_proba(tmp_path / "fast.wav")
    )
    for bad, message in (
        ([samples], "sampling_rate is None"),
        (np.zeros((2, 16000)), "could be clips or channels"),
        ([np.zeros((2, 16000))], "average its channels"),
        ([np.zeros(16000, dtype=np.int64)], "int64"),
        ([np.zeros(10)], "shorter than 25 ms"),
        ([np.full(16000, np.nan)], "NaN"),
        ([samples * 32768], "full scale is 1"),
        (None, "Bad clips None, expected"),
        (5, "Bad clips 5"),
        ([None], "Bad clip None, expected"),
        ([[[1.0], [1.0, 2.0]]], "Bad clip"),
        ([b"clip.wav"], "Bad clip"),
    ):
        with pytest.raises(UserError, match=message):
            recognizer.predict_proba(bad, sampling_rate=None if "is None" in message else 16000)
    for impossible in (1, 999, 10**9):
        with pytest.raises(UserError, match="expected 1000 to 768000 Hz"):
            recognizer.predict_proba([samples], sampling_rate=impossible)


@pytest.mark.parametrize("device", ["cuda:99", "nowhere", "meta"])
def test_a_device_that_is_not_there_is_an_error_without_a_traceback(random_folder, clips, capsys, device):
    assert main(["predict", str(random_folder), str(clips[0]), "--device", device]) == 2
    assert f"The device {device!r} cannot be used here" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["happy"], "2 clips and 1 labels"),
        (["happy", "hapy"], r"labels\[1\]: unknown label 'hapy'. Did you mean 'happy'"),
        (["happy", "other"], "names no class"),
        ("happy", "one entry a clip"),
        (None, "one entry a clip, got None"),
        (["happy", None], r"labels\[1\]: None is not a label. Expected one or more of frustrated"),
        ([1, 2], r"labels\[0\]: unknown label '1'"),
        ([b"happy", "sad"], r"labels\[0\]: b'happy' is not a label"),
    ],
)
def test_wrong_labels_are_named(random_folder, clips, labels, message):
    with pytest.raises(UserError, match=message):
        PersonalizedEmotionRecognizer.load(random_folder).adapt(clips[:2], labels)


def test_labels_may_be_in_label_studios_form():
    assert answer_of({"choices": ["sad", "happy"]}, LABEL_SET) == answer_of('{"choices": ["sad", "happy"]}', LABEL_SET)
    assert answer_of({"choices": ["sad", "happy"]}, LABEL_SET) == ("sad", "happy")
    assert answer_of({"rating": 2}, LabelSet("scale", "ordinal", levels=(1.0, 2.0, 3.0))) == 2


def test_predict_returns_a_data_frame_by_clip(random_folder, clips, monkeypatch):
    pytest.importorskip("pandas")
    recognizer = PersonalizedEmotionRecognizer.load(random_folder)
    frame = recognizer.predict(clips[:3])
    assert list(frame.columns) == [*recognizer.classes, "ticked"]
    assert list(frame.index) == [str(path) for path in clips[:3]]
    np.testing.assert_array_equal(frame[list(recognizer.classes)].to_numpy(), recognizer.predict_proba(clips[:3]))
    none = recognizer.predict([])
    assert (len(none), list(none.columns), none["ticked"].dtype) == (0, list(frame.columns), object)
    row = frame.iloc[0]
    assert set(row["ticked"].split(";")) == {name for name in recognizer.classes if row[name] > 1 / 9}
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UserError, match=r"s3prl-metaperser\[listener\]"):
        recognizer.predict(clips[:1])


def test_batches_differ_from_single_clips_by_rounding_alone(wavlm, clips):
    recognizer = PersonalizedEmotionRecognizer.load(wavlm[1], upstream_ckpt=wavlm[0])
    np.testing.assert_allclose(
        recognizer.predict_proba(clips, batch_size=3), recognizer.predict_proba(clips), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("folds", [None, 3])
def test_leave_out_is_a_loop_over_adaptations_without_the_clip(random_folder, clips, folds):
    recognizer = PersonalizedEmotionRecognizer.load(random_folder)
    ticks = [tuple(label.split(";")) for label in LABELS]
    items = recognizer.items(clips)
    fit = leave_out(recognizer.model, items, ListenerLabels.read(LABELS, recognizer.label_set), folds)
    found = np.full((8, 9), np.nan, dtype=np.float32)
    parts = [[i] for i in range(8)] if folds is None else None
    for part in parts or []:
        rest = [i for i in range(8) if i not in part]
        adapted = recognizer.adapt([clips[i] for i in rest], [LABELS[i] for i in rest])
        found[part] = adapted.predict_proba([clips[i] for i in part])
    if parts:
        np.testing.assert_allclose(fit.probabilities, found, rtol=0, atol=1e-6)
    counts = np.array([[name in names for name in recognizer.classes] for names in ticks], dtype=float)
    shares = counts / counts.sum(1, keepdims=True)
    scores = episode_scores(fit.probabilities, counts, recognizer.label_set)
    assert {n: v for n, v in fit.adapted.items() if n != "loss"} == scores
    smoothed = 0.95 * shares + 0.05 * (1 - shares) / 8
    assert fit.adapted["loss"] == pytest.approx(class_balanced_loss(fit.probabilities, smoothed, np.ones(9)))
    assert fit.unadapted["loss"] == pytest.approx(
        class_balanced_loss(recognizer.predict_proba(clips), smoothed, np.ones(9))
    )
    assert fit.folds == (folds or 8)
    for name, span in fit.difference.items():
        assert span.mean == pytest.approx(fit.adapted[name] - fit.unadapted[name])


@pytest.mark.parametrize("count", [2, 3, 7, 8])
def test_an_interval_of_few_clips_lies_within_what_is_possible_or_is_not_given(random_folder, clips, count):
    recognizer = PersonalizedEmotionRecognizer.load(random_folder)
    given = ListenerLabels.read(LABELS[:count], recognizer.label_set)
    fit = leave_out(recognizer.model, recognizer.items(clips)[:count], given)
    for metric in main_metrics(recognizer.label_set):
        span, reach = fit.difference[metric.name], metric.bounds[1] - metric.bounds[0]
        assert -reach <= span.low <= span.mean <= span.high <= reach
    shown = [row.difference for row in fit.rows() if row.title != "loss"]
    assert all(("too few clips for an interval" in text) == (count < 8) for text in shown)
    assert all(("[" in text) == (count >= 8) for text in shown)


def test_the_examples_of_the_docstrings_hold(random_folder, tmp_path, monkeypatch):
    pytest.importorskip("pandas")
    for clip, name in zip(write_clips(tmp_path / "clips", 3), "abc", strict=True):
        clip.rename(tmp_path / f"{name}.wav")
    monkeypatch.chdir(tmp_path)
    found = doctest.testmod(recognizer, extraglobs={"model": random_folder})
    assert (found.attempted > 6, found.failed) == (True, 0)
    assert doctest.testmod(labels).failed == 0


# -- the shell -------------------------------------------------------------------------------------------------------


def write_ratings(path, clips, header="file,label", more=()):
    lines = [header, *(f"{clip.name},{label}" for clip, label in zip(clips, LABELS, strict=True)), *more]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def test_adapt_writes_a_listener_that_predicts_as_python_does(random_folder, clips, tmp_path, capsys):
    ratings = write_ratings(tmp_path / "mine.csv", clips)
    system = read_folder(random_folder).card.system
    command = ["adapt", str(random_folder), "--ratings", ratings, "--root", str(clips[0].parent), "--system", system]
    assert main([*command, "--out", str(tmp_path / "listener")]) == 0
    said = capsys.readouterr()
    assert "cross-validation on the 8 clips" in said.out
    assert "macro-F1" in said.out
    assert f"{system} for listener, K=8" in said.out
    made = PersonalizedEmotionRecognizer.load(tmp_path / "listener")
    wanted = PersonalizedEmotionRecognizer.load(random_folder).adapt(clips, LABELS).predict_proba(clips)
    np.testing.assert_array_equal(made.predict_proba(clips), wanted)
    assert made.listener["model_sha256"] == read_folder(random_folder).card.sha256
    assert made.listener["ticks"]["happy"] == 2
    assert {"loss", *(metric.name for metric in main_metrics(made.label_set))} <= set(made.listener["fit"]["adapted"])
    assert main(["adapt", str(tmp_path / "listener"), *command[2:], "--out", str(tmp_path / "again")]) == 2
    assert "already adapted" in capsys.readouterr().err


def test_adapt_chooses_by_cross_validation_and_says_what_and_why(random_folder, clips, tmp_path, capsys):
    """A listener who always hears what the model thinks least of, and one whom the model hears right."""
    recognizer = PersonalizedEmotionRecognizer.load(random_folder)
    known = recognizer.predict_proba(clips)
    system, classes = recognizer.model.card.system, recognizer.classes
    for name, heard in (("odd", known.mean(0).argmin() + 0 * known.argmax(1)), ("alike", known.argmax(1))):
        lines = [f"{clip.name},{classes[place]}" for clip, place in zip(clips, heard, strict=True)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["file,label", *lines]) + "\n")
        command = [
            "adapt",
            str(random_folder),
            "--root",
            str(clips[0].parent),
            "--ratings",
            str(tmp_path / f"{name}.csv"),
        ]
        assert main([*command, "--out", str(tmp_path / name)]) == 0
        said = capsys.readouterr().out
        made = PersonalizedEmotionRecognizer.load(tmp_path / name)
        trials, chosen = made.listener["choice"]["trials"], made.listener["choice"]["chosen"]
        assert list(trials) == ["zero-shot", "zero-shot+bias", "zero-shot+map", system]
        assert f"{chosen} for listener, K=8" in said
        assert "Choosing costs at most" in said
        items, labels = recognizer.items(clips), ListenerLabels.read([classes[i] for i in heard], recognizer.label_set)
        for way, trial in list(trials.items())[1:]:
            fit = leave_out(recognizer.model, items, labels, system=recognizer.model.way(way))
            targets = recognizer.model.targets(labels).numpy().astype(float)
            expected = [-(targets * np.log(each)).sum(-1).mean() for each in (fit.probabilities, known)]
            assert [trial["loss"], trials["zero-shot"]["loss"]] == pytest.approx(expected, rel=1e-5)
        wanted = recognizer.adapt(clips, [classes[i] for i in heard], system=chosen).predict_proba(clips)
        np.testing.assert_array_equal(made.predict_proba(clips), wanted)
        assert (chosen == "zero-shot") == np.array_equal(made.predict_proba(clips), known)
        assert (chosen == "zero-shot") == (min(trials, key=lambda way: trials[way]["loss"]) == "zero-shot")
    assert main([*command, "--out", str(tmp_path / "none"), "--system", "zero-shot+bais"]) == 2
    assert "Did you mean 'zero-shot+bias'?" in capsys.readouterr().err
    assert main([*command, "--out", str(tmp_path / "map"), "--system", "zero-shot+map"]) == 0
    mapped = PersonalizedEmotionRecognizer.load(tmp_path / "map")
    assert mapped.card["system"] == f"{system}+map"
    assert not np.array_equal(mapped.predict_proba(clips), known)


def test_adapt_warns_in_words_of_few_clips_and_classes_never_ticked(random_folder, clips, tmp_path, capsys):
    (tmp_path / "mine.csv").write_text(
        f"file,label\n{clips[0].name},happy\n{clips[1].name},joy\n{clips[2].name},other\n"
    )
    command = ["adapt", str(random_folder), "--ratings", str(tmp_path / "mine.csv"), "--root", str(clips[0].parent)]
    assert main([*command, "--out", str(tmp_path / "listener")]) == 0
    said = capsys.readouterr().err
    assert "warning: 2 clip(s) are too few to learn a listener from" in said
    assert "warning: Never ticked: frustrated, angry, sad, disgust, excited, fear, neutral, surprise." in said
    assert "warning: All clips have the same label" in said
    assert "left out: 1 x ticks: other" in said
    warned = json.loads((tmp_path / "listener" / "card.json").read_text())["listener"]["warnings"]
    assert len(warned) >= 3


def test_adapt_says_which_clips_are_copies_and_what_that_does_to_leave_out(random_folder, clips, tmp_path, capsys):
    for number in range(3):
        shutil.copy(clips[min(number, 1)], tmp_path / f"{number}.wav")
    (tmp_path / "mine.csv").write_text("file,label\n0.wav,happy\n1.wav,sad\n2.wav,fear\n")
    out = tmp_path / "a listener"
    assert main(["adapt", str(random_folder), "--ratings", str(tmp_path / "mine.csv"), "--out", str(out)]) == 0
    told = capsys.readouterr()
    assert f"same content: {tmp_path / '2.wav'} and {tmp_path / '1.wav'}\n" in told.err
    assert "1 of the 3 clips is a copy of another one" in told.err
    assert f" predict '{out}' FILES" in told.out, "it can be typed as it is printed"
    assert str(tmp_path) not in (out / "card.json").read_text()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("file,label\nclip0.wav,hapy\n", "mine.csv:2: unknown label 'hapy'"),
        ("file,rater,label\nclip0.wav,anna,happy\nclip1.wav,ben,sad\n", "2 raters: anna (1 clips), ben (1 clips)"),
        ("file,label\nclip0.wav,happy\nnone.wav,sad\n", "1 of 2 rated files cannot be read"),
        ("file,label\nclip0.wav,happy\nclip0.wav,sad\n", "mine.csv:3: a second row"),
        ("file,rater,label\nclip0.wav,,happy\n", "mine.csv:2: the rater is blank"),
        ("file\nclip0.wav\n", "no ratings"),
        (None, "mine.csv: there is no such file of labels"),
    ],
)
def test_mistakes_in_ratings_name_file_and_line(random_folder, clips, tmp_path, capsys, content, message):
    if content is not None:
        (tmp_path / "mine.csv").write_text(content)
    command = ["adapt", str(random_folder), "--ratings", str(tmp_path / "mine.csv"), "--root", str(clips[0].parent)]
    assert main([*command, "--out", str(tmp_path / "listener")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "listener").exists()


def test_clips_outside_the_ratings_folder_are_read_when_asked_for(random_folder, clips, tmp_path, capsys):
    rows = [f"{clip},{label}" for clip, label in zip(clips, LABELS, strict=True)]
    (tmp_path / "mine.csv").write_text("\n".join(["file,label", *rows]) + "\n")
    command = ["adapt", str(random_folder), "--ratings", str(tmp_path / "mine.csv"), "--folds", "0"]
    command += ["--out", str(tmp_path / "listener")]
    assert main(command) == 2
    assert "--outside" in capsys.readouterr().err
    assert main([*command, "--outside"]) == 0
    assert "K=8 clips" in capsys.readouterr().out


def test_one_rater_of_several_is_adapted_to(random_folder, clips, tmp_path, capsys):
    rows = [f"{clip.name},anna,{label}" for clip, label in zip(clips, LABELS, strict=True)]
    (tmp_path / "mine.csv").write_text("\n".join(["file,rater,label", *rows, "clip0.wav,ben,sad"]))
    command = ["adapt", str(random_folder), "--ratings", str(tmp_path / "mine.csv"), "--root", str(clips[0].parent)]
    assert main([*command, "--rater", "ana", "--out", str(tmp_path / "listener")]) == 2
    assert "Did you mean 'anna'" in capsys.readouterr().err
    assert main([*command, "--rater", "anna", "--folds", "0", "--out", str(tmp_path / "listener")]) == 0
    wanted = PersonalizedEmotionRecognizer.load(random_folder).adapt(clips, LABELS).predict_proba(clips)
    found = PersonalizedEmotionRecognizer.load(tmp_path / "listener").predict_proba(clips)
    np.testing.assert_array_equal(found, wanted)


def test_predict_takes_folders_and_patterns_and_counts_what_it_cannot_read(random_folder, tmp_path, capsys):
    clips = write_clips(tmp_path / "clips" / "deep", 3)
    (tmp_path / "clips" / "broken.wav").write_bytes(b"RIFF")
    (tmp_path / "clips" / "notes.txt").write_text("no audio")
    (tmp_path / "clips" / ".hidden.wav").write_bytes(b"")
    names = [str(tmp_path / "clips"), str(tmp_path / "clips" / "**" / "clip1.wav"), str(tmp_path / "*.flac")]
    assert main(["predict", str(random_folder), *names, "--out", str(tmp_path)]) == 2
    assert "is a folder. Name a file." in capsys.readouterr().err
    assert main(["predict", str(random_folder), *names, "--csv", "--out", str(tmp_path / "found.csv")]) == 1
    said = capsys.readouterr().err
    assert "broken.wav: the audio" in said or "broken.wav: truncated" in said
    assert "*.flac: no file matches" in said
    assert "2 of 5 could not be predicted" in said
    lines = (tmp_path / "found.csv").read_text().splitlines()
    assert lines[0] == "file,frustrated,angry,sad,disgust,excited,fear,neutral,surprise,happy,ticked"
    assert [line.split(",")[0] for line in lines[1:]] == [str(clip) for clip in clips]
    numbers = np.array([line.split(",")[1:10] for line in lines[1:]], dtype=np.float32)
    np.testing.assert_array_equal(numbers, PersonalizedEmotionRecognizer.load(random_folder).predict_proba(clips))
    assert main(["predict", str(random_folder), str(clips[0])]) == 0
    assert capsys.readouterr().out.startswith(f"{clips[0]}  ")
    assert main(["predict", str(random_folder), str(tmp_path / "found")]) == 1
    assert "no such audio file" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main(["predict", str(random_folder), str(tmp_path / "empty")]) == 2
    assert "the folder has no audio files" in capsys.readouterr().err


def test_names_of_files_put_no_control_sequence_on_the_terminal(random_folder, clips, tmp_path, capsys):
    shutil.copy(clips[0], tmp_path / "\x1b[31mred.wav")
    (tmp_path / "\x1b[31mbroken.wav").write_bytes(b"RIFF")
    shutil.copy(clips[0], tmp_path / "a\nb.wav  happy 1.00.wav")
    assert main(["predict", str(random_folder), str(tmp_path)]) == 1
    told = capsys.readouterr()
    assert "\x1b[31m" not in told.out + told.err.replace("\x1b[A", "")
    assert "\\x1b[31mred.wav" in told.out
    assert "\\nb.wav  happy 1.00" in told.out  # a name is one line, and not two answers
    assert "\\x1b[31mbroken.wav" in told.err


def test_a_clip_that_the_upstream_cannot_take_does_not_stop_the_others(wavlm, tmp_path, capsys):
    clips = write_clips(tmp_path / "clips", 3)
    soundfile.write(tmp_path / "clips" / "blip.wav", np.zeros(410), 16000)  # 25.6 ms: audio, but no frame of WavLM's
    command = ["predict", str(wavlm[1]), str(tmp_path / "clips"), "-k", str(wavlm[0]), "--json", "--batch-size", "4"]
    status = main(command)
    found = json.loads(capsys.readouterr().out)
    named = {row["file"] for row in found["predictions"]} | {row["file"] for row in found["unreadable"]}
    assert {Path(name).name for name in named} == {"blip.wav", *(clip.name for clip in clips)}
    assert status == (1 if found["unreadable"] else 0)


def test_the_speed_benchmark_runs_and_its_stored_results_are_of_the_same_form(tmp_path):
    folder = Path(__file__).resolve().parents[1] / "benchmarks" / "speed"
    command = [sys.executable, "-W", "ignore", str(folder / "listener.py"), "--tiny", "--rounds", "1", "--clips", "2"]
    done = subprocess.run([*command, "--json", str(tmp_path / "result.json")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    made = json.loads((tmp_path / "result.json").read_text())
    assert [(row["upstream"], row["batch"]) for row in made["prediction"]] == [
        (upstream, batch) for upstream in ("fbank_no_cmvn", "wav2vec2_local") for batch in (1, 4)
    ]
    results = [json.loads(stored.read_text()) for stored in (folder / "results").glob("*-listener-cpu.json")]
    assert results
    assert all(set(result) == set(made) for result in results)
    assert all(row["wall"] < 1 for result in results for row in result["adaptation"])


@pytest.mark.parametrize("folds", ["-1", "1", "many"])
def test_parts_of_the_leave_out_that_are_none_are_refused(folds, capsys):
    with pytest.raises(SystemExit):
        main(["adapt", "MODEL", "--ratings", "mine.csv", "--out", "LISTENER", f"--folds={folds}"])
    assert "--folds" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("adaptation", "class_weights", ["x"] * 9),
        ("adaptation", "class_weights", None),
        ("upstream", "layers", "one"),
        ("upstream", "dtype", -1),
        ("upstream", "layer", [None]),
        (None, "options", "x"),
        (None, "upstream", 3),
        (None, "classes", [["happy"]] * 9),
    ],
)
def test_a_card_with_values_of_another_kind_is_one_error_that_names_it(tmp_path, section, key, value):
    model = random_model(tmp_path / "model")
    card = json.loads((model / "card.json").read_text())
    (card if section is None else card[section])[key] = value
    (model / "card.json").write_text(json.dumps(card))
    with pytest.raises(UserError, match=r"card\.json"):
        PersonalizedEmotionRecognizer.load(model)
