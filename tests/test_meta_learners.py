"""Meta-PerSER's neighbours against their papers' update equations, written out with autograd in float64."""

import pytest
import torch
from test_systems import make, same_state, trained  # noqa: F401 (make is a fixture)

from s3prl_metaperser.methods import SYSTEMS, facts_of
from s3prl_metaperser.methods.initialisation import initialised
from s3prl_metaperser.methods.outer_steps import outer_steps
from s3prl_metaperser.run.outer_loop import training_batches

ENGINES = ("auto", "loop")


def head_loss(theta, features, targets, class_weights):
    """Class-balanced cross-entropy of samples; those that fill a short episode up are left out."""
    present = targets.sum(-1) > 0
    x, y = features[present].double(), targets[present].double()
    y = y / y.sum(-1, keepdim=True)
    mixed = torch.einsum("l,kld->kd", torch.softmax(theta["weights"], 0), x)
    hidden = mixed @ theta["projector.weight"].T + theta["projector.bias"]
    logs = torch.log_softmax(hidden @ theta["classifier.weight"].T + theta["classifier.bias"], -1)
    return -((y * class_weights.double()).sum(-1) * (y * logs).sum(-1)).mean()


def gradients_by_hand(state, task, batch, adapting=lambda name: True, first_order=False):
    """The mean over raters of d L_query(theta_S) / d (theta_0, rates), unrolled; tensors not ``adapting`` stay."""
    theta = {n: p.detach().double().requires_grad_() for n, p in state.parameters().items()}
    rates = state.rates.values.detach().double().requires_grad_()
    total = 0.0
    for a in range(len(batch.raters)):
        current = theta
        for row in rates:
            inner = head_loss(
                current, task.features[batch.support_rows[a]], batch.support_targets[a], task.class_weights
            )
            found = torch.autograd.grad(inner, list(current.values()), create_graph=True)
            found = [g.detach() if first_order else g for g in found]
            steps = zip(current.items(), row, found, strict=True)
            current = {n: p - eta * g if adapting(n) else p for (n, p), eta, g in steps}
        total = total + head_loss(
            current, task.features[batch.query_rows[a]], batch.query_targets[a], task.class_weights
        )
    grads = torch.autograd.grad(total / len(batch.raters), [*theta.values(), rates], allow_unused=True)
    return dict(zip(theta, grads, strict=False)), grads[-1]


def gradients_of(name, task):
    """What a system adds to ``.grad`` in its first outer step, and its state and batch."""
    system = SYSTEMS.get(name)(task.options, task.class_weights)
    state = system.initialise(task)
    ((_, batch),) = training_batches(system.options, task, 0, 1)
    assert not torch.equal(batch.support_rows, batch.query_rows)
    for parameter in state.parameters().values():
        parameter.grad = None  # that of training the initialisation
    system.outer_gradient(state, batch, 1, task)
    return system, state, batch


def close(found, expected):
    torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("engine", ENGINES)
def test_meta_rates_learns_the_rates_by_their_exact_gradient_and_leaves_theta_to_the_bit(make, engine):  # noqa: F811
    *_, task = make(metarc__engine=engine, metarc__derivative_annealing=False, metarc__lslr=False)
    system, state, batch = gradients_of("Meta-Rates", task)
    assert system.engine(state) == {"auto": "closed form", "loop": "loop"}[engine]
    close(state.rates.values.grad, gradients_by_hand(state, task, batch)[1])
    _, fitted, step = trained("Meta-Rates", task)
    assert step
    assert all(torch.equal(p, initialised(task).parameters()[n]) for n, p in fitted.parameters().items())
    assert (fitted.rates.values != state.rates.values).all()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("lslr", [True, False])
def test_fomamls_gradient_is_that_of_the_query_loss_where_the_inner_steps_end(make, engine, lslr):  # noqa: F811
    """To the last outer step, whatever the configuration says of derivative annealing."""
    *_, task = make(metarc__engine=engine, metarc__derivative_annealing=False, metarc__lslr=lslr)
    system, state, batch = gradients_of("FOMAML", task)
    theta, rates = gradients_by_hand(state, task, batch, first_order=True)
    exact, _ = gradients_by_hand(state, task, batch)
    for name, parameter in state.parameters().items():
        close(parameter.grad, theta[name])
    assert (state.rates.values.grad is None) != lslr
    if lslr:
        close(state.rates.values.grad, rates)
    assert (exact["projector.weight"] - theta["projector.weight"]).norm() > 0.01 * theta["projector.weight"].norm()
    last = {n: p.grad.clone() for n, p in state.parameters().items()}
    for parameter in state.parameters().values():
        parameter.grad = None
    system.outer_gradient(state, batch, system.outer_steps, task)
    assert all(torch.equal(p.grad, last[n]) for n, p in state.parameters().items())


def test_first_order_throughout_is_no_annealing_that_had_no_chance_to_end():
    metarc = {"inner_steps": 2, "derivative_annealing": True, "annealed_fraction": 1.0, "annealing_scope": "training"}
    config = {"runner": {"total_steps": 6}, "downstream_expert": {"metarc": metarc}}
    found = outer_steps(facts_of("FOMAML"), config, 3)
    assert (found.second_order, found.vacuous) == (0, False)
    metarc["annealed_fraction"] = 0.9
    assert outer_steps(facts_of("Meta-PerSER"), config, 3).vacuous


@pytest.mark.parametrize("engine", ENGINES)
def test_anils_inner_steps_are_the_classifiers_and_its_outer_gradient_is_everythings(make, engine):  # noqa: F811
    *_, task = make(metarc__engine=engine, metarc__derivative_annealing=False)
    _, state, batch = gradients_of("ANIL", task)
    theta, rates = gradients_by_hand(state, task, batch, adapting=lambda name: name.startswith("classifier"))
    for name, parameter in state.parameters().items():
        close(parameter.grad, theta[name])
        assert parameter.grad.abs().max() > 0
    close(state.rates.values.grad[:, 3:], rates[:, 3:])
    _, fitted, step = trained("ANIL", task)
    assert step
    assert not fitted.rates.values[:, :3].any()
    assert (fitted.rates.values[:, 3:] != state.rates.values[:, 3:]).all()
    assert not any(torch.equal(p, state.parameters()[n]) for n, p in fitted.parameters().items())


def test_anil_adapts_the_classifier_by_gradient_steps_on_fixed_embeddings(make):  # noqa: F811
    *_, task = make(metarc__engine="loop")
    system, state, _ = trained("ANIL", task)
    support = task.validation_episodes[0].support
    found, start = system.adapt(state, support), state.parameters()
    assert all(torch.equal(found[n], start[n]) for n in start if not n.startswith("classifier"))
    hidden = state.learner.embed(start, support.features).double()
    weight, bias = (start[f"classifier.{n}"].detach().double() for n in ("weight", "bias"))
    y = support.targets.double()
    w = (y * task.class_weights.double()).sum(-1, keepdim=True)
    for step in range(system.options.downstream_expert.evalrc.steps):
        rate = state.rates.values[min(step, 1)].detach().double()
        delta = w * (torch.softmax(hidden @ weight.T + bias, -1) - y) / len(y)
        weight, bias = weight - rate[3] * delta.T @ hidden, bias - rate[4] * delta.sum(0)
    close(found["classifier.weight"], weight)
    close(found["classifier.bias"], bias)
