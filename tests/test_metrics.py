import numpy as np
import pytest
import yaml
from sklearn.metrics import accuracy_score, f1_score

from s3prl_metaperser.corpora.iemocap import CLASSES
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.evaluation.metrics import METRICS, multilabel_scores
from s3prl_metaperser.methods.random_logits import random_probabilities
from s3prl_metaperser.storage.resources import folder

PAPER = yaml.safe_load((folder("benchmarks/paper") / "tables.yaml").read_text())


@pytest.mark.parametrize("seed", range(20))
def test_scores_equal_scikit_learn(seed):
    generator = np.random.default_rng(seed)
    queries = int(generator.integers(1, 130))
    probabilities = generator.dirichlet(np.full(9, 0.5), size=queries)
    targets = generator.dirichlet(np.full(9, 0.2), size=queries)
    predicted, present = probabilities > 1 / 9, targets > 1 / 9
    scores = multilabel_scores(probabilities, targets)
    assert scores["macro_f1"] == pytest.approx(f1_score(present, predicted, average="macro", zero_division=0))
    assert scores["micro_f1"] == pytest.approx(f1_score(present, predicted, average="micro", zero_division=0))
    accuracies = [accuracy_score(present[:, c], predicted[:, c]) for c in range(9)]
    assert scores["unweighted_accuracy"] == pytest.approx(np.mean(accuracies))


def test_multi_hot_targets_mean_the_same_as_distributions():
    generator = np.random.default_rng(0)
    probabilities = generator.dirichlet(np.full(9, 0.5), size=50)
    hot = (generator.random((50, 9)) < 0.2) | np.eye(9, dtype=bool)[generator.integers(9, size=50)]
    assert multilabel_scores(probabilities, hot) == multilabel_scores(probabilities, hot / hot.sum(1, keepdims=True))


def test_a_class_that_is_neither_predicted_nor_present_counts_as_zero():
    perfect = multilabel_scores(np.eye(9)[:3], np.eye(9)[:3])
    assert perfect == pytest.approx({"macro_f1": 3 / 9, "micro_f1": 1.0, "unweighted_accuracy": 1.0})


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
        multilabel_scores(probabilities, targets)


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
            scores = multilabel_scores(probabilities, labels)
            episodes.append([100 * scores[name] for name in METRICS])
        per_rater.append(np.mean(episodes, axis=0))
    published = PAPER["table1"][scenario]["wavlm_base"]["Random"]
    np.testing.assert_allclose(np.mean(per_rater, axis=0), published, atol=1.0)
