"""The closed form against the loop, which is held against finite differences."""

import pytest
import torch

from s3prl_metaperser.meta import closed_form, closed_form_adapt
from s3prl_metaperser.meta.inner_loop import adapt, adapt_without_graph, expand
from s3prl_metaperser.meta.model import PARAMETERS, Head, pooled_logits
from s3prl_metaperser.meta.rates import InnerRates
from s3prl_metaperser.protocol.loss import soft_cross_entropy

A, K, Q, D, H, C, S = 3, 6, 4, 7, 5, 4, 4


def problem(layers, seed=0):
    generator = torch.Generator().manual_seed(seed)
    head = Head(layers, D, H, C, generator).double()
    with torch.no_grad():
        head.weights.copy_(torch.randn(layers, generator=generator, dtype=torch.float64))
    rates = InnerRates(PARAMETERS, S, 0.3, learned=True).double()
    with torch.no_grad():
        rates.values += 0.2 * torch.randn(S, 5, generator=generator, dtype=torch.float64)
        rates.values[2, 1] = 0.0
    support = torch.randn(A, K, layers, D, generator=generator, dtype=torch.float64)
    query = torch.randn(A, Q, layers, D, generator=generator, dtype=torch.float64)
    targets = torch.rand(A, K, C, generator=generator, dtype=torch.float64)
    targets[2, 4:] = 0  # an episode that was filled up
    return head, rates, (support, targets), (query, torch.rand(A, Q, C, generator=generator, dtype=torch.float64))


def by_loop(head, rates, support, query, orders):
    parameters = expand(dict(head.named_parameters()), A)
    adapted = adapt(
        lambda p: soft_cross_entropy(pooled_logits(p, support[0]), support[1]), parameters, rates.at, orders
    )
    return soft_cross_entropy(pooled_logits(adapted, query[0]), query[1]).mean()


def by_closed_form(head, rates, support, query, orders):
    majors = [(closed_form.layer_major(x), t) for x, t in (support, query)]
    parameters = dict(head.named_parameters())
    return closed_form.outer_loss(parameters, rates, *majors[0], orders, majors[1])


ORDERS = {
    "second order": [True] * S,
    "first order": [False] * S,
    "annealed inside": [False, False, True, True],
    "mixed": [True, False, True, False],
}


@pytest.mark.parametrize("combined", [True, False], ids=["combined set", "separate query"])
@pytest.mark.parametrize("orders", ORDERS.values(), ids=ORDERS.keys())
@pytest.mark.parametrize("layers", [1, 4])
def test_loss_and_every_gradient_equal_the_loops(layers, orders, combined):
    head, rates, support, query = problem(layers)
    query = support if combined else query
    tensors = [*head.parameters(), rates.values]
    one = by_loop(head, rates, support, query, orders)
    two = by_closed_form(head, rates, support, query, orders)
    torch.testing.assert_close(two, one, rtol=1e-13, atol=0)
    expected = torch.autograd.grad(one, tensors, materialize_grads=True)
    found = torch.autograd.grad(two, tensors, materialize_grads=True)
    for name, a, b in zip([*PARAMETERS, "rates"], found, expected, strict=True):
        assert (a - b).norm() <= 1e-12 * max(b.norm().item(), 1e-3), name


def test_default_query_is_the_support_set():
    head, rates, support, _ = problem(3)
    major = closed_form.layer_major(support[0])
    parameters = dict(head.named_parameters())
    default = closed_form.outer_loss(parameters, rates, major, support[1], [True] * S)
    assert default == closed_form.outer_loss(parameters, rates, major, support[1], [True] * S, (major, support[1]))


@pytest.mark.parametrize("layers", [1, 4])
def test_adaptation_of_many_episodes_at_once_equals_the_loop_one_by_one(layers):
    head, rates, (features, targets), _ = problem(layers)
    found = closed_form.adapt(dict(head.named_parameters()), rates, closed_form.layer_major(features), targets, 20)
    for a in range(A):
        loss = lambda p, a=a: soft_cross_entropy(pooled_logits(p, features[a]), targets[a])  # noqa: E731
        alone = adapt_without_graph(loss, dict(head.named_parameters()), rates.at, 20)
        for name in PARAMETERS:
            torch.testing.assert_close(found[name][a], alone[name], rtol=1e-11, atol=1e-12)
            assert not found[name].requires_grad


@pytest.mark.parametrize("products", [True, False], ids=["by inner products", "by low rank"])
@pytest.mark.parametrize("layers", [1, 4])
def test_a_head_multiplied_out_predicts_what_the_loop_predicts(layers, products, monkeypatch):
    monkeypatch.setattr(closed_form_adapt, "pays", lambda *sizes: products)
    monkeypatch.setattr(closed_form, "AT_ONCE", 1)  # one episode after the other, and put together
    head, rates, (features, targets), (query, _) = problem(layers)
    parameters = dict(head.named_parameters())
    for steps in (0, 1, 20):
        found = closed_form.adapt_to_predict(parameters, rates, closed_form.layer_major(features), targets, steps)
        for a in range(A):
            loss = lambda p, a=a: soft_cross_entropy(pooled_logits(p, features[a]), targets[a])  # noqa: E731
            alone = pooled_logits(adapt_without_graph(loss, parameters, rates.at, steps), query[a])
            own = pooled_logits({name: value[a] for name, value in found.items()}, query[a])
            torch.testing.assert_close(own, alone, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("decay", [0.0, 0.2])
@pytest.mark.parametrize("layers", [1, 4])
def test_at_one_fixed_rate_and_with_weight_decay_it_is_torchs_gradient_descent(layers, decay):
    head, _, (features, targets), (query, _) = problem(layers)
    rate, theta = 0.25, dict(head.named_parameters())
    rates = InnerRates(PARAMETERS, 1, rate, learned=False).double()
    for steps in (0, 1, 12):
        major, kept = closed_form.layer_major(features), 1 - rate * decay
        found = closed_form.adapt_to_predict(theta, rates, major, targets, steps, kept)
        for a in range(A):
            leaves = {name: value.detach().clone().requires_grad_() for name, value in theta.items()}
            optimizer = torch.optim.SGD(leaves.values(), lr=rate, weight_decay=decay)
            for _ in range(steps):
                optimizer.zero_grad()
                soft_cross_entropy(pooled_logits(leaves, features[a]), targets[a]).backward()
                optimizer.step()
            own = pooled_logits({name: value[a] for name, value in found.items()}, query[a])
            torch.testing.assert_close(own, pooled_logits(leaves, query[a]).detach(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("layers", [1, 4])
def test_gradients_of_many_heads_are_autograds(layers):
    head, _, (features, targets), _ = problem(layers)
    draw = torch.Generator().manual_seed(1)
    theta = {
        name: value + 0.3 * torch.randn(value.shape, generator=draw, dtype=value.dtype)
        for name, value in expand(dict(head.named_parameters()), A).items()
    }
    leaves = {name: value.detach().requires_grad_() for name, value in theta.items()}
    loss = soft_cross_entropy(pooled_logits(leaves, features), targets).sum()
    expected = torch.autograd.grad(loss, leaves.values(), materialize_grads=True)
    found = closed_form.gradients(leaves, closed_form.layer_major(features), targets)
    assert [*found] == [*PARAMETERS]
    for one, other in zip(found.values(), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-13)


def test_episodes_together_are_episodes_alone(monkeypatch):
    head, rates, (features, targets), _ = problem(2)
    arguments = dict(head.named_parameters()), rates, closed_form.layer_major(features), targets, 7
    together = closed_form.adapt_to_predict(*arguments)
    monkeypatch.setattr(closed_form, "AT_ONCE", 1)
    for name, value in closed_form.adapt_to_predict(*arguments).items():
        torch.testing.assert_close(value, together[name], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("given", [S - 2, S + 3])
def test_steps_beyond_the_rates_reuse_the_last_row(given):
    head, rates, support, query = problem(3)
    orders = [True] * given
    tensors = [*head.parameters(), rates.values]
    expected = torch.autograd.grad(by_loop(head, rates, support, query, orders), tensors)
    found = torch.autograd.grad(by_closed_form(head, rates, support, query, orders), tensors)
    for a, b in zip(found, expected, strict=True):
        assert (a - b).norm() <= 1e-12 * b.norm()


def test_gradients_scale_with_the_loss_and_leave_constants_alone():
    head, rates, support, query = problem(3)
    rates.values.requires_grad_(False)
    once = torch.autograd.grad(by_closed_form(head, rates, support, query, [True] * S), list(head.parameters()))
    (3 * by_closed_form(head, rates, support, query, [True] * S)).backward()
    assert rates.values.grad is None
    for parameter, gradient in zip(head.parameters(), once, strict=True):
        torch.testing.assert_close(parameter.grad, 3 * gradient, rtol=1e-14, atol=0)
    with torch.no_grad():
        assert not by_closed_form(head, rates, support, query, [True] * S).requires_grad


def test_gathering_by_layer_is_gathering_and_then_transposing():
    features, rows = torch.randn(11, 3, 5), torch.tensor([[3, 0, 10, 3], [1, 1, 2, 9]])
    assert torch.equal(closed_form.gathered(features, rows), closed_form.layer_major(features[rows]))


def test_it_applies_to_this_head_alone():
    head, rates, *_ = problem(2)
    parameters = dict(head.named_parameters())
    assert closed_form.applies_to(parameters, rates)
    assert not closed_form.applies_to({**parameters, "attention.weight": torch.zeros(3)}, rates)
    assert not closed_form.applies_to(parameters, InnerRates(PARAMETERS[3:], S, 0.1, learned=True))
    assert not closed_form.applies_to({**parameters, "classifier.weight": torch.zeros(C, H + 1)}, rates)
    assert not closed_form.applies_to(expand(parameters, A), rates)
