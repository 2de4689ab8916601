"""``metaperser publish --format onnx``: graphs that give what the model gives, run by onnxruntime."""

import json

import numpy as np
import pytest
import torch
from listener_fixtures import LABELS, random_model, write_clips
from random_checkpoints import make_checkpoint

from s3prl_metaperser.cli import main
from s3prl_metaperser.corpora.label_set import LabelSet
from s3prl_metaperser.listener.recognizer import PersonalizedEmotionRecognizer
from s3prl_metaperser.listener.waves import waveform

pytest.importorskip("onnxruntime", reason="extra onnx")
pytest.importorskip("onnxscript", reason="extra onnx")
from s3prl_metaperser.exchange.onnx_files import answers, features_of

SCALE = LabelSet("five-points", "ordinal", tuple("12345"), levels=(1.0, 2.0, 3.0, 4.0, 5.0))


def published(source, out, *more):
    return main(["publish", str(source), "--format", "onnx", "--out", str(out), *map(str, more)])


def adapted(model, folder, **weights):
    """A listener's folder, the recogniser, and clips."""
    clips = write_clips(folder / "clips")
    own = PersonalizedEmotionRecognizer.load(model, **weights).adapt(clips[: len(LABELS)], LABELS[: len(clips)])
    own.save(folder / "listener")
    return own, clips


def from_sound(folder, clips):
    features = [features_of(folder, waveform(clip).numpy()) for clip in clips]
    return answers(folder, np.stack(features))


def test_a_listeners_graphs_go_from_sound_to_the_listeners_answers(tmp_path, capsys):
    own, clips = adapted(random_model(tmp_path / "model"), tmp_path)
    assert published(tmp_path / "listener", tmp_path / "out") == 0
    assert "upstream.onnx: a waveform at 16000 Hz" in capsys.readouterr().out
    expected = own.predict_proba(clips)
    assert np.ptp(expected, axis=0).max() > 0.01, "clips differ"
    np.testing.assert_allclose(from_sound(tmp_path / "out", clips), expected, atol=1e-4)
    said = json.loads((tmp_path / "out" / "answers.json").read_text())
    assert said["classes"] == list(own.classes)
    assert (said["kind"], said["sampling_rate"]) == ("multi", 16000)
    base = PersonalizedEmotionRecognizer.load(tmp_path / "model").predict_proba(clips)
    assert np.abs(base - expected).max() > 1e-3, "the listener's graph is not the model's"


def test_of_another_upstream_the_head_alone_is_written_and_it_is_said(tmp_path, capsys):
    weights = make_checkpoint("hubert", tmp_path / "hubert.pt")
    model = random_model(tmp_path / "model", "hubert_local", weights, shape=(3, 16))
    assert published(model, tmp_path / "out", "-k", weights) == 0
    assert "no upstream.onnx: -u hubert_local is not exported" in capsys.readouterr().out
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["answers.json", "head.onnx"]
    recognizer = PersonalizedEmotionRecognizer.load(model, upstream_ckpt=weights)
    inputs, items = recognizer.model.inputs, recognizer.items(write_clips(tmp_path / "clips"))
    features = torch.stack([item * inputs.scale + inputs.mean for item in items]).numpy()
    np.testing.assert_allclose(answers(tmp_path / "out", features), recognizer.predict_items(items), atol=1e-5)


def test_a_model_that_adapts_as_a_whole_is_refused_and_nothing_is_written(tmp_path, capsys):
    weights = make_checkpoint("hubert", tmp_path / "hubert.pt")
    model = random_model(tmp_path / "model", "hubert_local", weights, shape=(3, 16), finetuned=True)
    assert published(model, tmp_path / "out", "-k", weights) == 2
    assert "the whole model adapts (-f)" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("labels", "way"),
    [(None, "zero-shot+map"), (None, "zero-shot+bias"), (SCALE, "zero-shot+offset"), (SCALE, "zero-shot+affine")],
)
def test_what_a_listeners_outputs_are_adapted_by_is_in_the_graph(tmp_path, labels, way):
    clips = write_clips(tmp_path / "clips")
    model = random_model(tmp_path / "model", **({} if labels is None else {"label_set": labels}))
    given = LABELS[: len(clips)] if labels is None else [1, 2, 2, 3.5, 4, 5]
    own = PersonalizedEmotionRecognizer.load(model).adapt(clips, given, system=way)
    own.save(tmp_path / "listener")
    assert published(tmp_path / "listener", tmp_path / "out") == 0
    np.testing.assert_allclose(from_sound(tmp_path / "out", clips), own.predict_proba(clips), atol=1e-5)
    base = PersonalizedEmotionRecognizer.load(model).predict_proba(clips)
    assert np.abs(base - own.predict_proba(clips)).max() > 1e-2, "the way changes something"
