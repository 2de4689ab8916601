"""MLDG's and DA-MLDG's outer gradient, against finite differences, the unrolled graph and what theory says."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from tiny_models import C, D, L, in_float64, options, tiny_upstream, waveforms
from torch import nn
from torch.func import functional_call

from s3prl_metaperser.errors import UserError
from s3prl_metaperser.generalise.meta_step import Margin, Problem, Samples, outer_gradient, unrolled_gradient
from s3prl_metaperser.generalise.model import FineTuned, PooledModel
from s3prl_metaperser.generalise.resnet18 import ResNet18
from s3prl_metaperser.upstream.finetuning import FineTunedModel

DETACHED, ATTACHED = Margin(), Margin(attached=True)


class Small(nn.Module):
    """A smooth convolutional network on frames [N, T, M], with batch normalisation or without."""

    def __init__(self, norm: bool):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 6, 3, stride=2, padding=1)
        self.norm, self.last = nn.BatchNorm2d(4) if norm else nn.Identity(), nn.Linear(6, 5)

    def forward(self, frames):
        state = nn.functional.gelu(self.norm(self.first(frames.unsqueeze(1))))
        return self.last(nn.functional.gelu(self.second(state)).mean((2, 3)))


def drawn(network: nn.Module, seed: int = 0, scale: float = 0.4) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in network.double().parameters():
            value.copy_(scale * torch.randn(value.shape, generator=generator, dtype=torch.float64))
    return network


def domains(sizes, shape=(9, 8), seed=1, shift=2.0):
    """(inputs, labels) a domain: class patterns, a tilt of the domain's own, noise."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*size):
        return torch.randn(*size, generator=generator, dtype=torch.float64)

    patterns, made = normal(5, *shape), []
    for size in sizes:
        labels = torch.arange(size) % 5
        made.append((patterns[labels] + shift * normal(1, 1, shape[1]) + 0.7 * normal(size, *shape), labels))
    return made


def samples(parts, mean="domain") -> Samples:
    total = sum(len(labels) for _, labels in parts)
    weights = [torch.full((len(y),), 1 / (len(parts) * len(y)) if mean == "domain" else 1 / total) for _, y in parts]
    inputs, labels = (torch.cat(each) for each in zip(*parts, strict=True))
    return Samples(inputs, labels, torch.cat(weights).double())


def problem(rate=0.3, margin=None, norm=False, mean="domain", **changes) -> Problem:
    parts = domains((7, 11, 5, 9))
    train, test = samples(parts[:3], mean), samples(parts[3:], mean)
    return Problem(drawn(Small(norm)), train, test, rate, margin, **changes)


def flat(gradient) -> torch.Tensor:
    return torch.cat([value.reshape(-1) for value in gradient.values()])


def loss_at(network, theta, part: Samples) -> torch.Tensor:
    """A second way to the loss: the mean over samples by torch's own reduction where the weights are alike."""
    buffers = {name: value.clone() for name, value in network.named_buffers()}
    logits = functional_call(network, {**theta, **buffers}, (part.inputs,))
    each = -torch.log_softmax(logits, -1)[torch.arange(len(part.labels)), part.labels]
    return each @ part.weights, torch.logsumexp(logits, -1).mean()


def objective(case: Problem, theta, frozen: float | None = None) -> float:
    """J, by Eq. 2 and 3 as they are written; ``frozen`` stands for a margin that is not differentiated."""
    leaves = {name: value.detach().requires_grad_() for name, value in theta.items()}
    train, _ = loss_at(case.network, leaves, case.train)
    inner = torch.autograd.grad(train, list(leaves.values()))
    with torch.no_grad():
        fast = {name: leaf - case.inner_rate * g for (name, leaf), g in zip(leaves.items(), inner, strict=True)}
        test, test_energy = loss_at(case.network, fast, case.test)
        gamma = abs(abs(loss_at(case.network, fast, case.train)[1]) - abs(test_energy))
    return (train + (gamma if frozen is None else frozen) * test).item()


def misses(case: Problem, gradient, frozen: float | None, directions: int = 6, step: float = 1e-4) -> float:
    """The largest difference from Richardson's central differences along drawn directions, over the largest of them."""
    generator, theta, pairs = torch.Generator().manual_seed(3), case.parameters(), []
    for _ in range(directions):
        way = {n: torch.randn(v.shape, generator=generator, dtype=torch.float64) for n, v in theta.items()}
        norm = flat(way).norm()

        def at(h, way=way, norm=norm):
            return objective(case, {n: v + h / norm * way[n] for n, v in theta.items()}, frozen)

        slopes = [(at(h) - at(-h)) / (2 * h) for h in (step, 2 * step)]
        pairs.append(((4 * slopes[0] - slopes[1]) / 3, (flat(gradient) @ flat(way) / norm).item()))
    return max(abs(a - b) for a, b in pairs) / max(abs(a) for a, _ in pairs)


@pytest.mark.parametrize("norm", [False, True], ids=["plain", "batch-norm"])
@pytest.mark.parametrize("mean", ["domain", "pooled"])
@pytest.mark.parametrize("margin", [None, DETACHED, ATTACHED], ids=["MLDG", "detached", "attached"])
def test_the_outer_gradient_is_that_of_finite_differences_and_first_order_is_not(margin, mean, norm):
    for rate in (0.01, 0.5):
        case = problem(rate, margin, norm, mean)
        found = outer_gradient(case)
        frozen = None if margin is ATTACHED else found.margin
        assert misses(case, found.gradient, frozen) < 1e-7
        assert found.loss == pytest.approx(objective(case, case.parameters(), frozen), rel=1e-12)
        first = outer_gradient(case, second_order=False)
        assert misses(case, first.gradient, frozen) > 1e-5


@pytest.mark.parametrize("norm", [False, True], ids=["plain", "batch-norm"])
@pytest.mark.parametrize("margin", [None, DETACHED, ATTACHED, Margin(True, False, 2.0, 5.0)])
def test_the_adjoint_is_the_unrolled_graph(margin, norm):
    for second_order in (True, False):
        one = outer_gradient(problem(0.3, margin, norm), second_order=second_order)
        other = unrolled_gradient(problem(0.3, margin, norm), second_order=second_order)
        assert (flat(one.gradient) - flat(other.gradient)).abs().max() < 1e-14 * flat(other.gradient).abs().max()
        assert (one.train_loss, one.test_loss, one.margin) == pytest.approx(
            (other.train_loss, other.test_loss, other.margin), rel=1e-13
        )


@pytest.mark.parametrize("margin", [None, DETACHED, ATTACHED])
def test_micro_batches_change_nothing_but_memory(margin):
    whole = flat(outer_gradient(problem(0.3, margin)).gradient)
    for size in (4, 10):
        parts = flat(outer_gradient(problem(0.3, margin, micro_batch=size)).gradient)
        assert (parts - whole).abs().max() < 1e-13 * whole.abs().max()


def gradients_of(case: Problem, *parts: Samples, graph: bool = False):
    theta = {n: v.detach().requires_grad_() for n, v in case.parameters().items()}
    found = [
        torch.autograd.grad(loss_at(case.network, theta, p)[0], list(theta.values()), create_graph=graph) for p in parts
    ]
    return list(theta.values()), found


def test_without_an_inner_step_mldg_is_the_sum_of_both_losses():
    case = problem(0.0)
    _, (train, test) = gradients_of(case, case.train, case.test)
    expected = torch.cat([(a + b).reshape(-1) for a, b in zip(train, test, strict=True)])
    assert (flat(outer_gradient(case).gradient) - expected).abs().max() < 1e-15


def test_mldg_aligns_the_gradients_of_both_sets_to_first_order_in_the_inner_rate():
    rests = {}
    for rate in (1e-3, 1e-4):
        case = problem(rate)
        theta, (train, test) = gradients_of(case, case.train, case.test, graph=True)
        inner_product = sum((a * b).sum() for a, b in zip(train, test, strict=True))
        slope = torch.autograd.grad(inner_product, theta)
        expected = [a + b - rate * c for a, b, c in zip(train, test, slope, strict=True)]
        rests[rate] = (flat(outer_gradient(case).gradient) - torch.cat([e.reshape(-1) for e in expected])).norm().item()
    assert rests[1e-3] / rests[1e-4] == pytest.approx(100, rel=0.05)  # what remains is of the second order


def test_the_margin_is_zero_between_a_set_and_itself_and_then_only_the_train_loss_counts():
    case = problem(0.3, ATTACHED)
    case = dataclasses.replace(case, test=case.train)
    found = outer_gradient(case)
    _, (train,) = gradients_of(case, case.train)
    assert found.margin == 0
    assert torch.equal(flat(found.gradient), torch.cat([g.reshape(-1) for g in train]))


def test_the_margin_is_what_eq_3_says_and_follows_its_options():
    def margin(**changes):
        return outer_gradient(problem(0.3, Margin(**changes))).margin

    case = problem(0.3)
    theta, (train,) = gradients_of(case, case.train)
    fast = {n: v - 0.3 * g for n, v, g in zip(case.parameters(), theta, train, strict=True)}
    energies = [loss_at(case.network, fast, part)[1].item() for part in (case.train, case.test)]
    assert margin() == pytest.approx(abs(abs(energies[0]) - abs(energies[1])), rel=1e-12)
    assert margin(absolute=False) == pytest.approx(abs(energies[0] - energies[1]), rel=1e-12)
    assert margin(largest=0.01) == 0.01 < margin()
    assert margin(temperature=2.0) != margin()
    rates = {outer_gradient(problem(rate, DETACHED)).margin for rate in (0.01, 0.3)}
    assert len(rates) == 2  # it is computed behind the inner step


def test_attached_and_detached_margins_are_different_algorithms():
    one, other = (flat(outer_gradient(problem(0.3, margin)).gradient) for margin in (DETACHED, ATTACHED))
    assert torch.cosine_similarity(one, other, dim=0) < 0.9
    capped = Margin(attached=True, largest=0.01)  # a margin that is cut off has no slope
    assert torch.equal(
        flat(outer_gradient(problem(0.3, capped)).gradient),
        flat(outer_gradient(problem(0.3, dataclasses.replace(capped, attached=False))).gradient),
    )


def test_running_statistics_follow_the_train_set_at_theta_alone():
    case = problem(0.3, ATTACHED, norm=True)
    outer_gradient(case)
    alone = drawn(Small(True))
    alone(case.train.inputs)
    for name, value in case.network.named_buffers():
        assert torch.equal(value, alone.get_buffer(name)), name


def test_what_is_not_trained_stands_still():
    case = problem(0.3, DETACHED)
    case.network.first.requires_grad_(False)
    assert set(outer_gradient(case).gradient) == {n for n, _ in case.network.named_parameters() if "first" not in n}


def test_a_margin_that_grows_without_bound_is_an_error():
    case = problem(1e200, DETACHED)
    with pytest.raises(UserError, match="NaN or infinite"):
        outer_gradient(case)


@pytest.mark.parametrize("margin", [None, DETACHED, ATTACHED], ids=["MLDG", "detached", "attached"])
def test_second_order_through_resnet18_with_batch_norm_in_training_mode_is_that_of_finite_differences(margin):
    network = ResNet18(1, 5, torch.Generator().manual_seed(0), channels=2).double()
    parts = domains((3, 3, 3), shape=(20, 16))
    train, test = (samples([(x[:, None], y) for x, y in each]) for each in (parts[:2], parts[2:]))
    case = Problem(network, train, test, 0.05, margin)
    found = outer_gradient(case)
    frozen = None if margin is ATTACHED else found.margin
    assert misses(case, found.gradient, frozen, directions=4, step=1e-7) < 1e-6
    first = outer_gradient(case, second_order=False)
    assert misses(case, first.gradient, frozen, directions=4, step=1e-7) > 1e-4


@pytest.mark.parametrize("size", [None, 4])
def test_dropout_has_the_same_masks_in_all_passes_of_a_step(size):
    network = nn.Sequential(nn.Flatten(), nn.Linear(72, 6), nn.Tanh(), nn.Dropout(0.5), nn.Linear(6, 5))
    parts = domains((7, 11, 5, 9))
    train, test = samples(parts[:3]), dataclasses.replace(samples(parts[3:]), names=("V",))
    case = Problem(drawn(network), train, test, 0.3, micro_batch=size)
    found = outer_gradient(case)
    theta = {name: value.detach().requires_grad_() for name, value in network.named_parameters()}

    def loss(at, whole):
        return sum(case.terms(at, part)[0] for part in whole.split(size))

    inner = torch.autograd.grad(loss(theta, train), list(theta.values()), create_graph=True)
    fast = {name: value - 0.3 * step for (name, value), step in zip(theta.items(), inner, strict=True)}
    expected = torch.autograd.grad(loss(theta, train) + loss(fast, test), list(theta.values()))
    assert (flat(found.gradient) - torch.cat([e.reshape(-1) for e in expected])).norm() < 1e-12
    assert len({case.terms(theta, part)[0].item() for part in (train, dataclasses.replace(train, names=("W",)))}) == 2


def test_through_a_fine_tuned_upstream_adjoint_micro_batches_and_unrolled_graph_agree(tmp_path):
    upstream = in_float64(tiny_upstream("wavlm", tmp_path), spread=2.0)
    head = PooledModel((L, D), 5, C, torch.Generator().manual_seed(1), nonlinear=True).double()
    model = FineTuned(FineTunedModel(upstream, head, options())).train()
    waves, labels = waveforms((3000, 2400, 2000, 2200, 1900), torch.float64), torch.tensor([0, 1, 2, 3, 0])
    parts = [(waves[:3], labels[:3]), (waves[3:], labels[3:])]
    train, test = (Samples(x, y, torch.full((len(y),), 1 / len(y), dtype=torch.float64)) for x, y in parts)
    problem = Problem(model, train, test, 0.5, ATTACHED)
    reference = flat(unrolled_gradient(problem).gradient)
    assert (flat(outer_gradient(problem, second_order=False).gradient) - reference).norm() > 1e-3 * reference.norm()
    for size in (None, 2):
        found = flat(outer_gradient(dataclasses.replace(problem, micro_batch=size)).gradient)
        assert (found - reference).norm() < 1e-10 * reference.norm()
