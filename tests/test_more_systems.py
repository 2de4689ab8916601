"""Similarity, Multi-Few and Table 2's rows against what they are said to be; the page on adding a system as it is."""

import dataclasses
import math
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from random_checkpoints import make_checkpoint
from small_demo import demo_root, overrides, train_command, trained_and_evaluated
from test_runner import result
from test_systems import make, same_state, trained  # noqa: F401 (make is a fixture)

from s3prl_metaperser.config.options import Options
from s3prl_metaperser.corpora.label_set import LabelSet
from s3prl_metaperser.evaluation.meta_testing import meta_test
from s3prl_metaperser.meta import annealing
from s3prl_metaperser.methods import DEFAULT_SYSTEM, FINETUNED_SYSTEMS, SYSTEMS, facts_of, meta_perser, table2_rows
from s3prl_metaperser.methods.base import ModelState, Support, new_head
from s3prl_metaperser.methods.initialisation import initialised
from s3prl_metaperser.methods.learner import HeadLearner
from s3prl_metaperser.methods.multi_few import learned_classifiers, own_samples, samples_of_a_rater
from s3prl_metaperser.methods.similarity import class_centres, similarity_probabilities
from s3prl_metaperser.methods.tuning import overridden
from s3prl_metaperser.protocol.loader import EpisodicDataset, episodic_loader
from s3prl_metaperser.protocol.loss import soft_cross_entropy
from s3prl_metaperser.run.outer_loop import OuterLoop
from s3prl_metaperser.s3prl_plugin import launcher
from s3prl_metaperser.storage.checkpoints import read_checkpoint
from s3prl_metaperser.storage.resources import downstream_folder
from s3prl_metaperser.tasks import DEFAULT_TASK

pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask:UserWarning")

ROWS = table2_rows()
#: Part of the method -> its switch in ``metarc``.
SWITCHES = {part: option.rpartition(".")[2] for part, option in facts_of(DEFAULT_SYSTEM).parts.items()}
PAGE = Path(__file__).resolve().parents[1] / "docs" / "adding_a_system.md"


# -- similarity ----------------------------------------------------------------------------------------------------


def test_similarity_and_softmax_by_hand_on_five_points():
    """Four classes in the plane; the fourth point ticks two classes, and nobody ticks the last one."""
    points = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 2.0], [0.0, 4.0], [-1.0, 0.0]])
    ticks, letters = ["a", "a", "b", "ab", "c"], LabelSet("letters", "multi", tuple("abcd"))
    targets = torch.tensor(letters.target(np.stack([letters.counts(t) for t in ticks]), 0.05))
    centres = class_centres(points, targets)
    # a: (1,0), (3,0), (0,4); b: (0,2), (0,4); c: (-1,0); d: none
    np.testing.assert_allclose(centres[:3], [[4 / 3, 4 / 3], [0, 3], [-1, 0]], rtol=1e-6)
    assert centres[3].isnan().all()
    queries = torch.tensor([[0.0, 5.0], [1.0, 1.0]])
    half = math.sqrt(0.5)
    cosines = [[half, 1.0, 0.0, -1.0], [1.0, half, -half, -1.0]]
    for found, row in zip(similarity_probabilities(queries, centres), cosines, strict=True):
        by_hand = [math.exp(s) / sum(math.exp(t) for t in row) for s in row]
        np.testing.assert_allclose(found, by_hand, rtol=1e-5)


def test_linear_sim_is_equation_one_in_the_projectors_output(make):  # noqa: F811
    *_, task = make()
    system, state, _ = trained("Linear-Sim", task)
    episode = task.validation_episodes[0]
    head = {n: p.detach().double().numpy() for n, p in initialised(task).parameters().items()}
    mixing = np.exp(head["weights"]) / np.exp(head["weights"]).sum()

    def embed(x):
        return np.einsum("l,kld->kd", mixing, x.double().numpy()) @ head["projector.weight"].T + head["projector.bias"]

    support, query = embed(episode.support.features), embed(episode.query)
    scores = np.full((len(query), 9), -1.0)
    for c in range(9):
        members = support[episode.support.targets[:, c].numpy() > 1 / 9]
        if len(members):
            centre = members.mean(0)
            scores[:, c] = query @ centre / np.linalg.norm(query, axis=1) / np.linalg.norm(centre)
    expected = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    found = system.predict(state, system.adapt(state, episode.support), episode.query)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert (scores == -1.0).all(0).any() or (episode.support.targets > 1 / 9).any(0).all()


# -- Multi-Few -----------------------------------------------------------------------------------------------------


def untouched(state, predictor, prefix=""):
    """Whether adaptation returns all of a state's parameters to the bit, but for a new classifier."""
    mine = state.parameters()
    assert predictor.keys() == mine.keys()
    new = [f"{prefix}classifier.{name}" for name in ("weight", "bias")]
    assert predictor[new[0]].dim() == 2
    return all(torch.equal(predictor[n], p) for n, p in mine.items() if n not in new)


def test_multi_fews_new_classifier_leaves_every_other_parameter_untouched(make):  # noqa: F811
    *_, task = make(fewrc__classifier_lr=0.1)
    system, state, step = trained("Multi-Few", task)
    assert step > 0
    before = {name: p.detach().clone() for name, p in state.parameters().items()}
    first, second = (system.adapt(state, e.support) for e in task.validation_episodes)
    assert untouched(state, first)
    assert untouched(state, second)
    assert all(torch.equal(before[n], p) for n, p in state.parameters().items())
    assert not torch.equal(first["classifier.weight"], second["classifier.weight"])
    assert torch.equal(
        first["classifier.weight"], system.adapt(state, task.validation_episodes[0].support)["classifier.weight"]
    )


def test_the_shipped_rate_of_a_new_classifier_learns_and_that_of_the_whole_model_would_not():
    """Embeddings that tell the classes apart; what is compared is the part of the loss that 50 steps take away."""
    config = yaml.safe_load((downstream_folder(DEFAULT_TASK) / "config_finetuned.yaml").read_text())
    shipped = Options.from_config(config)
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(32) % 9
    hidden = 0.3 * torch.randn(32, 256, generator=generator) + torch.randn(9, 256, generator=generator)[labels]
    targets = torch.full((32, 9), 0.05 / 8).scatter_(1, labels[:, None], 0.95)
    support = Support(hidden, targets, seed=3)

    def left(rate, steps=shipped.downstream_expert.evalrc.steps):
        options = overridden(shipped, {"fewrc.classifier_lr": rate, "evalrc.steps": steps})
        (found,) = learned_classifiers(hidden[None], [support], torch.ones(9), options)
        return soft_cross_entropy(hidden @ found["classifier.weight"].T + found["classifier.bias"], targets).item()

    drawn, fewrc = left(1.0, steps=0), shipped.downstream_expert.fewrc
    assert left(fewrc.classifier_lr) < 0.5 * drawn
    assert left(fewrc.lr) > 0.9 * drawn


def test_multi_fews_new_classifier_is_logistic_regression_on_the_embedding(make):  # noqa: F811
    *_, task = make(fewrc__optimizer="SGD", fewrc__classifier_lr=0.5, fewrc__weight_decay=0.0)
    system, state, _ = trained("Multi-Few", task)
    support = task.validation_episodes[0].support
    twin = system.under(overridden(system.options, {"evalrc.steps": 0}))
    drawn = {n: v.double().numpy() for n, v in twin.adapt(state, support).items()}  # no step: as it was drawn
    weight, bias = drawn["classifier.weight"], drawn["classifier.bias"]
    bound = weight.shape[1] ** -0.5
    assert np.abs(weight).max() <= bound
    assert weight.std() > bound / 3
    x = state.learner.embed(state.parameters(), support.features).double().numpy()
    y, w = support.targets.double().numpy(), task.class_weights.double().numpy()
    for _ in range(5):
        logits = x @ weight.T + bias
        p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        delta = (y * w).sum(1, keepdims=True) * (p - y) / len(x)
        weight, bias = weight - 0.5 * delta.T @ x, bias - 0.5 * delta.sum(0)
    found = system.adapt(state, support)
    np.testing.assert_allclose(found["classifier.weight"], weight, atol=1e-5)
    np.testing.assert_allclose(found["classifier.bias"], bias, atol=1e-5)


def test_multi_fews_loss_is_the_mean_over_raters_of_each_ones_own(make):  # noqa: F811
    """The batch size is shared out; the self-raters of this corpus have fewer ratings than are drawn."""
    *_, task = make(initrc__batch_size=180)
    system = SYSTEMS.get("Multi-Few")(task.options, task.class_weights)
    state = system.initialise(task)
    each = samples_of_a_rater(system.options, len(task.raters))
    assert each == math.ceil(180 / 9)
    assert min(len(table.rows) for table in task.raters.values()) < each
    metarc = system.options.downstream_expert.metarc
    dataset = EpisodicDataset(
        task.raters, shots=metarc.shots, combined_set=metarc.combined_set, seed=1, first_step=1, steps=1
    )
    (batch,) = episodic_loader(dataset)
    losses = []
    for index, (rater, table) in enumerate(task.raters.items()):
        rows = batch.support_rows[index, : min(each, len(table.rows))].tolist()
        assert len(set(rows)) == len(rows)
        place = {row: i for i, row in enumerate(table.rows.tolist())}
        head = new_head(task.options, 2, 5, 9, "x")
        head.load_state_dict({n: p[index] if n.startswith("classifier") else p for n, p in state.parameters().items()})
        targets = torch.from_numpy(table.targets[[place[row] for row in rows]])
        logs = torch.log_softmax(head(task.features[rows]), -1)
        losses.append((-(targets * logs).sum(-1) * (targets * task.class_weights).sum(-1)).mean())
        assert rater == batch.raters[index]
    loss = system.outer_loss(state, batch, 1, task)
    torch.testing.assert_close(loss, torch.stack(losses).mean())
    loss.backward()
    assert all(p.grad.abs().flatten(1).sum(1).gt(0).all() for n, p in state.parameters().items() if p.dim() == 3)


def test_multi_few_has_the_budget_of_the_consensus_initialisation(make):  # noqa: F811
    *_, task = make(initrc__lr=0.004, initrc__weight_decay=0.3, optimizer__lr=7.0, optimizer__name="SGD")
    system = SYSTEMS.get("Multi-Few")(task.options, task.class_weights)
    assert system.outer_steps == task.options.downstream_expert.initrc.total_steps
    (group,) = OuterLoop(system, system.initialise(task), task).optimizer.param_groups
    assert (group["lr"], group["weight_decay"]) == (0.004, 0.3)
    assert type(system).options_in_force(system.options) == system.options
    assert len(system.tunable()) == len(SYSTEMS.get("Linear-Few")(task.options, task.class_weights).tunable())


def test_filled_up_samples_are_zero_and_the_others_distributions(make):  # noqa: F811
    *_, task = make()
    dataset = EpisodicDataset(task.raters, shots=200, combined_set=True, seed=1, first_step=1, steps=1)
    _, targets = own_samples(dataset[0], 150)
    sums = targets.sum(-1)
    assert ((sums == 0) | ((sums - 1).abs() < 1e-5)).all()
    assert [(row > 0).sum().item() for row in sums] == [min(150, len(t.rows)) for t in task.raters.values()]


@pytest.mark.parametrize("shots", [2, 64])
def test_every_number_of_shots_works(make, shots):  # noqa: F811
    """K=64 is more than some training raters have rated."""
    workspace, prepared, task = make(evalrc__shots=shots, metarc__shots=shots, initrc__batch_size=64)
    assert min(len(table.rows) for table in task.raters.values()) < 64
    episodes = workspace.episode_data(workspace.episodes("test"), prepared, "test")
    for name in ("Linear-Sim", "Multi-Few", "Meta-PerSER:none", "Meta-PerSER:all"):
        system, state, _ = trained(name, task)
        for found in meta_test(system, state, episodes):
            assert np.isfinite(found.probabilities).all()
            np.testing.assert_allclose(found.probabilities.sum(1), 1, atol=1e-5)


# -- Table 2 -------------------------------------------------------------------------------------------------------


def switched(name, task):
    """The system of a row, and which of its parts are on."""
    system = SYSTEMS.get(name)(task.options, task.class_weights)
    metarc = system.options.downstream_expert.metarc
    return system, {part for part, switch in SWITCHES.items() if getattr(metarc, switch)}


@pytest.mark.parametrize("name", ROWS)
def test_a_row_sets_its_switches_and_nothing_else(make, name):  # noqa: F811
    *_, task = make(metarc__combined_set=False, metarc__inner_lr=0.7)
    system, on = switched(name, task)
    assert on == set(ROWS[name])
    changed = dataclasses.asdict(system.options)
    given = dataclasses.asdict(task.options)
    for switch in SWITCHES.values():
        changed["downstream_expert"]["metarc"].pop(switch)
        given["downstream_expert"]["metarc"].pop(switch)
    assert changed == given
    assert FINETUNED_SYSTEMS.get(name).options_in_force(task.options) == system.options
    assert system.name == name


def without(part):
    """The options' switch for one part, off."""
    return {f"metarc__{SWITCHES[part]}": False} if part else {}


@pytest.mark.parametrize("part", [None, *SWITCHES])
def test_removing_a_switch_changes_exactly_that_part(make, monkeypatch, part):  # noqa: F811
    *_, task = make(**without(part))
    twice, batches = [], []

    def spied(*arguments, **keywords):
        twice.append(annealing.second_order_steps(*arguments, **keywords))
        return twice[-1]

    monkeypatch.setattr(meta_perser, "second_order_steps", spied)
    original = OuterLoop.update
    monkeypatch.setattr(OuterLoop, "update", lambda self, batch: (batches.append(batch), original(self, batch))[1])
    system = SYSTEMS.get("Meta-PerSER")(task.options, task.class_weights)
    start = system.initialise(task)
    *_, state, _ = trained("Meta-PerSER", task)
    assert (not torch.equal(start.learner.head.projector.weight, initialised(task).head.projector.weight)) == (
        part == "INI"
    )
    assert all(torch.equal(b.support_rows, b.query_rows) for b in batches) == (part != "CSMT")
    assert all(twice[0]) == (part == "DA")
    assert all(twice[-1])
    rates = state.rates.values
    assert (rates == task.options.downstream_expert.metarc.inner_lr).all() == (part == "LSLR")


def test_the_rows_all_and_none_are_the_method_with_its_switches_in_the_configuration(make):  # noqa: F811
    *_, off = make(**{key: value for part in SWITCHES for key, value in without(part).items()})
    *_, on = make()
    assert same_state(trained("Meta-PerSER:none", on)[1], trained("Meta-PerSER", off)[1])
    assert same_state(trained("Meta-PerSER:all", off)[1], trained("Meta-PerSER", on)[1])
    assert not same_state(trained("Meta-PerSER:all", off)[1], trained("Meta-PerSER:none", off)[1])


# -- through the launcher ------------------------------------------------------------------------------------------

EVERY = ("Random", "Linear-Zero", "Linear-Few", "Linear-Sim", "Multi-Few", "Meta-PerSER:none", "Meta-PerSER:all")


def tensors_of(path):
    content = read_checkpoint(path)
    parts = [p for p in ("Upstream", "Featurizer", "Downstream", "InnerRates") if p in content]
    return {(part, name): value for part in parts for name, value in content[part].items()}


def same_tensors(one, other):
    one, other = tensors_of(one), tensors_of(other)
    assert one.keys() == other.keys()
    return all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("system", EVERY)
def test_each_system_trains_evaluates_and_predicts_on_a_frozen_upstream(tmp_path, capsys, system):
    folder = trained_and_evaluated(tmp_path / "exp", "-v", system)
    wav = next(demo_root().rglob("*.wav"))
    capsys.readouterr()
    assert launcher.main(["-m", "inference", "-t", str(wav), "-e", str(folder)]) == 0
    lines = capsys.readouterr().out.strip().splitlines()
    assert sum(float(line.split()[1]) for line in lines) == pytest.approx(1, abs=0.01), "before any support sample"
    content = result(folder)
    assert content["cell"]["system"] == system
    if system in ROWS:
        metarc = content["options"]["downstream_expert"]["metarc"]
        assert {part for part, switch in SWITCHES.items() if metarc[switch]} == set(ROWS[system])
        assert metarc == read_checkpoint(folder / "dev-best.ckpt")["Config"]["downstream_expert"]["metarc"]


@pytest.mark.parametrize("system", ["Multi-Few", "Meta-PerSER:none"])
def test_training_resumes_from_its_middle_to_the_same_bits(tmp_path, system):
    options = ("downstream_expert.initrc.eval_step=10", "runner.max_keep=9")
    half, whole = (train_command(tmp_path / name, "-v", system, options=options) for name in ("half", "whole"))
    assert launcher.main(whole) == 0
    shutil.copytree(tmp_path / "whole", tmp_path / "half")
    states = sorted((tmp_path / "half").glob("states-*.ckpt"), key=lambda p: int(p.stem.split("-")[1]))
    assert len(states) > 2
    last = states[-1].name
    for path in states[1:]:
        path.unlink()
    (tmp_path / "half" / "dev-best.ckpt").unlink()
    assert launcher.main([*half, "-a"]) == 0
    assert same_tensors(tmp_path / "half" / last, tmp_path / "whole" / last)


TINY = (
    *("downstream_expert.evalrc.shots=3", "downstream_expert.evalrc.queries=4", "downstream_expert.evalrc.seeds=1"),
    *("downstream_expert.evalrc.validation_seeds=1", "downstream_expert.evalrc.steps=2"),
    *("downstream_expert.metarc.shots=2", "downstream_expert.metarc.inner_steps=1"),
    *("downstream_expert.initrc.total_steps=2", "downstream_expert.initrc.eval_step=1"),
    *("downstream_expert.initrc.batch_size=9", "downstream_expert.tunerc.longest_seconds=0.6"),
    *("runner.total_steps=2", "runner.eval_step=1", "runner.save_step=1", "runner.threads=1", "runner.max_keep=5"),
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A tiny upstream, next to a cache of its own that shares the session's demo corpus."""
    folder, demo = tmp_path_factory.mktemp("weights"), tmp_path_factory.getbasetemp() / "cache" / "demo"
    demo.mkdir(parents=True, exist_ok=True)
    (folder / "cache").mkdir()
    (folder / "cache" / "demo").symlink_to(demo)
    return make_checkpoint("wavlm", folder / "tiny.pt")


def finetuned(folder, checkpoint, system):
    own_cache = f"downstream_expert.datarc.cache_dir={checkpoint.parent / 'cache'}"
    start = ["-d", "personalized_emotion", "-u", "wavlm_local", "-k", str(checkpoint), "-m", "train", "-f"]
    return [*start, "-v", system, "-p", str(folder), "-o", overrides(*TINY, own_cache)]


@pytest.mark.parametrize("system", ["Entire-Sim", "Multi-Few", "Meta-PerSER:none", "Dawid-Skene", "Rater-Embedding"])
def test_each_system_trains_resumes_and_evaluates_on_a_finetuned_upstream(tmp_path, checkpoint, system):
    folder, again = tmp_path / "exp", tmp_path / "again"
    assert launcher.main(finetuned(folder, checkpoint, system)) == 0
    assert launcher.main(["-m", "evaluate", "-e", str(folder)]) == 0
    content = result(folder)
    assert (content["cell"]["system"], content["cell"]["scope"]) == (system, "finetuned")
    assert all(abs(sum(row) - 1) < 1e-5 for e in content["episodes"] for row in e["probabilities"])
    if system != "Multi-Few":
        return
    shutil.copytree(folder, again)
    (again / "states-2.ckpt").unlink()
    assert launcher.main([*finetuned(again, checkpoint, system), "-a"]) == 0
    assert same_tensors(folder / "states-2.ckpt", again / "states-2.ckpt")


@pytest.fixture
def tiny_task(tmp_path, checkpoint, monkeypatch):
    """What the runner hands a fine-tuned system."""
    from s3prl_metaperser.s3prl_plugin import runner

    seen = []
    original = runner.MetaRunner.train
    monkeypatch.setattr(runner.MetaRunner, "train", lambda self: (seen.append(self), original(self))[1])
    assert launcher.main(finetuned(tmp_path / "tiny", checkpoint, "Multi-Few")) == 0
    return seen[0].opened.system, seen[0].opened.task, tmp_path / "tiny"


def test_with_f_multi_fews_new_classifier_leaves_the_upstream_untouched(tiny_task):
    from s3prl_metaperser.methods.state import pack_state, unpack_state

    system, task, folder = tiny_task
    assert task.model.head.classifier.weight.dim() == 2, "the task's own head is left as it was"
    state = unpack_state(read_checkpoint(folder / "states-2.ckpt"), system.blank(task), "states-2.ckpt")
    packed = pack_state(state)
    assert packed["Downstream"]["classifier.weight"].shape[:2] == (len(task.raters), 9)
    model = state.learner.model
    before = {name: p.detach().clone() for name, p in model.state_dict().items()}
    support = task.validation_episodes[0].support
    predictor = system.adapt(state, support)
    assert untouched(state, predictor, "head.")
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    # the same classifier from the frozen twin's arithmetic, on features that are made one utterance at a time
    with torch.no_grad():
        pooled = torch.cat([model.embed([wave]) for wave in support.features])
    twin = SYSTEMS.get("Multi-Few")(task.options, task.class_weights)
    alike = twin.adapt(ModelState(HeadLearner(state.learner.head)), dataclasses.replace(support, features=pooled))
    for name in ("classifier.weight", "classifier.bias"):
        torch.testing.assert_close(predictor[f"head.{name}"], alike[name], atol=1e-5, rtol=1e-4)
    similar = FINETUNED_SYSTEMS.get("Entire-Sim")(task.options, task.class_weights)
    own = similar.blank(task)
    found = similar.predict(own, similar.adapt(own, support), support.features)
    frozen = SYSTEMS.get("Linear-Sim")(task.options, task.class_weights)
    head = ModelState(HeadLearner(own.learner.head))
    by_twin = frozen.adapt(head, dataclasses.replace(support, features=pooled))
    np.testing.assert_allclose(found, frozen.predict(head, by_twin, pooled), atol=1e-5)


# -- the page ------------------------------------------------------------------------------------------------------


def block(language):
    """The page's first code block in a language."""
    return re.search(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL).group(1)


def test_the_pages_system_runs_from_another_package(tmp_path, monkeypatch):
    """The page's file and entry point, as installed: found, listed, trained, evaluated; only the bias adapts."""
    site = tmp_path / "site"
    info = site / "my_emotion_systems-0.1.dist-info"
    info.mkdir(parents=True)
    (site / "bias_few.py").write_text(block("python"))
    group, name, target = re.search(r'\[project\.entry-points\."(.+?)"\]\n(\S+) = "(.+?)"', block("toml")).groups()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-emotion-systems\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {target}\n")
    monkeypatch.syspath_prepend(str(site))
    with SYSTEMS.read_again():
        assert SYSTEMS.names()[-1] == "Bias-Few"
        assert SYSTEMS.summary("Bias-Few") == "from my-emotion-systems"
        folder = trained_and_evaluated(tmp_path / "exp", "-v", "Bias-Few")
        assert result(folder)["cell"]["system"] == "Bias-Few"
    sys.modules.pop("bias_few")


def test_only_the_bias_of_the_pages_system_adapts(make, tmp_path):  # noqa: F811
    *_, task = make(fewrc__lr=0.1)
    names: dict = {}
    exec(compile(block("python"), str(PAGE), "exec"), names)
    system = names["BiasFew"](task.options, task.class_weights)
    state, support = system.initialise(task), task.validation_episodes[0].support
    adapted = system.adapt(state, support)
    moved = [name for name, p in state.parameters().items() if not torch.equal(p, adapted[name])]
    assert moved == ["classifier.bias"]
