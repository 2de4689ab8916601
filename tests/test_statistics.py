import numpy as np
import pytest

from s3prl_metaperser.evaluation.metrics import multilabel_scores
from s3prl_metaperser.evaluation.statistics import Scored, intervals, mean_scores, paired_intervals


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
        made.append(Scored([f"u{c}" for c in chosen], probabilities, np.eye(9, dtype=int)[truth[chosen]]))
    return made


def test_means_are_over_seeds_then_raters():
    raters = {"a": rater(0, 0.5), "b": rater(1, 0.9, episodes=2)}
    expected = np.mean(
        [
            np.mean([multilabel_scores(e.probabilities, e.ticks)["macro_f1"] for e in episodes])
            for episodes in raters.values()
        ]
    )
    assert mean_scores(raters)["macro_f1"] == pytest.approx(expected)


def test_intervals_hold_the_mean_and_shrink_with_more_utterances():
    few, many = (intervals({"a": rater(0, 0.5, utterances=n, queries=n // 2)}, 400)["micro_f1"] for n in (40, 640))
    assert few.low < few.mean < few.high
    assert many.high - many.low < 0.5 * (few.high - few.low)


def test_a_system_differs_from_itself_by_exactly_nothing():
    raters = {"a": rater(0, 0.5), "b": rater(1, 0.5)}
    span = paired_intervals(raters, raters, 200)["macro_f1"]
    assert (span.mean, span.low, span.high) == (0.0, 0.0, 0.0)


def test_a_better_system_is_told_apart_and_the_difference_has_a_sign():
    good, bad = ({n: rater(n, skill, episodes=3) for n in range(4)} for skill in (0.9, 0.4))
    # the same draws choose the same utterances, so that the two are paired
    span = paired_intervals(good, bad, 400)["micro_f1"]
    assert span.low > 0
    assert paired_intervals(bad, good, 400)["micro_f1"].high < 0


def test_systems_on_different_episodes_are_not_compared():
    with pytest.raises(ValueError, match="different episodes"):
        paired_intervals({"a": rater(0, 0.5)}, {"a": rater(5, 0.5)}, 10)


def test_intervals_are_the_same_each_time():
    raters = {"a": rater(0, 0.5), "b": rater(1, 0.5)}
    assert intervals(raters, 100) == intervals(raters, 100)


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    truth = np.mean([mean_scores({"a": rater(s, 0.6, utterances=4000, queries=2000)})["micro_f1"] for s in range(3)])
    covered = 0
    for seed in range(120):
        span = intervals({"a": rater(1000 + seed, 0.6, utterances=200, episodes=1, queries=200)}, 200, seed)["micro_f1"]
        covered += span.low <= truth <= span.high
    assert 0.88 <= covered / 120 <= 0.99
