"""The second task by its commands: s3prl's own launcher and expert, upstreams with weights, a grid for a scheduler."""

from __future__ import annotations

import importlib.util
import math
import sys
from collections import defaultdict

import numpy as np
import pytest
import torch
import yaml
from domain_fixtures import options, planted, several
from random_checkpoints import make_checkpoint
from small_demo import stored

from s3prl_metaperser.cli import main
from s3prl_metaperser.corpora.audio import load_audio
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.grid.engines import snakemake_engine
from s3prl_metaperser.grid.opened import open_grid
from s3prl_metaperser.run.workspace import Workspace
from s3prl_metaperser.s3prl_plugin import launcher
from s3prl_metaperser.s3prl_plugin.domain_expert import DownstreamExpert
from s3prl_metaperser.storage.checkpoints import read_checkpoint

TASK = "domain_generalized_emotion"
D = 3


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return planted(tmp_path_factory.mktemp("corpora"))


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("METAPERSER_CACHE", str(tmp_path / "cache"))


def config(root, **runner):
    data = {"corpus": "acted_corpora", "root": str(root), "scenario": "rest:savee", "batch_size": 8}
    runner = {"total_steps": 4, "eval_step": 2, "save_step": 2, "log_step": 1, **runner}
    return {"runner": runner, "downstream_expert": {"datarc": data, "modelrc": {"projector_dim": 8}}}


def command(root, folder, *more, **runner):
    file = folder.parent / f"{folder.name}.yaml"
    file.write_text(yaml.safe_dump(config(root, **runner)))
    return ["-d", TASK, "-m", "train", "-p", str(folder), "-c", str(file), "--device", "cpu", *more]


def same(one, other):
    first, second = (read_checkpoint(folder / "dev-best.ckpt") for folder in (one, other))
    assert first["Step"] == second["Step"]
    return all(torch.equal(value, second["Downstream"][name]) for name, value in first["Downstream"].items())


def test_s3prls_own_launcher_runs_it_and_comes_to_the_same_bits(root, tmp_path, monkeypatch):
    """``python -m s3prl.run_downstream -d domain_generalized_emotion``, on a stack where s3prl itself starts."""
    from s3prl import run_downstream

    from s3prl_metaperser.s3prl_plugin.registration import register

    register()
    upstream = ("-u", "fbank_no_cmvn", "-v", "DA-MLDG")
    monkeypatch.setattr(sys, "argv", ["run_downstream.py", *command(root, tmp_path / "stock", *upstream)])
    monkeypatch.setattr(torch.multiprocessing, "set_sharing_strategy", lambda strategy: None)
    run_downstream.main()
    assert launcher.main(command(root, tmp_path / "ours", *upstream)) == 0
    assert same(tmp_path / "stock", tmp_path / "ours")
    results = [stored(tmp_path / name / "result_test.json") for name in ("stock", "ours")]
    assert results[0]["episodes"] == results[1]["episodes"]


@pytest.mark.parametrize("flags", [(), ("-f",)], ids=["frozen", "fine-tuned"])
def test_an_upstream_with_weights_is_trained_evaluated_and_resumed(root, tmp_path, flags):
    upstream = ("-u", "wavlm_local", "-k", str(make_checkpoint("wavlm", tmp_path / "tiny.pt")), "-v", "MLDG", *flags)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert launcher.main(command(root, whole, *upstream)) == 0
    assert launcher.main(command(root, parts, *upstream, total_steps=2)) == 0
    assert launcher.main(["-m", "train", "-e", str(parts), "-o", "config.runner.total_steps=4"]) == 0
    assert same(whole, parts)
    trained = stored(whole / "result_test.json")
    assert trained["cell"]["scope"] == ("finetuned" if flags else "frozen")
    (whole / "result_test.json").unlink()
    assert launcher.main(["-m", "evaluate", "-e", str(whole)]) == 0
    assert stored(whole / "result_test.json")["episodes"] == trained["episodes"]
    names = read_checkpoint(whole / "dev-best.ckpt")["Downstream"]
    assert any(name.startswith("model.upstream") for name in names) == bool(flags)


@pytest.fixture
def expert(tmp_path):
    corpus = several(tmp_path / "several")
    chosen = options(generalrc={"selection": "source_validation"}).as_config()

    def opened(given, **splits):
        return Workspace(given, corpus, **splits)

    return DownstreamExpert(D, 160, expdir=str(tmp_path), open_workspace=opened, **chosen)


def frames_of(wavs):
    """Stands in for upstream and featurizer: [T, D] of each waveform, that any two differ in."""
    return [torch.outer(10 * torch.from_numpy(wav[:20].copy()), torch.arange(1.0, D + 1)) for wav in wavs]


def test_the_experts_loss_is_the_mean_over_corpora_of_each_ones(expert):
    wavs, labels, sources = next(iter(expert.get_dataloader("train")))
    assert len(wavs) == 12
    assert np.bincount(sources).tolist() == [4, 4, 4]
    logits = expert.logits(frames_of(wavs)).detach().double().numpy()
    losses = [math.log(np.exp(row).sum()) - row[label] for row, label in zip(logits, labels.tolist(), strict=True)]
    expected = np.mean([np.mean([loss for loss, at in zip(losses, sources, strict=True) if at == d]) for d in range(3)])
    records = defaultdict(list)
    loss = expert("train", frames_of(wavs), labels, sources, records=records)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert records["loss"] == [loss.item()]
    assert np.mean(records["acc"]) == pytest.approx((logits.argmax(1) == labels.numpy()).mean())
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in expert.parameters())


def test_the_experts_batches_are_the_samplers_and_its_test_is_the_whole_target(expert):
    domains = expert.domains
    loader = expert.get_dataloader("train", epoch=1)
    steps = domains.sampler.steps_per_epoch
    assert len(loader) == steps
    rows = domains.sampler.at(steps + 1)
    first = next(iter(loader))[0]
    for wav, row in zip(first, rows, strict=True):
        np.testing.assert_array_equal(wav, load_audio(domains.workspace.utterances[row].path))
    tested = [label for _, labels, _ in expert.get_dataloader("test") for label in labels.tolist()]
    assert len(tested) == len(domains.split.test) == 60
    held = [at for _, _, sources in expert.get_dataloader("dev") for at in sources.tolist()]
    assert len(held) == sum(len(mine) for mine in domains.ids("validation").values())
    assert min(held) >= 0
    with pytest.raises(UserError, match="'dve'"):
        expert.get_dataloader("dve")
    assert expert.get_downstream_name() == "domain_generalized_emotion_rest:delta_trial1"


@pytest.fixture
def grid(root, tmp_path):
    given = {
        "task": TASK,
        "description": "small",
        "results": str(tmp_path / "results"),
        "corpus": "acted_corpora",
        "root": str(root),
        "upstreams": ["fbank_no_cmvn"],
        "scenarios": ["rest:savee", "rest:emodb"],
        "trials": [1, 2],
        "systems": {"frozen": ["Majority", "DA-MLDG"]},
        "options": {"runner": {"total_steps": 2}, "downstream_expert": {"modelrc": {"projector_dim": 8}}},
    }
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump(given))
    return str(tmp_path / "grid.yaml")


def test_a_scheduler_gets_a_job_for_each_scenario_and_system_and_none_waits_for_another(grid):
    plan = snakemake_engine.plan_of(open_grid(grid), snakemake_engine.Settings(command=["GRID"]), [], elsewhere=True)
    jobs = [job for job in plan.values() if job["rule"] == "system"]
    assert len(jobs) == 4, "both trials of a scenario and a system are one job"
    assert {job["rule"] for job in plan.values()} == {"system", "report"}
    assert all(job["resources"] == {"threads": 1} and not job["needs"] for job in jobs)
    assert sum("system=DA-MLDG" in job["command"] for job in jobs) == 2


@pytest.mark.skipif(importlib.util.find_spec("snakemake") is None, reason="pip install 's3prl-metaperser[grid]'")
def test_a_grid_of_it_is_snakemakes_to_run(grid, capfd):
    assert main(["run", grid, "--engine", "snakemake", "--cores", "2", "--dry-run"]) == 0
    said = capfd.readouterr().out
    assert (said.count("rule system:"), said.count("rule report:"), "rule features:" in said) == (4, 1, False)
