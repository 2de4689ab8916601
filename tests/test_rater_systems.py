"""Systems that know the training raters, each against an independent computation."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from small_demo import demo_root, stored
from test_systems import make, trained  # noqa: F401 (make is a fixture)

from s3prl_metaperser import PersonalizedEmotionRecognizer, load_corpus
from s3prl_metaperser.cli import main
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.evaluation.meta_testing import meta_test
from s3prl_metaperser.listener.folder import PRIORS, read_folder
from s3prl_metaperser.methods import SYSTEMS, dawid_skene, facts_of, trained_as
from s3prl_metaperser.methods.dawid_skene import TABLE, fit_tables
from s3prl_metaperser.methods.map_fit import mixture_weights, tempered
from s3prl_metaperser.methods.multi_few import own_samples, samples_of_a_rater
from s3prl_metaperser.methods.rater_heads import WEIGHTS
from s3prl_metaperser.methods.state import pack_state, unpack_state
from s3prl_metaperser.methods.tuning import number_of_choices, overridden
from s3prl_metaperser.protocol.loader import training_loader

NAMES = ("Dawid-Skene", "Dawid-Skene:mixture", "Nearest-Rater", "Rater-Mixture", "Rater-Embedding")


def draw_answers(generator, clips=400, raters=4, classes=3):
    """A latent class a clip, a table a rater, and every rater's answer to most clips."""
    shares = np.array([0.5, 0.3, 0.2])
    tables = 0.6 * np.eye(classes) + 0.4 * generator.dirichlet(np.ones(classes), size=(raters, classes))
    latent = generator.choice(classes, size=clips, p=shares)
    rated = [(n, r) for n in range(clips) for r in range(raters) if generator.random() < 0.9]
    said = [generator.choice(classes, p=tables[r, latent[n]]) for n, r in rated]
    return np.array(rated), np.array(said)


def em_of_dawid_and_skene(rated, said, clips, raters, classes, start):
    """Equations 2.3 to 2.5 of the paper, in loops over raters; the answers are classes."""
    tables, shares = np.tile(start, (raters, 1, 1)), np.full(classes, 1 / classes)
    for _ in range(5000):
        told = np.zeros((clips, classes))
        for (n, r), d in zip(rated, said, strict=True):
            told[n] += np.log(tables[r][:, d])
        latent = softmax(np.log(shares) + told, -1)
        before, shares = shares, latent.mean(0)
        for r in range(raters):
            mine = rated[:, 1] == r
            counts = np.stack([latent[rated[mine, 0]][said[mine] == d].sum(0) for d in range(classes)], 1)
            tables[r] = counts / counts.sum(1, keepdims=True)
        if np.abs(shares - before).max() < 1e-9:
            return shares, tables
    raise AssertionError("EM did not end")


def test_with_nothing_heard_and_wide_priors_the_tables_are_those_of_dawid_and_skenes_em(monkeypatch):
    monkeypatch.setattr(dawid_skene, "COMMON", 20.0)
    monkeypatch.setattr(dawid_skene, "OWN", 20.0)
    monkeypatch.setattr(dawid_skene, "TOLERANCE", 1e-4)
    generator = np.random.default_rng(0)
    rated, said = draw_answers(generator)
    start = 0.7 * np.eye(3) + 0.1
    shares, tables = em_of_dawid_and_skene(rated, said, 400, 4, 3, start)
    answers = torch.from_numpy(np.eye(3)[said])
    found = fit_tables(
        torch.ones(400, 1, dtype=torch.float64),
        torch.from_numpy(rated[:, 0]),
        torch.from_numpy(rated[:, 1]),
        answers,
        torch.zeros(3, 1),
        torch.zeros(3),
    )
    ours = torch.softmax(torch.from_numpy(np.log(start)) + found["tables.common"] + found["tables.raters"], -1)
    np.testing.assert_allclose(ours, tables, atol=0.01)
    logits = found["classifier.weight"][:, 0] + found["classifier.bias"]
    np.testing.assert_allclose(torch.softmax(logits, -1), shares, atol=0.01)


def test_classifier_and_tables_are_the_most_probable_ones_that_another_solver_finds():
    """The model as its docstring has it, written anew with loops, minimised by scipy with numerical gradients."""
    generator = np.random.default_rng(1)
    hidden, weight, bias = generator.normal(size=(12, 2)), generator.normal(size=(2, 2)), generator.normal(size=2)
    rated = [(n, r) for n in range(12) for r in range(2)]
    answers = generator.dirichlet(np.ones(2), size=len(rated))
    scale, start = np.sqrt((hidden**2).sum(-1).mean()), np.log(0.7 * np.eye(2) + 0.15)

    def minus_log_posterior(x):
        a, b, common, own = x[:4].reshape(2, 2), x[4:6], x[6:10].reshape(2, 2), x[10:].reshape(2, 2, 2)
        total = 1.5 * ((a - 1.5 * scale * weight) ** 2).sum() + ((b - 1.5 * bias) ** 2).sum() / 200
        total += (common**2).sum() / 8 + (own**2).sum() / (2 * 0.7**2)
        for n in range(12):
            latent = log_softmax(hidden[n] / scale @ a.T + b)
            for (clip, r), y in zip(rated, answers, strict=True):
                if clip == n:
                    latent = latent + log_softmax(start + common + own[r], -1) @ y
            total -= np.log(np.exp(latent).sum())
        return total

    given = (torch.tensor([n for n, _ in rated]), torch.tensor([r for _, r in rated]), torch.from_numpy(answers))
    found = fit_tables(torch.from_numpy(hidden), *given, torch.from_numpy(weight), torch.from_numpy(bias))
    ours = np.concatenate([value.numpy().ravel() for value in found.values()])
    ours[:4] *= scale
    first = np.concatenate([1.5 * scale * weight.ravel(), 1.5 * bias, np.zeros(12)])
    by_scipy = minimize(minus_log_posterior, first, method="BFGS", options={"gtol": 1e-5})
    np.testing.assert_allclose(ours, by_scipy.x, atol=2e-3)


def test_a_new_listeners_table_is_the_most_probable_one(make):  # noqa: F811
    *_, task = make()
    system, state, step = trained("Dawid-Skene", task)
    assert step == 0
    zero, own, _ = trained("Linear-Zero", task)
    support, query = task.validation_episodes[0].support, task.validation_episodes[0].query
    predictor = system.adapt(state, support)
    head = dataclasses.replace(own)
    with torch.no_grad():
        for name, value in head.parameters().items():
            value.copy_(state.parameters()[name])
    heard = zero.predict(head, zero.unadapted(head), support.features).astype(np.float64)
    common = np.log(0.7 * np.eye(9) + 0.3 / 9) + state.parameters()["tables.common"].detach().double().numpy()
    targets = support.targets.double().numpy()

    def minus_log_posterior(x):
        table = softmax(common + x.reshape(9, 9), -1)
        gradient = -heard.T @ (targets / (heard @ table)) * table
        gradient -= table * gradient.sum(-1, keepdims=True)
        return -(targets * np.log(heard @ table)).sum() + (x**2).sum() / (2 * 0.7**2), gradient.ravel() + x / 0.7**2

    found = minimize(minus_log_posterior, np.zeros(81), jac=True, method="BFGS", options={"gtol": 1e-7})
    table = softmax(common + found.x.reshape(9, 9), -1)
    np.testing.assert_allclose(predictor[TABLE], table, atol=1e-4)
    latent = zero.predict(head, zero.unadapted(head), query)
    np.testing.assert_allclose(system.predict(state, predictor, query), latent @ table, atol=1e-4)
    before = system.predict(state, system.unadapted(state), query)
    np.testing.assert_allclose(before, latent @ softmax(common, -1), atol=1e-5)
    narrow = system.under(overridden(system.options, {"outputrc.spread": 1e-3})).adapt(state, support)
    np.testing.assert_allclose(narrow[TABLE], softmax(common, -1), atol=1e-3)


def test_a_mixture_of_tables_has_the_weights_of_a_loop(make):  # noqa: F811
    *_, task = make()
    system, state, _ = trained("Dawid-Skene:mixture", task)
    plain, same, _ = trained("Dawid-Skene", task)
    assert trained_as(system.name) == plain.name
    assert all(torch.equal(a, b) for a, b in zip(state.parameters().values(), same.parameters().values(), strict=True))
    predictor = system.adapt(state, task.validation_episodes[0].support)
    common = np.log(0.7 * np.eye(9) + 0.3 / 9) + state.parameters()["tables.common"].detach().double().numpy()
    tables = [softmax(common, -1)]
    tables += [softmax(common + own, -1) for own in state.parameters()["tables.raters"].detach().double().numpy()]
    weights, *_ = np.linalg.lstsq(
        np.stack([t.ravel() for t in tables], 1), predictor[TABLE].numpy().ravel(), rcond=None
    )
    assert weights.min() > 0
    assert weights.sum() == pytest.approx(1, abs=1e-4)


def test_the_weights_of_a_mixture_are_those_of_greatest_posterior():
    generator = np.random.default_rng(2)
    heard, targets = generator.dirichlet(np.ones(4), size=(3, 20)), generator.dirichlet(np.ones(4), size=20)

    def minus_log_posterior(x):
        weights = softmax(x)
        return -(targets * np.log(np.einsum("r,rkc->kc", weights, heard))).sum() - 2.0 / 3 * np.log(weights).sum()

    best = minimize(minus_log_posterior, np.zeros(3), method="BFGS", options={"gtol": 1e-7})
    found = mixture_weights(torch.from_numpy(heard), torch.from_numpy(targets), 2.0)
    np.testing.assert_allclose(found, softmax(best.x), atol=1e-5)


def test_a_temperature_is_a_power():
    probabilities = np.random.default_rng(3).dirichlet(np.ones(3), size=5).astype(np.float32)
    squared = probabilities**2 / (probabilities**2).sum(-1, keepdims=True)
    np.testing.assert_allclose(tempered(probabilities, 0.5), squared, rtol=1e-5)
    assert tempered(probabilities, 1.0) is probabilities


def test_nearest_rater_is_the_one_whose_own_predictions_fit_best_and_a_mixture_leans_to_them(make):  # noqa: F811
    *_, task = make(initrc__total_steps=40)
    system, state, _ = trained("Nearest-Rater", task)
    weights, biases = (state.parameters()[f"classifier.{name}"].detach() for name in ("weight", "bias"))
    assert weights.shape[0] == len(task.raters)
    mixture = SYSTEMS.get("Rater-Mixture")(task.options, task.class_weights)
    for episode in task.validation_episodes:
        support = episode.support
        hidden = system.embed(state, system.unadapted(state), support.features)
        fits, heard = [], []
        for weight, bias in zip(weights, biases, strict=True):
            heard.append(torch.softmax(hidden @ weight.T + bias, -1).double())
            fits.append((support.targets * torch.log(heard[-1])).sum().item())
        nearest = int(np.argmax(fits))
        predictor = system.adapt(state, support)
        assert torch.equal(predictor["classifier.weight"], weights[nearest])
        assert torch.equal(predictor["classifier.bias"], biases[nearest])
        mixed = mixture.adapt(state, support)
        by_hand = mixture_weights(torch.stack(heard), support.targets.double(), 9.0)
        np.testing.assert_allclose(mixed[WEIGHTS], by_hand, atol=1e-5)
        queried = system.embed(state, system.unadapted(state), episode.query)
        each = [torch.softmax(queried @ w.T + b, -1) for w, b in zip(weights, biases, strict=True)]
        expected = sum(w * p for w, p in zip(by_hand.numpy(), each, strict=True))
        np.testing.assert_allclose(mixture.predict(state, mixed, episode.query), expected, atol=1e-5)


def test_rater_embedding_trains_a_vector_a_rater_and_adapts_nothing_but_a_new_one(make):  # noqa: F811
    *_, task = make(initrc__total_steps=40, fewrc__optimizer="SGD", fewrc__classifier_lr=0.5, fewrc__weight_decay=0.0)
    system, state, _ = trained("Rater-Embedding", task)
    own = {name: value.detach().double() for name, value in state.parameters().items()}
    assert own["embeddings"].shape == (len(task.raters), 8)
    assert own["embeddings"].abs().sum(1).min() > 0
    episode = task.validation_episodes[0]
    predictor = system.adapt(state, episode.support)
    assert all(torch.equal(predictor[n], p) for n, p in state.parameters().items() if n != "projector.bias")
    bias = (own["projector.bias"] + own["embeddings"].mean(0)).requires_grad_()
    targets = episode.support.targets.double()
    share = (targets * task.class_weights.double()).sum(-1, keepdim=True)
    mixed = torch.einsum("l,kld->kd", torch.softmax(own["weights"], 0), episode.support.features.double())
    for _ in range(5):
        logits = (mixed @ own["projector.weight"].T + bias) @ own["classifier.weight"].T + own["classifier.bias"]
        loss = -(share * targets * torch.log_softmax(logits, -1)).sum(-1).mean()
        (gradient,) = torch.autograd.grad(loss, bias)
        bias = (bias - 0.5 * gradient).detach().requires_grad_()
    torch.testing.assert_close(predictor["projector.bias"].double(), bias.detach(), rtol=1e-4, atol=1e-5)


def test_the_training_loss_of_rater_embedding_is_the_mean_over_raters_of_their_own_losses(make):  # noqa: F811
    *_, task = make()
    system = SYSTEMS.get("Rater-Embedding")(task.options, task.class_weights)
    state = system.initialise(task)
    with torch.no_grad():
        state.parameters()["embeddings"].normal_(generator=torch.Generator().manual_seed(0))
    metarc = system.options.downstream_expert.metarc
    batch = next(iter(training_loader(task.raters, metarc, seed=1, epoch=0, skip=0, num_workers=0)))
    rows, targets = own_samples(batch, samples_of_a_rater(system.options, len(batch.raters)))
    losses = []
    for index in range(len(batch.raters)):
        own = {**state.parameters()}
        own["projector.bias"] = own["projector.bias"] + own["embeddings"][index]
        logits = state.learner.logits(own, task.pooled[rows[index]])
        share = (targets[index] * task.class_weights).sum(-1, keepdim=True)
        losses.append(-(share * targets[index] * torch.log_softmax(logits, -1)).sum(-1).mean())
    torch.testing.assert_close(system.outer_loss(state, batch, 1, task), torch.stack(losses).mean())


@pytest.mark.parametrize("name", NAMES)
def test_each_adapts_survives_a_checkpoint_and_carries_outputs_on_top(make, name):  # noqa: F811
    *_, task = make(initrc__total_steps=20)
    system, state, _ = trained(name, task)
    again = unpack_state(pack_state(state), system.blank(task), "memory")
    results = [meta_test(system, one, task.validation_episodes) for one in (state, again)]
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one.probabilities, other.probabilities)
        np.testing.assert_allclose(one.probabilities.sum(-1), 1, atol=1e-5)
    episode = task.validation_episodes[0]
    before = system.predict(state, system.unadapted(state), episode.query)
    assert not np.allclose(before, results[0][0].probabilities, atol=1e-4), "the K samples matter"
    choices = system.tunable()
    assert len(choices) - (choices[0].keys() == {"fewrc.optimizer"}) in (number_of_choices("frozen"), 25)
    flat = system.under(overridden(system.options, {"outputrc.temperature": 100.0}))
    if "outputrc.temperature" in choices[0]:
        np.testing.assert_allclose(
            flat.predict(state, flat.adapt(state, episode.support), episode.query), 1 / 9, atol=0.03
        )
    on_top = SYSTEMS.get(f"{name}+bias+map")(task.options, task.class_weights)
    found = on_top.predict(state, on_top.adapt(state, episode.support), episode.query)
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-5)
    assert facts_of(name).scopes == ("frozen", "finetuned")


def test_no_audio_predicts_the_training_raters_pooled_answers_to_the_clip(make):  # noqa: F811
    *_, task = make()
    system, state, _ = trained("No-Audio", task)
    episode = task.validation_episodes[0]
    found = system.predict(state, system.adapt(state, episode.support), episode.query)
    known = dict(zip(task.consensus.utterances, task.consensus.targets, strict=True))
    everybody = task.consensus.targets.mean(0)
    for utterance, row in zip(episode.query_labels.utterances, found, strict=True):
        np.testing.assert_allclose(row, known.get(utterance, everybody), atol=1e-6)
    table = SYSTEMS.get("No-Audio+confusion")(task.options, task.class_weights)
    personal = table.predict(state, table.adapt(state, episode.support), episode.query)
    assert not np.allclose(personal, found, atol=1e-3)


def test_no_audio_counts_clips_that_nobody_rated_and_refuses_where_it_knows_none(make, capsys):  # noqa: F811
    *_, task = make()
    system, state, _ = trained("No-Audio", task)
    query = task.validation_episodes[0].query.clone()
    query[:3] += 1
    found = system.predict(state, {}, query)
    np.testing.assert_allclose(found[:3], np.tile(task.consensus.targets.mean(0), (3, 1)), atol=1e-6)
    assert f"no training rater rated 3 of {len(query)} clips" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"none of them rated any of these 3.*scenario seen"):
        system.predict(state, {}, query[:3])


@pytest.mark.parametrize("system", ["Dawid-Skene", "Rater-Mixture", "Linear-Zero+bias:learned"])
def test_a_listener_of_an_exported_model_gets_the_benchmarks_numbers(finished, tmp_path, system):
    experiment = finished(system, tmp_path / "exp")
    assert main(["export", str(experiment), "--out", str(tmp_path / "model")]) == 0
    result = stored(experiment / "result_test.json")
    corpus = load_corpus("iemocap", demo_root())
    labels, episode = corpus.ratings_of(result["raters"]["test"]), result["episodes"][0]
    clips = {role: [corpus.utterance(name).path for name in episode[role]] for role in ("support", "query")}
    recognizer = PersonalizedEmotionRecognizer.load(tmp_path / "model")
    adapted = recognizer.adapt(clips["support"], [labels[name] for name in episode["support"]])
    assert any(name.startswith(PRIORS) for name in read_folder(tmp_path / "model").tensors) == ("learned" in system)
    again = PersonalizedEmotionRecognizer.load(adapted.save(tmp_path / "listener"))
    np.testing.assert_allclose(again.predict_proba(clips["query"]), episode["probabilities"], atol=1e-6)


@pytest.mark.parametrize("system", ["No-Audio+confusion", "Most-Frequent"])
def test_what_hears_nothing_is_not_exported(finished, tmp_path, capsys, system):
    assert main(["export", str(finished(system, tmp_path / "exp")), "--out", str(tmp_path / "model")]) == 2
    assert f"holds {system}, which cannot be adapted to a listener" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()
