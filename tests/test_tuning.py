"""The protocol ``tuned``: the same budget for every system, spent on the validation rater alone."""

import dataclasses
import json

import numpy as np
import pytest
import torch
import yaml
from random_checkpoints import make_checkpoint
from sklearn.metrics import f1_score
from small_demo import stored, trained_and_evaluated
from synthetic import synthetic_corpus
from test_finetuned_runner import command

from s3prl_metaperser.config.options import Options
from s3prl_metaperser.evaluation.meta_testing import meta_test, validation
from s3prl_metaperser.evaluation.selection import select, validated
from s3prl_metaperser.meta.model import PARAMETERS
from s3prl_metaperser.meta.rates import InnerRates
from s3prl_metaperser.methods import FINETUNED_SYSTEMS, SYSTEMS
from s3prl_metaperser.methods import tuning as grids
from s3prl_metaperser.methods.base import HeadLearner, ModelState, new_head
from s3prl_metaperser.methods.tuning import overridden
from s3prl_metaperser.run.workspace import Workspace
from s3prl_metaperser.s3prl_plugin import launcher
from s3prl_metaperser.storage.resources import downstream_folder
from s3prl_metaperser.tasks import DEFAULT_TASK
from s3prl_metaperser.upstream.store import FeatureIdentity, PooledFeatures

IDENTITY = FeatureIdentity("fake", "0" * 64)

pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask:UserWarning")


def shipped(name):
    return Options.from_config(yaml.safe_load((downstream_folder(DEFAULT_TASK) / name).read_text()))


def build(registry, name, options):
    return registry.get(name)(options, torch.ones(9))


@pytest.fixture
def task(tmp_path, monkeypatch):
    """A task in memory with ten features that know the first tick."""
    corpus = synthetic_corpus(utterances=120)
    monkeypatch.setattr(Workspace, "audio_hashes", {u.id: u.id for u in corpus.utterances})
    config = {
        "datarc": {"cache_dir": str(tmp_path)},
        "modelrc": {"projector_dim": 8},
        "evalrc": {"shots": 8, "queries": 20, "validation_seeds": 2, "seeds": 2},
    }
    workspace = Workspace(Options.from_config({"downstream_expert": config}), corpus)
    values = torch.randn(len(workspace.utterances), 1, 10, generator=torch.Generator().manual_seed(0))
    rows = {u.id: row for row, u in enumerate(workspace.utterances)}
    return workspace.task(workspace.prepare(PooledFeatures(rows, values), learned=True), IDENTITY, seed=1)


def state_of(task):
    head = new_head(task.options, *task.features.shape[1:], 9, "test")
    return ModelState(HeadLearner(head), InnerRates(PARAMETERS, 5, 0.02, learned=True))


ADAPTING = {
    "frozen": (SYSTEMS, "config.yaml", ("Linear-Few", "Multi-Few", "Meta-PerSER", "Meta-PerSER:INI+LSLR")),
    "finetuned": (FINETUNED_SYSTEMS, "config_finetuned.yaml", ("Entire-Few", "Multi-Few", "Meta-PerSER")),
}


@pytest.mark.parametrize("scope", ADAPTING)
def test_every_system_that_adapts_has_as_many_choices_among_the_same_steps(scope):
    registry, config, names = ADAPTING[scope]
    found = [build(registry, name, shipped(config)).tunable() for name in names]
    assert {len(choices) for choices in found} == {24 if scope == "frozen" else 8}
    for choices in found:
        assert len({json.dumps(choice, sort_keys=True) for choice in choices}) == len(choices)
        assert {choice["evalrc.steps"] for choice in choices} == set(grids.STEPS[scope])


@pytest.mark.parametrize("scope", ADAPTING)
def test_the_shipped_configuration_is_one_of_the_choices(scope):
    registry, config, names = ADAPTING[scope]
    for name in names:
        system = build(registry, name, shipped(config))
        assert any(overridden(system.options, choice) == system.options for choice in system.tunable())


def test_a_configuration_of_ones_own_is_a_choice_too():
    options = overridden(shipped("config.yaml"), {"fewrc.lr": 0.123, "evalrc.steps": 7})
    choices = build(SYSTEMS, "Linear-Few", options).tunable()
    assert choices[0] == {"fewrc.optimizer": "AdamW", "fewrc.lr": 0.123, "evalrc.steps": 7}
    assert len(choices) == 25


@pytest.mark.parametrize("name", ["Random", "Linear-Zero", "Linear-Sim"])
def test_what_does_not_adapt_by_steps_has_nothing_to_choose(name, task):
    system = build(SYSTEMS, name, task.options)
    chosen = select(system, ModelState(), task)
    assert chosen.system is system
    assert (chosen.chosen, chosen.losses) == ({}, ())


@pytest.mark.parametrize("name", ["Linear-Few", "Meta-PerSER"])
def test_the_choice_with_the_lowest_validation_loss_is_taken(name, task, monkeypatch):
    monkeypatch.setitem(grids.STEPS, "frozen", (2, 5))
    system, state = build(SYSTEMS, name, task.options), state_of(task)
    before = {n: p.clone() for n, p in state.parameters().items()}
    found = select(system, state, task)
    losses = []
    for choice in system.tunable():
        by_hand = type(system)(overridden(task.options, choice), system.class_weights)
        losses.append(validation(by_hand, state, task.validation_episodes, lambda result: result.loss))
    assert [loss for _, loss in found.losses] == pytest.approx(losses)
    assert found.chosen == system.tunable()[int(np.argmin(losses))]
    assert found.system.options == overridden(task.options, found.chosen)
    assert all(torch.equal(before[n], p) for n, p in state.parameters().items())
    assert system.options == task.options


@pytest.mark.parametrize("criterion", ["metric", "both"])
def test_another_criterion_is_one_minus_scikit_learns_macro_f1_and_with_the_loss_a_share_of_that_of_guessing(
    criterion, task
):
    changed = overridden(task.options, {"metarc.criterion": criterion})
    system, state = build(SYSTEMS, "Linear-Few", changed), state_of(task)
    risks = []
    for result, episode in zip(
        meta_test(system, state, task.validation_episodes), task.validation_episodes, strict=True
    ):
        counts, targets = episode.query_labels.counts, episode.query_labels.targets.astype(float)
        given = counts / counts.sum(1, keepdims=True) > 1 / 9
        f1 = f1_score(given, result.probabilities > 1 / 9, average="macro", zero_division=0)
        weights = system.class_weights.double().numpy()
        guessing = -(targets @ weights * (targets * np.log(1 / 9)).sum(1)).mean()
        risks.append(1 - f1 + (result.loss / guessing if criterion == "both" else 0))
    assert validated(system, state, task) == pytest.approx(np.mean(risks), rel=1e-5)
    assert "macro-F1" in select(system, state, task).criterion


def test_a_choice_that_diverges_is_never_taken_and_is_null_in_the_record(task, monkeypatch):
    monkeypatch.setitem(grids.RATE_FACTORS, "frozen", (1e30, 1.0))
    found = select(build(SYSTEMS, "Meta-PerSER", task.options), state_of(task), task)
    assert found.chosen["evalrc.rate_factor"] == 1.0
    record = found.record(2)
    assert {loss for choice, loss in record.choices() if choice["evalrc.rate_factor"] == 1e30} == {None}
    json.dumps(dataclasses.asdict(record), allow_nan=False)


def test_the_factor_multiplies_every_inner_rate_in_both_engines(task):
    support = task.validation_episodes[0].support
    state = state_of(task)
    with torch.no_grad():
        state.rates.values.mul_(torch.linspace(0.5, 2, 25).view(5, 5))
    doubled = state_of(task)
    with torch.no_grad():
        doubled.rates.values.copy_(2 * state.rates.values)
    for engine in ("auto", "loop"):
        options = overridden(task.options, {"metarc.engine": engine})
        plain = build(SYSTEMS, "Meta-PerSER", options)
        scaled = build(SYSTEMS, "Meta-PerSER", overridden(options, {"evalrc.rate_factor": 2.0}))
        one, other = scaled.adapt(state, support), plain.adapt(doubled, support)
        assert all(torch.equal(one[name], other[name]) for name in PARAMETERS)
        still = build(SYSTEMS, "Meta-PerSER", overridden(options, {"evalrc.rate_factor": 0.0})).adapt(state, support)
        assert all(torch.equal(still[name], value) for name, value in state.parameters().items())


def test_tuning_never_uses_the_test_raters_labels(tmp_path, monkeypatch):
    """The whole path: with every label of the test rater replaced, the choice and its losses stay as they are."""
    monkeypatch.setitem(grids.STEPS, "frozen", (2, 5))
    options = ("downstream_expert.evalrc.protocol=tuned",)
    folder = trained_and_evaluated(tmp_path / "exp", "-v", "Linear-Few", options=options)
    clean = stored(folder / "result_test.json")
    honest, asked = Workspace.labels_by_rater, []

    def poisoned(self, role, rows):
        asked.append(role)
        found = honest(self, role, rows)
        if role != "test":
            return found
        turned = {"counts": lambda own: own.counts[:, ::-1], "targets": lambda own: own.targets[:, ::-1].copy()}
        return {r: dataclasses.replace(own, **{k: turn(own) for k, turn in turned.items()}) for r, own in found.items()}

    monkeypatch.setattr(Workspace, "labels_by_rater", poisoned)
    assert launcher.main(["-m", "evaluate", "-e", str(folder)]) == 0
    other = stored(folder / "result_test.json")
    assert "test" in asked
    assert other["metrics"] != clean["metrics"]
    assert other["tuned"] == clean["tuned"]
    chosen = clean["tuned"]["chosen"]
    best = min(clean["tuned"]["grid"], key=lambda choice: choice["loss"])
    assert {**chosen, "loss": best["loss"]} == best
    assert len(clean["tuned"]["grid"]) == 13  # six optimisers and rates, two numbers of steps, and the configuration
    assert (clean["cell"]["protocol"], clean["cell"]["steps"]) == ("tuned", chosen["evalrc.steps"])

    elsewhere = tmp_path / "paper"
    command = ["-m", "evaluate", "-e", str(folder), "-p", str(elsewhere)]
    assert launcher.main([*command, "-o", "config.downstream_expert.evalrc.protocol=paper"]) == 0
    paper = stored(elsewhere / "result_test.json")
    assert (paper["cell"]["protocol"], paper["tuned"], paper["cell"]["steps"]) == ("paper", None, 6)
    assert paper["hashes"]["episodes"] == clean["hashes"]["episodes"]


@pytest.mark.parametrize(
    ("system", "key"), [("Multi-Few", "fewrc.classifier_lr"), ("Meta-PerSER", "evalrc.rate_factor")]
)
def test_with_f_the_whole_model_is_tuned_on_the_validation_rater(tmp_path, monkeypatch, system, key):
    """One training, both protocols; the trajectory goes by what was chosen, and ends where the cell does."""
    monkeypatch.setitem(grids.STEPS, "finetuned", (1, 2))
    for kind in (grids.CLASSIFIERS, grids.RATE_FACTORS):
        monkeypatch.setitem(kind, "finetuned", kind["finetuned"][-2:])
    checkpoint = make_checkpoint("wavlm", tmp_path / "tiny.pt")
    options = ("runner.total_steps=2", "downstream_expert.initrc.total_steps=2", "downstream_expert.evalrc.queries=6")
    assert launcher.main(command(tmp_path / "exp", checkpoint, options=options, system=system)) == 0
    found = {}
    for protocol in ("paper", "tuned"):
        folder = tmp_path / protocol
        changes = f"evalrc.protocol={protocol},,config.downstream_expert.evalrc.trajectory=[0, 1, 2, 3]"
        evaluate = ["-m", "evaluate", "-e", str(tmp_path / "exp"), "-p", str(folder)]
        assert launcher.main([*evaluate, "-o", f"config.downstream_expert.{changes}"]) == 0
        found[protocol] = stored(folder / "result_test.json")
    paper, tuned = found["paper"], found["tuned"]
    assert (paper["tuned"], paper["cell"]["steps"]) == (None, 3)
    assert tuned["cell"]["scope"] == "finetuned"
    assert len(tuned["tuned"]["grid"]) == 5  # two rates, two numbers of steps, and the configuration
    assert {"evalrc.steps", key} <= tuned["tuned"]["chosen"].keys()
    best = min(tuned["tuned"]["grid"], key=lambda choice: choice["loss"])
    assert {**tuned["tuned"]["chosen"], "loss": best["loss"]} == best
    for content in found.values():
        (own,) = (point for point in content["trajectory"] if point["steps"] == content["cell"]["steps"])
        assert own["loss"] == pytest.approx([episode["loss"] for episode in content["episodes"]], rel=1e-6)
    assert [e["query"] for e in paper["episodes"]] == [e["query"] for e in tuned["episodes"]]
