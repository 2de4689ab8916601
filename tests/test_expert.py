"""The downstream expert as s3prl's own runner calls it: loaders, loss, logs and inference."""

import argparse
import math

import numpy as np
import pytest
import torch
from small_demo import overrides

from s3prl_metaperser.config.options import Options
from s3prl_metaperser.config.override import apply_override
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.s3prl_plugin.expert import DownstreamExpert

D, RATE = 5, 160


@pytest.fixture(scope="module", params=[True, False], ids=["CSMT", "two sets"])
def expert(request, tmp_path_factory):
    config = Options.from_config({}).as_config()
    chosen = overrides(f"downstream_expert.metarc.combined_set={request.param}")
    apply_override(chosen, argparse.Namespace(), config, strict_config=True)
    folder = tmp_path_factory.mktemp("expert")
    return DownstreamExpert(upstream_dim=D, upstream_rate=RATE, expdir=str(folder), seed=1, **config)


def frames_of(wavs):
    """Stands in for upstream and featurizer: [T, D] of each waveform, that any two differ in."""
    waves = [torch.from_numpy(wav) for wav in wavs]
    return [torch.outer(100 * wave[: len(wave) // 7 * 7 : len(wave) // 7], torch.arange(1.0, D + 1)) for wave in waves]


def distribution(rating, classes):
    """A rater's smoothed distribution by hand."""
    p = np.array([rating.ticks.count(name) for name in classes]) / len(rating.ticks)
    return 0.95 * p + 0.05 * (1 - p) / (len(classes) - 1)


def test_the_loss_is_the_class_balanced_one_of_every_waveform_of_the_batch(expert):
    wavs, *others = next(iter(expert.get_dataloader("train")))
    raters, rows, _, query_rows, _ = others
    utterances = {row: utterance for utterance, row in expert.rows.items()}
    ratings = {(r.rater, r.utterance): r for r in expert.workspace.split.train}
    classes, weights = expert.workspace.corpus.classes, expert.class_weights.double().numpy()
    features = frames_of(wavs)
    logits = expert.logits(features).detach().double().numpy()
    sets, expected, sample = [rows] if query_rows is rows else [rows, query_rows], [], 0
    for chosen in sets:
        for rater, own in zip(raters, chosen.tolist(), strict=True):
            for row in dict.fromkeys(own):  # what fills a small rater up is a copy of its first
                y = distribution(ratings[rater, utterances[row]], classes)
                logs = logits[sample] - np.log(np.exp(logits[sample]).sum())
                expected.append(-(weights @ y) * (y @ logs))
                sample += 1
    assert sample == len(wavs)
    records = {"loss": []}
    loss = expert("train", features, *others, records=records)
    assert loss.item() == pytest.approx(np.mean(expected), rel=1e-5)
    assert records["loss"] == [loss.item()]
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in expert.parameters())


def test_dev_and_test_are_the_frozen_episodes(expert):
    for split, role in (("dev", "validation"), ("test", "test")):
        batches = list(expert.get_dataloader(split))
        assert len(batches) == sum(len(each.episodes) for each in expert.episodes(split))
        assert expert.episodes(split) == expert.workspace.episodes(role)
    with pytest.raises(UserError, match="'dve'"):
        expert.get_dataloader("dve")


def test_records_are_averaged_and_the_lowest_dev_loss_names_a_checkpoint(expert):
    said = {}

    class Logger:
        def add_scalar(self, key, value, global_step):
            said[key, global_step] = value

    expert.best_score.fill_(math.inf)
    named = [
        expert.log_records(split, {"loss": list(values)}, logger=Logger(), global_step=step)
        for step, (split, values) in enumerate(
            [("train", (9.0,)), ("dev", (1.0, 2.0)), ("dev", (2.0, 2.0)), ("dev", (1.0, 1.0)), ("test", (0.5,))]
        )
    ]
    assert named == [[], ["dev-best.ckpt"], [], ["dev-best.ckpt"], []]
    assert said["personalized_emotion_seen_fold1/dev-loss", 1] == 1.5
    log = (expert.expdir / "log.log").read_text()
    assert "dev loss at step 2: 2.0" in log
    assert log.count("New best on dev") == 2


def test_inference_prints_every_class_of_every_file(expert, capsys):
    wavs, *_ = next(iter(expert.get_dataloader("dev")))
    first, second = expert.inference(frames_of(wavs[:2]), ["a.wav", "b.wav"])
    assert first != second
    for found in (first, second):
        assert list(found) == list(expert.workspace.corpus.classes)
        assert sum(found.values()) == pytest.approx(1)
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith(f"a.wav: {max(first, key=first.get)} ")
    path = expert.workspace.utterances[0].path
    wave = expert.load_audio(path)
    assert wave.dtype == torch.float32
    assert len(wave) / 16000 == pytest.approx(expert.workspace.utterances[0].seconds, abs=0.01)
