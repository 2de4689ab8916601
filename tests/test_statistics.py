import dataclasses
import itertools

import numpy as np
import pytest
from scipy import optimize, stats

from s3prl_metaperser.corpora.iemocap import LABEL_SET
from s3prl_metaperser.corpora.label_set import LabelSet
from s3prl_metaperser.evaluation import statistics
from s3prl_metaperser.evaluation.independent import fit, mixed_model, sign_flip
from s3prl_metaperser.evaluation.metrics import METRICS, Weighted, episode_scores, main_metrics
from s3prl_metaperser.evaluation.statistics import (
    Estimate,
    Levels,
    Scored,
    best_possible,
    error_and_freedom,
    estimates,
    influences,
    intervals,
    mean_scores,
    paired_intervals,
)

SCALE = LabelSet("scale", "ordinal", ("1", "2", "3", "4", "5"), levels=(1.0, 2.0, 3.0, 4.0, 5.0))
SIX = LabelSet("six", "single", ("anger", "disgust", "fear", "happy", "neutral", "sad"))


def rater(seed, skill, utterances=80, episodes=6, queries=32):
    """Episodes of one rater whose predictions are right with probability ``skill``."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(9, size=utterances)
    made = []
    for _ in range(episodes):
        chosen = generator.choice(utterances, size=queries, replace=False)
        said = np.where(generator.random(queries) < skill, truth[chosen], generator.integers(9, size=queries))
        probabilities = np.full((queries, 9), 0.05)
        probabilities[np.arange(queries), said] = 0.6
        made.append(Scored([f"u{c}" for c in chosen], probabilities, np.eye(9, dtype=int)[truth[chosen]], LABEL_SET))
    return made


def test_means_are_over_seeds_then_raters():
    raters = {"a": rater(0, 0.5), "b": rater(1, 0.9, episodes=2)}
    expected = np.mean(
        [
            np.mean([episode_scores(e.probabilities, e.counts, LABEL_SET)["macro_f1"] for e in episodes])
            for episodes in raters.values()
        ]
    )
    assert mean_scores(raters)["macro_f1"] == pytest.approx(expected)


def test_intervals_hold_the_mean_and_shrink_with_more_utterances():
    few, many = (intervals({"a": rater(0, 0.5, utterances=n, queries=n // 2)})["micro_f1"] for n in (40, 640))
    assert few.low < few.mean < few.high
    assert many.high - many.low < 0.5 * (few.high - few.low)


def test_a_system_differs_from_itself_by_exactly_nothing():
    raters = {"a": rater(0, 0.5), "b": rater(1, 0.5)}
    span = paired_intervals(raters, raters)["macro_f1"]
    assert (span.mean, span.low, span.high) == (0.0, 0.0, 0.0)


def test_a_better_system_is_told_apart_and_the_difference_has_a_sign():
    good, bad = ({n: rater(n, skill, episodes=3) for n in range(4)} for skill in (0.9, 0.4))
    span = paired_intervals(good, bad)["micro_f1"]
    assert span.low > 0
    assert paired_intervals(bad, good)["micro_f1"].high < 0


def test_systems_on_different_episodes_are_not_compared():
    with pytest.raises(ValueError, match="different episodes"):
        paired_intervals({"a": rater(0, 0.5)}, {"a": rater(5, 0.5)})


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    truth = np.mean([mean_scores({"a": rater(s, 0.6, utterances=4000, queries=2000)})["micro_f1"] for s in range(3)])
    covered = 0
    for seed in range(120):
        span = intervals({"a": rater(1000 + seed, 0.6, utterances=200, episodes=1, queries=200)})["micro_f1"]
        covered += span.low <= truth <= span.high
    assert 0.88 <= covered / 120 <= 0.99


def test_the_error_of_one_raters_accuracy_is_the_binomial_one():
    (episode,) = rater(0, 0.6, utterances=400, episodes=1, queries=400)
    right = mean_scores({"a": [episode]})["micro_f1"]
    found = estimates({"a": influences([episode])})["micro_f1"]
    assert found.error == pytest.approx(np.sqrt(right * (1 - right) / 399))


def test_five_raters_without_a_common_utterance_get_students_interval():
    raters = {r: rater(r, 0.3 + 0.1 * r) for r in range(5)}
    raters = {
        r: [Scored([f"{r} {u}" for u in e.query], e.probabilities, e.counts, LABEL_SET) for e in es]
        for r, es in raters.items()
    }
    means = [mean_scores({r: episodes})["macro_f1"] for r, episodes in raters.items()]
    expected = stats.ttest_1samp(means, 0.2)
    found = estimates({r: influences(episodes) for r, episodes in raters.items()})["macro_f1"]
    span, wanted = found.interval(), expected.confidence_interval()
    assert (span.low, span.high) == pytest.approx((wanted.low, wanted.high), rel=0.02)
    moved = Estimate(found.mean - 0.2, found.error, found.freedom)
    assert moved.p_value() == pytest.approx(expected.pvalue, rel=0.05)


def test_what_all_raters_share_widens_the_interval():
    same = rater(0, 0.5)
    one, five = estimates({0: influences(same)}), estimates({r: influences(same) for r in range(5)})
    # five raters that tick alike tell no more than one of them
    assert five["macro_f1"].error == pytest.approx(one["macro_f1"].error)


def test_p_values_and_intervals_agree():
    generator = np.random.default_rng(0)
    for mean, error, freedom in zip(generator.normal(size=200), generator.random(200), range(1, 201), strict=True):
        estimate = Estimate(mean, error, freedom)
        span = estimate.interval()
        assert (estimate.p_value() < 0.05) == (not span.low <= 0 <= span.high)


def crossed(generator, utterances=40, queries=30):
    """Two systems, five raters: raters and utterances both favour one or the other, by chance alone."""
    leaning = generator.normal(scale=0.05, size=5)[:, None] + generator.normal(scale=0.4, size=utterances)
    systems = {}, {}
    for name in range(5):
        truth, chosen = generator.integers(9, size=utterances), generator.choice(utterances, queries, replace=False)
        for sign, system in zip((1, -1), systems, strict=True):
            skill = np.clip(0.5 + sign * leaning[name, chosen], 0, 1)
            said = np.where(generator.random(queries) < skill, truth[chosen], (truth[chosen] + 1) % 9)
            ids = [f"u{u}" for u in chosen]
            system[name] = [Scored(ids, 0.01 + 0.91 * np.eye(9)[said], np.eye(9, dtype=int)[truth[chosen]], LABEL_SET)]
    return systems


def test_the_paired_test_has_its_size_where_raters_and_shared_utterances_vary():
    generator, rejected, alone = np.random.default_rng(0), 0, 0
    for _ in range(150):
        first, second = crossed(generator)
        difference = {r: influences(first[r]) - influences(second[r]) for r in first}
        rejected += estimates(difference)["micro_f1"].p_value() < 0.05
        alone += stats.ttest_1samp([d.means[1] for d in difference.values()], 0).pvalue < 0.05
    assert rejected / 150 <= 0.05 + 2.5 * np.sqrt(0.05 * 0.95 / 150)
    assert alone / 150 > 0.15  # what a t test does that does not know of the shared utterances


def other(label_set, seed, constant=False, episodes=4, queries=20, utterances=50):
    """Episodes of a rater who answers by another kind of label set."""
    generator, size, made = np.random.default_rng(seed), len(label_set.classes), []
    draw = [1.0 + 4.0 * x for x in generator.random(utterances)]
    answers = [label_set.counts(x if label_set.levels else [label_set.classes[int(x)]]) for x in draw]
    for _ in range(episodes):
        chosen = generator.choice(utterances, queries, replace=False)
        counts = np.stack([answers[0 if constant else u] for u in chosen])
        p = 0.3 * counts + 0.7 * generator.dirichlet(np.ones(size), size=queries)
        made.append(Scored([f"u{u}" for u in chosen], p, counts, label_set))
    return made


@pytest.mark.parametrize("label_set", [LABEL_SET, SIX, SCALE], ids=lambda s: s.kind)
def test_every_metric_of_a_label_set_has_an_interval_within_its_bounds(label_set):
    raters = {r: rater(r, 0.5) if label_set is LABEL_SET else other(label_set, r) for r in range(3)}
    spans = intervals(raters)
    assert {metric.name for metric in main_metrics(label_set)} <= set(spans)
    for name, span in spans.items():
        metric = METRICS.get(name)
        assert metric.bounds[0] <= span.low < span.mean < span.high <= metric.bounds[1]


def test_episodes_without_a_value_are_left_out_and_counted():
    raters = {"varied": other(SCALE, 0), "constant": other(SCALE, 1, constant=True)}
    spans = intervals(raters)
    assert (spans["ccc"].undefined, spans["qwk"].undefined, spans["mae"].undefined) == (4, 4, 0)
    alone = intervals({"varied": raters["varied"]})["ccc"]
    assert spans["ccc"].mean == alone.mean
    assert "ccc" not in intervals({"constant": raters["constant"]})
    assert not any(np.isnan([s.mean, s.low, s.high]).any() for s in spans.values())


def test_a_rater_without_a_value_does_not_keep_others_from_being_compared():
    good = {"varied": other(SCALE, 0), "constant": other(SCALE, 1, constant=True)}
    bad = {
        r: [dataclasses.replace(e, probabilities=np.roll(e.probabilities, 1, 1)) for e in es] for r, es in good.items()
    }
    spans = paired_intervals(good, bad)
    assert spans["ccc"].mean > 0
    assert spans["mae"].mean < 0


def test_perfect_predictions_say_how_high_macro_f1_can_come():
    episodes = rater(0, 0.5, utterances=40, queries=8)
    expected = np.mean([(e.counts.sum(0) > 0).mean() for e in episodes])
    assert best_possible({"a": episodes}) == {"macro_f1": pytest.approx(expected)}
    assert best_possible({"a": other(SIX, 0)}) == {}


def test_what_training_seeds_share_is_the_component_of_a_two_way_analysis_of_variance():
    """By the mean squares of the textbook: raters crossed with seeds, no repetition."""
    luck = np.random.default_rng(0)
    y = luck.standard_normal((6, 1)) + 0.8 * luck.standard_normal((1, 4)) + 0.3 * luck.standard_normal((6, 4))
    of_seeds = 6 * ((y.mean(0) - y.mean()) ** 2).sum() / 3
    rest = ((y - y.mean(0) - y.mean(1, keepdims=True) + y.mean()) ** 2).sum() / (5 * 3)
    component = (of_seeds - rest) / 6
    plain, _ = error_and_freedom(y.mean(1), 0.0, 0.0, 100)
    error, freedom = error_and_freedom(y.mean(1), 0.0, 0.0, 100, [Levels(y, False)])
    assert error**2 == pytest.approx(plain**2 + component / 4)
    assert freedom <= 5
    alone, _ = error_and_freedom(y[:1].mean(1), 0.04, 0.04, 100, [Levels(y[:1], False)])
    assert alone**2 == pytest.approx(0.04 + y[0].var(ddof=1) / 4)


def test_intervals_over_few_training_seeds_hold_the_truth_as_often_as_they_say():
    """Five raters, three seeds whose luck all raters share; without the seeds' term most intervals miss."""
    luck, inside = np.random.default_rng(1), np.zeros(2)
    for _ in range(2000):
        y = 0.5 * luck.standard_normal((5, 1)) + luck.standard_normal((1, 3)) + 0.3 * luck.standard_normal((5, 3))
        for at, levels in enumerate(([], [Levels(y, False)])):
            error, freedom = error_and_freedom(y.mean(1), 0.0, 0.0, 100, levels)
            span = Estimate(float(y.mean()), float(error), float(freedom)).interval()
            inside[at] += span.low <= 0 <= span.high
    without, with_seeds = inside / 2000
    assert without < 0.75
    assert with_seeds > 0.93


@pytest.mark.parametrize("size", [5, 9])
def test_the_sign_flip_test_is_the_share_of_all_assignments_of_signs(size):
    d = np.random.default_rng(size).normal(0.4, 1, size)
    every = [abs(np.dot(signs, d)) >= abs(d.sum()) - 1e-12 for signs in itertools.product((-1, 1), repeat=size)]
    assert sign_flip(d) == pytest.approx(np.mean(every))
    assert sign_flip(np.abs(d)) == 2 / 2**size
    many = np.random.default_rng(1).normal(0.2, 1, 60)
    assert sign_flip(many) == pytest.approx(stats.ttest_1samp(many, 0).pvalue, abs=0.02)
    assert sign_flip(many) == sign_flip(many)


def crossed_values(raters, utterances, missing, seed):
    luck = np.random.default_rng(seed)
    y = 0.3 + 0.5 * luck.standard_normal((raters, 1)) + 0.4 * luck.standard_normal((1, utterances))
    return y + 0.6 * luck.standard_normal(y.shape), luck.random(y.shape) >= missing


def test_the_mixed_model_has_the_highest_restricted_likelihood_of_the_dense_formula():
    """By the whole covariance matrix of all observations, minimised by another method from other places."""
    y, known = crossed_values(6, 25, 0.3, 0)
    rows, columns = np.nonzero(known)
    values, ones = y[known], np.ones(known.sum())

    def dense(logs):
        a, b, e = np.exp(logs)
        v = a * (rows[:, None] == rows) + b * (columns[:, None] == columns) + e * np.eye(len(values))
        inverse = np.linalg.inv(v)
        weight = ones @ inverse @ ones
        mean = ones @ inverse @ values / weight
        rest = values - mean
        likelihood = np.linalg.slogdet(v)[1] + np.log(weight) + rest @ inverse @ rest
        return likelihood, mean, weight**-0.5

    best = optimize.minimize(lambda logs: dense(logs)[0], np.log([0.2, 0.2, 0.3]), method="Nelder-Mead")
    _, mean, error = dense(best.x)
    found = fit(y, known)
    assert found.estimate.mean == pytest.approx(mean, abs=1e-3)
    assert found.estimate.error == pytest.approx(error, rel=1e-2)
    assert [found.raters, found.utterances, found.noise] == pytest.approx(np.exp(best.x / 2), rel=2e-2)


def test_in_a_balanced_table_the_mixed_model_is_the_analysis_of_variance():
    y, _ = crossed_values(6, 30, 0.0, 3)
    found = fit(y, np.ones(y.shape, dtype=bool))
    rest = ((y - y.mean(0) - y.mean(1, keepdims=True) + y.mean()) ** 2).sum() / (5 * 29)
    of_raters, of_utterances = 30 * y.mean(1).var(ddof=1), 6 * y.mean(0).var(ddof=1)
    assert found.estimate.mean == pytest.approx(y.mean())
    assert found.estimate.error**2 == pytest.approx((of_raters + of_utterances - rest) / y.size, rel=1e-3)
    assert found.noise**2 == pytest.approx(rest, rel=1e-3)


def test_the_mixed_model_of_a_mean_over_utterances_has_the_utterances_own_differences():
    one, two = ({r: rater(r, skill, episodes=1) for r in range(4)} for skill in (0.5, 0.6))
    differences = {r: influences(one[r]) - influences(two[r]) for r in one}
    found = mixed_model(differences, "brier")
    assert found.estimate.mean == pytest.approx(estimates(differences)["brier"].mean, abs=0.01)
    assert found.estimate.error == pytest.approx(estimates(differences)["brier"].error, rel=0.35)
    assert mixed_model({0: differences[0]}, "brier") is None


def test_a_metric_without_a_weighted_form_has_the_error_of_the_one_that_has(monkeypatch):
    """The jackknife of a plain function: exact for a mean, close for macro-F1."""
    raters = {r: rater(r, 0.5) for r in range(3)}
    expected = estimates({r: influences(e) for r, e in raters.items()})
    plain = tuple(dataclasses.replace(metric, weighted=None) for metric in main_metrics(LABEL_SET))
    monkeypatch.setattr(statistics, "metrics_for", lambda label_set: plain)
    found = estimates({r: influences([dataclasses.replace(e) for e in own]) for r, own in raters.items()})
    assert found["brier"].error == pytest.approx(expected["brier"].error)
    assert found["micro_f1"].error == pytest.approx(expected["micro_f1"].error, rel=0.02)
    assert found["micro_f1"].mean == pytest.approx(expected["micro_f1"].mean)


@pytest.mark.parametrize("label_set", [LABEL_SET, SIX, SCALE], ids=lambda s: s.kind)
def test_errors_are_those_of_resampling_utterances(label_set):
    """Against the Bayesian bootstrap, one weight an utterance in all episodes, by brute force."""
    size = {"utterances": 400, "episodes": 4, "queries": 160}
    episodes = rater(3, 0.5, **size) if label_set is LABEL_SET else other(label_set, 3, **size)
    generator, names = np.random.default_rng(0), sorted({u for e in episodes for u in e.query})
    weights = dict(zip(names, generator.standard_exponential((len(names), 3000)), strict=True))
    drawn = np.mean(
        [
            [
                metric.weighted(
                    Weighted(e.probabilities, e.counts, label_set, np.array([weights[u] for u in e.query]).T)
                )
                for metric in main_metrics(label_set)
            ]
            for e in episodes
        ],
        axis=0,
    )
    found = estimates({"a": influences(episodes)})
    assert [found[m.name].error for m in main_metrics(label_set)] == pytest.approx(drawn.std(axis=1), rel=0.04)


@pytest.mark.parametrize("spread", [0.0, 0.05, 0.15], ids=lambda s: f"raters that differ by {s}")
def test_a_test_of_few_raters_rejects_a_true_null_no_more_often_than_it_says(spread):
    """Right minus wrong answers of two equally good systems, 24 of 60 utterances a rater; 20,000 repeats."""
    generator, repeats = np.random.default_rng(0), 20_000
    for raters in (2, 3, 5):
        shape, each = (repeats, raters, 24), (repeats, raters, 1)
        chosen = generator.integers(60 - 24, size=each) + np.arange(24)  # neighbours, so that raters share some
        leaning = spread * generator.normal(size=each)
        x = (generator.random(shape) < 0.5 + leaning).astype(float) - (generator.random(shape) < 0.5 - leaning)
        means = x.mean(-1)
        d = (x - means[..., None]) / 24
        place = np.arange(repeats)[:, None, None] * 60 + chosen
        total = np.bincount(place.ravel(), d.ravel(), repeats * 60).reshape(repeats, 60)
        error, freedom = error_and_freedom(means, (d**2).sum((1, 2)), (total**2).sum(1), 60)
        assert (freedom <= raters - 1).all()
        p = 2 * stats.t.sf(np.abs(means.mean(1)) / error, freedom)
        for level in (0.05, 0.01, 0.001):
            by_chance = 3 * np.sqrt(level * (1 - level) / repeats)
            assert np.mean(p < level) <= level + by_chance, (raters, level)


def test_raters_who_agree_to_the_last_digit_are_no_proof():
    error, freedom = error_and_freedom(np.full(3, 0.01), 3 * 0.01**2, 3 * 0.01**2, 100)
    assert Estimate(0.01, float(error), float(freedom)).p_value() > 0.01  # without a least variance it is 0
