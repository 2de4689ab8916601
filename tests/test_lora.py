"""LoRA against its equation: with the whole model, in float64, unrolled by autograd."""

import copy

import pytest
import torch
from test_computed_classifiers import loss_of, whole, with_the_whole_model  # noqa: F401 (whole is a fixture)
from tiny_models import C

from s3prl_metaperser.config.options import Options
from s3prl_metaperser.methods import FINETUNED_SYSTEMS, SYSTEMS
from s3prl_metaperser.methods.base import Support
from s3prl_metaperser.methods.lora import OWN, UPSTREAM, matrices


def plain(model, theta):
    """The model's own parameters with W + B A, or W + B diag(M e) A, in place of W."""
    found = {n: p for n, p in theta.items() if not n.startswith(OWN)}
    for name in matrices(model):
        key = OWN + name.replace(".", "/")
        scale = theta[f"{key}/M"] @ theta[f"{OWN}embedding"] if f"{key}/M" in theta else torch.ones(4).double()
        found[name] = theta[name] + theta[f"{key}/B"] @ torch.diag(scale) @ theta[f"{key}/A"]
    return found


@pytest.mark.parametrize(("system", "moving"), [("LoRA", OWN), ("Hyper-LoRA", f"{OWN}embedding")])
def test_only_additions_of_low_rank_adapt_and_the_outer_gradient_is_exact(whole, system, moving):  # noqa: F811
    _, state, task, batch = with_the_whole_model(system, whole, derivative_annealing=False)
    assert system not in SYSTEMS.names()
    theta = {n: p.detach().clone().requires_grad_() for n, p in state.parameters().items()}
    own = [n for n in theta if n.startswith(moving)]
    assert {min(p.shape) for n, p in theta.items() if n.startswith(OWN) and p.dim() == 2} == {4}
    rates = state.rates.values.detach().clone().requires_grad_()
    total = 0.0
    for a in range(2):
        now = dict(theta)
        for row in rates:
            inner = loss_of(task.model, plain(task.model, now), task, batch.support_rows[a], batch.support_targets[a])
            found = torch.autograd.grad(inner, [now[n] for n in own], create_graph=True)
            moved = {n: now[n] - eta * g for n, eta, g in zip(own, row, found, strict=True)}
            now = {**now, **moved}
        query = loss_of(task.model, plain(task.model, now), task, batch.query_rows[a], batch.query_targets[a])
        total = total + query / 2
    gradients = torch.autograd.grad(total, [*theta.values(), rates], allow_unused=True)
    known = dict(zip(theta, gradients, strict=False))
    for name, parameter in state.parameters().items():
        if name.startswith(UPSTREAM) or name == f"{OWN}embedding":
            assert parameter.grad is None, "the upstream's own weights are not trained, and an embedding is nobody's"
        else:
            torch.testing.assert_close(parameter.grad, known[name], rtol=1e-6, atol=1e-10, msg=name)
    torch.testing.assert_close(state.rates.values.grad, gradients[-1], rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize(("name", "moving"), [("LoRA", OWN), ("Hyper-LoRA", f"{OWN}embedding")])
def test_before_training_the_model_is_the_initialisations_and_adapting_moves_its_own_alone(whole, name, moving):  # noqa: F811
    task, batch = copy.copy(whole[0]), whole[1]
    task.options = Options.from_config({"downstream_expert": {"metarc": {"lora_rank": 2}, "evalrc": {"steps": 3}}})
    system = FINETUNED_SYSTEMS.get(name)(task.options, task.class_weights)
    state = system.blank(task)
    state.rates.double()
    audio = task.inputs(batch.support_rows[0])
    start = system.unadapted(state)
    logits = state.learner.logits(start, audio)
    expected = task.model.functional({n: p for n, p in start.items() if not n.startswith(OWN)}, audio)
    torch.testing.assert_close(logits, expected, rtol=1e-9, atol=1e-12)
    found = system.adapt(state, Support(audio, batch.support_targets[0], 0))
    moved = {n for n in start if not torch.equal(start[n], found[n])}
    assert moved
    assert all(n.startswith(moving) for n in moved)
    for matrix, whole_one in state.learner.head.in_force(found).items():
        if matrix in matrices(task.model):
            change = whole_one - found[matrix]
            assert 1 <= torch.linalg.matrix_rank(change, rtol=1e-6) <= 2
    assert system.predict(state, found, audio).shape == (3, C)
