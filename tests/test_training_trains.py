"""Training that trains: values that turn it off are refused, and a run that moves nothing does not end well."""

import dataclasses
import re
import typing

import pytest
import torch
from small_demo import train_command

from s3prl_metaperser.cli import main
from s3prl_metaperser.config.options import Options
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.methods.few import optimised, through
from s3prl_metaperser.methods.movement import Watched
from s3prl_metaperser.run.cell import check_device
from s3prl_metaperser.run.settings import CellOptions, UpstreamOptions
from s3prl_metaperser.s3prl_plugin import launcher

#: Every rate, and every bound on a gradient; written down here, and not read from the options' own facts.
NEVER_ZERO = {
    *("runner.gradient_clipping", "optimizer.lr", "downstream_expert.initrc.lr", "downstream_expert.metarc.lslr_lr"),
    *("downstream_expert.metarc.inner_lr", "downstream_expert.fewrc.lr", "downstream_expert.fewrc.classifier_lr"),
    "downstream_expert.evalrc.rate_factor",
}
#: Numbers that may be 0: shares, decay, and sizes that have a meaning at 0.
MAY_BE_ZERO = ("smoothing", "weight_decay", "annealed_fraction", "seed", "num_workers", "micro_batch_seconds")


def numbers(section, prefix=""):
    """Every option of a number, by name."""
    hints = typing.get_type_hints(section)
    for each in dataclasses.fields(section):
        kinds = typing.get_args(hints[each.name]) or (hints[each.name],)
        if dataclasses.is_dataclass(hints[each.name]):
            yield from numbers(hints[each.name], f"{prefix}{each.name}.")
        elif (float in kinds or int in kinds) and bool not in kinds:
            yield f"{prefix}{each.name}"


def with_value(name, value):
    content = value
    for key in reversed(name.split(".")):
        content = {key: content}
    return content


@pytest.mark.parametrize("name", sorted(numbers(Options)))
@pytest.mark.parametrize("value", [0, 0.0, -1, float("nan"), float("inf"), "1e-400"])
def test_no_number_turns_training_off(name, value):
    zero = value in (0, "1e-400")
    if zero and (name.endswith(MAY_BE_ZERO) or name.endswith("longest_seconds")):
        return
    with pytest.raises(UserError) as refused:
        Options.from_config(with_value(name, value))
    section, _, option = f"config.{name}".rpartition(".")
    assert re.search(rf"{re.escape(section)}(\.|: ){option}\b", str(refused.value)), "names the option"
    if zero and name in NEVER_ZERO:
        assert "nothing would be learned. " in str(refused.value), "says what to write instead"


def test_what_was_stored_with_a_zero_is_still_read():
    content = with_value("runner.gradient_clipping", 0.0)
    assert Options.from_config(content, stored=True).runner.gradient_clipping == 0


def test_no_clipping_is_a_bound_that_nothing_reaches():
    def step(runner):
        parameter = torch.nn.Parameter(torch.tensor([3.0, -4.0]))
        parameter.grad = torch.tensor([3e7, 4e7])
        norm = torch.nn.utils.clip_grad_norm_([parameter], runner.largest_norm)
        return norm.item(), parameter.grad.tolist()

    assert step(Options.from_config({"runner": {"gradient_clipping": None}}).runner) == (5e7, [3e7, 4e7])
    norm, clipped = step(Options().runner)
    assert norm == 5e7
    assert clipped == pytest.approx([0.6, 0.8])


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.Adam, torch.optim.SGD])
def test_weight_decay_alone_is_no_learning(kind):
    def watched(gradient):
        parameter = torch.nn.Parameter(torch.linspace(-1, 1, 5))
        parameter.grad = torch.full((5,), gradient)
        other = torch.nn.Parameter(torch.ones(2))  # without a gradient
        found = Watched(kind([parameter, other], lr=0.1, weight_decay=0.1))
        found.step()
        return found

    assert watched(1e-3).moved
    nothing = watched(0.0)
    assert not nothing.moved
    with pytest.raises(UserError, match=r"Training x: no parameter moved in 1 step\(s\).*Raise the rate"):
        nothing.check("Training x", "Raise the rate.")


def test_a_watched_optimiser_takes_the_same_steps():
    def trained(watch):
        parameter = torch.nn.Parameter(torch.linspace(-1, 1, 50))
        optimizer = torch.optim.AdamW([parameter], lr=0.01)
        stepper = Watched(optimizer) if watch else optimizer
        for _ in range(5):
            parameter.grad = parameter.detach().sin()
            stepper.step()
        return parameter.detach()

    assert torch.equal(trained(True), trained(False))


def test_adaptation_that_moves_nothing_is_an_error_and_no_step_is_none():
    start = {"w": torch.ones(2, 3)}

    def loss(parameters, step):
        return (parameters["w"] ** 2).sum()

    assert torch.equal(optimised(start, through([loss]), "SGD", 0.1, 0.0, 0)["w"], start["w"])
    with pytest.raises(UserError, match=r"SGD at a rate of 1e-30: no parameter moved in 3 step"):
        optimised(start, through([loss]), "SGD", 1e-30, 0.0, 3)


STILL = [
    ("Meta-PerSER", ("optimizer.lr=1e-30", "optimizer.weight_decay=0.0"), "Training Meta-PerSER: no parameter moved"),
    ("Meta-PerSER", ("runner.gradient_clipping=1e-30",), "Training Meta-PerSER: no parameter moved"),  # but by decay
    ("Multi-Few", ("initrc.lr=1e-30",), "Training Multi-Few: no parameter moved"),
    ("Linear-Zero", ("initrc.lr=1e-30",), "consensus initialisation: no parameter moved"),
]


@pytest.mark.parametrize(("system", "options", "said"), STILL)
def test_a_run_that_moves_nothing_ends_with_an_error_and_without_a_checkpoint(tmp_path, capsys, system, options, said):
    given = tuple(f"downstream_expert.{each}" if each.startswith("initrc") else each for each in options)
    assert launcher.main(train_command(tmp_path / "exp", "-v", system, options=given)) == 2
    assert said in capsys.readouterr().err
    assert not list((tmp_path / "exp").glob("*.ckpt"))


@pytest.mark.parametrize("seed", ["-1", "4294967296", "99999999999999999999", "1.5", "1e3", "nan", "seven"])
def test_seeds_that_numpy_or_torch_do_not_take_are_refused_before_anything_is_made(tmp_path, capsys, seed):
    command = [*train_command(tmp_path / "exp"), f"--seed={seed}"]
    try:
        status = launcher.main(command)
    except SystemExit as stop:
        status = stop.code
    assert status == 2
    assert "--seed" in capsys.readouterr().err
    assert launcher.main([*train_command(tmp_path / "exp", options=())[:-1], f"args.seed={seed}"]) == 2
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("seed", [-1, 2**32, 1.0, True, "1", None])
def test_a_cell_of_such_a_seed_cannot_be_made(tmp_path, seed):
    with pytest.raises(UserError, match="expected a whole number from 0 to 4294967295"):
        CellOptions(UpstreamOptions("fbank_no_cmvn"), tmp_path, seed=seed)
    assert CellOptions(UpstreamOptions("fbank_no_cmvn"), tmp_path, seed=2**32 - 1).seed == 2**32 - 1


MISSING = ["cuda:9999", "cuda:4242", "mps", "mps:0", "cpu:1", "cuda:", "cuda:-1", "cuda:x", "gpu", "", "meta", "CUDA"]


@pytest.mark.parametrize("device", MISSING)
def test_devices_that_are_not_there_are_refused_before_anything_is_made(tmp_path, capsys, device):
    assert launcher.main([*train_command(tmp_path / "exp"), f"--device={device}"]) == 2
    said = capsys.readouterr().err
    assert f"--device {device!r}" in said or f"--device {device}:" in said
    assert "Expected one of cuda, cuda:N, cpu." in said
    assert not list(tmp_path.iterdir())


def test_devices_that_are_there_are_taken(monkeypatch):
    check_device("cpu")
    check_device("cuda")  # without a GPU a run goes on on the CPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    check_device("cuda:1")
    with pytest.raises(UserError, match=r"finds 2 GPU\(s\), cuda:0 to cuda:1"):
        check_device("cuda:2")


def test_a_grid_on_a_missing_device_makes_no_folder(tmp_path, capsys):
    from small_grid import write_grid

    grid = write_grid(tmp_path)
    assert main(["run", str(grid), "--device", "cuda:4242"]) == 101
    assert "--device cuda:4242" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


def test_a_run_that_is_refused_leaves_no_empty_folder(tmp_path, capsys):
    missing = ("downstream_expert.datarc.corpus=ratings_csv", f"downstream_expert.datarc.root={tmp_path / 'none'}")
    assert launcher.main(train_command(tmp_path / "exp", options=missing)) == 2
    assert "does not exist" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    (tmp_path / "mine").mkdir()
    assert launcher.main(train_command(tmp_path / "mine", options=missing)) == 2
    assert (tmp_path / "mine").is_dir(), "a folder that was there stays"


LEARNED = "metarc.inner_lr=1e-45"  # rates that are learned leave where they start
FIXED = f"{LEARNED},,config.downstream_expert.metarc.lslr=false"


@pytest.mark.parametrize(("options", "said"), [(LEARNED, False), (FIXED, True), ("evalrc.rate_factor=1e-30", True)])
def test_adaptation_that_moves_no_prediction_is_said(tmp_path, capsys, options, said):
    command = train_command(tmp_path / "run")
    command[command.index("-o") + 1] += f",,config.downstream_expert.{options}"
    assert launcher.main(command) == 0
    capsys.readouterr()
    assert launcher.main(["-m", "evaluate", "-e", str(tmp_path / "run")]) == 0
    assert ("NOTE: adaptation changes no prediction" in capsys.readouterr().err) is said
