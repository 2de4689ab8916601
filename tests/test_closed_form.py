"""The closed form against the loop, which is held against finite differences."""

import pytest
import torch

from s3prl_metaperser.loss import soft_cross_entropy
from s3prl_metaperser.meta import closed_form
from s3prl_metaperser.meta.inner_loop import adapt, adapt_without_graph, expand
from s3prl_metaperser.meta.rates import InnerRates
from s3prl_metaperser.model import PARAMETERS, Head, pooled_logits

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


def test_it_applies_to_this_head_alone():
    head, rates, *_ = problem(2)
    parameters = dict(head.named_parameters())
    assert closed_form.applies_to(parameters, rates)
    assert not closed_form.applies_to({**parameters, "attention.weight": torch.zeros(3)}, rates)
    assert not closed_form.applies_to(parameters, InnerRates(PARAMETERS[3:], S, 0.1, learned=True))
    assert not closed_form.applies_to({**parameters, "classifier.weight": torch.zeros(C, H + 1)}, rates)
    assert not closed_form.applies_to(expand(parameters, A), rates)
