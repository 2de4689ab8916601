"""Adaptation over its steps: the same numbers as the cell's own, at every number of steps that is looked at."""

from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from small_demo import train_command
from test_runner import result
from test_systems import make, trained  # noqa: F401 (make is a fixture)

from s3prl_metaperser.config.options import Options
from s3prl_metaperser.corpora.iemocap import LABEL_SET
from s3prl_metaperser.corpora.label_set import LabelSet
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.evaluation.decided import decided_classes, scored_trajectory
from s3prl_metaperser.evaluation.meta_testing import meta_test
from s3prl_metaperser.evaluation.metrics import main_metrics
from s3prl_metaperser.evaluation.result import Result
from s3prl_metaperser.evaluation.statistics import Scored, intervals
from s3prl_metaperser.evaluation.trajectory import trajectory
from s3prl_metaperser.methods.tuning import overridden
from s3prl_metaperser.protocol.loss import class_balanced_loss
from s3prl_metaperser.s3prl_plugin import launcher
from s3prl_metaperser.storage.resources import downstream_folder
from s3prl_metaperser.tasks import DEFAULT_TASK


def point(content, steps):
    (found,) = (p for p in content["trajectory"] if p["steps"] == steps)
    return found


def assert_is_the_cells_own(found, content):
    """A point against the episodes of its file: metrics, loss and predictions are the same numbers."""
    for metric in [metric.name for metric in main_metrics(LABEL_SET)]:
        assert found[metric] == [episode["metrics"][metric] for episode in content["episodes"]]
    assert found["loss"] == [episode["loss"] for episode in content["episodes"]]
    assert found["predicted"] == [
        decided_classes(episode["probabilities"], LABEL_SET) for episode in content["episodes"]
    ]


@pytest.mark.parametrize("system", ["Meta-PerSER", "Linear-Few", "Multi-Few"])
def test_after_as_many_steps_as_the_cell_has_it_is_the_cell(tmp_path, system):
    folder, steps = tmp_path / "exp", ("downstream_expert.evalrc.trajectory=[6, 0, 3]",)
    assert launcher.main(train_command(folder, "-v", system, options=steps)) == 0
    assert launcher.main(["-m", "evaluate", "-e", str(folder)]) == 0
    content = result(folder)
    assert [p["steps"] for p in content["trajectory"]] == [0, 3, 6]
    assert_is_the_cells_own(point(content, 6), content)
    assert np.mean(point(content, 6)["support_loss"]) < np.mean(point(content, 0)["support_loss"])
    read = Result.read(folder / "result_test.json")
    (rater,) = read.scored
    found, own = intervals({rater: scored_trajectory(read)[rater][6]}), intervals(read.scored)
    by_decisions = [metric.name for metric in main_metrics(LABEL_SET) if metric.of_decisions]
    assert {name: found[name] for name in by_decisions} == {name: own[name] for name in by_decisions}
    assert len(by_decisions) == 3


def test_what_the_protocol_tuned_chose_holds_in_the_trajectory(tmp_path):
    folder = tmp_path / "exp"
    options = (
        "downstream_expert.evalrc.protocol=tuned",
        "downstream_expert.evalrc.trajectory=[0, 6, 10, 25, 50, 100]",
        "downstream_expert.metarc.inner_lr=0.001",
    )
    assert launcher.main(train_command(folder, options=options)) == 0
    assert launcher.main(["-m", "evaluate", "-e", str(folder)]) == 0
    content = result(folder)
    chosen = content["tuned"]["chosen"]
    assert chosen["evalrc.rate_factor"] != 1.0
    assert_is_the_cells_own(point(content, chosen["evalrc.steps"]), content)


@pytest.mark.parametrize("name", ["Meta-PerSER", "Linear-Few"])
def test_no_steps_are_the_state_as_it_is(make, name):  # noqa: F811
    system, state, _ = trained(name, make()[2])
    episodes = make()[2].validation_episodes
    (found,) = trajectory(system, state, episodes, (0,), LABEL_SET)
    unchanged = {name: value.detach() for name, value in state.parameters().items()}
    weights = system.class_weights.double().numpy()
    for index, episode in enumerate(episodes):
        probabilities = system.predict(state, unchanged, episode.query)
        assert found.loss[index] == pytest.approx(
            class_balanced_loss(probabilities, episode.query_labels.targets, weights)
        )
        assert found.support_loss[index] == pytest.approx(
            class_balanced_loss(
                system.predict(state, unchanged, episode.support.features), episode.support.targets.numpy(), weights
            )
        )


def test_a_point_is_the_system_under_that_many_steps(make):  # noqa: F811
    *_, task = make()
    system, state, _ = trained("Meta-PerSER", task)
    found = trajectory(system, state, task.validation_episodes, (7, 2, 7), LABEL_SET)
    assert [p.steps for p in found] == [2, 7]
    for entry in found:
        changed = overridden(task.options, {"evalrc.steps": entry.steps})
        twin = type(system)(changed, system.class_weights)
        assert list(entry.loss) == [r.loss for r in meta_test(twin, state, task.validation_episodes)]
    assert system.options == task.options


@pytest.mark.parametrize("name", ["Random", "Linear-Zero", "Linear-Sim"])
def test_systems_that_take_no_steps_have_no_trajectory(make, name):  # noqa: F811
    system, state, _ = trained(name, make()[2])
    assert trajectory(system, state, make()[2].validation_episodes, (0, 1), LABEL_SET) is None


def test_without_numbers_of_steps_there_is_none(make):  # noqa: F811
    system, state, _ = trained("Linear-Few", make()[2])
    assert trajectory(system, state, make()[2].validation_episodes, (), LABEL_SET) is None


def test_a_trajectory_that_diverges_says_where_and_spoils_nothing_else(make):  # noqa: F811
    *_, task = make()
    system, state, _ = trained("Meta-PerSER", task)
    wild = system.under(overridden(system.options, {"evalrc.rate_factor": 1e20}))
    calm, lost = trajectory(wild, state, task.validation_episodes, (0, 5), LABEL_SET)
    assert len(calm.loss) == 2
    assert (lost.metrics, lost.loss, lost.predicted) == ({}, (), ())
    assert "diverges" in lost.diverged
    labels = [episode.query_labels for episode in task.validation_episodes]
    tested = [
        Scored(queried.utterances, np.full_like(queried.counts, 1 / 9), queried.counts, LABEL_SET) for queried in labels
    ]
    found = SimpleNamespace(classes=task.classes, scored={"rater": tested}, trajectory=(calm, lost))
    assert [list(points) for points in scored_trajectory(found).values()] == [[0]]


def test_predicted_classes_are_bits():
    probabilities = np.array([[0.5, 0.4, 0.1], [0.1, 0.1, 0.8], [1 / 3, 1 / 3, 1 / 3]])
    assert decided_classes(probabilities, LabelSet("three", "multi", ("a", "b", "c"))) == [3, 4, 0]
    assert decided_classes(probabilities, LabelSet("three", "single", ("a", "b", "c"))) == [1, 4, 1]


@pytest.mark.parametrize("bad", ["50", [1.5], [-1], ["x"], 5])
def test_numbers_of_steps_are_checked(bad):
    with pytest.raises(UserError, match=r"evalrc\.trajectory(\[0\])?, expected a"):
        Options.from_config({"downstream_expert": {"evalrc": {"trajectory": bad}}})


def test_the_shipped_numbers_of_steps_end_with_the_cells_own_and_are_off_for_the_whole_model():
    evalrc = Options().downstream_expert.evalrc
    assert (evalrc.trajectory[0], evalrc.trajectory[-1]) == (0, evalrc.steps)
    config = yaml.safe_load((downstream_folder(DEFAULT_TASK) / "config_finetuned.yaml").read_text())
    assert Options.from_config(config).downstream_expert.evalrc.trajectory == ()
