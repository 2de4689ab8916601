"""Whether and how to adapt to a listener, by cross-validation on the K labels."""

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss
from test_systems import make, trained  # noqa: F401 (make is a fixture)

from s3prl_metaperser.methods import FINETUNED_SYSTEMS, SYSTEMS, facts_of
from s3prl_metaperser.methods.choice import ERRORS, FEWEST, choose, parts_of_samples, sample_losses
from s3prl_metaperser.methods.chosen import WAY, ZERO, ways
from s3prl_metaperser.methods.tuning import overridden


def test_an_adaptation_is_taken_where_it_is_better_by_more_than_a_standard_error():
    zero = np.linspace(1, 2, 16)
    noise = np.tile([0.2, -0.2], 8)
    error = 0.2 * np.sqrt(16 / 15) / 4
    for better, chosen in ((0.99 * error, "zero-shot"), (1.01 * error, "+map")):
        found = choose({"zero-shot": zero, "+map": zero - better * ERRORS + noise})
        assert found.chosen == chosen
        assert found.trials["+map"].error == pytest.approx(error)
    certain = choose({"zero-shot": zero, "+bias": zero - 0.1, "+map": zero - 0.3 + noise})
    assert certain.chosen == "+map", "of those that pay, the one with the lowest loss"
    assert choose({"zero-shot": zero[: FEWEST - 1], "+map": zero[: FEWEST - 1] - 1}).chosen == "zero-shot"


def test_choosing_costs_no_more_in_expectation_than_it_says():
    """Ways that are truly worse by any amount, their losses independent: the hardest case for a choice."""
    draw = np.random.default_rng(0)
    for worse in (0.0, 0.02, 0.05, 0.1):
        costs, risks = [], []
        for _ in range(600):
            zero = draw.normal(2, 0.5, 32)
            ways_ = {f"+{n}": zero + worse + draw.normal(0, 0.4, 32) for n in "abc"}
            found = choose({"zero-shot": zero, **ways_})
            costs.append(worse * (found.chosen != "zero-shot"))
            risks.append(found.risk)
        assert np.mean(costs) <= np.mean(risks) * 1.1


def test_parts_are_nearly_equal_and_all():
    parts = parts_of_samples(30, 8)
    assert sorted(np.concatenate(parts)) == list(range(30))
    assert {len(part) for part in parts} == {3, 4}


def test_the_loss_of_samples_is_scikit_learns_log_loss():
    probabilities = np.random.default_rng(1).dirichlet(np.ones(4), 12)
    said = np.arange(12) % 4
    found = sample_losses(probabilities, np.eye(4)[said])
    assert found.mean() == pytest.approx(log_loss(said, probabilities))


@pytest.mark.parametrize("name", ["Linear-Few", "Meta-PerSER"])
def test_what_is_chosen_is_what_a_loop_over_adaptations_chooses(make, name):  # noqa: F811
    *_, task = make()
    system, state, _ = trained(f"{name}:chosen", task)
    assert facts_of(f"{name}:chosen").trained_as == name
    episodes = task.validation_episodes
    taken = []
    for episode, predictor in zip(episodes, system.adapt_many(state, [e.support for e in episodes]), strict=True):
        tried = ways(SYSTEMS.get(name)(task.options, task.class_weights), task.label_set.kind)
        assert list(tried) == [ZERO, f"{ZERO}+bias", f"{ZERO}+map", name]
        losses = {}
        for way_name, way in tried.items():
            found = np.empty(episode.support.targets.shape)
            for k in range(len(found)):  # eight samples: one at a time
                rest, own = np.setdiff1d(np.arange(len(found)), k), np.array([k])
                adapted = way.adapt(state, episode.support.some(rest))
                found[k] = way.predict(state, adapted, episode.support.some(own).features)[0]
            losses[way_name] = sample_losses(found, episode.support.targets.numpy())
        chosen = choose(losses).chosen
        taken.append(chosen)
        assert int(predictor[WAY]) == list(tried).index(chosen)
        expected = tried[chosen].predict(state, tried[chosen].adapt(state, episode.support), episode.query)
        np.testing.assert_allclose(system.predict(state, predictor, episode.query), expected, atol=1e-5)
        sharper = system.under(overridden(task.options, {"outputrc.temperature": 0.5}))
        squared = expected**2 / (expected**2).sum(1, keepdims=True)
        np.testing.assert_allclose(sharper.predict(state, predictor, episode.query), squared, atol=1e-5)
    before = system.predict(state, system.unadapted(state), episodes[0].query)
    np.testing.assert_array_equal(before, tried[ZERO].predict(state, system.unadapted(state), episodes[0].query))


def test_a_scale_has_ways_of_its_own(make):  # noqa: F811
    *_, task = make()
    system = SYSTEMS.get("Meta-PerSER")(task.options, task.class_weights)
    assert list(ways(system, "ordinal")) == [
        ZERO, f"{ZERO}+offset", f"{ZERO}+affine", "Meta-PerSER",
    ]  # fmt: skip
    assert FINETUNED_SYSTEMS.get("Entire-Few:chosen").system.name == "Entire-Few"


@pytest.mark.parametrize("output", ["bias", "map"])
def test_a_system_with_outputs_adapted_has_the_zero_shot_ways_of_the_one_without(make, output):  # noqa: F811
    """Nothing of its own endings is in them; and a listener's model, which knows the name alone, predicts the same."""
    *_, task = make()
    system, state, _ = trained(f"Linear-Few+{output}", task)
    plain = ways(SYSTEMS.get("Linear-Few")(task.options, task.class_weights), task.label_set.kind)
    episode = task.validation_episodes[0]
    for ending in ("bias", "map"):
        way, without = (tried[f"{ZERO}+{ending}"] for tried in (ways(system, task.label_set.kind), plain))
        adapted = way.adapt(state, episode.support)
        expected = without.predict(state, without.adapt(state, episode.support), episode.query)
        np.testing.assert_allclose(way.predict(state, adapted, episode.query), expected, atol=1e-6)
        named = SYSTEMS.get(way.name)(task.options, task.class_weights)
        np.testing.assert_allclose(named.predict(state, adapted, episode.query), expected, atol=1e-6)


def test_what_is_fitted_on_top_of_a_choice_is_kept_apart_from_what_was_chosen(make):  # noqa: F811
    *_, task = make()
    system, state, _ = trained("Linear-Few:chosen+bias", task)
    tried = ways(SYSTEMS.get("Linear-Few")(task.options, task.class_weights), task.label_set.kind)
    way, episode = tried[f"{ZERO}+bias"], task.validation_episodes[0]
    place, added = list(tried).index(f"{ZERO}+bias"), np.linspace(-1, 1, 9)
    below = {**way.adapt(state, episode.support), WAY: torch.tensor(float(place))}
    fitted = system._fitted(way.predict(state, below, episode.support.features), episode.support.targets, {})
    (name,) = fitted
    found = system.predict(state, {**below, name: torch.from_numpy(added)}, episode.query)
    scaled = way.predict(state, below, episode.query) * np.exp(added)
    np.testing.assert_allclose(found, scaled / scaled.sum(-1, keepdims=True), rtol=1e-4)
