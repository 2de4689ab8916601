"""The memory plan: it grows as it says, the shipped YAML files agree with it, and it answers without torch."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from random_checkpoints import UPSTREAM, make_checkpoint

from s3prl_metaperser.cli import main
from s3prl_metaperser.config.options import MetaOptions, TuningOptions
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.meta.adjoint import kept_bytes
from s3prl_metaperser.meta.model import Head
from s3prl_metaperser.meta.rates import InnerRates
from s3prl_metaperser.s3prl_stack.hub import build_upstream, load_upstream_config
from s3prl_metaperser.upstream import memory_plan
from s3prl_metaperser.upstream.finetuning import FineTunedModel
from s3prl_metaperser.upstream.memory_plan import Shape, estimate, micro_batch_seconds_for, shape_of

BASE = Shape("wav2vec2", 12, 768)
#: (S, bytes of the adjoint, of the unrolled graph): measured peaks of an outer step above the loaded model,
#: wav2vec 2.0 Base, K = 4 utterances of 2 s (``benchmarks/speed/finetuned_step.py``)
MEASURED_PEAKS = ((1, 1.761e9, 1.779e9), (2, 2.123e9, 3.117e9))
PINNED = ("wavlm_base", "hubert_base", "wav2vec2_base_960", "wavlm")


# ------------------------------------------------------------------ what it says about the model and the engine


@pytest.mark.parametrize(
    ("kind", "train_front_end", "top"),
    [
        ("wavlm", False, None),
        ("hubert", False, None),
        ("wav2vec2", True, None),
        ("wavlm", False, 1),
        ("hubert", True, 1),
    ],
)
def test_parameters_are_those_that_adapt(tmp_path, kind, train_front_end, top):
    shape = {"encoder_embed_dim": 64, "encoder_ffn_embed_dim": 256, "encoder_attention_heads": 1}
    position = {"conv_pos": 128, "conv_pos_groups": 16}
    convolutions = str([(512, 10, 5), *[(512, 3, 2)] * 4, *[(512, 2, 2)] * 2])
    changes = {**shape, **position, "conv_feature_layers": convolutions}
    upstream = build_upstream(UPSTREAM[kind], str(make_checkpoint(kind, tmp_path / "u.pt", **changes)))
    options = SimpleNamespace(**{**vars(TuningOptions()), "train_front_end": train_front_end})
    options.adapt = "all" if top is None else f"top:{top}"
    model = FineTunedModel(upstream, Head(3, 64, 256, 9, torch.Generator()), options)
    counted = sum(parameter.numel() for parameter in model.named_adapted().values())
    assert Shape(kind, 2, 64).parameters(train_front_end, top) == counted


@pytest.mark.parametrize("second_order", [False, True])
def test_what_the_inner_steps_leave_is_what_the_engine_says(second_order):
    parameters = {"a": torch.zeros(7), "b": torch.zeros(2, 3)}
    for steps in (1, 2, 5):
        kept = kept_bytes(parameters, InnerRates(list(parameters), steps, 1e-3, learned=True), [second_order] * steps)
        assert kept == memory_plan.kept_copies(steps, second_order) * 4 * 13


def test_the_defaults_are_those_of_the_options():
    tuning, meta = TuningOptions(), MetaOptions()
    assert tuning.longest_seconds == memory_plan.Setting().longest
    assert meta.inner_steps == memory_plan.Setting().inner_steps


# ------------------------------------------------------------------ how it grows


def test_one_more_inner_step_costs_copies_of_the_parameters_and_no_activations():
    totals = [estimate(BASE, 20, inner_steps=steps) for steps in (1, 2, 3)]
    copies = [memory_plan.kept_copies(steps) for steps in (1, 2, 3)]
    assert len({plan.activations for plan in totals}) == 1
    for plan, kept in zip(totals, copies, strict=True):
        assert plan.total - totals[0].total == pytest.approx((kept - copies[0]) * 4 * BASE.parameters())


def test_more_shots_cost_nothing_but_to_the_unrolled_graph():
    few, many = estimate(BASE, 20, shots=8), estimate(BASE, 20, shots=64)
    assert few.total == many.total
    assert many.unrolled > 4 * few.unrolled


@pytest.mark.parametrize("second_order", [False, True])
@pytest.mark.parametrize("family", ["wavlm", "hubert", "wav2vec2"])
def test_activations_are_linear_in_audio_and_quadratic_in_an_utterance(family, second_order):
    shape = Shape(family, 12, 768)
    of = {s: shape.activations(s, 5, second_order=second_order) for s in (20, 40)}
    assert of[40] == pytest.approx(2 * of[20])
    lengths = [shape.activations(40, longest, second_order=second_order) for longest in (5, 10, 15)]
    assert lengths[2] - lengths[1] == pytest.approx(lengths[1] - lengths[0])
    assert lengths[1] > lengths[0]


def test_each_option_goes_the_right_way():
    plain = BASE.activations(20, 5)
    assert BASE.activations(20, 5, second_order=False) < plain
    assert BASE.activations(20, 5, train_front_end=True) > plain
    assert BASE.activations(20, 5, bf16=True) < plain
    assert BASE.activations(20, 5, top=4) < plain == BASE.activations(20, 5, top=12)
    assert BASE.activations(20, 5, second_order=False, activation_checkpointing=True) < plain
    assert Shape("wavlm", 12, 768).activations(20, 5) > plain
    assert Shape("wav2vec2", 24, 1024).activations(20, 5) > 2 * plain


def test_the_most_seconds_that_fit_do_fit_and_one_more_does_not():
    seconds = micro_batch_seconds_for(32, BASE)
    usable = 32e9 * (1 - memory_plan.FRAGMENTATION) - memory_plan.CONTEXT_BYTES
    assert estimate(BASE, seconds).total <= usable < estimate(BASE, seconds + 1).total


def test_a_device_that_is_too_small_for_one_utterance_gets_none():
    assert micro_batch_seconds_for(4, BASE) is None
    assert micro_batch_seconds_for(1000, BASE, shots=4, longest=10) == 40


# ------------------------------------------------------------------ measurements


@pytest.mark.parametrize(("steps", "adjoint", "unrolled"), MEASURED_PEAKS)
def test_the_estimate_is_within_a_twentieth_of_the_measured_peaks(steps, adjoint, unrolled):
    plan = estimate(BASE, 8, shots=4, inner_steps=steps, seconds=2, longest=2)
    assert plan.kept + plan.working + plan.activations == pytest.approx(adjoint, rel=0.05)
    assert plan.unrolled - plan.model - plan.optimizer - plan.outer_gradient == pytest.approx(unrolled, rel=0.05)


# ------------------------------------------------------------------ the shipped files and the command


@pytest.mark.parametrize("name", PINNED)
def test_the_shipped_plan_is_what_the_estimate_gives(name):
    plan = load_upstream_config(name).memory_plan
    shape = shape_of(name)
    assert {size: plan[size] for size in memory_plan.GIGABYTES} == {
        size: micro_batch_seconds_for(size, shape) for size in memory_plan.GIGABYTES
    }
    assert plan["basis"] == memory_plan.basis(shape)
    assert set(plan) == {*memory_plan.GIGABYTES, "basis"}


def test_an_upstream_without_weights_has_no_plan():
    assert load_upstream_config("fbank_no_cmvn").memory_plan is None
    with pytest.raises(UserError, match="no learned weights"):
        shape_of("fbank_no_cmvn")


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("wavlm_large", Shape("wavlm", 24, 1024)),
        ("hubert", Shape("hubert", 12, 768)),
        ("wav2vec2_large_ll60k", Shape("wav2vec2", 24, 1024)),
    ],
)
def test_the_size_of_a_published_model_is_in_its_name(name, shape):
    assert shape_of(name) == shape
    assert "extrapolated" in memory_plan.basis(shape)


@pytest.mark.parametrize("name", ["wavlm_local", "hf_hubert_custom", "wav2vec2_conformer_relpos", "mockingjay"])
def test_a_size_that_is_not_known_is_an_error_that_says_what_to_name(name):
    with pytest.raises(UserError, match=r"not known from its name.*wavlm_base"):
        shape_of(name)


def test_the_command_prints_parts_and_says_what_was_measured(capsys):
    assert main(["plan", "wavlm_base", "--shots", "16", "--seconds", "4"]) == 0
    said = capsys.readouterr().out
    for part in (
        "90.4 M",
        "K=16",
        "S=5",
        "kept from the inner steps",
        "micro_batch_seconds",
        "measured",
        "extrapolated",
    ):
        assert part in said


def test_the_command_prints_one_json_object(capsys):
    assert main(["plan", "hubert_base", "--memory", "24", "--inner-steps", "3", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    [plan] = report["plans"]
    assert plan["gigabytes"] == 24
    assert report["setting"]["inner_steps"] == 3
    assert sum(value for part, value in plan["bytes"].items() if part != "total") == pytest.approx(
        plan["bytes"]["total"], abs=10
    )
    assert plan["micro_batch_seconds"] == micro_batch_seconds_for(24, shape_of("hubert_base"), inner_steps=3)


def test_the_command_plans_for_the_options_of_tuning_and_says_that_nobody_measured_them(capsys):
    assert main(["plan", "hubert", "--memory", "16", "--top", "4", "--bf16", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    fitting = micro_batch_seconds_for(16, shape_of("hubert"), top=4, bf16=True)
    assert report["plans"][0]["micro_batch_seconds"] == fitting > micro_batch_seconds_for(16, shape_of("hubert"))
    assert report["parameters"] == shape_of("hubert").parameters(top=4)
    assert report["basis"].endswith("not measured in a whole step: bf16, the top 4 layers alone")


def test_the_command_says_what_to_lower_if_nothing_fits(capsys):
    assert main(["plan", "wavlm_large", "--memory", "8"]) == 0
    assert "none: the longest utterance alone does not fit" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["wavlm_bse"], "Unknown upstream 'wavlm_bse'. Did you mean 'wavlm_base'?"),
        (["fbank"], "fbank"),
        (["hubert", "--seconds", "9", "--longest", "8"], "shorter than the mean"),
        (["hubert", "--top", "13"], "hubert has 12 layers"),
    ],
)
def test_a_mistake_is_one_line(capsys, arguments, message):
    assert main(["plan", *arguments]) == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith("metaperser: error: ")
    assert message in said
    assert "\n" not in said


# ------------------------------------------------------------------ --measure


def measured_plan(capsys, *options):
    assert main(["plan", *options, "--measure", "--device", "cpu", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_measured_micro_batch_takes_the_formulas_place_for_any_upstream(tmp_path, capsys):
    file = make_checkpoint("wav2vec2", tmp_path / "u.pt", encoder_layers=4)
    report = measured_plan(capsys, UPSTREAM["wav2vec2"], "-k", str(file), "--longest", "12", "--seconds", "12")
    assert "measured on this CPU" in report["basis"]
    upstream = build_upstream(UPSTREAM["wav2vec2"], str(file))
    model = FineTunedModel(upstream, Head(5, 16, 256, 9, torch.Generator()), TuningOptions())
    assert report["parameters"] == sum(p.numel() for p in model.named_adapted().values())
    per_second = report["activations_per_second"]
    assert 0 < per_second["gradient"] < per_second["hessian_vector_product"]
    (first, *_) = report["plans"]
    clips = first["micro_batch_seconds"] / 12
    assert first["bytes"]["activations"] == pytest.approx(12 * clips * per_second["hessian_vector_product"], rel=1e-3)


def test_what_cannot_be_measured_says_why_and_the_formula_answers(tmp_path, capsys):
    (tmp_path / "bad.pt").write_bytes(b"no checkpoint")
    assert main(["plan", "wavlm_base", "-k", str(tmp_path / "no.pt"), "--measure", "--device", "cpu"]) == 0
    shown = capsys.readouterr()
    assert "no.pt" in shown.err
    assert "The formula is used" in shown.err
    assert "measured on a CPU in fp32 with random weights" in shown.out
    assert main(["plan", "wav2vec2_local", "-k", str(tmp_path / "bad.pt"), "--measure", "--device", "cpu"]) == 2
    assert "bad.pt" in capsys.readouterr().err
    assert main(["plan", "wavlm_base", "-k", "x.pt"]) == 2
    assert "--measure" in capsys.readouterr().err
