"""LoRA against its equation: with the whole model, in float64, unrolled by autograd."""

import copy

import torch
from test_computed_classifiers import loss_of, whole, with_the_whole_model  # noqa: F401 (whole is a fixture)
from tiny_models import C

from s3prl_metaperser.config.options import Options
from s3prl_metaperser.methods import FINETUNED_SYSTEMS, SYSTEMS
from s3prl_metaperser.methods.base import Support
from s3prl_metaperser.methods.lora import OWN, UPSTREAM, matrices


def plain(model, theta):
    """The model's own parameters with W + B A in place of W."""
    found = {n: p for n, p in theta.items() if not n.startswith(OWN)}
    for name in matrices(model):
        key = OWN + name.replace(".", "/")
        found[name] = theta[name] + theta[f"{key}/B"] @ theta[f"{key}/A"]
    return found


def test_only_additions_of_low_rank_adapt_and_the_outer_gradient_is_exact(whole):  # noqa: F811
    _, state, task, batch = with_the_whole_model("LoRA", whole, derivative_annealing=False)
    assert "LoRA" not in SYSTEMS.names()
    theta = {n: p.detach().clone().requires_grad_() for n, p in state.parameters().items()}
    own = [n for n in theta if n.startswith(OWN)]
    assert all(torch.count_nonzero(theta[n]) == 0 for n in own if n.endswith("/B"))
    assert {min(theta[n].shape) for n in own} == {4}
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
        if name.startswith(UPSTREAM):
            assert parameter.grad is None, "the upstream's own weights are not trained"
        else:
            torch.testing.assert_close(parameter.grad, known[name], rtol=1e-6, atol=1e-10, msg=name)
    torch.testing.assert_close(state.rates.values.grad, gradients[-1], rtol=1e-5, atol=1e-9)


def test_before_training_the_model_is_the_initialisations_and_adapting_moves_the_additions_alone(whole):  # noqa: F811
    task, batch = copy.copy(whole[0]), whole[1]
    task.options = Options.from_config({"downstream_expert": {"metarc": {"lora_rank": 2}, "evalrc": {"steps": 3}}})
    system = FINETUNED_SYSTEMS.get("LoRA")(task.options, task.class_weights)
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
    assert all(n.startswith(OWN) for n in moved)
    for name in matrices(task.model):
        key = OWN + name.replace(".", "/")
        change = found[f"{key}/B"] @ found[f"{key}/A"]
        assert torch.linalg.matrix_rank(change) <= 2
    assert system.predict(state, found, audio).shape == (3, C)
