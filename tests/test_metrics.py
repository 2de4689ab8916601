"""Every metric against scikit-learn or a brute-force loop, by kind of label set."""

import math
import re
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy.spatial.distance import cityblock, jensenshannon
from scipy.stats import entropy, pearsonr
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    brier_score_loss,
    cohen_kappa_score,
    f1_score,
    hamming_loss,
    log_loss,
    mean_absolute_error,
)

from s3prl_metaperser import registry
from s3prl_metaperser.corpora.iemocap import CLASSES
from s3prl_metaperser.corpora.label_set import LabelSet
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.evaluation.levels import levels
from s3prl_metaperser.evaluation.metrics import (
    METRICS,
    Metric,
    Weighted,
    episode_scores,
    main_metrics,
    metric_for,
    metrics_for,
)
from s3prl_metaperser.evaluation.statistics import Scored, intervals
from s3prl_metaperser.evaluation.summary import Cell, compare
from s3prl_metaperser.methods.random_logits import random_probabilities
from s3prl_metaperser.run.threshold import best_threshold
from s3prl_metaperser.storage.resources import folder

PAGE = Path(__file__).resolve().parents[1] / "docs" / "adding_a_metric.md"
PAPER = yaml.safe_load((folder("benchmarks/paper") / "tables.yaml").read_text())
NINE = LabelSet("nine", "multi", CLASSES)
SIX = LabelSet("six", "single", ("anger", "disgust", "fear", "happy", "neutral", "sad"))
SHARES = LabelSet("shares", "soft", ("a", "b", "c", "d"))
SCALE = LabelSet("scale", "ordinal", tuple(map(str, range(1, 8))), levels=tuple(map(float, range(1, 8))))
SETS = (NINE, SIX, SHARES, SCALE)


def drawn(label_set, seed, queries=None):
    """Predictions and answers of one episode, [Q, C] each."""
    generator = np.random.default_rng(seed)
    queries = queries or int(generator.integers(2, 130))
    size = len(label_set.classes)
    p = generator.dirichlet(np.full(size, 0.5), size=queries)
    if label_set.kind == "multi":
        counts = (
            (generator.random((queries, size)) < 0.2) | np.eye(size, dtype=bool)[generator.integers(size, size=queries)]
        ) * 1.0
    elif label_set.kind == "soft":
        counts = generator.dirichlet(np.full(size, 0.3), size=queries)
    elif label_set.kind == "single":
        counts = np.eye(size)[generator.integers(size - 1, size=queries)]
    else:
        counts = np.stack([label_set.counts(float(x)) for x in generator.uniform(1, 7, size=queries)])
    return p, counts


@pytest.mark.parametrize("seed", range(20))
def test_multi_label_scores_equal_scikit_learn(seed):
    generator = np.random.default_rng(seed)
    queries = int(generator.integers(1, 130))
    probabilities = generator.dirichlet(np.full(9, 0.5), size=queries)
    targets = generator.dirichlet(np.full(9, 0.2), size=queries)
    predicted, present = probabilities > 1 / 9, targets > 1 / 9
    scores = episode_scores(probabilities, targets, NINE)
    assert scores["macro_f1"] == pytest.approx(f1_score(present, predicted, average="macro", zero_division=0))
    assert scores["micro_f1"] == pytest.approx(f1_score(present, predicted, average="micro", zero_division=0))
    accuracies = [accuracy_score(present[:, c], predicted[:, c]) for c in range(9)]
    assert scores["unweighted_accuracy"] == pytest.approx(np.mean(accuracies))


@pytest.mark.parametrize("seed", range(10))
def test_single_choice_scores_equal_scikit_learn(seed):
    p, counts = drawn(SIX, seed)
    said, given = p.argmax(1), counts.argmax(1)
    scores = episode_scores(p, counts, SIX)
    assert scores["nats"] == pytest.approx(log_loss(given, p, labels=range(6)))
    assert scores["brier"] == pytest.approx(brier_score_loss(given, p, labels=range(6), scale_by_half=False))
    assert scores["accuracy"] == pytest.approx(accuracy_score(given, said))
    assert scores["macro_f1_union"] == pytest.approx(f1_score(given, said, average="macro"))
    if np.isin(said, given).all():  # scikit-learn warns of predicted classes that nobody gave
        assert scores["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(given, said))
    recalls = [np.mean(said[given == c] == c) for c in np.unique(given)]
    assert scores["balanced_accuracy"] == pytest.approx(np.mean(recalls))
    assert scores["manhattan"] == pytest.approx(
        np.mean([sum(abs(a - b) for a, b in zip(x, y, strict=True)) for x, y in zip(p, counts, strict=True)])
    )


@pytest.mark.parametrize("seed", range(10))
def test_scores_of_shares_equal_scipy_and_loops(seed):
    p, shares = drawn(SHARES, seed)
    scores = episode_scores(p, shares, SHARES)
    assert scores["jensen_shannon"] == pytest.approx(np.mean(jensenshannon(p, shares, base=2, axis=1) ** 2), abs=1e-12)
    assert scores["nats"] == pytest.approx(
        np.mean([-sum(t * math.log(q) for t, q in zip(*row, strict=True)) for row in zip(shares, p, strict=True)])
    )
    assert scores["brier"] == pytest.approx(
        np.mean([sum((t - q) ** 2 for t, q in zip(*row, strict=True)) for row in zip(shares, p, strict=True)])
    )
    assert scores["macro_f1_union"] == pytest.approx(
        f1_score(shares > 1 / 4, p > 1 / 4, average="macro", zero_division=0)
    )


@pytest.mark.parametrize("seed", range(10))
def test_scores_on_a_scale_equal_scikit_learn_and_lins_formula(seed):
    p, counts = drawn(SCALE, seed)
    levels = np.arange(1.0, 8)
    said, given = p @ levels, counts @ levels
    scores = episode_scores(p, counts, SCALE)
    assert scores["mae"] == pytest.approx(mean_absolute_error(given, said))
    nearest = [np.abs(x[:, None] - levels).argmin(1) for x in (given, said)]
    assert scores["qwk"] == pytest.approx(cohen_kappa_score(*nearest, weights="quadratic", labels=range(7)))
    top = 2 * np.cov(said, given, bias=True)[0, 1]
    assert scores["ccc"] == pytest.approx(top / (said.var() + given.var() + (said.mean() - given.mean()) ** 2))


def test_a_scales_numbers_take_the_smoothing_of_the_targets_back():
    answers = np.stack([SCALE.counts(x) for x in (1.0, 2.5, 6.25, 7.0)])
    scores = episode_scores(SCALE.target(answers, 0.1), answers, SCALE, smoothing=0.1)
    assert scores["ccc"] == pytest.approx(1)
    assert scores["mae"] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("label_set", SETS, ids=lambda s: s.kind)
def test_perfect_predictions_reach_the_best_value_but_for_capped_metrics(label_set):
    _, counts = drawn(label_set, 3)
    shares = counts / counts.sum(1, keepdims=True)
    scores = episode_scores(shares, counts, label_set)
    for metric in metrics_for(label_set):
        best = metric.bounds[1] if metric.higher_is_better else metric.bounds[0]
        if metric.name == "nats":
            best = -np.mean((shares * np.log(np.where(shares > 0, shares, 1))).sum(1))
        if not metric.capped:
            assert scores[metric.name] == pytest.approx(best, abs=1e-9), metric.name


def test_multi_hot_targets_mean_the_same_as_distributions():
    probabilities, hot = drawn(NINE, 0, 50)
    assert episode_scores(probabilities, hot, NINE) == episode_scores(
        probabilities, hot / hot.sum(1, keepdims=True), NINE
    )


def test_a_class_that_is_neither_predicted_nor_present_counts_as_zero_in_the_papers_macro_f1_alone():
    perfect = episode_scores(np.eye(9)[:3], np.eye(9)[:3], NINE)
    assert {name: perfect[name] for name in ("macro_f1", "micro_f1", "unweighted_accuracy")} == pytest.approx(
        {"macro_f1": 3 / 9, "micro_f1": 1.0, "unweighted_accuracy": 1.0}
    )
    assert episode_scores(np.eye(6)[:3], np.eye(6)[:3], SIX)["macro_f1_union"] == 1.0


@pytest.mark.parametrize("name", ["ccc", "qwk"])
def test_agreement_with_a_constant_rater_is_left_out(name):
    p, _ = drawn(SCALE, 0, 12)
    constant = np.tile(SCALE.counts(4.0), (12, 1))
    scores = episode_scores(p, constant, SCALE)
    assert name not in scores
    assert scores["mae"] == pytest.approx(np.abs(p @ np.arange(1.0, 8) - 4).mean())


def test_nats_of_a_class_that_is_ruled_out_are_finite():
    scores = episode_scores(np.array([[1.0, 0, 0, 0, 0, 0]]), np.eye(6)[[1]], SIX)
    assert scores["nats"] == pytest.approx(-math.log(np.finfo(np.float32).tiny))


@pytest.mark.parametrize("label_set", SETS, ids=lambda s: s.kind)
def test_whole_weights_are_repetitions(label_set):
    p, counts = drawn(label_set, 5, 20)
    times = np.random.default_rng(0).integers(1, 5, size=20)
    weighted = Weighted(p, counts, label_set, times[None].astype(float), threshold=0.2)
    repeated = episode_scores(np.repeat(p, times, 0), np.repeat(counts, times, 0), label_set, threshold=0.2)
    for metric in metrics_for(label_set):
        assert metric.weighted(weighted)[0] == pytest.approx(repeated[metric.name]), metric.name


@pytest.mark.parametrize("label_set", SETS, ids=lambda s: s.kind)
def test_the_influence_of_an_utterance_is_the_derivative_by_its_weight(label_set):
    """Against weights of two thousand and one: an utterance that is repeated once more than all others."""
    p, counts = drawn(label_set, 7, 12)
    nudged = Weighted.nudged(p, counts, label_set, threshold=0.2)
    for metric in metrics_for(label_set):
        value, derivatives = metric.influence(nudged)
        weights = 2000.0 + np.eye(12)
        more = metric.weighted(Weighted(p, counts, label_set, weights, threshold=0.2))
        assert value == pytest.approx(metric.weighted(Weighted(p, counts, label_set, threshold=0.2))[0])
        assert derivatives == pytest.approx(2000 * (more - value), abs=2e-4), metric.name
        assert derivatives.sum() == pytest.approx(0, abs=1e-6)


def test_without_a_weighted_form_a_mean_is_exact_and_others_are_first_order():
    p, counts = drawn(NINE, 7, 60)
    nudged = Weighted.nudged(p, counts, NINE)
    for name, error in (("brier", 1e-9), ("micro_f1", 1e-3)):
        exact = metric_for(NINE, name)
        plain = Metric("mine", "mine", ("multi",), exact.of_episode)
        assert plain.influence(nudged)[1] == pytest.approx(exact.influence(nudged)[1], abs=error)


def test_the_primary_metric_of_each_kind_comes_first():
    assert [metrics_for(label_set)[0].name for label_set in SETS] == ["macro_f1", "nats", "jensen_shannon", "ccc"]
    assert [m.name for m in main_metrics(NINE)] == ["macro_f1", "micro_f1", "unweighted_accuracy", "nats", "brier"]
    assert all(main_metrics(label_set)[0] == metrics_for(label_set)[0] for label_set in SETS)


@pytest.mark.parametrize("seed", range(5))
def test_further_metrics_equal_scikit_learn_scipy_and_loops(seed):
    p, ticks = drawn(NINE, seed, 60)
    scores = episode_scores(p, ticks, NINE, threshold=0.2)
    shares = ticks / ticks.sum(1, keepdims=True)
    assert scores["error_rate"] == pytest.approx(hamming_loss(shares > 1 / 9, p > 1 / 9))
    assert scores["manhattan"] == pytest.approx(cityblock(p.ravel(), shares.ravel()) / 60)
    assert scores["threshold_macro_f1"] == pytest.approx(
        f1_score(shares > 1 / 9, p > 0.2, average="macro", zero_division=0)
    )
    unsure = [entropy(rows, axis=1) for rows in (p, shares)]
    assert scores["entropy_correlation"] == pytest.approx(pearsonr(*unsure).statistic)
    largest = np.eye(9, dtype=bool)[(p / p.mean(0)).argmax(1)]
    assert scores["corrected_macro_f1"] == pytest.approx(
        f1_score(shares > 1 / 9, largest, average="macro", zero_division=0)
    )
    p, answers = drawn(SIX, seed, 60)
    scores, given = episode_scores(p, answers, SIX), answers.argmax(1)
    assert scores["error_rate"] == pytest.approx(1 - accuracy_score(given, p.argmax(1)))
    assert scores["corrected_macro_f1"] == pytest.approx(
        f1_score(given, (p / p.mean(0)).argmax(1), average="macro", zero_division=0)
    )


def test_how_readily_a_system_gives_a_class_changes_plain_macro_f1_and_not_the_corrected_one():
    p, ticks = drawn(NINE, 1, 200)
    readily = p * np.array([4, 1, 1, 1, 1, 1, 1, 1, 0.1])  # not renormalised: what is divided out is exact
    plain, changed = (episode_scores(one, ticks, NINE) for one in (p, readily))
    assert abs(plain["macro_f1"] - changed["macro_f1"]) > 0.005
    assert plain["corrected_macro_f1"] == pytest.approx(changed["corrected_macro_f1"])


def test_what_always_predicts_the_same_gives_the_first_class_whatever_the_rounding():
    ticks = drawn(NINE, 1, 37)[1]
    p = np.tile(np.random.default_rng(0).dirichlet(np.ones(9)), (37, 1))
    alone = episode_scores(p, ticks, NINE)["corrected_macro_f1"]
    together = metric_for(NINE, "corrected_macro_f1").weighted(Weighted.nudged(p, ticks, NINE))
    assert alone == pytest.approx(
        f1_score(ticks > 0, np.eye(9, dtype=bool)[np.zeros(37, dtype=int)], average="macro", zero_division=0)
    )
    assert together[0] == pytest.approx(alone)


def test_a_tie_makes_no_interval_of_the_corrected_macro_f1():
    """Another choice at once, where weights change a little, is no slope: of an utterance as near to one class as to
    another, and of predictions that are the same everywhere, as of one who hears nothing."""
    p, ticks = drawn(NINE, 3, 60)
    metric = metric_for(NINE, "corrected_macro_f1")
    usual = np.abs(metric.influence(Weighted.nudged(p, ticks, NINE))[1]).max()
    means = p.mean(0)
    tie = means * np.array([1.5, 1.5, 1, 1, 1, 1, 1, 1, 0.5])
    p[1:] += (p[0] - tie) / 59  # the means stay
    p[0] = tie
    for tied in (p, np.tile(np.float32(means), (60, 1))):
        assert np.abs(metric.influence(Weighted.nudged(tied, ticks, NINE))[1]).max() < 3 * usual


def test_without_a_learned_threshold_or_where_a_rater_is_never_unsure_there_is_no_value():
    p, ticks = drawn(NINE, 0, 20)
    assert "threshold_macro_f1" not in episode_scores(p, ticks, NINE)
    assert "entropy_correlation" not in episode_scores(p, np.eye(9)[np.zeros(20, dtype=int)], NINE)


def test_the_learned_threshold_is_the_best_of_all_and_of_equal_ones_the_nearest_to_one_over_c():
    episodes = [Scored(tuple(map(str, range(60))), *drawn(NINE, seed, 60), NINE) for seed in range(3)]
    found = best_threshold(episodes)

    def mean(threshold):
        return np.mean(
            [
                f1_score(e.counts > 0, e.probabilities > threshold, average="macro", zero_division=0)
                for e in episodes  # of at most eight ticks each share is above 1 / 9
            ]
        )

    best = max(map(mean, np.linspace(0, 0.5, 61)))
    assert mean(found) == pytest.approx(best, abs=0.01)
    assert mean(found) >= mean(1 / 9)
    sure = [Scored(("a", "b"), np.eye(9)[[0, 1]] * 0.91 + 0.01, np.eye(9)[[0, 1]], NINE)]
    assert best_threshold(sure) == pytest.approx(1 / 9)


def test_f1_by_rater_utterance_and_trait_is_scikit_learns_in_each_group():
    """PersEval: the macro average of a classification report for each group, averaged over groups."""
    luck = np.random.default_rng(0)
    raters, rows = {}, []
    for rater in "abc":
        episodes = []
        for seed in range(2):
            p, answers = drawn(SIX, int(luck.integers(1000)), 30)
            query = tuple(luck.permutation([f"u{n}" for n in range(40)])[:30].tolist())
            episodes.append(Scored(query, p, answers, SIX))
            rows += [(seed, rater, u, a.argmax(), x.argmax()) for u, a, x in zip(query, answers, p, strict=True)]
        raters[rater] = episodes
    traits = {"a": {"age": "old", "sex": "f"}, "b": {"age": "old"}, "c": {"age": "young", "sex": ""}}
    traits = {rater: {name: value for name, value in own.items() if value} for rater, own in traits.items()}

    def mean_f1(group_of):
        by_seed = []
        for seed in range(2):
            groups = {}
            for at, *row in rows:
                for name in group_of(*row[:2]) if at == seed else ():
                    groups.setdefault(name, []).append(row[2:])
            by_seed.append(
                np.mean(
                    [f1_score(*zip(*pairs, strict=True), average="macro", zero_division=0) for pairs in groups.values()]
                )
            )
        return np.mean(by_seed)

    found = levels(raters, traits)
    assert found.everything == pytest.approx(mean_f1(lambda rater, utterance: ["all"]))
    assert found.rater == pytest.approx(mean_f1(lambda rater, utterance: [rater]))
    assert found.utterance == pytest.approx(mean_f1(lambda rater, utterance: [utterance]))
    assert found.trait == pytest.approx(mean_f1(lambda rater, utterance: traits[rater].items()))
    assert levels(raters).trait is None


def test_registered_names_are_the_metrics_names():
    assert {name: METRICS.get(name).name for name in METRICS.names()} == {name: name for name in METRICS.names()}


def test_a_metric_that_does_not_fit_is_refused_with_those_that_do():
    with pytest.raises(UserError, match=r"'ccc' does not fit 'multi' label sets\. Expected one of: macro_f1, micro_f1"):
        metric_for(NINE, "ccc")
    with pytest.raises(UserError, match=r"Unknown metric 'makro_f1'\. Did you mean 'macro_f1'"):
        metric_for(NINE, "makro_f1")


@pytest.mark.parametrize(
    ("probabilities", "targets", "message"),
    [
        (np.zeros((3, 9)), np.zeros((4, 9)), "differ in shape"),
        (np.zeros((0, 9)), np.zeros((0, 9)), "shape"),
        (np.zeros(9), np.zeros(9), "shape"),
        (np.full((2, 9), np.nan), np.zeros((2, 9)), "NaN"),
    ],
)
def test_arrays_that_make_no_sense_are_errors(probabilities, targets, message):
    with pytest.raises(UserError, match=message):
        episode_scores(probabilities, targets, NINE)


def drawn_ticks(marginals, ticks_per_utterance, queries, generator):
    """Multi-hot labels [queries, 9] whose ticks follow a rater's published marginals."""
    p = np.asarray(marginals, dtype=float)
    p /= p.sum()
    labels = np.zeros((queries, 9), dtype=int)
    for row in labels:
        several = 1 + (generator.random() < ticks_per_utterance - 1)
        row[generator.choice(9, size=min(several, (p > 0).sum()), replace=False, p=p)] = 1
    return labels


@pytest.mark.parametrize(("scenario", "marginals"), [("seen", "table_a1"), ("unseen", "table_a2")])
def test_random_logits_give_the_papers_random_row(scenario, marginals):
    raters = {k: v for k, v in PAPER[marginals].items() if k != "classes"}
    assert tuple(PAPER[marginals]["classes"]) == CLASSES
    generator = np.random.default_rng(0)
    per_rater = []
    for rater in raters.values():
        episodes = []
        for _ in range(60):
            labels = drawn_ticks(rater["marginals"], rater["ticks_per_utterance"], 128, generator)
            probabilities = random_probabilities(generator.standard_normal((128, 9)))
            scores = episode_scores(probabilities, labels, NINE)
            episodes.append([100 * scores[name] for name in ("macro_f1", "micro_f1", "unweighted_accuracy")])
        per_rater.append(np.mean(episodes, axis=0))
    published = PAPER["table1"][scenario]["wavlm_base"]["Random"]
    np.testing.assert_allclose(np.mean(per_rater, axis=0), published, atol=1.0)


@pytest.fixture
def top_one(tmp_path, monkeypatch):
    """The example of docs/adding_a_metric.md as an installed package."""
    (source,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (toml,) = re.findall(r"```toml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    ((group, points),) = tomllib.loads(toml)["project"]["entry-points"].items()
    (tmp_path / "top_one.py").write_text(source)
    info = tmp_path / "my_emotion_metrics-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-emotion-metrics\nVersion: 0.1\n")
    lines = [f"{name} = {target}" for name, target in points.items()]
    (info / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines]) + "\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with METRICS.read_again():
        yield
    sys.modules.pop("top_one", None)


def test_the_metric_of_the_page_is_taken_wherever_metrics_are(top_one):
    p, counts = drawn(NINE, 0, 40)
    expected = np.mean([row[p[i].argmax()] > 0 for i, row in enumerate(counts)])
    assert episode_scores(p, counts, NINE)["top_one"] == pytest.approx(expected)
    assert "top_one" not in episode_scores(*drawn(SCALE, 0, 40), SCALE)
    query = [f"u{number}" for number in range(40)]
    good = {r: [Scored(query, 0.5 * p + 0.5 * counts / counts.sum(1, keepdims=True), counts, NINE)] for r in "ab"}
    bad = {r: [Scored(query, p, counts, NINE)] for r in "ab"}
    span = intervals(bad)["top_one"]
    assert span.mean == pytest.approx(expected)
    assert span.low < span.mean < span.high
    by = {Cell("c", "u", "frozen", "seen", name, 32, "paper"): r for name, r in (("Good", good), ("Bad", bad))}
    (comparison,) = compare(by, "Bad", metric="top_one")
    assert comparison.metric.title == "top-1"
    assert comparison.difference.mean > 0


def test_an_entry_point_that_is_no_metric_is_one_clear_error(monkeypatch):
    monkeypatch.setattr(registry, "entry_points", lambda group: [EntryPoint("mine", "colorsys:rgb_to_yiq", group)])
    with METRICS.read_again(), pytest.raises(UserError, match=r"metric 'mine' \(colorsys:.*\) is <function .*a Metric"):
        metrics_for(NINE)
    monkeypatch.setattr(
        registry, "entry_points", lambda group: [EntryPoint("mine", "s3prl_metaperser.evaluation.metrics:CCC", group)]
    )
    with (
        METRICS.read_again(),
        pytest.raises(UserError, match=r"is Metric\(name='ccc'.* expected a Metric with this name"),
    ):
        metrics_for(NINE)
