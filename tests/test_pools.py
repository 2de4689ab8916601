"""Pools of raters: many test raters from one training."""

import itertools
import json

import numpy as np
import pytest
from small_demo import stored, trained_and_evaluated
from synthetic import synthetic_corpus
from test_systems import make, options  # noqa: F401 (make is a fixture)

from s3prl_metaperser.cli import main
from s3prl_metaperser.config.options import Options, PoolOptions
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.evaluation.meta_testing import meta_test, predict_unadapted
from s3prl_metaperser.evaluation.result import Result
from s3prl_metaperser.methods import SYSTEMS
from s3prl_metaperser.methods.tuning import overridden
from s3prl_metaperser.protocol.episodes import frozen_fold, make_episodes
from s3prl_metaperser.protocol.loader import EpisodicDataset, LabelTable, steps_per_epoch
from s3prl_metaperser.protocol.pools import draw_pools
from s3prl_metaperser.protocol.splits import make_split
from s3prl_metaperser.run.outer_loop import training_batches
from s3prl_metaperser.run.workspace import Workspace
from s3prl_metaperser.tasks import DEFAULT_TASK, task_of

COUNTS = {f"r{number:02}": 40 for number in range(30)}
REQUEST = {
    "corpus": "abc",
    "scenario": "seen",
    "fold": "fold1",
    "queries": 24,
    "seeds": range(3),
    "by_rater_alone": True,
}


def pools(fold="fold1", counts=COUNTS, to_validate=None, **options):
    wanted = PoolOptions(**{"minimum": 24, **options})
    return draw_pools(counts, wanted, corpus="mine", fold=fold, to_validate=to_validate)


@pytest.fixture(scope="module")
def corpus():
    return synthetic_corpus()


def test_folds_test_every_rater_once_and_nobody_has_two_roles():
    drawn = [pools(f"fold{number}", test=0.2, validation=3) for number in range(1, 6)]
    tested = [rater for each in drawn for rater in each.test]
    assert sorted(tested) == sorted(COUNTS)
    assert all(len(each.test) == 6 and len(each.validation) == 3 for each in drawn)
    assert not any(set(each.test) & set(each.validation) for each in drawn)


def test_a_rater_who_leaves_moves_nobody_but_the_one_who_fills_the_gap():
    before = pools(test=10, folds=2)
    gone = before.test[0]
    after = pools(test=10, folds=2, counts={r: n for r, n in COUNTS.items() if r != gone})
    assert len(set(after.test) - set(before.test)) == 1
    assert pools(test=10, folds=2, seed=1).test != before.test


def test_raters_with_few_ratings_train_and_are_counted():
    drawn = pools(test=4, folds=1, counts={**COUNTS, "short": 23})
    assert drawn.short == ("short",)
    assert "short" not in drawn.test + drawn.validation


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"test": 7}, r"5 folds of 7 test raters need 35 raters with at least 24 ratings, and there are 30"),
        ({"test": 20, "folds": 1, "validation": 11}, r"11 validation raters beside 20 test raters need 11 .* are 10"),
        ({"test": 20, "folds": 1, "validation": 10}, r"leave no rater to train on"),
        ({"test": ("r01", "nobody")}, r"Unknown rater 'nobody'"),
        ({"test": ("r01",), "validation": ("r01",)}, r"'r01' is in datarc.pools.test and in datarc.pools.validation"),
        ({"test": ("r01", "r02"), "minimum": 41}, r"'r01', who has 40 ratings for it; 41 are needed"),
    ],
)
def test_pools_that_cannot_be_are_errors_that_say_what_to_lower(options, message):
    with pytest.raises(UserError, match=message):
        pools(**options)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"test": 1.5}, r"1.5 is neither a number of raters \(5\) nor a share"),
        ({"test": 1.0}, "1.0 is neither"),
        ({"test": 0}, "0 is neither"),
        ({"test": ["a", "a"]}, "names a rater twice"),
        ({"test": []}, "names a rater twice, or nobody"),
        ({"validation": 3}, "validation goes with test"),
        ({"train": 3}, "train goes with test"),
        ({"test": 3, "held_out": 0}, "held_out: 0 leaves nothing to test on"),
    ],
)
def test_options_of_pools_are_checked(value, message):
    with pytest.raises(UserError, match=message):
        Options.from_config({"downstream_expert": {"datarc": {"pools": value}}})


def test_a_rater_who_can_be_tested_but_has_too_few_ratings_to_validate_with_does_not_validate():
    before = pools(test=4, folds=1)
    poor = before.validation[0]
    after = pools(test=4, folds=1, to_validate={rater: 16 if rater == poor else 40 for rater in COUNTS})
    assert after.test == before.test
    assert poor not in after.validation
    assert len(after.validation) == len(before.validation)
    with pytest.raises(UserError, match=rf"validation names '{poor}', who has 16 ratings for it; 24 are needed"):
        pools(test=4, validation=(poor,), to_validate={**COUNTS, poor: 16})


@pytest.mark.parametrize("scenario", ["unseen", "unseen_utterances"])
def test_whoever_validates_has_ratings_enough_where_validation_draws_its_episodes(corpus, scenario):
    """Self-raters have so few outside what is held out that K of them leave no query."""
    drawn = Options.from_config(
        {
            "downstream_expert": {
                "datarc": {"scenario": scenario, "pools": {"test": 2, "validation": 2, "folds": 1, "held_out": 0.4}},
                "evalrc": {"shots": 17},
            }
        }
    )
    workspace = Workspace(drawn, corpus)
    workspace.check_shots()
    assert all(len(mine) >= 17 + 8 for mine in workspace.split.ratings_of("validation").values())


def test_of_few_training_raters_all_are_among_more_and_with_metarc_raters_only_outer_steps_go_by_them(corpus):
    def made(train=None, meta=None):
        datarc = {"pools": {"test": 2, "validation": 2, "folds": 1, "minimum": 16, "train": train}}
        expert = {"datarc": datarc, "metarc": {"raters": meta}, "evalrc": {"shots": 8}}
        return Workspace(Options.from_config({"downstream_expert": expert}), corpus)

    everyone = made()
    by_count = {count: made(train=count) for count in (2, 3, 5, 7)}
    for count, workspace in by_count.items():
        split = workspace.split
        assert len(split.train_raters) == count
        assert {rating.rater for rating in split.train} == set(split.train_raters)
        assert (split.test, split.validation) == (everyone.split.test, everyone.split.validation)
        told = made(meta=count)
        assert told.split.train == everyone.split.train
        assert told.meta_trainers == split.train_raters == workspace.meta_trainers
    chosen = [set(workspace.split.train_raters) for workspace in by_count.values()]
    assert all(few < more for few, more in itertools.pairwise(chosen))
    assert any("beyond the 2 of datarc.pools.train" in line for line in by_count[2].describe())
    assert any("outer steps draw of training raters" in line for line in made(meta=3).describe())
    with pytest.raises(UserError, match=r"datarc.pools.train: 8 raters cannot train, since 7 are left to"):
        made(train=8)
    with pytest.raises(UserError, match=r"metarc.raters: 8 raters cannot meta-train, since 7 train"):
        made(meta=8)


def test_outer_steps_draw_of_the_raters_of_metarc_raters_alone_and_the_initialisation_of_all(make):  # noqa: F811
    (one, _, few), (_, _, everyone) = make(metarc__raters=3), make()
    drawn = [batch.raters for _, batch in training_batches(few.options, few, 0, 5)]
    assert drawn == [list(one.meta_trainers)] * 5
    assert few.learned_from == everyone.learned_from
    assert sorted(few.raters) == sorted(everyone.raters)
    system = SYSTEMS.get("Multi-Few")(few.options, few.class_weights)
    _, batch = next(training_batches(system.options, few, 0, 1))
    assert batch.raters == list(everyone.raters)


@pytest.mark.parametrize(("optimizer", "rate"), [("SGD", 0.3), ("AdamW", 1e-2), ("Adam", 1e-2)])
def test_with_pools_k_samples_are_used_in_closed_form_and_it_predicts_what_autograd_does(make, optimizer, rate):  # noqa: F811
    few = {"fewrc__optimizer": optimizer, "fewrc__lr": rate, "evalrc__steps": 20, "fewrc__weight_decay": 0.1}
    *_, task = make(**few, datarc__pools={"test": 3, "folds": 1, "validation": 2})
    system = SYSTEMS.get("Linear-Few")(task.options, task.class_weights)
    looped = SYSTEMS.get("Linear-Few")(options(**few), task.class_weights)
    state, episodes = system.initialise(task), task.validation_episodes
    assert [one.engine(state) for one in (system, looped)] == ["closed form", "autograd"]
    found, expected = meta_test(system, state, episodes), meta_test(looped, state, episodes)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.probabilities, other.probabilities, rtol=1e-4, atol=1e-5)
    before = predict_unadapted(system, state, episodes)
    assert max(abs(a.probabilities - b.probabilities).max() for a, b in zip(found, before, strict=True)) > 0.05
    still = system.under(overridden(task.options, {"fewrc.lr": 1e-30}))
    with pytest.raises(UserError, match=rf"{optimizer} at a rate of 1e-30: no parameter moved in 20 step"):
        meta_test(still, state, episodes)
    unmoved = meta_test(system.under(overridden(task.options, {"evalrc.steps": 0})), state, episodes)
    for one, other in zip(unmoved, before, strict=True):
        np.testing.assert_allclose(one.probabilities, other.probabilities, rtol=1e-5)


def test_where_k_others_are_asked_too_raters_with_less_than_twice_k_are_said(corpus):
    for combined, said in ((True, []), (False, ["have fewer ratings than 2 K=48"])):
        metarc = {"combined_set": combined, "shots": 24}
        workspace = Workspace(Options.from_config({"downstream_expert": {"metarc": metarc}}), corpus)
        rated = workspace.split.ratings_of("train")
        assert sum(len(mine) < 48 for mine in rated.values()) == 6
        assert all(len(mine) > 24 for mine in rated.values())
        notes = [line for line in workspace.describe() if "episodes hold" in line]
        assert len(notes) == len(said)
        assert all(text in note for text, note in zip(said, notes, strict=True))


def test_a_split_by_pools_keeps_test_and_validation_raters_out_of_training(corpus):
    split = make_split(corpus, scenario="seen", fold="fold2", pools=PoolOptions(test=2, validation=2, minimum=1))
    held_out = {*split.test_raters, *split.validation_raters}
    assert len(held_out) == 4
    assert not held_out & {rating.rater for rating in split.train}
    assert set(split.ratings_of("test")) == set(split.test_raters)
    with pytest.raises(UserError, match="both say who is tested"):
        make_split(corpus, scenario="seen", fold="fold1", test_raters=["C-E1", "C-E2"], pools=PoolOptions(test=2))


@pytest.mark.parametrize(("scenario", "what"), [("unseen_utterances", "id"), ("unseen_speakers", "speaker")])
def test_held_out_queries_are_heard_by_nobody_in_training(corpus, scenario, what):
    chosen = PoolOptions(test=2, validation=2, folds=1, minimum=16, held_out=0.3)
    split = make_split(corpus, scenario=scenario, fold="fold1", pools=chosen)
    names = {u.id: getattr(u, what) for u in corpus.utterances}
    asked = {names[utterance] for utterance in split.queries}
    assert not asked & {names[r.utterance] for r in (*split.train, *split.validation)}
    assert abs(len(asked) / len(set(names.values())) - 0.3) < 0.06
    request = {**REQUEST, "scenario": scenario, "queries_from": split.queries, "shots": 8}
    for ratings in split.ratings_of("test").values():
        for episode in make_episodes(ratings, **request).episodes:
            assert set(episode.query) <= split.queries
            assert not set(episode.support) & split.queries


def test_a_smaller_k_has_the_first_of_a_larger_ones_samples_and_the_same_queries(corpus):
    ratings = corpus.all_of("C-E1")
    few, many = (make_episodes(ratings, shots=shots, **REQUEST).episodes for shots in (4, 16))
    for one, other in zip(few, many, strict=True):
        assert one.support == other.support[:4]
        assert one.query == other.query
        assert not set(other.support) & set(other.query)
    elsewhere = make_episodes(ratings, shots=4, **{**REQUEST, "fold": "fold3"}).episodes
    assert elsewhere == few


def test_the_episodes_of_a_fold_share_a_file_that_notices_edits(corpus, tmp_path):
    ratings = {rater: corpus.all_of(rater) for rater in ("C-E1", "C-E2")}
    made = frozen_fold(tmp_path, ratings, shots=4, **REQUEST)
    assert [each.rater for each in made] == ["C-E1", "C-E2"]
    (path,) = tmp_path.iterdir()
    assert frozen_fold(tmp_path, ratings, shots=4, **REQUEST) == made
    content = json.loads(path.read_text())
    content["raters"][1]["episodes"][2]["query"].reverse()
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"seed 2: the order"):
        frozen_fold(tmp_path, ratings, shots=4, **REQUEST)


def test_a_step_has_as_many_raters_as_asked_for_each_once_before_any_twice(corpus):
    rows = {u.id: row for row, u in enumerate(corpus.utterances)}
    labels = {r: LabelTable.from_ratings(corpus.all_of(r), rows, corpus.label_set, 0.05) for r in corpus.raters()}
    given = {"shots": 4, "combined_set": False, "seed": 3, "raters_per_step": 4}
    dataset = EpisodicDataset(labels, **given, first_step=1, steps=60)
    turns = [rater for step in range(len(labels)) for rater in dataset[step].raters]  # 4 rounds in n steps of 4
    assert all(3 <= turns.count(rater) <= 4 for rater in labels)
    assert len(set(turns[: len(labels) // 4 * 4])) == len(labels) // 4 * 4
    resumed = EpisodicDataset(labels, **given, first_step=8, steps=1)[0]
    assert resumed.raters == dataset[7].raters
    assert resumed.support_rows.tolist() == dataset[7].support_rows.tolist()
    assert steps_per_epoch(labels, 4, 4) == -(-len(labels) // 4)


def test_the_folds_of_a_grid_are_those_of_the_pools():
    (fold,) = (axis for axis in task_of(DEFAULT_TASK).axes if axis.name == "fold")
    options = {"downstream_expert": {"datarc": {"pools": {"test": 0.3, "folds": 3}}}}
    assert fold.values(options) == ("fold1", "fold2", "fold3")
    assert fold.values({}) == ("fold1", "fold2", "fold3", "fold4", "fold5")


def test_one_training_tests_several_raters_and_every_check_of_the_result_holds(tmp_path, capsys):
    pooled = ("downstream_expert.datarc.pools.test=2", "downstream_expert.datarc.pools.folds=2")
    more = (*pooled, "downstream_expert.datarc.pools.validation=2", "downstream_expert.metarc.raters_per_step=3")
    trained_and_evaluated(tmp_path / "exp", options=more)
    content = stored(tmp_path / "exp" / "result_test.json")
    tested = content["raters"]["test"]
    assert [e["rater"] for e in content["episodes"]] == [rater for rater in tested for _ in range(3)]
    assert len(tested) == 2
    assert not {*tested, *content["raters"]["validation"]} & {*content["raters"]["train"]}
    assert set(Result.read(tmp_path / "exp" / "result_test.json").scored) == set(tested)
    capsys.readouterr()
    assert main(["validate", "--all", str(tmp_path / "exp")]) == 0
    assert "episodes, labels and losses of 1 of them were held against the corpus" in capsys.readouterr().out
    content["episodes"][4]["rater"] = tested[0]
    (tmp_path / "exp" / "result_test.json").write_text(json.dumps(content))
    assert main(["validate", "--all", str(tmp_path / "exp")]) == 1
    assert "episodes[].rater" in capsys.readouterr().out
