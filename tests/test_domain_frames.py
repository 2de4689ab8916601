"""The second task on frames: ResNet18 in a cell, its start from pre-trained weights, and their making."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from domain_fixtures import options, run, several, vectors

from s3prl_metaperser import cli
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.generalise.resnet18 import ResNet18, as_images
from s3prl_metaperser.run.domain_cell import OpenDomains
from s3prl_metaperser.run.pretraining import Pretraining, Trainer, find_speakers, load_weights
from s3prl_metaperser.run.settings import CellOptions, UpstreamOptions
from s3prl_metaperser.run.workspace import Workspace
from s3prl_metaperser.storage.hashing import file_hash

SIZES = {"alpha": (3, 5), "beta": (2, 5), "delta": (2, 5)}
SMALL = {"network": "resnet18", "channels": 2}


def cell_of(folder, system, chosen):
    folder.mkdir(parents=True, exist_ok=True)
    return CellOptions(UpstreamOptions("logmel"), folder, chosen, system=system, task="domain_generalized_emotion")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return several(tmp_path_factory.mktemp("corpora"), SIZES)


def test_vectors_become_square_images_for_resnet18(corpus, tmp_path):
    values = torch.arange(2 * 3 * 16.0).view(2, 3, 16)
    assert torch.equal(as_images(values)[1, 2], values[1, 2].view(4, 4))
    with pytest.raises(UserError, match="6 is no square"):
        as_images(torch.zeros(1, 1, 6))
    file = vectors(corpus, tmp_path / "vectors.npz", size=16)
    result = run(corpus, file, tmp_path / "cell", options(modelrc=SMALL, runner={"total_steps": 2}), "DA-MLDG")
    assert np.isfinite(result.episodes[0].probabilities).all()


def test_weights_that_are_not_there_are_refused_before_training(corpus, tmp_path):
    chosen = options(modelrc={**SMALL, "weights": "missing.safetensors"})
    with pytest.raises(UserError, match=r"missing.safetensors does not exist"):
        OpenDomains(cell_of(tmp_path, "Deep-All", chosen), lambda given, **s: Workspace(given, corpus, **s))


def test_too_few_steps_for_the_running_statistics_are_said(corpus, tmp_path, capsys):
    for momentum, said in ((0.01, True), (0.5, False)):
        chosen = options(modelrc={**SMALL, "bn_momentum": momentum}, runner={"total_steps": 30})
        OpenDomains(cell_of(tmp_path, "Deep-All", chosen), lambda given, **s: Workspace(given, corpus, **s))
        told = "after 30 steps its running statistics still hold 74% of their start" in capsys.readouterr().err
        assert told == said


# -- pre-training --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def speakers(tmp_path_factory):
    """Three speakers, told apart by a tone; their recordings stand in folders of films, as VoxCeleb's do."""
    root = tmp_path_factory.mktemp("speakers")
    rng = np.random.default_rng(0)
    for number, tone in enumerate((300, 1200, 4000)):
        for film in ("film1", "film2"):
            for clip in range(4):
                folder = root / f"id{number}" / film
                folder.mkdir(parents=True, exist_ok=True)
                time = np.arange(4000) / 16000
                samples = 0.2 * np.sin(2 * np.pi * tone * time) + 0.05 * rng.normal(size=4000)
                write_wave(folder / f"{clip:05d}.wav", samples)
    (root / "id0" / "notes.txt").write_text("not audio")
    return root


def write_wave(path, samples):
    import wave

    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes((samples * 20000).astype("<i2").tobytes())


SETTINGS = Pretraining(epochs=3, batch_size=8, seconds=0.2, channels=2, held_out=0.2, lr=0.05)


def test_speakers_are_the_folders_folders_and_some_of_each_ones_recordings_are_held_out(speakers, tmp_path):
    found = find_speakers(speakers, SETTINGS)
    assert found.names == ("id0", "id1", "id2")
    assert sorted(who for _, who in found.held_out) == [0, 0, 1, 1, 2, 2]
    assert len(found.train) == 18
    assert not {path for path, _ in found.train} & {path for path, _ in found.held_out}
    assert "notes" not in found.passed_over
    assert ".txt 1" in found.passed_over
    copied = tmp_path / "wav"
    shutil.copytree(speakers / "id0", copied / "id0")
    with pytest.raises(UserError, match=r"id0 is the only one.*the folder whose folders are the speakers"):
        find_speakers(copied, SETTINGS)
    (copied / "id1").mkdir()
    (copied / "id1" / "broken.wav").write_bytes(b"no sound")
    with pytest.raises(UserError, match=r"1 of 9 recordings .* cannot be read.*broken.wav"):
        find_speakers(copied, SETTINGS)


def test_pretraining_learns_speakers_and_resumes_to_the_bit(speakers, tmp_path):
    found = find_speakers(speakers, SETTINGS)
    whole = Trainer(speakers, found, SETTINGS, tmp_path / "whole.states")
    lines = list(whole.run())
    assert len(lines) == 3
    assert whole.progress.losses[-1] < whole.progress.losses[0]

    stopped = Trainer(speakers, found, SETTINGS, tmp_path / "half.states")
    next(stopped.run())
    stopped._save()  # as the loop does behind the line
    again = Trainer(speakers, found, SETTINGS, tmp_path / "half.states")
    assert again.progress.step == again.per_epoch
    assert list(again.run()) == lines[1:]
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, again.network.state_dict()[name]), name
    other = Pretraining(**{**vars(SETTINGS), "lr": 0.01})
    with pytest.raises(UserError, match="trained with other settings"):
        Trainer(speakers, found, other, tmp_path / "half.states")


def test_the_command_writes_weights_that_a_cell_starts_from(speakers, corpus, tmp_path, capsys):
    out = tmp_path / "weights.safetensors"
    command = ["pretrain", str(speakers), "--out", str(out), "--epochs", "1", "--batch-size", "8", "--seconds", "0.2"]
    assert cli.main([*command, "--channels", "2"]) == 0
    said = capsys.readouterr().out
    assert "3 speakers, 21 recordings, and 3 held out" in said
    assert "epoch 1 of 1" in said
    assert list(tmp_path.glob("*.states")) == []
    network = ResNet18(1, 5, torch.Generator().manual_seed(0), channels=2)
    before = network.classifier.weight.clone()
    assert "3 speakers, 21 recordings, 1 epochs, hann windows" in load_weights(network, out)
    assert torch.equal(network.classifier.weight, before)
    with pytest.raises(UserError, match=r"modelrc.channels=2"):
        load_weights(ResNet18(1, 5, torch.Generator().manual_seed(0), channels=4), out)
    chosen = options(augmentrc={"crop_seconds": 0.1}, modelrc={**SMALL, "weights": str(out)})
    opened = OpenDomains(cell_of(tmp_path / "cell", "Deep-All", chosen), lambda g, **s: Workspace(g, corpus, **s))
    assert opened.made_from["weights"] == file_hash(out)
    assert torch.equal(opened.model.state_dict()["layer3.1.conv2.weight"], network.layer3[1].conv2.weight)
    assert cli.main(command) == 2
    assert "exists" in capsys.readouterr().err
