"""ProtoNet, Ridge-MAP, Meta-Map, Reptile and Meta-SGD, each against its paper's equations or another solver."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestCentroid
from test_meta_learners import ENGINES, close, gradients_of, head_loss
from test_systems import make, trained  # noqa: F401 (make is a fixture)
from tiny_models import C, in_float64, tiny_model, tiny_upstream, waveforms

from s3prl_metaperser.config.options import Options
from s3prl_metaperser.meta.logistic_map import logistic_map
from s3prl_metaperser.meta.rates import ElementRates
from s3prl_metaperser.methods import FINETUNED_SYSTEMS, SYSTEMS
from s3prl_metaperser.methods.base import Support
from s3prl_metaperser.methods.initialisation import initialised
from s3prl_metaperser.methods.tuning import number_of_choices
from s3prl_metaperser.protocol.loader import EpisodeBatch
from s3prl_metaperser.upstream.finetuning import double_backward_attention

COMPUTED = ("ProtoNet", "Ridge-MAP", "Meta-Map")


@pytest.fixture
def problem():
    """Two listeners' logits at the prior mean [2, 7, 3], covariances [2, 7, 7] and soft targets [2, 7, 3]."""
    draw = torch.Generator().manual_seed(3)
    offset, root, targets = (torch.randn(2, 7, n, generator=draw, dtype=torch.float64) for n in (3, 4, 3))
    targets = torch.softmax(2 * targets, -1) * torch.rand(2, 7, 1, generator=draw, dtype=torch.float64) * 3
    targets[1, 5:] = 0  # an episode that was filled up
    return offset, root @ root.transpose(1, 2), targets


def test_the_most_probable_classifier_is_the_one_that_scipy_finds(problem):
    offset, gram, targets = (each[0].numpy() for each in problem)
    root = np.linalg.cholesky(gram + 1e-9 * np.eye(7))

    def energy(x):
        logits = offset + root @ x.reshape(7, 3)
        logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        return -(targets * logs).sum() + (x**2).sum() / 2

    found = minimize(energy, np.zeros(21), method="BFGS", options={"gtol": 1e-7})
    a = logistic_map(*problem)[0].numpy()
    np.testing.assert_allclose(gram @ a, root @ found.x.reshape(7, 3), atol=1e-5)


def test_the_solutions_gradient_is_that_of_finite_differences(problem):
    """By the logits at the prior mean, the covariance and the targets; each listener's is its own."""
    draw = torch.Generator().manual_seed(1)
    out = torch.randn(2, 7, 3, generator=draw, dtype=torch.float64)
    leaves = [each.clone().requires_grad_() for each in problem]
    gradients = torch.autograd.grad((out * logistic_map(*leaves)).sum(), leaves)
    for place, gradient in enumerate(gradients):
        way = torch.randn(gradient.shape, generator=draw, dtype=torch.float64) * (problem[place] != 0)
        way = way + way.transpose(1, 2) if place == 1 else way  # covariances stay symmetric
        ends = []
        for sign in (1, -1):
            moved = [each + sign * 1e-5 * way if index == place else each for index, each in enumerate(problem)]
            ends.append((out * logistic_map(*moved)).sum().item())
        assert (gradient * way).sum().item() == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-6)
    (one,) = torch.autograd.grad(logistic_map(*leaves)[0].sum(), leaves[0])
    assert not one[1].any()


def test_extreme_problems_are_solved_to_the_end():
    """Separable labels under hardly any prior, and logits that are sure of the opposite."""
    offset = torch.tensor([[[40.0, -40.0], [-40.0, 40.0], [0.0, 0.0]]], dtype=torch.float64)
    targets = torch.tensor([[[0.0, 1.0], [1.0, 0.0], [0.5, 0.5]]], dtype=torch.float64)
    for size in (1e-6, 1.0, 1e6):
        a = logistic_map(offset, size * torch.eye(3, dtype=torch.float64)[None], targets)
        left = a + torch.softmax(offset + size * a, -1) - targets
        assert left.abs().max() < 1e-8


@pytest.mark.parametrize("name", [*COMPUTED, "Reptile", "Meta-SGD", "Meta-Rates", "FOMAML", "ANIL"])
def test_each_trains_adapts_and_is_tuned_in_both_scopes(make, name):  # noqa: F811
    *_, task = make()
    system, state, step = trained(name, task)
    assert step
    assert FINETUNED_SYSTEMS.get(name)
    assert len(system.tunable()) in (number_of_choices("frozen"), number_of_choices("frozen") + 1)
    assert type(system).options_in_force(system.options) == system.options
    episode = task.validation_episodes[0]
    together = system.adapt_many(state, [each.support for each in task.validation_episodes])
    before, after, again = (
        system.predict(state, predictor, episode.query)
        for predictor in (system.unadapted(state), system.adapt(state, episode.support), together[0])
    )
    assert np.abs(before - after).max() > 1e-4
    np.testing.assert_allclose(again, after, atol=1e-5)


@pytest.mark.parametrize("name", COMPUTED)
def test_the_outer_gradient_is_that_of_finite_differences(make, name):  # noqa: F811
    """Along a drawn direction in all that is trained, in float64."""
    *_, task = make()
    system, state, batch = gradients_of(name, task)
    trained_ = [*state.parameters().values(), *([state.rates.values] if state.rates else [])]
    found = [torch.zeros_like(each) if each.grad is None else each.grad.double() for each in trained_]
    draw = torch.Generator().manual_seed(0)
    directions = [torch.randn(each.shape, generator=draw, dtype=torch.float64) for each in trained_]
    object.__setattr__(task, "features", task.features.double())
    state.learner.module.double()
    losses = []
    if state.rates:
        state.rates.double()
        directions[-1] *= (state.rates.values != 0).double()
    start = [
        each.detach().clone() for each in (*state.parameters().values(), *([state.rates.values] if state.rates else []))
    ]
    for sign in (1, -1):
        now = [*state.parameters().values(), *([state.rates.values] if state.rates else [])]
        with torch.no_grad():
            for each, value, direction in zip(now, start, directions, strict=True):
                each.copy_(value + sign * 1e-4 * direction)
        losses.append(system.outer_loss(state, batch, 1, task).item())
    expected = (losses[0] - losses[1]) / 2e-4
    assert sum((g * d).sum().item() for g, d in zip(found, directions, strict=True)) == pytest.approx(
        expected, rel=2e-3
    )


def test_a_prototype_is_the_mean_of_the_embeddings_weighted_by_shares(make):  # noqa: F811
    """With one class a label scikit-learn's nearest centroid decides alike; a class that is not there keeps its own."""
    *_, task = make()
    system = SYSTEMS.get("ProtoNet")(task.options, task.class_weights)
    state = system.initialise(task)
    support, query = task.validation_episodes[0].support, task.validation_episodes[0].query
    said = torch.arange(len(support.targets)) % 3
    classes = support.targets.shape[1]
    single = torch.nn.functional.one_hot(said, classes) * (0.95 - 0.05 / (classes - 1)) + 0.05 / (classes - 1)
    predictor = system.adapt(state, Support(support.features, single.float(), 0))
    hidden, asked = (system.embed(state, system.unadapted(state), each).numpy() for each in (support.features, query))
    weight, kept = (each["classifier.weight"] for each in (predictor, system.unadapted(state)))
    assert torch.equal(weight[3:], kept[3:])
    probabilities = system.predict(state, predictor, query)
    oracle = NearestCentroid().fit(hidden, said).predict(asked)
    np.testing.assert_array_equal(probabilities[:, :3].argmax(-1), oracle)
    shares = (support.targets.numpy() > 1 / classes).astype(float)
    shares /= shares.sum(-1, keepdims=True)
    several = system.adapt(state, support)["classifier.weight"].numpy() / 2
    for k in range(classes):
        if shares[:, k].any():
            expected = (shares[:, k : k + 1] * hidden).sum(0) / shares[:, k].sum()
            np.testing.assert_allclose(several[k], expected, rtol=1e-4, atol=1e-6)


def test_ridge_map_is_scikit_learns_logistic_regression_where_the_prior_mean_is_zero(make):  # noqa: F811
    *_, task = make()
    system = SYSTEMS.get("Ridge-MAP")(task.options, torch.ones(9))
    state = system.initialise(task)
    features = torch.cat([each.support.features for each in task.validation_episodes])
    said = np.arange(len(features)) % 9
    with torch.no_grad():
        for name in ("weight", "bias"):
            state.parameters()[f"classifier.{name}"].zero_()
        state.rates.values[0, 3:] = torch.tensor([0.7, 1e3])  # scikit-learn's intercept has no prior
    targets = torch.nn.functional.one_hot(torch.from_numpy(said), 9).float()
    found = system.adapt(state, Support(features, targets, 0))
    hidden = system.embed(state, system.unadapted(state), features).double().numpy()
    oracle = LogisticRegression(C=0.7**2, tol=1e-8, max_iter=10000).fit(hidden, said)
    np.testing.assert_allclose(found["classifier.weight"].numpy(), oracle.coef_, atol=1e-3)


def test_meta_map_is_the_output_adaptation_that_it_is_trained_under(make):  # noqa: F811
    """The head that it computes predicts what Linear-Zero+map fits by L-BFGS, from the same state."""
    *_, task = make()
    system, other = (SYSTEMS.get(n)(task.options, task.class_weights) for n in ("Meta-Map", "Linear-Zero+map"))
    state = system.initialise(task)
    episode = task.validation_episodes[0]
    one, two = (each.predict(state, each.adapt(state, episode.support), episode.query) for each in (system, other))
    np.testing.assert_allclose(one, two, atol=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
def test_reptiles_gradient_is_the_way_to_where_the_inner_steps_end_over_the_rate(make, engine):  # noqa: F811
    *_, task = make(metarc__engine=engine)
    system, state, batch = gradients_of_reptile(task)
    rate = system.options.downstream_expert.metarc.inner_lr
    start = {n: p.detach().double() for n, p in state.parameters().items()}
    moved = {n: torch.zeros_like(p) for n, p in start.items()}
    for a in range(len(batch.raters)):
        now = start
        for _ in range(2):
            leaves = {n: p.clone().requires_grad_() for n, p in now.items()}
            loss = head_loss(leaves, task.features[batch.support_rows[a]], batch.support_targets[a], task.class_weights)
            found = torch.autograd.grad(loss, list(leaves.values()))
            now = {n: (p - rate * g).detach() for (n, p), g in zip(leaves.items(), found, strict=True)}
        moved = {n: moved[n] + (start[n] - now[n]) / len(batch.raters) for n in start}
    for name, parameter in state.parameters().items():
        close(parameter.grad, moved[name] / rate)


def gradients_of_reptile(task):
    """As ``gradients_of``, of a system whose support and query samples are the same."""
    from s3prl_metaperser.run.outer_loop import training_batches

    system = SYSTEMS.get("Reptile")(task.options, task.class_weights)
    state = system.initialise(task)
    ((_, batch),) = training_batches(system.options, task, 0, 1)
    for parameter in state.parameters().values():
        parameter.grad = None
    system.outer_gradient(state, batch, 1, task)
    return system, state, batch


def test_meta_sgd_takes_one_step_at_a_rate_for_each_number_and_learns_both_by_their_exact_gradient(make):  # noqa: F811
    *_, task = make(metarc__derivative_annealing=True)
    system, state, batch = gradients_of("Meta-SGD", task)
    assert isinstance(state.rates, ElementRates)
    theta = {n: p.detach().double().requires_grad_() for n, p in state.parameters().items()}
    alpha = {
        n: torch.full_like(p, system.options.downstream_expert.metarc.inner_lr).requires_grad_()
        for n, p in theta.items()
    }
    total = 0.0
    for a in range(len(batch.raters)):
        inner = head_loss(theta, task.features[batch.support_rows[a]], batch.support_targets[a], task.class_weights)
        found = torch.autograd.grad(inner, list(theta.values()), create_graph=True)
        after = {n: p - alpha[n] * g for (n, p), g in zip(theta.items(), found, strict=True)}
        total = total + head_loss(after, task.features[batch.query_rows[a]], batch.query_targets[a], task.class_weights)
    expected = torch.autograd.grad(total / len(batch.raters), [*theta.values(), *alpha.values()])
    for parameter, gradient in zip(state.parameters().values(), expected, strict=False):
        close(parameter.grad, gradient)
    close(state.rates.values.grad[0], torch.cat([each.flatten() for each in expected[len(theta) :]]))
    support = task.validation_episodes[0].support
    moved, rates = system.adapt(state, support), state.rates.at(0)
    loss = head_loss(theta, support.features, support.targets, task.class_weights)
    for (name, value), gradient in zip(theta.items(), torch.autograd.grad(loss, list(theta.values())), strict=True):
        close(moved[name], value.detach() - rates[name].detach().double() * gradient)


def test_they_start_from_the_shared_initialisation(make):  # noqa: F811
    *_, task = make()
    start = initialised(task).parameters()
    for name in ("Ridge-MAP", "Meta-Map", "Meta-SGD", "Reptile"):
        state = SYSTEMS.get(name)(task.options, task.class_weights).initialise(task)
        assert all(torch.equal(p, start[n]) for n, p in state.parameters().items())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A tiny random wav2vec 2.0 in float64 with its head, and a batch of two raters, one with a sample less."""
    folder = tmp_path_factory.mktemp("weights")
    model = tiny_model(in_float64(tiny_upstream("wav2vec2", folder), spread=2.0), micro_batch_seconds=1.0)
    draw = torch.Generator().manual_seed(1)
    targets = torch.softmax(2 * torch.randn(2, 2, 3, C, generator=draw, dtype=torch.float64), -1)
    targets[1, 0, 2] = 0
    targets[1, 0] *= 3 / 2
    rows = torch.arange(12).reshape(2, 2, 3)
    batch = EpisodeBatch([], ["a", "b"], rows[:, 0], targets[:, 0], rows[:, 1], targets[:, 1])
    audio = waveforms([4000 + 700 * (row % 4) for row in range(12)], torch.float64)
    task = SimpleNamespace(
        model=model, class_weights=torch.linspace(0.5, 1.5, C).double(), device=torch.device("cpu"), seed=0
    )
    task.inputs = lambda chosen: [audio[row] for row in chosen]
    task.waveforms = type("Rows", (), {"__getitem__": lambda _, chosen: task.inputs(chosen)})()
    return task, batch


def loss_of(model, theta, task, rows, targets):
    """Class-balanced cross-entropy of one rater's samples with the whole model, in one graph."""
    there = targets.sum(-1) > 0
    plain = targets[there] / targets[there].sum(-1, keepdim=True)
    logs = torch.log_softmax(model.functional(theta, task.inputs(rows[there])), -1)
    return -((plain * task.class_weights).sum(-1) * (plain * logs).sum(-1)).mean()


def with_the_whole_model(name, whole, **metarc):
    task, batch = whole
    metarc = {"inner_steps": 2, "inner_lr": 0.1, "shots": 3, **metarc}
    expert = {"metarc": metarc, "tunerc": {"micro_batch_seconds": 1.0}}
    system = FINETUNED_SYSTEMS.get(name)(Options.from_config({"downstream_expert": expert}), task.class_weights)
    task.options = system.options
    state = system.blank(task)
    if state.rates:
        state.rates.double()
    for parameter in state.parameters().values():
        parameter.grad = None
    system.outer_gradient(state, batch, 1, task)
    return system, state, task, batch


def agree(state, gradients):
    for (name, parameter), expected in zip(state.parameters().items(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-6, atol=1e-10, msg=name)


@pytest.mark.parametrize("name", COMPUTED)
def test_with_the_whole_model_the_gradient_by_micro_batches_is_that_of_one_graph(whole, name):
    system, state, task, batch = with_the_whole_model(name, whole)
    theta = {n: p.detach().clone().requires_grad_() for n, p in state.parameters().items()}
    head = {n.removeprefix("head."): p for n, p in theta.items() if n.startswith("head.")}
    hidden = [
        torch.stack([embedded(task.model, theta, head, task.inputs(rows)) for rows in each])
        for each in (batch.support_rows, batch.query_rows)
    ]
    twin, learner = copy.copy(state), copy.copy(state.learner)
    twin.learner, learner.parameters = learner, lambda: theta
    system._loss(twin, system._episodes(task, batch, *hidden)).mean().backward()
    agree(state, [torch.zeros_like(p) if p.grad is None else p.grad for p in theta.values()])


def embedded(model, theta, head, audio):
    """The projector's output for pooled features, [K, H]."""
    weights = torch.softmax(head["weights"], 0)
    with torch.nn.utils.stateless._reparametrize_module(model, theta), double_backward_attention():
        return (
            torch.einsum("l,kld->kd", weights, model.embed(audio)) @ head["projector.weight"].T + head["projector.bias"]
        )


def test_with_the_whole_model_reptile_goes_where_the_inner_steps_end(whole):
    _, state, task, batch = with_the_whole_model("Reptile", whole)
    expected = [torch.zeros_like(p) for p in state.parameters().values()]
    for rows, targets in zip(batch.support_rows, batch.support_targets, strict=True):
        now = {n: p.detach().clone().requires_grad_() for n, p in state.parameters().items()}
        for _ in range(2):
            found = torch.autograd.grad(loss_of(task.model, now, task, rows, targets), list(now.values()))
            now = {n: (p - 0.1 * g).detach().requires_grad_() for (n, p), g in zip(now.items(), found, strict=True)}
        ways = zip(expected, state.parameters().values(), now.values(), strict=True)
        expected = [total + (start.detach() - end.detach()) / 0.1 / 2 for total, start, end in ways]
    agree(state, expected)


def test_with_the_whole_model_meta_sgds_gradient_is_that_of_the_unrolled_step(whole):
    _, state, task, batch = with_the_whole_model("Meta-SGD", whole)
    theta = {n: p.detach().clone().requires_grad_() for n, p in state.parameters().items()}
    alpha = {n: rate.detach().clone().requires_grad_() for n, rate in state.rates.at(0).items()}
    assert all(torch.equal(rate, torch.full_like(theta[n], np.float32(0.1))) for n, rate in alpha.items())
    total = 0.0
    for a in range(2):
        inner = loss_of(task.model, theta, task, batch.support_rows[a], batch.support_targets[a])
        found = torch.autograd.grad(inner, list(theta.values()), create_graph=True)
        after = {n: p - alpha[n] * g for (n, p), g in zip(theta.items(), found, strict=True)}
        total = total + loss_of(task.model, after, task, batch.query_rows[a], batch.query_targets[a]) / 2
    gradients = torch.autograd.grad(total, [*theta.values(), *alpha.values()])
    agree(state, gradients[: len(theta)])
    by_rate = torch.cat([each.flatten() for each in gradients[len(theta) :]])
    torch.testing.assert_close(state.rates.values.grad[0], by_rate, rtol=1e-5, atol=1e-8)
