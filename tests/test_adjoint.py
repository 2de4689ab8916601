"""The outer gradient without a graph across steps, against finite differences and against the unrolled graph."""

from __future__ import annotations

import pytest
import torch
from tiny_models import in_float64, tiny_model, tiny_upstream, waveforms, weighted
from torch import nn
from torch.nn.utils.weight_norm import WeightNorm

from s3prl_metaperser.errors import UserError
from s3prl_metaperser.meta import inner_loop
from s3prl_metaperser.meta.adjoint import NonFinite, adapt, kept_bytes, outer_gradient
from s3prl_metaperser.meta.rates import InnerRates
from s3prl_metaperser.protocol.loss import soft_cross_entropy
from s3prl_metaperser.upstream.finetuning import double_backward_attention
from s3prl_metaperser.upstream.micro_batches import graphs_worth_keeping, micro_losses

S = 2
KINDS = ("wavlm", "hubert", "wav2vec2")
MICRO = 1.2  # seconds: the three utterances fall into two micro-batches
FOUR_POINTS = ((1, 8 / 12), (-1, -8 / 12), (2, -1 / 12), (-2, 1 / 12))


@pytest.fixture(scope="module")
def problems(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    made = {}

    def problem(kind: str, **changes):
        key = (kind, *changes.items())
        if key not in made:
            made[key] = _problem(kind, folder, **changes)
        return made[key]

    return problem


def _problem(kind, folder, **changes):
    """theta, rates, support and query losses of a tiny model through s3prl's own class, in float64."""
    model = tiny_model(in_float64(tiny_upstream(kind, folder), spread=2.0), **changes)
    support = micro_losses(model, waveforms(dtype=torch.float64), weighted(dtype=torch.float64), MICRO, "support")
    query = micro_losses(
        model, waveforms((7000, 5000), torch.float64, 9), weighted(2, torch.float64, 8), MICRO, "query"
    )
    assert len(support) == 2
    parameters = {name: p.detach().clone().requires_grad_() for name, p in model.named_adapted().items()}
    return parameters, some_rates(parameters), support, query


def some_rates(parameters, steps=S, names=None, scale=0.05):
    rates = InnerRates(list(parameters if names is None else names), steps, scale, learned=True).double()
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        rates.values += 0.5 * scale * torch.randn(rates.values.shape, generator=generator, dtype=torch.float64)
        rates.values[0, 1] = 0.0
        rates.values[1, 2] *= -1  # a rate may be zero, or have changed its sign
    return rates


def mean(losses, step):
    return lambda parameters: sum(loss(parameters, step) for loss in losses)


def gradient_at(losses, parameters, step, names):
    leaves = {name: value.detach().requires_grad_() for name, value in parameters.items()}
    return dict(zip(names, torch.autograd.grad(mean(losses, step)(leaves), [leaves[n] for n in names]), strict=True))


def adapted(parameters, values, names, support, constants):
    """theta_S by plain steps; where ``constants`` holds an inner gradient, it stands for the step's own."""
    current = {name: value.detach() for name, value in parameters.items()}
    inner = []
    for step, constant in enumerate(constants):
        gradient = gradient_at(support, current, step, names) if constant is None else constant
        inner.append(gradient)
        current = {n: v - values[step, names.index(n)] * gradient[n] if n in names else v for n, v in current.items()}
    return current, inner


def directional_errors(parameters, rates, support, second_order, query=None, seeds=(0, 1), rate_step=3e-4):
    """Relative error of the adjoint in random directions of theta alone and of the rates alone."""
    outer = support if query is None else query
    names, steps = list(rates.names), len(second_order)
    found = outer_gradient(parameters, rates, support, second_order, query)
    _, inner = adapted(parameters, rates.values.detach(), names, support, [None] * steps)
    constants = [None if twice else gradient for twice, gradient in zip(second_order, inner, strict=True)]

    def value(theta_step, rate_step):
        moved = {name: p.detach() + theta_step[name] for name, p in parameters.items()}
        current, _ = adapted(moved, rates.values.detach() + rate_step, names, support, constants)
        with torch.no_grad():
            return mean(outer, steps)(current).item()

    assert found.loss == pytest.approx(value(dict.fromkeys(parameters, 0.0), 0.0), rel=1e-12)
    errors = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        theta = {
            n: torch.randn(p.shape, generator=generator, dtype=p.dtype) * (p.detach().square().mean().sqrt() + 1e-2)
            for n, p in parameters.items()
        }
        rate = torch.randn(rates.values.shape, generator=generator, dtype=torch.float64)
        h = 1e-4
        numeric = sum(w * value({n: k * h * t for n, t in theta.items()}, 0.0) for k, w in FOUR_POINTS) / h
        exact = sum((found.parameters[n] * t).sum().item() for n, t in theta.items())
        errors.append(abs(exact - numeric) / abs(numeric))
        h = rate_step
        numeric = sum(w * value(dict.fromkeys(parameters, 0.0), k * h * rate) for k, w in FOUR_POINTS) / h
        exact = (found.rates * rate).sum().item()
        errors.append(abs(exact - numeric) / abs(numeric))
    return errors


def unrolled(parameters, rates, support, second_order, query=None):
    """The reference inner loop, one graph through all steps."""
    current = dict(parameters)
    for step, twice in enumerate(second_order):
        current = inner_loop.adapt(mean(support, step), current, lambda _, s=step: rates.at(s), [twice])
    loss = mean(support if query is None else query, len(second_order))(current)
    return loss, torch.autograd.grad(loss, [*parameters.values(), rates.values], materialize_grads=True)


def deviation(found, expected):
    """Relative, over all parameters together and over the rates."""
    *theta, rates = expected
    flat = [torch.cat([t.reshape(-1) for t in tensors]) for tensors in (found.parameters.values(), theta)]
    pairs = [flat, (found.rates, rates)]
    return max(((a - b).norm() / b.norm()).item() for a, b in pairs)


@pytest.mark.parametrize("second_order", [(True, True), (False, False), (False, True), (True, False)], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_the_adjoint_equals_finite_differences(problems, kind, second_order):
    assert max(directional_errors(*problems(kind)[:3], second_order, seeds=(0,))) < 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_the_adjoint_equals_finite_differences_on_a_query_set(problems, kind):
    parameters, rates, support, query = problems(kind)
    assert max(directional_errors(parameters, rates, support, (True, True), query, seeds=(3,))) < 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_the_adjoint_equals_finite_differences_with_the_front_end_trained(problems, kind):
    parameters, rates, support, _ = problems(kind, train_front_end=True)
    assert any("feature_extractor" in name for name in parameters)
    assert max(directional_errors(parameters, rates, support, (True, True), seeds=(0,))) < 1e-6


@pytest.mark.parametrize("second_order", [(True, True), (False, False), (False, True), (True, False)], ids=str)
@pytest.mark.parametrize("on_query", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_the_adjoint_equals_the_unrolled_graph(problems, kind, on_query, second_order):
    parameters, rates, support, query = problems(kind)
    query = query if on_query else None
    loss, expected = unrolled(parameters, rates, support, second_order, query)
    found = outer_gradient(parameters, rates, support, second_order, query)
    assert found.loss == pytest.approx(loss.item(), rel=1e-13)
    assert deviation(found, expected) < 1e-11
    assert all(p.grad is None for p in parameters.values())
    assert rates.values.grad is None


def test_first_and_second_order_differ(problems):
    """Else the tests above would not tell one from the other."""
    parameters, rates, support, _ = problems("wavlm")
    expected = unrolled(parameters, rates, support, (True, True))[1]
    assert deviation(outer_gradient(parameters, rates, support, (False, False)), expected) > 1e-3


def test_the_weight_norm_in_use_has_the_right_double_backward_and_the_fused_one_has_not(problems, tmp_path):
    parameters, _, ours, _ = problems("wav2vec2")
    model = tiny_model(in_float64(tiny_upstream("wav2vec2", tmp_path), spread=2.0))
    convolution = model.upstream.model.encoder.pos_conv[0]
    for key, hook in list(convolution._forward_pre_hooks.items()):
        convolution._forward_pre_hooks[key] = WeightNorm(hook.name, hook.dim)
    fused = micro_losses(model, waveforms(dtype=torch.float64), weighted(dtype=torch.float64), MICRO)
    normed = {name: value for name, value in parameters.items() if "pos_conv" in name}
    rest = {name: value.detach() for name, value in parameters.items() if name not in normed}

    def of_these_alone(losses):
        return [lambda p, step, loss=loss: loss({**rest, **p}, step) for loss in losses]

    rates = some_rates(normed)
    assert max(directional_errors(normed, rates, of_these_alone(ours), (True, True))) < 1e-6
    if max(directional_errors(normed, rates, of_these_alone(fused), (True, True))) < 1e-6:
        pytest.skip(f"torch {torch.__version__} differentiates its own weight norm rightly")


def toy():
    """Three tensors; ``tied`` appears twice with the same gradient, ``still`` never adapts."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"weight": (3, 4), "tied": (3,), "also": (3,), "still": (4,)}
    parameters = {n: torch.randn(s, generator=generator, dtype=torch.float64) for n, s in shapes.items()}
    inputs = torch.randn(5, 4, generator=generator, dtype=torch.float64)
    targets = torch.rand(5, 3, generator=generator, dtype=torch.float64)

    def loss(first, last):
        def share(p, step):
            logits = torch.tanh(inputs[first:last] * p["still"]) @ p["weight"].T + p["tied"] + p["also"]
            return soft_cross_entropy(logits, targets[first:last]) * ((last - first) / 5)

        return share

    for value in parameters.values():
        value.requires_grad_()
    return parameters, [loss(0, 2), loss(2, 5)], [loss(0, 5)]


@pytest.mark.parametrize("micro_batches", [1, 2])
@pytest.mark.parametrize("keep", [0, 1, 2, 3])
@pytest.mark.parametrize("second_order", [(True, True, True), (True, True, False), (True, False, True)], ids=str)
def test_kept_graphs_change_nothing(second_order, keep, micro_batches):
    parameters, support, query = toy()
    support = query if micro_batches == 1 else support
    rates = some_rates(parameters, 3, scale=0.5)
    _, expected = unrolled(parameters, rates, support, second_order, query)
    assert deviation(outer_gradient(parameters, rates, support, second_order, query, keep), expected) < 1e-14


@pytest.mark.parametrize(("keep", "calls"), [(0, 5 * 2), (1, 5 * 2 - 1), (3, 5 * 2 - 3), (4, 3 * 2), (9, 3 * 2)])
def test_kept_graphs_save_a_pass_each(keep, calls):
    """Of two micro-batches in each of two steps and the outer loss; both steps come twice where no graph is kept."""
    parameters, support, _ = toy()
    made = []
    counting = [lambda p, step, loss=loss: made.append(step) or loss(p, step) for loss in support]
    outer_gradient(parameters, some_rates(parameters), counting, (True, True), keep_graphs=keep)
    assert len(made) == calls


@pytest.mark.parametrize("second_order", [(True, True, True), (False, True, False), (True, False, True)], ids=str)
def test_parameters_without_a_rate_do_not_adapt_but_get_their_gradient(second_order):
    parameters, support, query = toy()
    rates = some_rates(parameters, 3, ("weight", "tied", "also"), scale=0.5)
    _, expected = unrolled(parameters, rates, support, second_order, query)
    found = outer_gradient(parameters, rates, support, second_order, query)
    assert deviation(found, expected) < 1e-13
    assert found.parameters["still"].abs().max() > 1e-3
    assert torch.equal(adapt(parameters, rates, support, 3)["still"], parameters["still"])
    assert max(directional_errors(parameters, rates, support, second_order, query)) < 1e-6


def test_micro_batches_change_nothing():
    parameters, support, whole = toy()
    rates = some_rates(parameters, scale=0.5)
    one, two = (outer_gradient(parameters, rates, losses, (True, True)) for losses in (whole, support))
    assert deviation(one, [*two.parameters.values(), two.rates]) < 1e-14


def test_steps_beyond_the_last_rates_reuse_them():
    parameters, support, _ = toy()
    rates = some_rates(parameters, scale=0.5)
    _, expected = unrolled(parameters, rates, support, [True] * 4)
    assert deviation(outer_gradient(parameters, rates, support, [True] * 4), expected) < 1e-13


def test_constant_rates_get_no_gradient_and_nothing_is_kept_for_it():
    parameters, support, _ = toy()
    rates = some_rates(parameters, scale=0.5)
    learned = outer_gradient(parameters, rates, support, (True, True))
    rates.values.requires_grad_(False)
    constant = outer_gradient(parameters, rates, support, (True, True))
    assert constant.rates.count_nonzero() == 0
    assert all(torch.equal(constant.parameters[n], learned.parameters[n]) for n in parameters)


def test_what_is_kept_grows_with_the_steps_as_documented():
    parameters, _, _ = toy()
    size = sum(p.nbytes for p in parameters.values())
    rates = some_rates(parameters, 5)
    assert kept_bytes(parameters, rates, [True] * 5) == 4 * size
    assert kept_bytes(parameters, rates, [False] * 5) == 5 * size
    assert kept_bytes(parameters, rates, [False, True, True, False, True]) == 5 * size
    rates.values.requires_grad_(False)
    assert kept_bytes(parameters, rates, [True] * 5) == 4 * size
    assert kept_bytes(parameters, rates, [False] * 5) == 0


def test_first_order_makes_no_graph_of_a_gradient(monkeypatch):
    parameters, support, _ = toy()

    def refuse(*args, **kwargs):
        raise AssertionError("a Hessian-vector product was made")

    monkeypatch.setattr(torch.autograd, "grad", refuse)
    outer_gradient(parameters, some_rates(parameters), support, (False, False))


def test_adaptation_takes_the_steps_of_the_reference(problems):
    parameters, rates, support, _ = problems("hubert")
    expected = inner_loop.adapt_without_graph(mean(support, 0), parameters, rates.at, 4)
    before = {name: value.detach().clone() for name, value in parameters.items()}
    found = adapt(parameters, rates, support, 4)
    for name in parameters:
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=1e-13)
        assert not found[name].requires_grad
        assert torch.equal(parameters[name], before[name])


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_loss_that_is_not_finite_stops_at_its_step(at):
    parameters, support, _ = toy()
    broken = [support[0], lambda p, step: support[1](p, step) * (float("nan") if step == at else 1.0)]
    with pytest.raises(NonFinite, match=r"inner step 1 of 2|inner step 2 of 2|the outer loss") as error:
        outer_gradient(parameters, some_rates(parameters), broken, (True, True))
    assert (error.value.inner_step, error.value.inner_steps, error.value.what) == (at, 2, "loss")
    assert isinstance(error.value, UserError)


def test_a_gradient_that_is_not_finite_names_the_parameter():
    parameters, support, _ = toy()
    broken = [lambda p, step: support[0](p, step) + (p["tied"] * 0.0).abs().sum().sqrt()]
    with pytest.raises(NonFinite, match=r"gradient of tied is NaN or infinite at inner step 1 of 2"):
        adapt(parameters, some_rates(parameters), broken, 2)


def test_a_second_derivative_that_is_not_finite_stops_too():
    parameters, support, _ = toy()
    # |x| ** 1.5 has a gradient of 0 and an infinite second derivative at 0
    broken = [lambda p, step: support[0](p, step) + (p["tied"] - p["tied"].detach()).abs().pow(1.5).sum()]
    with pytest.raises(NonFinite, match="gradient of tied"):
        outer_gradient(parameters, some_rates(parameters), broken, (True, True))


def test_rates_of_unknown_parameters_are_refused():
    parameters, support, _ = toy()
    with pytest.raises(ValueError, match="'nobody'"):
        outer_gradient(parameters, InnerRates(["nobody"], 1, 0.1, True), support, (True,))


def test_attention_without_its_own_backend_has_no_double_backward():
    """Why the models run under ``double_backward_attention``."""
    query = torch.randn(1, 2, 8, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)

    def twice():
        output = nn.functional.scaled_dot_product_attention(query, query, query).pow(2).sum()
        (gradient,) = torch.autograd.grad(output, query, create_graph=True)
        return torch.autograd.grad(gradient.sum(), query)

    with pytest.raises(RuntimeError, match="not implemented"):
        twice()
    with double_backward_attention():
        twice()


@pytest.mark.parametrize(("seconds", "kept"), [(3.0, 1), (2.9, 0), (1.0, 0)])
def test_a_graph_is_kept_if_all_is_one_micro_batch_with_room_to_spare(seconds, kept):
    assert graphs_worth_keeping([16000, 12000], seconds) == kept
