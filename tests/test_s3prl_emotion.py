"""s3prl's own emotion downstream through our launcher: it trains, resumes and evaluates on this stack."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from s3prl_metaperser.s3prl_plugin import launcher

LAUNCHER = Path(__file__).resolve().parent.parent / "run_downstream.py"
LABELS = {"neutral": 0, "happy": 1, "angry": 2, "sad": 3}


@pytest.fixture(scope="module")
def experiment(tmp_path_factory) -> Path:
    """Sixteen short waveforms in the layout of s3prl's IEMOCAP preprocessing, and a configuration."""
    folder = tmp_path_factory.mktemp("emotion")
    draw = np.random.default_rng(0)
    for split, count in (("train", 10), ("test", 6)):
        entries = []
        for i in range(count):
            label = list(LABELS)[i % len(LABELS)]
            path = f"Session1/sentences/wav/{split}_{i}.wav"
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            tone = np.sin(2 * np.pi * 110 * (1 + LABELS[label]) * np.arange(6000 + 800 * i) / 16000)
            soundfile.write(folder / path, 0.3 * tone + 0.01 * draw.standard_normal(len(tone)), 16000)
            entries.append({"path": path, "label": label})
        meta = folder / "meta_data" / "Session1" / f"{split}_meta_data.json"
        meta.parent.mkdir(parents=True, exist_ok=True)
        meta.write_text(json.dumps({"labels": LABELS, "meta_data": entries}))
    config = {
        "runner": {
            **{"total_steps": 4, "gradient_clipping": 1, "gradient_accumulate_steps": 1},
            **{"log_step": 2, "eval_step": 2, "save_step": 2, "max_keep": 1, "eval_dataloaders": ["dev"]},
        },
        "optimizer": {"name": "TorchOptim", "torch_optim_name": "Adam", "lr": 1.0e-3},
        "downstream_expert": {
            "datarc": {
                **{"root": str(folder), "meta_data": str(folder / "meta_data"), "test_fold": "fold1"},
                **{"pre_load": True, "valid_ratio": 0.3, "num_workers": 0},
                **{"train_batch_size": 4, "eval_batch_size": 4},
            },
            "modelrc": {
                **{"select": "UtteranceLevel", "projector_dim": 8},
                "UtteranceLevel": {"pooling": "MeanPooling"},
            },
        },
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


def launch(folder: Path, *arguments: object) -> subprocess.CompletedProcess:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, str(LAUNCHER), *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def test_s3prls_own_downstream_trains_resumes_and_evaluates(experiment):
    expdir = experiment / "exp"
    line = ["-d", "emotion", "-c", experiment / "config.yaml", "-p", expdir, "-u", "fbank_no_cmvn"]
    trained = launch(experiment, "-m", "train", *line, "-o", "config.optimizer.lr=2e-3,,args.seed=5")
    assert trained.returncode == 0, trained.stderr[-3000:]
    assert "[Override] - args.seed = 5" in trained.stderr
    names = {path.name for path in expdir.iterdir()}
    assert {"states-4.ckpt", "log.log", "dev_fold1_predict.txt", "dev_fold1_truth.txt"} <= names
    assert "states-2.ckpt" not in names
    assert "dev at step 4" in (expdir / "log.log").read_text()

    resumed = launch(experiment, "-m", "train", "-e", expdir, "-o", "config.runner.total_steps=6")
    assert resumed.returncode == 0, resumed.stderr[-3000:]
    assert "dev at step 6" in (expdir / "log.log").read_text()
    assert (expdir / "states-6.ckpt").is_file()

    evaluated = launch(experiment, "-m", "evaluate", "-e", expdir / "states-6.ckpt")
    assert evaluated.returncode == 0, evaluated.stderr[-3000:]
    assert "test acc:" in evaluated.stdout
    predicted = (expdir / "test_fold1_predict.txt").read_text().split()
    assert predicted[::2] == [f"test_{i}" for i in range(6)]
    assert set(predicted[1::2]) <= set(LABELS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"-u": "fbank_no_cmvm"}, "Did you mean 'fbank_no_cmvn'?"),
        ({"-d": "emotoin"}, "Did you mean 'emotion'?"),
        ({"-c": None}, "pass one with -c FILE"),
        ({"-u": "wavlm_local"}, "add -k FILE"),
        ({"-o": "args.sed=1"}, "Did you mean 'seed'?"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(experiment, monkeypatch, capsys, changes, message):
    monkeypatch.chdir(experiment)
    line = {"-m": "train", "-d": "emotion", "-c": "config.yaml", "-p": "exp2", "-u": "fbank_no_cmvn", **changes}
    assert launcher.main([part for pair in line.items() if pair[1] for part in pair]) == 2
    said = capsys.readouterr().err
    assert message in said.splitlines()[-1]
    assert "Traceback" not in said
