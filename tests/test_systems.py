"""Each system against what it is said to do, on features in memory."""

import dataclasses

import numpy as np
import pytest
import torch
from synthetic import synthetic_corpus

from s3prl_metaperser.config.options import Options
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.evaluation.meta_testing import Diverged, meta_test
from s3prl_metaperser.meta.model import pooled_logits
from s3prl_metaperser.methods import SYSTEMS
from s3prl_metaperser.methods.initialisation import initialised, train_on_consensus
from s3prl_metaperser.methods.learner import new_learner
from s3prl_metaperser.run.outer_loop import OuterLoop, fit, training_batches
from s3prl_metaperser.run.workspace import Workspace
from s3prl_metaperser.upstream.store import FeatureIdentity, PooledFeatures

IDENTITY = FeatureIdentity("fake", "0" * 64)


def options(**changes):
    config = {
        "runner": {"total_steps": 6, "eval_step": 3},
        "downstream_expert": {
            "datarc": {"cache_dir": changes.pop("cache", None)},
            "modelrc": {"projector_dim": 8},
            "initrc": {"total_steps": 60, "eval_step": 20},
            "metarc": {"shots": 8, "inner_steps": 2},
            "evalrc": {"shots": 8, "queries": 20, "seeds": 3, "validation_seeds": 2, "steps": 5},
        },
    }
    for path, value in changes.items():
        section, key = path.split("__")
        owner = config if section in ("runner", "optimizer") else config["downstream_expert"]
        owner.setdefault(section, {})[key] = value
    return Options.from_config(config)


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Options -> workspace, prepared features, task; two layers of five features that know the first tick."""
    corpus = synthetic_corpus(utterances=150)
    monkeypatch.setattr(Workspace, "audio_hashes", {u.id: u.id for u in corpus.utterances})

    def build(**changes):
        chosen = options(cache=str(tmp_path / "cache"), **changes)
        workspace = Workspace(chosen, corpus)
        generator = torch.Generator().manual_seed(0)
        values = torch.randn(len(workspace.utterances), 2, 5, generator=generator)
        rows = {u.id: row for row, u in enumerate(workspace.utterances)}
        prepared = workspace.prepare(PooledFeatures(rows, values), learned=True)
        return workspace, prepared, workspace.task(prepared, IDENTITY, seed=1)

    return build


def trained(name, task):
    system = SYSTEMS.get(name)(task.options, task.class_weights)
    return system, *fit(system, task)


@pytest.mark.parametrize(("selection", "step"), [("best", 3), ("best_from_0", 0), ("last", 6)])
def test_which_state_is_kept_is_the_selections(make, monkeypatch, selection, step):
    """Step 0 has the lowest validation loss here, then step 3 of the others, and step 6 is the last."""
    losses = iter([1.0, 2.0, 3.0] if selection == "best_from_0" else [2.0, 3.0])
    monkeypatch.setattr("s3prl_metaperser.run.outer_loop.validated", lambda *_: next(losses))
    *_, task = make(metarc__selection=selection)
    assert trained("Meta-PerSER", task)[2] == step


def same_state(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.parameters().values(), other.parameters().values(), strict=True))


def test_zero_never_sees_the_support_set(make):
    *_, task = make()
    system, state, _ = trained("Linear-Zero", task)
    episode = task.validation_episodes[0]
    first = system.predict(state, system.adapt(state, episode.support), episode.query)
    blind = dataclasses.replace(
        episode.support,
        features=torch.full_like(episode.support.features, torch.nan),
        targets=episode.support.targets * 0,
    )
    np.testing.assert_array_equal(first, system.predict(state, system.adapt(state, blind), episode.query))


def test_few_takes_the_optimisers_steps_on_the_support_set(make):
    *_, task = make(fewrc__optimizer="SGD", fewrc__lr=0.1, fewrc__weight_decay=0.0)
    system, state, _ = trained("Linear-Few", task)
    support = task.validation_episodes[0].support
    head = state.learner.head.weights, state.learner.head.projector.weight, state.learner.head.projector.bias
    by_hand = {n: p.detach().double().clone().requires_grad_() for n, p in state.parameters().items()}
    weights = (support.targets.double() * task.class_weights.double()).sum(-1)
    for _ in range(5):
        mixed = torch.einsum("l,kld->kd", torch.softmax(by_hand["weights"], 0), support.features.double())
        hidden = mixed @ by_hand["projector.weight"].T + by_hand["projector.bias"]
        logits = hidden @ by_hand["classifier.weight"].T + by_hand["classifier.bias"]
        loss = -(weights * (support.targets.double() * torch.log_softmax(logits, -1)).sum(-1)).mean()
        gradients = torch.autograd.grad(loss, list(by_hand.values()))
        by_hand = {
            n: (p - 0.1 * g).detach().requires_grad_() for (n, p), g in zip(by_hand.items(), gradients, strict=True)
        }
    found = system.adapt(state, support)
    for name in found:
        torch.testing.assert_close(found[name].double(), by_hand[name].detach(), rtol=1e-4, atol=1e-6)
    assert head[0] is state.learner.head.weights, "the state is left as it was"
    assert same_state(state, trained("Linear-Zero", task)[1]), "Few and Zero share one initialisation"


def test_random_predicts_by_its_seed_alone(make):
    *_, task = make()
    system, state, _ = trained("Random", task)
    one, two = (system.adapt(state, e.support) for e in task.validation_episodes)
    query = task.validation_episodes[0].query
    np.testing.assert_array_equal(system.predict(state, one, query), system.predict(state, one, query * 0))
    assert not np.array_equal(system.predict(state, one, query), system.predict(state, two, query))


def test_initialisation_is_made_once_and_shared(make, monkeypatch):
    *_, task = make()
    first = initialised(task)
    monkeypatch.setattr(
        "s3prl_metaperser.methods.initialisation.train_on_consensus", lambda *arguments: pytest.fail("trained twice")
    )
    second = initialised(task)
    assert all(torch.equal(value, second.parameters()[name]) for name, value in first.parameters().items())


@pytest.mark.parametrize("change", [{"initrc__lr": 0.01}, {"datarc__fold": "fold2"}, {"datarc__smoothing": 0.1}])
def test_another_task_or_setting_has_another_initialisation(make, change):
    first, second = initialised(make()[2]), initialised(make(**change)[2])
    assert not torch.equal(first.head.classifier.weight, second.head.classifier.weight)


def test_meta_testing_and_reporting_options_do_not_touch_the_initialisation(make, monkeypatch):
    initialised(make()[2])
    monkeypatch.setattr(
        "s3prl_metaperser.methods.initialisation.train_on_consensus", lambda *arguments: pytest.fail("retrained")
    )
    initialised(make(evalrc__steps=50, runner__total_steps=9, metarc__inner_lr=0.3)[2])


def test_initialisation_learns_the_consensus_labels(make):
    *_, task = make(initrc__total_steps=300)
    learner = new_learner(task, "consensus", task.seed)
    tensors, record = train_on_consensus(task, learner)
    labels = task.validation
    weights = (labels.targets.astype(np.float64) * task.class_weights.double().numpy()).sum(1, keepdims=True)
    logits = pooled_logits({n: v.double() for n, v in tensors.items()}, task.features[labels.rows].double())
    loss = -(weights * labels.targets * torch.log_softmax(logits, -1).numpy()).sum(1).mean()
    assert loss == pytest.approx(float(record["validation_loss"]), rel=1e-5)
    assert int(record["step"]) > 0


@pytest.mark.parametrize("switch", ["initialisation", "combined_set", "derivative_annealing", "lslr"])
def test_each_switch_changes_what_it_names(make, switch):
    *_, whole = make()
    *_, without = make(**{f"metarc__{switch}": False})
    _, state, _ = trained("Meta-PerSER", whole)
    _, other, _ = trained("Meta-PerSER", without)
    assert not same_state(state, other)
    assert (other.rates.values == whole.options.downstream_expert.metarc.inner_lr).all() == (switch == "lslr")


def test_without_lslr_the_rates_are_not_in_the_optimiser(make):
    *_, task = make(metarc__lslr=False)
    system = SYSTEMS.get("Meta-PerSER")(task.options, task.class_weights)
    loop = OuterLoop(system, system.initialise(task), task)
    assert len(loop.optimizer.param_groups) == 1


def test_training_twice_gives_the_same_bits(make):
    *_, task = make()
    assert same_state(trained("Meta-PerSER", task)[1], trained("Meta-PerSER", task)[1])


def test_nothing_of_the_test_rater_reaches_training(make, tmp_path):
    """Changing every label of the test rater changes not one bit of the trained state."""
    workspace, prepared, task = make()
    state = trained("Meta-PerSER", task)[1]
    flipped = tuple(
        dataclasses.replace(r, ticks=("disgust",)) if r.rater in workspace.split.test_raters else r
        for r in workspace.corpus.ratings
    )
    other = Workspace(workspace.options, dataclasses.replace(workspace.corpus, ratings=flipped))
    twin = other.task(prepared, IDENTITY, seed=1)
    seen = dataclasses.replace(twin, cache=tmp_path / "other")
    assert torch.equal(twin.class_weights, task.class_weights)
    # episodes are drawn by the corpus's hash; with the same ones selection is the same too
    seen = dataclasses.replace(seen, validation_episodes=task.validation_episodes)
    assert same_state(state, trained("Meta-PerSER", seen)[1])


def test_standardisation_uses_the_training_split_alone(make):
    workspace, prepared, _ = make(datarc__scenario="unseen")
    mean, scale = workspace.statistics(prepared.values, prepared.rows)
    used = sorted({r.utterance for r in workspace.split.train})
    assert not any(u.startswith("Ses05") for u in used)
    chosen = prepared.values[[prepared.rows[u] for u in used]].double().numpy()
    np.testing.assert_allclose(mean, chosen.mean(0), atol=1e-6)
    np.testing.assert_allclose(scale, chosen.std(0), atol=1e-6)


def test_divergence_is_one_clear_error(make):
    *_, task = make(metarc__inner_lr=1e30)
    with pytest.raises(UserError, match=r"Lower metarc\.inner_lr"):
        trained("Meta-PerSER", task)


@pytest.mark.parametrize(("name", "option"), [("Linear-Few", "lr"), ("Multi-Few", "classifier_lr")])
def test_divergence_names_the_option_by_which_the_system_adapts(make, name, option):
    *_, task = make(**{f"fewrc__{option}": 1e36})
    system = SYSTEMS.get(name)(task.options, task.class_weights)
    with pytest.raises(Diverged, match=rf"{name} diverges while it adapts to episode 0.* Lower fewrc\.{option}\."):
        meta_test(system, system.initialise(task), task.validation_episodes)


def test_the_engine_is_chosen_by_itself_and_changes_nothing_but_time(make):
    states = []
    for engine in ("auto", "loop"):
        *_, task = make(metarc__engine=engine)
        system, state, _ = trained("Meta-PerSER", task)
        assert system.engine(state) == {"auto": "closed form", "loop": "loop"}[engine]
        states.append((system, state))
    (_, one), (_, two) = states
    for name, value in one.parameters().items():
        torch.testing.assert_close(value, two.parameters()[name], rtol=1e-4, atol=1e-6)
    tested = (meta_test(s, state, task.validation_episodes) for s, state in states)
    for a, b in zip(*tested, strict=True):
        np.testing.assert_allclose(a.probabilities, b.probabilities, atol=1e-5)


def test_every_system_is_tested_on_the_same_episodes(make):
    workspace, prepared, task = make()
    episodes = workspace.episode_data(workspace.episodes("test"), prepared, "test")
    seen = []
    for name in SYSTEMS.names():
        system, state, _ = trained(name, task)
        results = meta_test(system, state, episodes)
        seen.append([r.query for r in results])
        for result in results:
            np.testing.assert_allclose(result.probabilities.sum(1), 1, atol=1e-5)
    assert all(queries == seen[0] for queries in seen)


def test_each_fold_and_scenario_trains_from_a_seed_of_its_own(make):
    seeds = {
        make(datarc__fold=fold, datarc__scenario=scenario)[2].seed
        for fold in ("fold1", "fold2")
        for scenario in ("seen", "unseen")
    }
    assert len(seeds) == 4
    assert make()[2].seed == make()[2].seed


@pytest.mark.parametrize("combined", [True, False])
@pytest.mark.parametrize("engine", ["auto", "loop"])
def test_an_outer_gradient_in_parts_is_that_of_all_raters_at_once(make, monkeypatch, combined, engine):
    *_, task = make(metarc__combined_set=combined, metarc__engine=engine)
    system = SYSTEMS.get("Meta-PerSER")(task.options, task.class_weights)
    batch = next(batch for _, batch in training_batches(task.options, task, 0, 1))
    found = []
    for size in (1 << 30, 4 * 8 * 18 * 2, 1):  # all nine raters, two, and one at a time
        monkeypatch.setattr("s3prl_metaperser.methods.meta_perser.PART_BYTES", size)
        state = system.initialise(task)
        trained = [*state.parameters().values(), state.rates.values]
        for parameter in trained:
            parameter.grad = None
        loss = system.outer_gradient(state, batch, 1, task)
        found.append([loss, *(parameter.grad.clone() for parameter in trained)])
    assert [len(part.raters) for part in batch.parts(2)] == [2, 2, 2, 2, 1]
    for other in found[1:]:
        assert other[0] == pytest.approx(found[0][0], rel=1e-6)
        for one, whole in zip(other[1:], found[0][1:], strict=True):
            torch.testing.assert_close(one, whole, rtol=1e-4, atol=1e-7)
