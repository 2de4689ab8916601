"""Outer gradients against an independent oracle: central finite differences in float64."""

import numpy as np
import pytest
import torch
from tiny_models import frame_logits

from s3prl_metaperser.corpora.label_set import LabelSet
from s3prl_metaperser.meta.annealing import second_order_steps
from s3prl_metaperser.meta.inner_loop import adapt, adapt_without_graph, expand
from s3prl_metaperser.meta.model import PARAMETERS, Head, pooled_logits
from s3prl_metaperser.meta.rates import InnerRates
from s3prl_metaperser.protocol.loss import class_balanced_weights, soft_cross_entropy, weighted_targets

A, K, L, D, H, C, S = 2, 5, 3, 4, 3, 4, 3


@pytest.fixture
def problem():
    generator = torch.Generator().manual_seed(0)
    head = Head(L, D, H, C, generator).double()
    with torch.no_grad():
        head.weights.copy_(torch.tensor([0.3, -0.2, 0.5]))
    rates = InnerRates(PARAMETERS, S, 0.3, learned=True).double()
    with torch.no_grad():
        rates.values += 0.1 * torch.randn(S, len(PARAMETERS), generator=generator, dtype=torch.float64)
        rates.values[1, 2] = 0.0  # a rate may pass through zero
    features = torch.randn(2, A, K, L, D, generator=generator, dtype=torch.float64)
    targets = torch.rand(2, A, K, C, generator=generator, dtype=torch.float64)
    return head, rates, features, targets


def outer_loss(head, rates, features, targets, twice, combined):
    """The loss as the product computes it."""

    def loss(parameters, which):
        return soft_cross_entropy(pooled_logits(parameters, features[which]), targets[which])

    parameters = expand(dict(head.named_parameters()), A)
    adapted = adapt(lambda p: loss(p, 0), parameters, rates.at, twice)
    return loss(adapted, 0 if combined else 1).mean()


def numeric(function, tensor, step=1e-6):
    """Central differences of a scalar function with respect to a tensor, changed in place."""
    gradient = torch.zeros_like(tensor)
    flat, out = tensor.data.view(-1), gradient.view(-1)
    for index in range(flat.numel()):
        kept = flat[index].item()
        flat[index] = kept + step
        above = function()
        flat[index] = kept - step
        out[index] = (above - function()) / (2 * step)
        flat[index] = kept
    return gradient


def relative_error(found, expected):
    return (found - expected).norm().item() / expected.norm().item()


@pytest.mark.parametrize("combined", [True, False])
def test_second_order_gradients_equal_finite_differences(problem, combined):
    head, rates, features, targets = problem
    twice = [True] * S
    tensors = [*head.parameters(), rates.values]
    found = torch.autograd.grad(outer_loss(head, rates, features, targets, twice, combined), tensors)

    def value():
        return outer_loss(head, rates, features, targets, twice, combined).item()

    for tensor, gradient in zip(tensors, found, strict=True):
        assert relative_error(gradient, numeric(value, tensor)) < 1e-6


def frozen_inner_gradients(head, rates, features, targets):
    """The inner gradients g_s [S] as constants: first order means that they do not follow theta or eta."""
    current = {n: p.detach().expand(A, *p.shape) for n, p in head.named_parameters()}
    constants = []
    for step in range(S):
        leaves = {n: p.clone().requires_grad_() for n, p in current.items()}
        loss = soft_cross_entropy(pooled_logits(leaves, features[0]), targets[0]).sum()
        gradients = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))
        constants.append(gradients)
        current = {n: leaves[n].detach() - rates.at(step)[n].detach() * gradients[n] for n in leaves}
    return constants


def test_first_order_gradients_equal_finite_differences_with_constant_inner_gradients(problem):
    head, rates, features, targets = problem
    tensors = [*head.parameters(), rates.values]
    found = torch.autograd.grad(outer_loss(head, rates, features, targets, [False] * S, True), tensors)
    constants = frozen_inner_gradients(head, rates, features, targets)

    def value():
        current = {n: p.detach().expand(A, *p.shape) for n, p in head.named_parameters()}
        for step in range(S):
            current = {n: current[n] - rates.at(step)[n].detach() * constants[step][n] for n in current}
        return soft_cross_entropy(pooled_logits(current, features[0]), targets[0]).mean().item()

    for tensor, gradient in zip(tensors, found, strict=True):
        assert relative_error(gradient, numeric(value, tensor)) < 1e-6


def test_first_and_second_order_adapt_alike_but_differ_in_their_gradient(problem):
    head, rates, features, targets = problem
    first = outer_loss(head, rates, features, targets, [False] * S, True)
    second = outer_loss(head, rates, features, targets, [True] * S, True)
    assert first.item() == second.item()
    one, two = (torch.autograd.grad(v, head.projector.weight)[0] for v in (first, second))
    assert relative_error(one, two) > 1e-3


def test_adaptation_without_graph_takes_the_same_steps(problem):
    head, rates, features, targets = problem

    def loss(parameters):
        return soft_cross_entropy(pooled_logits(parameters, features[0, 1]), targets[0, 1])

    parameters = dict(head.named_parameters())
    expected = adapt(loss, parameters, rates.at, [True] * 7)
    found = adapt_without_graph(loss, parameters, rates.at, 7)
    for name in PARAMETERS:
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=1e-14)
        assert not found[name].requires_grad
    assert all(p.requires_grad for p in head.parameters()), "the initialisation is left as it was"


def test_raters_in_a_meta_batch_do_not_touch_each_other(problem):
    head, rates, features, targets = problem
    together = outer_loss(head, rates, features, targets, [True] * S, True)
    alone = []
    for a in range(A):
        loss = lambda p, a=a: soft_cross_entropy(pooled_logits(p, features[0, a]), targets[0, a])  # noqa: E731
        alone.append(loss(adapt(loss, dict(head.named_parameters()), rates.at, [True] * S)))
    torch.testing.assert_close(together, torch.stack(alone).mean(), rtol=0, atol=1e-14)


def test_steps_beyond_s_reuse_the_last_rates():
    rates = InnerRates(PARAMETERS, 2, 0.1, learned=True)
    with torch.no_grad():
        rates.values[1] = 0.7
    assert rates.at(0)["weights"].item() == pytest.approx(0.1)
    assert {rates.at(step)["weights"].item() for step in (1, 2, 49)} == {rates.values[1, 0].item()}


def test_rates_are_learned_with_lslr_and_constant_without():
    assert InnerRates(PARAMETERS, 2, 0.1, learned=True).values.requires_grad
    assert not InnerRates(PARAMETERS, 2, 0.1, learned=False).values.requires_grad


def test_both_readings_of_derivative_annealing():
    whole = [second_order_steps(step, 10, 5, annealed=True, scope="training") for step in range(1, 11)]
    assert whole == [[False] * 5] * 3 + [[True] * 5] * 7
    assert second_order_steps(1, 10, 5, annealed=True, scope="adaptation") == [False, False, True, True, True]
    assert second_order_steps(1, 10, 5, annealed=False) == [True] * 5


def test_class_balanced_weights_by_hand():
    targets = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.2, 0.8]])
    beta = 3 / 4
    raw = np.array([(1 - beta) / (1 - beta**3), (1 - beta) / (1 - beta**1)])
    pair = LabelSet("pair", "multi", ("a", "b"))
    np.testing.assert_allclose(class_balanced_weights(targets, pair), raw * 2 / raw.sum(), rtol=1e-14)


def test_a_class_without_samples_has_a_finite_weight():
    weights = class_balanced_weights(
        np.array([[0.9, 0.05, 0.05], [0.05, 0.9, 0.05]]), LabelSet("three", "multi", ("a", "b", "c"))
    )
    assert np.isfinite(weights).all()
    assert weights.mean() == pytest.approx(1.0)


def test_loss_is_the_mean_over_samples_of_weighted_soft_cross_entropy():
    generator = np.random.default_rng(1)
    logits, targets = generator.standard_normal((6, 4)), generator.dirichlet(np.ones(4), size=6)
    weights = np.array([0.5, 1.5, 1.0, 1.0])
    logs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    expected = np.mean((targets @ weights) * -(targets * logs).sum(1))
    weighted = weighted_targets(torch.from_numpy(targets), torch.from_numpy(weights))
    assert soft_cross_entropy(torch.from_numpy(logits), weighted).item() == pytest.approx(expected, rel=1e-14)


def test_pooled_features_give_the_logits_of_the_frames(problem):
    head, *_ = problem
    generator = torch.Generator().manual_seed(3)
    lengths = torch.tensor([7, 3, 5])
    frames = torch.randn(3, L, 7, D, generator=generator, dtype=torch.float64)
    pooled = torch.stack([frames[k, :, :n].mean(1) for k, n in enumerate(lengths)])
    parameters = dict(head.named_parameters())
    torch.testing.assert_close(
        frame_logits(parameters, frames, lengths), pooled_logits(parameters, pooled), rtol=0, atol=1e-14
    )
