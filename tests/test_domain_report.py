"""The report of domain generalisation, from results of the project's own making."""

import numpy as np
import pytest
from domain_fixtures import FIVE, options
from scipy.special import stdtrit

from s3prl_metaperser.evaluation.domain_scores import Averages, paired, recalls
from s3prl_metaperser.evaluation.meta_testing import EpisodeResult
from s3prl_metaperser.evaluation.metrics import BALANCED_ACCURACY
from s3prl_metaperser.evaluation.result import EvaluatedCell, Raters, Result
from s3prl_metaperser.evaluation.statistics import Scored, error_and_freedom, influences
from s3prl_metaperser.protocol.episodes import Episode, EpisodeList
from s3prl_metaperser.report.domains import published
from s3prl_metaperser.report.gathered import gather
from s3prl_metaperser.report.sections import TaskReport
from s3prl_metaperser.seeding import numpy_generator

SCENARIOS = [f"scn{number}" for number in range(1, 8)]


def result(scenario, system, trial, *, speakers=8, each=10, skill=0.5, classes=5, **more):
    """A result whose predictions are right in about ``skill`` of the utterances."""
    rng = numpy_generator(scenario, system, trial)
    labels = np.arange(speakers * each) % classes
    ids = tuple(f"target/{number:03d}" for number in range(len(labels)))
    right = rng.random(len(labels)) < skill
    logits = rng.normal(size=(len(labels), 5)) * 0.1
    logits[np.arange(len(labels)), np.where(right, labels, rng.integers(0, 5, len(labels)))] += 2
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    chosen = options(scenario, datarc={"trial": trial}).as_config()
    tested = EpisodeResult(
        *(0, ids, probabilities.astype(np.float32), np.eye(5)[labels], 1.0),
        clusters=tuple(f"speaker{number // each}" for number in range(len(labels))),
    )
    fold = f"trial{trial}"
    cell = EvaluatedCell(
        *("several", "embeddings", "frozen", scenario, fold, system, "test", 0, len(ids), (0,), 0, "paper", True, 1337)
    )
    asked = EpisodeList("c", scenario, fold, fold, "p", 0, len(ids), (Episode(0, (), ids),))
    return Result.of(
        task="domain_generalized_emotion",
        cell=cell,
        label_set=FIVE,
        raters=Raters(fold, "", ("one", "two")),
        asked=[asked],
        tested=[tested],
        hashes={"corpus": "c", "task": "t", "features": "f", "upstream_checkpoint": "u"},
        options=chosen,
        selected_step=30,
        engine="autograd",
        seconds=1.0,
        **more,
    )


def reported(folder, results):
    for number, one in enumerate(results):
        (folder / str(number)).mkdir(parents=True)
        one.write(folder / str(number) / "result_test.json")
    (gathered,) = gather(folder)
    sections = TaskReport(gathered, folder).sections()
    tables = {item.key: item for section in sections for item in section.content}
    said = [*sections[0].lead, *(text for _, found in sections[0].verdicts for _, texts in found for text in texts)]
    return tables, said


def test_printed_averages_stand_beside_what_the_rows_give_and_beside_ours(tmp_path):
    found = [result(scenario, "Deep-All", trial) for scenario in SCENARIOS for trial in (1, 2, 3)]
    tables, said = reported(tmp_path, found)
    rows = {(row[0], row[1]): row for row in tables["table3"].rows}
    assert [str(cell) for cell in rows["MLDG", "from its rows"][-3:]] == ["41.17", "36.48", "40.11"]
    assert [str(cell) for cell in rows["MLDG", "paper"][-3:]] == ["41.16", "36.47", "40.11"]
    assert str(rows["DA-MLDG", "ours"][2]) == "missing"
    ours = [cell.mean for cell in rows["Deep-All", "ours"][2:9]]
    by_hand = [np.mean([r.metrics["accuracy"].mean for r in found if r.cell.scenario == name]) for name in SCENARIOS]
    np.testing.assert_allclose(ours, 100 * np.array(by_hand))
    assert rows["Deep-All", "ours"][9].mean == pytest.approx(np.mean(ours))
    assert "Null rows without results: Deep-All:again, MLDG:public:again, Deep-All:twice" in " ".join(said)


def test_table_two_shows_that_the_printed_averages_of_speech_do_not_follow_from_its_rows(tmp_path):
    tables, _ = reported(tmp_path, [result("eng4:savee", "Deep-All", 1)])
    rows = {(row[0], row[1]): str(row[6]) for row in tables["table2"].rows}
    assert (rows["DA-MLDG", "paper"], rows["DA-MLDG", "from its rows"]) == ("36.29", "33.19")
    assert (rows["Deep-All", "paper"], rows["Deep-All", "from its rows"]) == ("30.20", "30.21")


def test_a_better_system_is_told_apart_a_null_row_is_not_and_two_speakers_say_nothing_of_others(tmp_path):
    found = [
        result("rest:delta", name, trial, skill=0.3) for name in ("Deep-All", "Deep-All:again") for trial in (1, 2, 3)
    ]
    found += [result("rest:delta", "MLDG", trial, skill=0.9) for trial in (1, 2, 3)]
    found += [result("rest:beta", "Deep-All", trial, skill=0.3, speakers=2, each=30) for trial in (1, 2, 3)]
    found += [result("rest:beta", "MLDG", trial, skill=0.9, speakers=2, each=30) for trial in (1, 2, 3)]
    tables, said = reported(tmp_path, found)
    assert any(text.startswith("MLDG is better than Deep-All by ") for text in said)
    assert any(text.startswith("Deep-All:again and Deep-All cannot be told apart") for text in said)
    few = [text for text in said if "has 2 speakers to test, so that nothing is said about others" in text]
    assert len(few) == 2  # one for each metric
    assert any("Null rows: in UAR" in text and "Deep-All:again by" in text for text in said)
    scenarios = {row[0]: row[2:5] for row in tables["scenarios"].rows}
    assert scenarios["rest:beta"] == ("target", "60", "2")
    spans = {row[0]: row[3].low for row in tables["domains"].rows}
    assert spans["rest:beta"] is None
    assert spans["rest:delta"] is not None


def test_holms_correction_is_over_all_systems_and_scenarios_together(tmp_path):
    found = [
        result(scenario, name, trial, skill=skill)
        for scenario in SCENARIOS[:3]
        for name, skill in (("Deep-All", 0.4), ("MLDG", 0.5), ("RSC", 0.6))
        for trial in (1, 2, 3)
    ]
    for number, one in enumerate(found):
        (tmp_path / str(number)).mkdir()
        one.write(tmp_path / str(number) / "result_test.json")
    (gathered,) = gather(tmp_path)
    compared = paired(gathered.cells, "Deep-All", BALANCED_ACCURACY.name, 3)
    freedom = np.array([each.estimate.freedom for each in compared])  # between 3 trials less 1 and 8 speakers less 1
    assert freedom.min() > 2 - 1e-9
    assert 2.1 < freedom.max() < 7 + 1e-9
    assert all(-1 <= each.adjusted.low <= each.adjusted.high <= 1 for each in compared)
    assert {each.family for each in compared} == {6}
    p = np.array([each.p for each in compared])
    smallest = compared[int(p.argmin())]
    assert smallest.p_holm == pytest.approx(min(1.0, 6 * p.min()))


def test_a_diverged_trial_is_counted_in_the_table_and_in_the_mean(tmp_path):
    found = [result("rest:delta", "DA-MLDG", trial, skill=0.5) for trial in (1, 2)]
    found.append(result("rest:delta", "DA-MLDG", 3, skill=0.1, diverged="step 9 of 30: the loss is nan."))
    tables, _ = reported(tmp_path, found)
    (row,) = tables["domains"].rows
    assert row[-2:] == ("3", "1")
    assert row[3].mean == pytest.approx(100 * np.mean([one.metrics["accuracy"].mean for one in found]))


def test_the_margin_is_drawn_where_results_have_it(tmp_path):
    curve = {"margin": ((10.0, 0.2), (20.0, 0.7)), "loss": ((10.0, 1.0), (20.0, 0.5))}
    tables, _ = reported(tmp_path, [result("rest:delta", "DA-MLDG", 1, curves=curve)])
    assert "margin" in tables["margin"].title
    assert "<svg" in tables["margin"].svg


def test_recall_is_missing_for_a_class_that_the_target_lacks(tmp_path):
    one = result("scn6", "Deep-All", 1, classes=4)
    found = recalls(one.scored)
    assert found[4] is None
    (episode,) = one.episodes
    predicted, labels = np.argmax(episode.probabilities, 1), np.argmax(episode.ticks, 1)
    assert found[:4] == pytest.approx([np.mean(predicted[labels == label] == label) for label in range(4)])
    assert one.metrics["balanced_accuracy"].mean == pytest.approx(np.mean(found[:4]))


def test_clustered_derivatives_are_sums_of_those_of_utterances():
    one = result("scn1", "Deep-All", 1)
    (scored,) = one.scored["trial1"]
    plain = Scored(scored.query, scored.probabilities, scored.counts, FIVE)
    whole, alone = influences([scored]), influences([plain])
    np.testing.assert_allclose(whole.means, alone.means)
    sums = np.stack([alone.derivatives[:, 10 * n : 10 * n + 10].sum(1) for n in range(8)], axis=1)
    smooth = [at for at, metric in enumerate(whole.metrics) if metric.weighted is not None]
    np.testing.assert_allclose(
        whole.derivatives[smooth] / np.sqrt(8 / 7), sums[smooth] / np.sqrt(80 / 79), rtol=1e-5, atol=1e-9
    )


def test_averages_are_those_of_the_papers_own_rows():
    content = published()
    for system, printed in content["table3"]["averages"].items():
        found = Averages.of(content["table3"]["printed"][system], content["utterances"])
        assert [found.unweighted, found.weighted, found.geometric] == pytest.approx(printed, abs=0.021)
    assert Averages.of([0.0, 50.0], [1, 1]).geometric == 0


def test_intervals_for_further_speakers_and_trials_cover_the_truth_as_often_as_they_say():
    rng = numpy_generator("coverage")
    for trials, speakers, of_trials in ((3, 10, 0.0), (3, 10, 1.0), (3, 24, 2.0), (10, 10, 0.5), (3, 4, 0.5)):
        shape = (4000, trials, speakers)
        scores = rng.normal(size=(4000, 1, speakers)) + 0.3 * rng.normal(size=shape)
        scores = scores + of_trials / np.sqrt(speakers) * rng.normal(size=(4000, trials, 1))
        means = scores.mean(-1)
        derivatives = (scores - means[..., None]) / speakers * np.sqrt(speakers / (speakers - 1))
        own, total = (derivatives**2).sum((1, 2)), (derivatives.sum(1) ** 2).sum(-1)
        error, freedom = error_and_freedom(means, own, total, speakers, clustered=True)
        covered = (np.abs(means.mean(-1)) <= stdtrit(freedom, 0.975) * error).mean()
        assert 0.93 < covered < 0.985, (trials, speakers, of_trials, covered)
        far = (np.abs(means.mean(-1)) > stdtrit(freedom, 1 - 0.001 / 2) * error).mean()
        assert far < 0.01, (trials, speakers, of_trials, far)
