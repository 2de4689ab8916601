"""``-f`` through s3prl's command line: a tiny random WavLM on a small demo corpus, in one process and in two."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import outer_gradient_program
import pytest
import torch
from random_checkpoints import make_checkpoint
from small_demo import overrides, train_command
from test_runner import REPOSITORY, result

from s3prl_metaperser import parallel
from s3prl_metaperser.config.options import TuningOptions
from s3prl_metaperser.run import scopes
from s3prl_metaperser.s3prl_plugin import launcher
from s3prl_metaperser.storage.checkpoints import read_checkpoint

pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask:UserWarning")

QUICK = (
    "downstream_expert.evalrc.shots=6",
    "downstream_expert.evalrc.queries=10",
    "downstream_expert.evalrc.seeds=2",
    "downstream_expert.evalrc.steps=3",
    "downstream_expert.metarc.shots=4",
    "downstream_expert.initrc.total_steps=6",
    "downstream_expert.initrc.eval_step=2",
    "downstream_expert.initrc.batch_size=8",
    "downstream_expert.tunerc.micro_batch_seconds=6",
    "downstream_expert.tunerc.longest_seconds=1.2",
    "runner.total_steps=4",
    "runner.eval_step=2",
    "runner.save_step=2",
    "runner.threads=1",
)


def command(folder, checkpoint, *more, options=(), system="Meta-PerSER"):
    start = ["-d", "personalized_emotion", "-u", "wavlm_local", "-k", str(checkpoint), "-m", "train", "-f"]
    return [*start, "-v", system, "-p", str(folder), "-o", overrides(*QUICK, *options), *more]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.pt"
    make_checkpoint("wavlm", path)
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory, checkpoint):
    folder = tmp_path_factory.mktemp("finetuned") / "exp"
    assert launcher.main(command(folder, checkpoint)) == 0
    assert launcher.main(["-m", "evaluate", "-e", str(folder)]) == 0
    return folder


def test_train_and_evaluate_write_a_result_in_the_finetuned_scope(trained):
    content = result(trained)
    assert content["cell"]["scope"] == "finetuned"
    assert content["cell"]["system"] == "Meta-PerSER"
    assert content["counts"]["shots_used"] == 6
    assert all(abs(sum(row) - 1) < 1e-5 for e in content["episodes"] for row in e["probabilities"])


def test_the_checkpoint_holds_the_whole_upstream_under_s3prls_names(trained, checkpoint):
    content = read_checkpoint(trained / "dev-best.ckpt")
    original = torch.load(checkpoint, weights_only=True)["model"]
    assert {f"model.{name}" for name in original} == set(content["Upstream"])
    moved = [n for n, value in original.items() if not torch.equal(value, content["Upstream"][f"model.{n}"])]
    assert any(".layers.1." in name for name in moved), "transformer layers adapt"
    assert not any("feature_extractor" in name for name in moved), "the front-end is frozen by default"
    assert content["InnerRates"]["values"].shape[0] == 2


@pytest.mark.parametrize("system", ["Entire-Zero", "Entire-Few", "Random"])
def test_every_system_starts_from_the_same_ssl_e_and_gets_the_same_episodes(tmp_path, trained, checkpoint, system):
    initialisations = Path(os.environ["METAPERSER_CACHE"]) / "initialisation"
    made = set(initialisations.rglob("ssl-e.safetensors"))  # by Meta-PerSER; what it holds is compared elsewhere
    assert launcher.main(command(tmp_path / "exp", checkpoint, system=system)) == 0
    assert launcher.main(["-m", "evaluate", "-e", str(tmp_path / "exp")]) == 0
    content = result(tmp_path / "exp")
    assert [e["support"] for e in content["episodes"]] == [e["support"] for e in result(trained)["episodes"]]
    assert made
    assert set(initialisations.rglob("ssl-e.safetensors")) == made


def test_systems_of_the_other_scope_are_unknown_here(tmp_path, checkpoint, capsys):
    assert launcher.main(command(tmp_path / "exp", checkpoint, system="Linear-Few")) == 2
    available = capsys.readouterr().err.split("Available: ")[1]
    assert all(name in available for name in ("Entire-Few, ", "Entire-Sim, ", "Entire-Zero, "))
    assert "Linear" not in available


def start_two(arguments, **environment):
    """Two processes of a run, by torchrun."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    program = [str(REPOSITORY / "run_downstream.py"), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.Popen([*launch, *program], env=environment, stderr=subprocess.PIPE, text=True)


def copied_cache(tmp_path):
    """A cache with the demo corpus and without the initialisation."""
    source = Path(os.environ["METAPERSER_CACHE"])
    shutil.copytree(source / "demo", tmp_path / "cache" / "demo", symlinks=True)
    return tmp_path / "cache"


def test_two_processes_have_the_outer_gradient_of_one(tmp_path, checkpoint):
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    files = [str(tmp_path / name) for name in ("one.pt", "two.pt")]
    outer_gradient_program.main(str(checkpoint), files[0])
    program = [outer_gradient_program.__file__, str(checkpoint), files[1]]
    subprocess.run([*launch, *program], env=environment, check=True)
    one, two = (torch.load(file, weights_only=True) for file in files)
    assert one.keys() == two.keys()
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-6)
    for name, gradient in one.items():
        if name != "loss":
            assert (two[name] - gradient).norm() <= 1e-6 * max(gradient.norm(), 1e-3), name
    assert one["rates"].abs().sum() > 0


def test_two_processes_end_with_the_one_process_result_and_write_once(tmp_path, trained, checkpoint):
    process = start_two(command(tmp_path / "two", checkpoint), METAPERSER_CACHE=str(copied_cache(tmp_path)))
    _, said = process.communicate(timeout=6000)
    assert process.returncode == 0, said
    one, two = (read_checkpoint(folder / "states-4.ckpt") for folder in (trained, tmp_path / "two"))
    for part in ("Upstream", "Downstream", "InnerRates"):
        for name, value in one[part].items():
            torch.testing.assert_close(two[part][name], value, rtol=0, atol=2e-6)
    log = (tmp_path / "two" / "log.log").read_text().splitlines()
    assert sum(line.startswith("dev loss at step 4:") for line in log) == 1
    assert len(list((tmp_path / "two").glob("args_*.yaml"))) == 1


def test_a_killed_process_ends_the_whole_job(tmp_path, trained, checkpoint):
    long = ("runner.total_steps=4000",)
    process = start_two(command(tmp_path / "two", checkpoint, options=long))
    deadline = time.monotonic() + 600
    while not (tmp_path / "two" / "states-2.ckpt").exists() and time.monotonic() < deadline:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.1)
    workers = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
    assert len(workers) == 2
    os.kill(int(workers[-1]), signal.SIGKILL)
    process.communicate(timeout=600)
    assert process.returncode != 0
    assert read_checkpoint(tmp_path / "two" / "states-2.ckpt")["Step"] >= 2
    assert not list((tmp_path / "two").glob("*.part"))


#: A run that is killed once it has saved SSL-E's progress.
KILLED = """
import os, signal, sys
from s3prl_metaperser.methods import initialisation
from s3prl_metaperser.s3prl_plugin import launcher
save = initialisation.save_checkpoint
initialisation.save_checkpoint = lambda *content: (save(*content), os.kill(os.getpid(), signal.SIGKILL))
launcher.main(sys.argv[1:])
"""


def test_killed_ssl_e_goes_on_to_the_same_bits(tmp_path, trained, checkpoint, monkeypatch):
    cache, eight = copied_cache(tmp_path), ("downstream_expert.initrc.total_steps=8",)
    folders = (tmp_path / "killed", tmp_path / "whole")
    killed, whole = (command(folder, checkpoint, options=eight, system="Entire-Zero") for folder in folders)
    environment = {**os.environ, "METAPERSER_CACHE": str(cache), "PYTHONPATH": str(REPOSITORY)}
    ended = subprocess.run([sys.executable, "-c", KILLED, *killed], env=environment, capture_output=True, text=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert list(cache.rglob("progress.ckpt"))
    assert not list(cache.rglob("ssl-e.safetensors"))
    assert launcher.main(whole) == 0
    monkeypatch.setenv("METAPERSER_CACHE", str(cache))
    assert launcher.main(killed) == 0
    one, other = (read_checkpoint(tmp_path / name / "dev-best.ckpt") for name in ("killed", "whole"))
    assert all(torch.equal(one["Upstream"][name], other["Upstream"][name]) for name in one["Upstream"])
    assert not list(cache.rglob("progress.ckpt"))


def test_meta_training_resumes_from_its_middle_to_the_same_bits(tmp_path, trained, checkpoint):
    half = tmp_path / "half"
    assert launcher.main(command(half, checkpoint, options=("runner.max_keep=5",))) == 0
    (half / "states-4.ckpt").unlink()
    assert launcher.main([*command(half, checkpoint), "-a"]) == 0
    one, other = read_checkpoint(trained / "states-4.ckpt"), read_checkpoint(half / "states-4.ckpt")
    for part in ("Upstream", "Downstream", "InnerRates"):
        assert all(torch.equal(one[part][name], other[part][name]) for name in one[part])


def test_out_of_memory_names_step_rater_and_what_to_lower(tmp_path, trained, checkpoint, monkeypatch, capsys):
    from s3prl_metaperser.meta import adjoint

    def exhausted(*arguments, **options):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(adjoint, "outer_gradient", exhausted)
    assert launcher.main(command(tmp_path / "exp", checkpoint)) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "Outer step 1, rater C-E4 ran out of memory (CUDA out of memory" in said
    assert "Lower tunerc.micro_batch_seconds" in said


@pytest.mark.parametrize(
    ("place", "what"),
    [
        ("s3prl_metaperser.run.scopes.shape_of", "Loading wavlm_local ran out of memory (CUDA out of memory"),
        ("torch.optim.AdamW.step", "Outer step 1, the optimiser, ran out of memory (CUDA out of memory"),
        ("s3prl_metaperser.methods.learner.EntireLearner.loss_on", "SSL-E step 2, validation, ran out of memory"),
    ],
)
def test_out_of_memory_beside_the_gradient_is_one_line_too(
    tmp_path, trained, checkpoint, monkeypatch, capsys, place, what
):
    def exhausted(*arguments, **options):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(place, exhausted)
    anew = ("downstream_expert.initrc.lr=3e-5",) if "loss_on" in place else ()  # an SSL-E that is not in the cache
    assert launcher.main(command(tmp_path / "exp", checkpoint, options=anew)) == 2
    assert what in capsys.readouterr().err.strip().splitlines()[-1]


def test_bf16_is_refused_in_training_on_a_cpu_and_evaluating_there_says_so(tmp_path, trained, checkpoint, capsys):
    bf16 = ("downstream_expert.tunerc.bf16=true",)
    assert launcher.main(command(tmp_path / "exp", checkpoint, options=bf16)) == 2
    assert "tunerc.bf16: true requires a GPU" in capsys.readouterr().err.strip().splitlines()[-1]
    made_on_a_gpu = SimpleNamespace(trains=False, device="cpu")
    scopes._check_tuning(TuningOptions(bf16=True), made_on_a_gpu)
    assert "on a CPU everything is computed in float32" in capsys.readouterr().err


def test_a_crop_that_leaves_no_frame_is_named_as_the_mistake(tmp_path, trained, checkpoint, capsys):
    for seconds in ("0", "1e-3"):
        short = (f"downstream_expert.tunerc.longest_seconds={seconds}",)
        assert launcher.main(command(tmp_path / "exp", checkpoint, options=short)) == 2
        assert "for tunerc.longest_seconds" in capsys.readouterr().err.strip().splitlines()[-1]


def test_not_a_number_in_the_inner_loop_names_step_and_rater(tmp_path, trained, checkpoint, capsys):
    assert (
        launcher.main(command(tmp_path / "exp", checkpoint, options=("downstream_expert.metarc.inner_lr=1e30",))) == 2
    )
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "Outer step 1, rater C-E4: " in said
    assert "Lower the inner rate" in said


def test_divergence_in_the_outer_loop_names_the_step_and_keeps_the_last_checkpoint(
    tmp_path, checkpoint, trained, capsys
):
    wild = ("optimizer.lr=1e30", "runner.save_step=1", "runner.eval_step=4")
    assert launcher.main(command(tmp_path / "exp", checkpoint, options=wild)) == 2
    assert "Outer step 2" in capsys.readouterr().err.strip().splitlines()[-1]
    assert read_checkpoint(tmp_path / "exp" / "states-1.ckpt")["Step"] == 1


def test_an_upstream_without_weights_cannot_be_fine_tuned(tmp_path, capsys):
    arguments = ["-d", "personalized_emotion", "-u", "fbank_no_cmvn", "-m", "train", "-f", "-p", str(tmp_path / "exp")]
    assert launcher.main([*arguments, "-o", overrides()]) == 2
    assert "no learned weights to fine-tune" in capsys.readouterr().err


def test_with_a_frozen_upstream_several_processes_are_refused(tmp_path, trained, monkeypatch, capsys):
    monkeypatch.setattr(parallel, "world", lambda: 2)
    assert launcher.main(train_command(tmp_path / "exp")) == 2
    assert "start it without torchrun" in capsys.readouterr().err


@pytest.mark.parametrize("family", ["hubert", "wav2vec2", "hf_hubert", "hf_wav2vec2"])
def test_the_other_families_train_and_evaluate(tmp_path, trained, family):
    upstream = {"hubert": "hubert_local", "wav2vec2": "wav2vec2_local"}.get(family, f"{family}_custom")
    make_checkpoint(family, tmp_path / "weights")
    few = ("downstream_expert.initrc.total_steps=1", "runner.total_steps=1")
    arguments = command(tmp_path / "exp", tmp_path / "weights", options=few)
    arguments[arguments.index("wavlm_local")] = upstream
    assert launcher.main(arguments) == 0
    assert launcher.main(["-m", "evaluate", "-e", str(tmp_path / "exp")]) == 0
    assert result(tmp_path / "exp")["cell"]["upstream"] == upstream
