"""Controls: the same query samples with labels that are not the listener's, and what a report says of them."""

import json

import numpy as np
import pytest
from synthetic import synthetic_corpus
from test_report import SCALE, SIX, write_own, write_results
from test_systems import make, trained  # noqa: F401 (make is a fixture)

from s3prl_metaperser.config.options import Options, PoolOptions
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.evaluation.meta_testing import meta_test
from s3prl_metaperser.evaluation.trajectory import decided_classes
from s3prl_metaperser.protocol.episodes import make_episodes
from s3prl_metaperser.protocol.splits import make_split
from s3prl_metaperser.report.controls_table import controls_table
from s3prl_metaperser.report.gathered import gather
from s3prl_metaperser.run import controls as run_controls
from s3prl_metaperser.run import threshold as run_threshold
from s3prl_metaperser.run.controls import controls, other_labels

EVERY = ("unadapted", "swapped", "mixed", "consensus", "shuffled")


@pytest.fixture
def tested(make):  # noqa: F811
    """System -> its own results and its controls, on the test episodes of one fold."""
    workspace, prepared, task = make(evalrc__controls=EVERY)
    episodes = workspace.episodes("test")
    data = workspace.episode_data(episodes, prepared, "test")

    def run(name):
        system, state, _ = trained(name, task)
        found = controls(system, state, workspace, episodes, data, prepared)
        return meta_test(system, state, data), {control.name: control for control in found}

    return run, workspace, episodes, data, task


def by_clip(corpus):
    found = {}
    for rating in corpus.ratings:
        found.setdefault(rating.utterance, []).append(rating)
    return found


def test_swapped_labels_are_all_of_one_other_listener_and_never_of_a_queried_clip(tested):
    _, workspace, (drawn,), *_ = tested
    split, corpus = workspace.split, workspace.corpus
    for episode in drawn.episodes:
        ratings = other_labels("swapped", drawn.rater, episode, split, corpus, by_clip(corpus))
        assert len({rating.utterance for rating in ratings}) == len(episode.support)
        assert {rating.rater for rating in ratings} == set(split.validation_raters)
        assert all(rating in corpus.ratings for rating in ratings)
        clips = {rating.utterance for rating in ratings}
        assert not clips & set(episode.query)
        assert clips <= {rating.utterance for rating in split.test}


def test_with_several_test_raters_swapped_labels_are_another_test_raters():
    corpus = synthetic_corpus()
    split = make_split(
        corpus, scenario="seen", fold="fold1", pools=PoolOptions(test=4, validation=2, folds=1, minimum=16)
    )
    given = {"corpus": "abc", "scenario": "seen", "fold": "fold1", "shots": 8, "queries": 8, "seeds": range(2)}
    partners = {}
    for rater, mine in split.ratings_of("test").items():
        for episode in make_episodes(mine, **given, by_rater_alone=True).episodes:
            ratings = other_labels("swapped", rater, episode, split, corpus, {})
            assert not {rating.utterance for rating in ratings} & set(episode.query)
            (partners[rater],) = {rating.rater for rating in ratings}
    assert sorted(partners.values()) == sorted(split.test_raters)
    assert all(partners[partners[rater]] == rater != partners[rater] for rater in partners)


def test_mixed_labels_are_of_the_same_clips_and_never_the_listeners_own(tested):
    _, workspace, (drawn,), *_ = tested
    corpus, raters = workspace.corpus, set()
    for episode in drawn.episodes:
        ratings = other_labels("mixed", drawn.rater, episode, workspace.split, corpus, by_clip(corpus))
        assert [rating.utterance for rating in ratings] == list(episode.support)
        assert drawn.rater not in {rating.rater for rating in ratings}
        raters |= {rating.rater for rating in ratings}
    assert len(raters) > 3


def test_consensus_labels_are_all_others_answers_on_the_same_clips_and_shuffled_ones_the_listeners_own(tested):
    _, workspace, (drawn,), *_ = tested
    corpus, clips = workspace.corpus, by_clip(workspace.corpus)
    moved = 0
    for episode in drawn.episodes:
        together = other_labels("consensus", drawn.rater, episode, workspace.split, corpus, clips)
        assert set(together) == {r for clip in episode.support for r in clips[clip] if r.rater != drawn.rater}
        own = {clip: next(r.ticks for r in clips[clip] if r.rater == drawn.rater) for clip in episode.support}
        dealt = other_labels("shuffled", drawn.rater, episode, workspace.split, corpus, clips)
        assert [rating.utterance for rating in dealt] == list(episode.support)
        assert sorted(rating.ticks for rating in dealt) == sorted(own.values())
        moved += sum(rating.ticks != own[rating.utterance] for rating in dealt)
    assert moved > len(drawn.episodes)


def test_a_system_that_uses_no_label_is_the_same_under_every_control(tested):
    own, found = tested[0]("Linear-Zero")
    for control in found.values():
        assert list(control.metrics["macro_f1"]) == [
            pytest.approx(value) for value in found["unadapted"].metrics["macro_f1"]
        ]
        np.testing.assert_allclose(control.loss, [result.loss for result in own], rtol=1e-6)


def test_most_frequent_is_the_others_mean_label_then(tested):
    """The prediction is the mean of the labels that it was given: so that is what the controls give it."""
    run, workspace, (drawn,), data, task = tested
    _, found = run("Most-Frequent")
    corpus, names = workspace.corpus, list(workspace.corpus.classes)
    weights = task.class_weights.double().numpy()
    for name in EVERY[1:]:
        losses = []
        for episode, known in zip(drawn.episodes, data, strict=True):
            ratings = other_labels(name, drawn.rater, episode, workspace.split, corpus, by_clip(corpus))
            clips = [[r for r in ratings if r.utterance == clip] for clip in {r.utterance for r in ratings}]
            ticks = np.array([[sum(c in r.ticks for r in clip) for c in names] for clip in clips])
            ticks = ticks / ticks.sum(1, keepdims=True)
            mean = (0.95 * ticks + 0.05 * (1 - ticks) / 8).mean(0)
            targets = known.query_labels.targets.astype(np.float64)
            losses.append(-((targets @ weights) * (targets @ np.log(mean))).mean())
        np.testing.assert_allclose(found[name].loss, losses, rtol=1e-4)
    np.testing.assert_allclose(found["unadapted"].shots, 0)
    assert {found[name].shots for name in EVERY[1:]} == {8}


def test_what_adapts_is_another_with_others_labels(tested):
    own, found = tested[0]("Linear-Few+bias")
    losses = [result.loss for result in own]
    assert all(not np.allclose(control.loss, losses, rtol=1e-6) for control in found.values())


def test_the_threshold_is_learned_from_training_raters_alone_and_stands_in_the_result(make, monkeypatch):  # noqa: F811
    workspace, prepared, task = make(evalrc__learned_threshold=True)
    asked, system, state = [], *trained("Linear-Few", task)[:2]
    draw = run_threshold.make_episodes
    monkeypatch.setattr(
        run_threshold, "make_episodes", lambda mine, **given: asked.append(mine[0].rater) or draw(mine, **given)
    )
    found = run_threshold.learned_threshold(system, state, workspace, prepared)
    assert 0 < found < 1
    assert sorted(asked) == sorted(workspace.split.train_raters)
    assert run_threshold.learned_threshold(*trained("Linear-Few", make()[2])[:2], workspace, prepared) is None


def test_a_listener_whom_nobody_shares_a_clip_with_has_no_control(tested, monkeypatch):
    run, *_ = tested
    monkeypatch.setattr(run_controls, "other_labels", lambda *_: [])
    with pytest.raises(UserError, match=r"evalrc.controls: swapped needs others' labels"):
        run("Most-Frequent")


def test_a_gain_is_called_personal_only_where_swapped_and_mixed_labels_are_worse(tmp_path):
    """Controls that predict as the system does, and controls that draw their answers."""
    systems = ("Linear-Few", "Meta-PerSER")
    write_results(tmp_path, systems, options=Options())
    luck = np.random.default_rng(0)
    for path in tmp_path.glob("*/result_test.json"):
        content = json.loads(path.read_text())
        known = [[1 << int(np.argmax(row)) for row in e["probabilities"]] for e in content["episodes"]]
        drawn = [[1 << int(luck.integers(9)) for _ in e["query"]] for e in content["episodes"]]
        worse = drawn if content["cell"]["system"] == "Meta-PerSER" else known
        for episode, bits in zip(content["episodes"], known, strict=True):  # its own answers: one class, far above 1/9
            episode["probabilities"] = [[float(bit == 1 << c) for c in range(9)] for bit in bits]
        content["controls"] = [
            {"name": n, "shots": 32, "predicted": p}
            for n, p in (("swapped", drawn), ("mixed", worse), ("consensus", known), ("shuffled", drawn))
        ]
        path.write_text(json.dumps(content))
    (study,) = gather(tmp_path)[0].studies()
    table = controls_table(study)
    rows = {(row[2], row[3]): row for row in table.rows}
    assert len(rows) == 8
    assert rows["Linear-Few", "mixed"][4].mean == 0
    assert rows["Meta-PerSER", "mixed"][4].high < 0
    (note,) = table.notes
    assert "Linear-Few (seen): not shown; Meta-PerSER (seen): yes" in note


@pytest.mark.parametrize("label_set", [SIX, SCALE], ids=lambda s: s.kind)
def test_labels_of_every_kind_have_the_table_by_a_metric_of_what_was_decided(tmp_path, label_set):
    """Swapped labels give the system's own decisions, mixed ones always the first class."""
    write_own(tmp_path, label_set)
    for path in tmp_path.glob("*/result_test.json"):
        content = json.loads(path.read_text())
        own = [decided_classes(np.array(each["probabilities"]), label_set) for each in content["episodes"]]
        kept = {"swapped": own, "mixed": [[1] * len(episode) for episode in own]}
        content["controls"] = [{"name": name, "shots": 2, "predicted": bits} for name, bits in kept.items()]
        path.write_text(json.dumps(content))
    (study,) = gather(tmp_path)[0].studies()
    rows = {(row[2], row[3]): row[4].mean for row in controls_table(study).rows}
    for system in ("Linear-Zero", "Meta-PerSER"):
        assert rows[system, "swapped"] == 0
        assert rows[system, "mixed"] < -0.05
