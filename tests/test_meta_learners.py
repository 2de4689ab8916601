"""Meta-PerSER's neighbours against their papers' update equations, written out with autograd in float64."""

import numpy as np
import pytest
import torch
from test_systems import make, same_state, trained  # noqa: F401 (make is a fixture)

from s3prl_metaperser.methods import FINETUNED_SYSTEMS, SYSTEMS
from s3prl_metaperser.methods.initialisation import initialised
from s3prl_metaperser.methods.tuning import number_of_choices
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
    system.outer_gradient(state, batch, 1, task)
    return system, state, batch


def close(found, expected):
    torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", ["Meta-Rates"])
def test_neighbours_are_adapted_tuned_and_run_in_both_scopes(make, name):  # noqa: F811
    *_, task = make()
    system, state, _ = trained(name, task)
    assert FINETUNED_SYSTEMS.get(name)
    assert len(system.tunable()) in (number_of_choices("frozen"), number_of_choices("frozen") + 1)
    assert type(system).options_in_force(system.options) == system.options
    episode = task.validation_episodes[0]
    one, other = system.adapt(state, episode.support), system.unadapted(state)
    before, after = (system.predict(state, predictor, episode.query) for predictor in (other, one))
    assert np.abs(before - after).max() > 1e-4


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
