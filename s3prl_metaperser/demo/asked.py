"""What K answers of a rater are worth to somebody who knows what was said, and how raters are drawn: exact Bayes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from s3prl_metaperser.demo.draws import generator
from s3prl_metaperser.demo.script import Turn

Person = TypeVar("Person")
#: (people, utterances) -> P(answer) of each of both, [R, n, C].
Tables = Callable[[Sequence[Person], Sequence[Turn]], np.ndarray]

SHOTS = (0, 4, 16, 32)
#: Raters of the population that stand for all of it, and raters of the corpus that are asked about.
SAMPLE, ASKED = 2000, 200
QUERIES = 8


def by_k(
    people: Mapping[str, Person],
    turns: Sequence[Turn],
    answers: Mapping[str, Mapping[str, int]],
    tables: Tables[Person],
    sample: Sequence[Person],
    scores: Callable[[np.ndarray, np.ndarray], dict[str, float]],
) -> dict[str, Any]:
    """Scores of predictors that know the truth, means over raters.

    Args:
        people: of the corpus, by name.
        answers: utterance -> rater -> answer, counted from 0.
        sample: of the population, for who knows K answers alone; empty: one goes by the other people.
        scores: (P(answer) [n, C], answers [n]) -> score by name.

    Returns:
        ``raters`` (how many were asked about) and ``by_k``: the scores for each K (or ``others``), and for ``own``.
    """
    rated: dict[str, list[Turn]] = {}
    for turn in turns:
        for name in answers[turn.utterance]:
            rated.setdefault(name, []).append(turn)
    least, first = (max(SHOTS) + QUERIES, max(SHOTS)) if sample else (1, 0)
    asked = [name for name in people if len(rated.get(name, [])) >= least][:ASKED]
    found: dict[str, list[dict[str, float]]] = {}
    for name in asked:
        mine = [rated[name][place] for place in generator(0, "ceiling", name).permutation(len(rated[name]))]
        chosen = np.array([answers[turn.utterance][name] for turn in mine])
        if sample:
            predicted = {str(shots): each for shots, each in predicted_by_k(tables(sample, mine), chosen)}
        else:
            others = [person for other, person in people.items() if other != name]
            predicted = {"others": tables(others, mine).mean(0)}
        predicted["own"] = tables([people[name]], mine)[0][first:]
        for key, each in predicted.items():
            found.setdefault(key, []).append(scores(each, chosen[first:]))
    means = {
        key: {score: round(float(np.mean([one[score] for one in of])), 6) for score in of[0]}
        for key, of in found.items()
    }
    return {"raters": len(asked), "by_k": means}


def predicted_by_k(table: np.ndarray, chosen: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """(K, P(answer) [n - max(SHOTS), C]) of one who knows how raters are drawn, and the first K answers.

    The utterances predicted are those behind the first :data:`SHOTS`, whatever K is.

    Args:
        table: P(answer) of each rater of a sample of the population, [SAMPLE, n, C].
        chosen: what the rater answered, [n].
    """
    log_likelihood = np.log(np.maximum(table[:, np.arange(len(chosen)), chosen], 1e-12))  # [SAMPLE, n]
    for shots in SHOTS:
        weight = log_likelihood[:, :shots].sum(1)
        weight = np.exp(weight - weight.max())
        yield shots, np.tensordot(weight / weight.sum(), table[:, max(SHOTS) :], axes=1)


def correct_and_surprisal(predicted: np.ndarray, given: np.ndarray) -> dict[str, float]:
    """The share of answers [n] that are the most probable ones [n, C], and their mean surprisal in nats."""
    likely = np.maximum(predicted[np.arange(len(given)), given], 1e-12)
    return {"correct": float((predicted.argmax(1) == given).mean()), "surprisal": float(-np.log(likely).mean())}


def rounded(values: np.ndarray) -> list[float]:
    """As a card has numbers: six decimals."""
    return [round(float(value), 6) for value in values]
