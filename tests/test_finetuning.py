"""The fine-tuned upstream: what is mended, what adapts; batching, dropout and checkpointing are exact."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import soundfile
import torch
import torch.nn.functional as F
from random_checkpoints import UPSTREAM
from tiny_models import (
    LENGTHS,
    C,
    D,
    L,
    frame_logits,
    in_float64,
    options,
    tiny_model,
    tiny_upstream,
    waveforms,
    weighted,
)
from torch import nn

from s3prl_metaperser.corpora.base import Utterance
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.meta import inner_loop
from s3prl_metaperser.meta.adjoint import outer_gradient
from s3prl_metaperser.meta.model import Head
from s3prl_metaperser.meta.rates import InnerRates
from s3prl_metaperser.meta.weight_norm import composite_weight_norm, replace_fused
from s3prl_metaperser.protocol.loss import soft_cross_entropy
from s3prl_metaperser.s3prl_stack.hub import build_upstream
from s3prl_metaperser.upstream.batching import hidden_states
from s3prl_metaperser.upstream.finetuning import FineTunedModel, double_backward_attention, prepare
from s3prl_metaperser.upstream.groups import adapting, groups
from s3prl_metaperser.upstream.inputs import Waveforms
from s3prl_metaperser.upstream.micro_batches import micro_batches, micro_losses
from s3prl_metaperser.upstream.pooling import pool_waveforms, pooled_size
from s3prl_metaperser.upstream.recompute import recomputed

KINDS = tuple(UPSTREAM)
OURS = ("wavlm", "hubert", "wav2vec2")
LARGE = {"extractor_mode": "layer_norm", "layer_norm_first": True}
MICRO = 1.2


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("checkpoints")


def gradients(model, wavs, targets, groups_of=None):
    """Of the mean loss, in one batch or in several."""
    parameters = model.named_adapted()
    batches = groups_of or [list(range(len(wavs)))]
    loss = sum(
        soft_cross_entropy(model.functional(parameters, [wavs[i] for i in batch]), targets[batch]) * len(batch)
        for batch in batches
    ) / len(wavs)
    return torch.autograd.grad(loss, list(parameters.values()))


def distance(one, other):
    one, other = (torch.cat([t.reshape(-1) for t in tensors]) for tensors in (one, other))
    return ((one - other).norm() / other.norm()).item()


def double_backward(model, wavs, seed=0):
    """A Hessian-vector product of the model's loss, for all that adapts."""
    parameters = model.named_adapted()
    first = torch.autograd.grad(
        model.functional(parameters, wavs).square().sum(), list(parameters.values()), create_graph=True
    )
    generator = torch.Generator().manual_seed(seed)
    vector = [torch.randn(g.shape, generator=generator).to(g) for g in first]
    return torch.autograd.grad(first, list(parameters.values()), vector, materialize_grads=True)


# ------------------------------------------------------------------ what prepare() does


@pytest.mark.parametrize("kind", KINDS)
def test_preparing_replaces_the_fused_weight_norm_and_changes_neither_outputs_nor_the_state_dict(folder, kind):
    upstream, wavs = tiny_upstream(kind, folder).eval(), waveforms()
    assert replace_fused(tiny_upstream(kind, folder)) == 1
    state = {key: value.clone() for key, value in upstream.state_dict().items()}
    with torch.no_grad():
        before = hidden_states(upstream, wavs)
        prepare(upstream, options())
        after = hidden_states(upstream, wavs)
    assert replace_fused(upstream) == 0
    assert max((a - b).abs().max().item() for a, b in zip(after, before, strict=True)) < 1e-5
    assert list(upstream.state_dict()) == list(state)
    assert all(torch.equal(value, state[key]) for key, value in upstream.state_dict().items())
    upstream.load_state_dict(state)
    hidden_states(upstream, wavs)  # with gradients, after which torch's own could not be copied
    copy.deepcopy(upstream.model)


@pytest.mark.parametrize("dim", [0, 2, -1])
def test_composite_weight_norm_equals_torchs(dim):
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(6, 4, 5, generator=generator, dtype=torch.float64)
    magnitude = torch.rand(torch.norm_except_dim(weight, 2, dim).shape, generator=generator, dtype=torch.float64)
    expected = torch._weight_norm(weight, magnitude, dim)
    torch.testing.assert_close(composite_weight_norm(weight, magnitude, dim), expected, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("dim", [0, 2])
def test_composite_weight_norm_passes_gradgradcheck(dim):
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(3, 2, 4, generator=generator, dtype=torch.float64)
    magnitude = torch.norm_except_dim(weight, 2, dim)
    inputs = (weight.requires_grad_(), magnitude.detach().requires_grad_())
    assert torch.autograd.gradgradcheck(lambda v, g: composite_weight_norm(v, g, dim), inputs)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("norm", [nn.utils.weight_norm, nn.utils.parametrizations.weight_norm])
def test_both_of_torchs_weight_norms_are_replaced_once(norm):
    module = nn.Sequential(norm(nn.Conv1d(4, 4, 3), dim=2))
    wave = torch.randn(1, 4, 9, generator=torch.Generator().manual_seed(0))
    expected, names = module(wave), [name for name, _ in module.named_parameters()]
    assert (replace_fused(module), replace_fused(module)) == (1, 0)
    torch.testing.assert_close(module(wave), expected)
    assert [name for name, _ in module.named_parameters()] == names


@pytest.mark.parametrize("kind", KINDS)
def test_layerdrop_and_specaugment_are_off_even_in_training_mode(folder, kind):
    upstream = tiny_upstream(kind, folder)
    model = tiny_model(upstream, dropout=True)
    configs = [m.config for m in upstream.modules() if hasattr(m, "config")]
    if kind.startswith("hf_"):
        assert configs
    assert all(config.layerdrop == 0.0 and not config.apply_spec_augment for config in configs)
    if kind in OURS:
        assert upstream.model.encoder.layerdrop == 0.0
    model([waveforms()[0]])
    assert upstream.training
    for _ in range(8):
        assert hidden_states(upstream, [waveforms()[0]])[0].shape[0] == L


@pytest.mark.parametrize("kind", KINDS)
def test_the_front_end_is_frozen_unless_it_is_trained(folder, kind):
    def trained(**changes):
        model = tiny_model(tiny_upstream(kind, folder), **changes)
        loss = model.functional(model.named_adapted(), waveforms()).sum()
        loss.backward()
        return [p.grad is not None for n, p in model.named_parameters() if ".feature_extractor." in n]

    assert not any(trained())
    assert all(trained(train_front_end=True))


@pytest.mark.parametrize("train_front_end", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_what_adapts_is_what_the_logits_depend_on(folder, kind, train_front_end):
    model = tiny_model(tiny_upstream(kind, folder), train_front_end=train_front_end)
    names = [name.removeprefix("upstream.") for name in model.named_adapted() if name.startswith("upstream.")]
    never = ("mask_emb", "masked_spec_embed", "final_proj", "quantizer", "project_q", "label_embs_concat")
    assert not any(part in name for name in names for part in never)
    found = groups(model.upstream)
    expected = [n for group in found if group not in ("other", "front_end", "layers") for n in found[group]]
    assert sorted(names) == sorted(expected + (found["front_end"] if train_front_end else []))
    assert [n for n in model.named_adapted() if n.startswith("head.")] == [
        f"head.{name}" for name, _ in model.head.named_parameters()
    ]


def test_layers_above_the_selected_one_do_not_adapt(folder):
    head = Head(1, D, 5, C, torch.Generator().manual_seed(1))
    model = FineTunedModel(tiny_upstream("hubert", folder), head, options(), layer=1)  # the input of layer 1
    names = model.named_adapted()
    assert any(".layers.0." in name for name in names)
    assert not any(".layers.1." in name for name in names)
    with pytest.raises(UserError, match=r"No parameter in tunerc.adapt: layer\.1 affects"):
        FineTunedModel(tiny_upstream("hubert", folder), head, options(adapt="layer.1"), layer=1)


def test_an_upstream_without_parameters_cannot_be_fine_tuned():
    head = Head(1, 80, 5, C, torch.Generator().manual_seed(1))
    with pytest.raises(UserError, match="This upstream has no parameters to fine-tune"):
        FineTunedModel(build_upstream("fbank_no_cmvn"), head, options())


# ------------------------------------------------------------------ groups


@pytest.mark.parametrize("kind", KINDS)
def test_every_group_has_its_name_in_every_model(folder, kind):
    found = groups(tiny_upstream(kind, folder))
    names = {"front_end", "projection", "positional", "layer.0", "layer.1", "layers", "encoder_norm"}
    assert names <= set(found) <= names | {"other"}
    assert sorted(found["layers"]) == sorted(found["layer.0"] + found["layer.1"])
    for group in names - {"layers", "layer.0", "layer.1"}:
        assert not set(found[group]) & set(found["layers"])


@pytest.mark.parametrize(
    "group", ["front_end", "projection", "positional", "layers", "layer.0", "layer.1", "encoder_norm"]
)
@pytest.mark.parametrize("kind", KINDS)
def test_every_group_can_adapt_alone(folder, kind, group):
    upstream = tiny_upstream(kind, folder)
    model = tiny_model(upstream, adapt=group, train_front_end=group == "front_end")
    names = {name.removeprefix("upstream.") for name in model.named_adapted() if name.startswith("upstream.")}
    assert names == set(groups(upstream)[group])
    found = double_backward(model, waveforms()[:1])
    assert all(torch.isfinite(g).all() for g in found)
    assert max(g.abs().max() for g in found) > 0


def test_wavlms_position_bias_is_positional_and_not_of_the_layer_that_holds_it(folder):
    found = groups(tiny_upstream("wavlm", folder))
    bias = "model.encoder.layers.0.self_attn.relative_attention_bias.weight"
    assert bias in found["positional"]
    assert bias not in found["layers"]


def test_top_and_lists_of_groups_name_what_they_say(folder):
    upstream = tiny_upstream("hubert", folder)
    found = groups(upstream)
    assert adapting(upstream, "top:1", False) == set(found["layer.1"])
    assert adapting(upstream, "top:2", False) == set(found["layers"])
    assert adapting(upstream, "positional, layer.0", False) == set(found["positional"]) | set(found["layer.0"])
    assert adapting(upstream, "top:1", True) == set(found["layer.1"]) | set(found["front_end"])


@pytest.mark.parametrize(
    ("adapt", "message"),
    [
        ("layer.7", r"Unknown group of parameters 'layer\.7'.*Available: .*encoder_norm.*layer\.0, layer\.1"),
        ("postional", r"Did you mean 'positional'"),
        ("", r"Unknown group of parameters ''"),
        ("all,layer.0", r"Unknown group of parameters 'all'\. Available: encoder_norm"),
        ("top:3", r"expected top:1 to top:2"),
        ("top:0", r"expected top:1 to top:2"),
        ("top:all", r"expected top:1 to top:2"),
        ("front_end", r"train_front_end: true"),
    ],
)
def test_what_cannot_adapt_is_an_error_that_says_what_can(folder, adapt, message):
    with pytest.raises(UserError, match=message):
        prepare(tiny_upstream("wavlm", folder), options(adapt=adapt))


# ------------------------------------------------------------------ the model


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_those_of_the_frame_path(folder, kind, normalize):
    upstream = tiny_upstream(kind, folder)
    model = FineTunedModel(upstream, Head(L, D, 5, C, torch.Generator().manual_seed(1)), options(), normalize=normalize)
    with torch.no_grad():
        found, pooled = model(waveforms()), model.embed(waveforms())
        for index, wav in enumerate(waveforms()):
            frames = hidden_states(upstream, [wav])
            if normalize:
                frames = [F.layer_norm(frames[0], (D,))]
            expected = frame_logits(dict(model.head.named_parameters()), frames[0][None])
            torch.testing.assert_close(found[index : index + 1], expected, rtol=0, atol=2e-6)
    assert pooled.shape == (len(LENGTHS), L, D)
    torch.testing.assert_close(model.head(pooled), found)


def test_with_statistics_the_head_sees_what_the_store_would_hold(folder):
    upstream = tiny_upstream("hubert", folder)
    head = Head(L, pooled_size(D, "statistics"), 5, C, torch.Generator().manual_seed(1))
    model = FineTunedModel(upstream, head, options(), pooling="statistics")
    stored = pool_waveforms(upstream, waveforms(), pooling="statistics")
    with torch.no_grad():
        torch.testing.assert_close(model.embed(waveforms()), torch.stack(stored), rtol=1e-5, atol=1e-6)


def test_functional_takes_exactly_the_parameters_that_adapt(folder):
    model = tiny_model(tiny_upstream("hubert", folder), adapt="top:1")
    parameters = model.named_adapted()
    name, value = next(iter(parameters.items()))
    with pytest.raises(ValueError, match="missing"):
        model.functional({n: p for n, p in parameters.items() if n != name}, waveforms())
    with pytest.raises(ValueError, match=r"unknown \['nobody'\]"):
        model.functional({**parameters, "nobody": value}, waveforms())


def test_functional_uses_the_given_parameters_and_leaves_the_models_own(folder):
    model, wavs = tiny_model(tiny_upstream("wavlm", folder)), waveforms()
    own = {name: p.detach().clone() for name, p in model.named_parameters()}
    generator = torch.Generator().manual_seed(5)
    moved = {n: p.detach() + 0.1 * torch.randn(p.shape, generator=generator) for n, p in model.named_adapted().items()}
    with torch.no_grad():
        given = model.functional(moved, wavs)
        assert all(torch.equal(p, own[name]) for name, p in model.named_parameters())
        for name, parameter in model.named_adapted().items():
            parameter.copy_(moved[name])
        torch.testing.assert_close(model(wavs), given)


@pytest.mark.parametrize("size", [{}, LARGE], ids=["base", "large"])
@pytest.mark.parametrize("kind", KINDS)
def test_padding_of_one_utterance_never_changes_another(folder, kind, size):
    if kind.startswith("hf_") and size:
        size = {"feat_extract_norm": "layer", "do_stable_layer_norm": True}
    model = tiny_model(tiny_upstream(kind, folder, **size), train_front_end=True)
    wavs, targets = waveforms((16000, 4000, 9001)), weighted()
    with torch.no_grad():
        alone = torch.cat([model([wav]) for wav in wavs])
        torch.testing.assert_close(model(wavs), alone, rtol=0, atol=1e-5)
    together, apart = (gradients(model, wavs, targets, g) for g in (None, [[0], [1], [2]]))
    assert distance(together, apart) < 1e-4


@pytest.mark.parametrize("kind", OURS)
def test_padding_changes_no_gradient_in_float64(folder, kind):
    model = tiny_model(in_float64(tiny_upstream(kind, folder)), train_front_end=True)
    wavs, targets = waveforms((16000, 4000, 9001), torch.float64), weighted(dtype=torch.float64)
    together, apart = (gradients(model, wavs, targets, g) for g in (None, [[0], [1], [2]]))
    assert distance(together, apart) < 1e-11


@pytest.mark.parametrize(
    ("size", "adapt"),
    [*(({}, each) for each in ("all", "top:1")), *((LARGE, each) for each in ("all", "layers", "top:1", "projection"))],
)
@pytest.mark.parametrize("kind", KINDS)
def test_double_backward_works_whatever_is_frozen(folder, kind, size, adapt):
    """WavLM with its relative position bias frozen and with top layers alone among them."""
    if kind.startswith("hf_") and size:
        size = {"feat_extract_norm": "layer", "do_stable_layer_norm": True}
    model = tiny_model(tiny_upstream(kind, folder, **size), adapt=adapt)
    found = double_backward(model, waveforms()[:2])
    assert all(torch.isfinite(g).all() for g in found)
    assert max(g.abs().max() for g in found) > 0


# ------------------------------------------------------------------ dropout


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_is_off_by_default_whatever_mode_the_upstream_is_put_into(folder, kind):
    model = tiny_model(tiny_upstream(kind, folder))
    with torch.no_grad():
        expected = model(waveforms())
        model.upstream.train()
        assert torch.equal(model(waveforms()), expected)


def test_dropout_is_off_in_evaluation_mode(folder):
    model = tiny_model(tiny_upstream("wavlm", folder), dropout=True)
    with torch.no_grad():
        assert not torch.equal(model(waveforms()), model(waveforms()))
        model.eval()
        assert torch.equal(model(waveforms()), model(waveforms()))


def test_batch_norm_never_uses_the_batchs_own_statistics(folder):
    upstream = tiny_upstream("hf_hubert", folder, conv_pos_batch_norm=True)
    (norm,) = [m for m in upstream.modules() if isinstance(m, nn.BatchNorm1d)]
    model = tiny_model(upstream, dropout=True)
    model(waveforms())
    assert upstream.training
    assert not norm.training
    assert norm.num_batches_tracked == 0


@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize("kind", OURS)
def test_with_dropout_the_adjoint_equals_the_unrolled_graph_with_the_same_masks(folder, kind, checkpointing):
    model = tiny_model(in_float64(tiny_upstream(kind, folder)), dropout=True, activation_checkpointing=checkpointing)
    losses = micro_losses(model, waveforms(dtype=torch.float64), weighted(dtype=torch.float64), MICRO, "step", 1)
    parameters = model.named_adapted()
    rates = InnerRates(list(parameters), 2, 0.1, learned=True).double()
    found = outer_gradient(parameters, rates, losses, (True, True))
    current = dict(parameters)
    for step in range(2):
        current = inner_loop.adapt(
            lambda p, s=step: sum(loss(p, s) for loss in losses), current, lambda _, s=step: rates.at(s), [True]
        )
    expected = torch.autograd.grad(sum(loss(current, 2) for loss in losses), [*parameters.values(), rates.values])
    assert distance([*found.parameters.values(), found.rates], expected) < 1e-11


def test_dropout_masks_belong_to_seed_step_and_micro_batch_and_touch_no_global_generator(folder):
    model = tiny_model(tiny_upstream("hubert", folder), dropout=True)
    parameters, wave = model.named_adapted(), waveforms((8000,))

    def value(step, *seed, wavs=wave, micro=0):
        with torch.no_grad():
            return micro_losses(model, wavs, weighted(len(wavs)), 0.5, *seed)[micro](parameters, step).item()

    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    first = value(0, "outer", 7)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(2)
    assert value(0, "outer", 7) == first
    assert len({first, value(1, "outer", 7), value(0, "outer", 8), value(0, "other", 7)}) == 4
    twice = waveforms((8000,)) * 2
    same_target = [weighted(2)[0]] * 2
    losses = micro_losses(model, twice, torch.stack(same_target), 0.5, "outer", 7)
    with torch.no_grad():
        assert len({loss(parameters, 0).item() for loss in losses}) == 2


# ------------------------------------------------------------------ activation checkpointing


@pytest.mark.parametrize("train_front_end", [False, True])
@pytest.mark.parametrize("kind", OURS)
def test_recomputed_activations_give_the_same_first_and_second_derivatives(folder, kind, train_front_end):
    """With parameters that are not the model's own, where checkpointing is silently wrong if done naively."""
    upstream, wavs = in_float64(tiny_upstream(kind, folder)), waveforms(dtype=torch.float64)
    model = tiny_model(upstream, train_front_end=train_front_end)
    generator = torch.Generator().manual_seed(5)
    moved = {
        n: (p.detach() + 0.1 * torch.randn(p.shape, generator=generator, dtype=p.dtype)).requires_grad_()
        for n, p in model.named_adapted().items()
    }

    def derivatives():
        loss = soft_cross_entropy(model.functional(moved, wavs), weighted(dtype=torch.float64))
        first = torch.autograd.grad(loss, list(moved.values()), create_graph=True)
        second = torch.autograd.grad(sum(g.pow(2).sum() for g in first), list(moved.values()), materialize_grads=True)
        return first, second

    expected = derivatives()
    model.options.activation_checkpointing = True
    found = derivatives()
    assert distance(found[0], expected[0]) < 1e-12
    assert distance(found[1], expected[1]) < 1e-12
    own = torch.autograd.grad(model(wavs).sum(), list(model.named_adapted().values()), allow_unused=True)
    assert all(g is not None for g in own)


@pytest.mark.parametrize("kind", KINDS)
def test_recomputation_keeps_fewer_activations(folder, kind):
    def kept(**changes):
        model, sizes = tiny_model(tiny_upstream(kind, folder), **changes), {}
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t: sizes.__setitem__(t.untyped_storage().data_ptr(), t.untyped_storage().nbytes()) or t, lambda t: t
        ):
            logits = model.functional(model.named_adapted(), waveforms())
        assert logits.requires_grad
        return sum(sizes.values())

    assert kept(activation_checkpointing=True) < 0.7 * kept()


def test_recomputation_is_refused_where_the_layers_are_not_known():
    with pytest.raises(UserError, match="activation_checkpointing is not available"), recomputed(nn.Linear(1, 1)):
        pass


@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize("kind", OURS)
def test_double_backward_works_under_bfloat16_autocast(folder, kind, checkpointing):
    """The product's is on CUDA alone; the operations that it casts are the same."""
    model = tiny_model(tiny_upstream(kind, folder), activation_checkpointing=checkpointing)
    expected = double_backward(model, waveforms())
    with torch.autocast("cpu", torch.bfloat16):
        found = double_backward(model, waveforms())
    assert all(g.dtype == torch.float32 and torch.isfinite(g).all() for g in found)
    assert 1e-6 < distance(found, expected) < 0.3


# ------------------------------------------------------------------ micro-batches


def test_micro_batches_hold_every_utterance_once_and_never_too_much():
    samples = np.random.default_rng(0).integers(8000, 200000, size=50).tolist()
    found = micro_batches(samples, 20.0)
    assert sorted(i for group in found for i in group) == list(range(50))
    for group in found:
        assert len(group) == 1 or max(samples[i] for i in group) * len(group) <= 20 * 16000
    longest_first = [samples[i] for group in found for i in group]
    assert longest_first == sorted(longest_first, reverse=True)


def test_an_utterance_longer_than_a_micro_batch_is_alone():
    assert micro_batches([16000, 400000, 16000], 2.0) == [[1], [0, 2]]
    assert micro_batches([], 2.0) == []


def test_long_utterances_are_cropped_to_their_beginning_and_counted(tmp_path):
    wavs, utterances = waveforms((16000, 40000, 32000)), []
    for number, wav in enumerate(wavs):
        path = tmp_path / f"{number}.wav"
        soundfile.write(path, wav.numpy(), 16000, subtype="FLOAT")
        utterances.append(Utterance(str(number), path, "", "", len(wav) / 16000))
    cropped = Waveforms(utterances, 2.0, (3, 4))
    assert [len(wav) for wav in cropped[range(3)]] == [16000, 32000, 32000]
    assert [cropped.samples(row) for row in range(3)] == [16000, 32000, 32000]
    torch.testing.assert_close(cropped[[1]][0], wavs[1][:32000])
    assert cropped.cropped == 1


@pytest.mark.parametrize("kind", KINDS)
def test_shares_of_the_loss_add_up_to_the_mean_over_utterances(folder, kind):
    model, wavs, targets = tiny_model(tiny_upstream(kind, folder)), waveforms(), weighted()
    losses = micro_losses(model, wavs, targets, MICRO)
    assert len(losses) == 2
    parameters = model.named_adapted()
    total = sum(loss(parameters, 0) for loss in losses)
    expected = torch.cat([soft_cross_entropy(model([w]), t[None])[None] for w, t in zip(wavs, targets, strict=True)])
    torch.testing.assert_close(total, expected.mean())
    found = torch.autograd.grad(total, list(parameters.values()))
    assert distance(found, gradients(model, wavs, targets, [[0], [1], [2]])) < 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_a_frozen_front_end_runs_once_for_each_utterance_and_changes_nothing(folder, kind):
    model, wavs, targets = tiny_model(tiny_upstream(kind, folder)), waveforms(), weighted()
    runs = []
    model.upstream.model.feature_extractor.register_forward_hook(lambda *_: runs.append(1))
    convolution = next(m for m in model.upstream.modules() if isinstance(m, nn.Conv1d))
    convolution.register_forward_hook(lambda *_: runs.append(2))
    losses = micro_losses(model, wavs, targets, MICRO)
    parameters = model.named_adapted()
    values = [[loss(parameters, step).item() for loss in losses] for step in range(3)]
    assert runs.count(2) == len(wavs)
    assert values[0] == values[1] == values[2]


@pytest.mark.parametrize("kind", KINDS)
def test_a_trained_front_end_runs_each_time(folder, kind):
    model = tiny_model(tiny_upstream(kind, folder), train_front_end=True)
    (loss,) = micro_losses(model, waveforms((8000,)), weighted(1), MICRO)
    before = loss(model.named_adapted(), 0).item()
    with torch.no_grad():
        next(p for n, p in model.named_adapted().items() if "feature_extractor" in n).mul_(1.5)
    assert loss(model.named_adapted(), 0).item() != before


def test_the_attention_backend_is_restored_after_an_error():
    before = torch.backends.cuda.flash_sdp_enabled()
    with pytest.raises(KeyError), double_backward_attention():
        raise KeyError
    assert torch.backends.cuda.flash_sdp_enabled() == before


@pytest.mark.parametrize("kind", KINDS)
def test_one_layer_can_be_selected(folder, kind):
    head = Head(1, D, 5, C, torch.Generator().manual_seed(1))
    model = FineTunedModel(tiny_upstream(kind, folder), head, options(), layer=1)
    every = FineTunedModel(tiny_upstream(kind, folder), Head(L, D, 5, C, torch.Generator()), options())
    with torch.no_grad():
        torch.testing.assert_close(model.embed(waveforms()), every.embed(waveforms())[:, 1:2])
