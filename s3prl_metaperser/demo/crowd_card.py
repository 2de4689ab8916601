"""The crowd's card, with what K labels of a rater are worth to somebody who knows what was said: exact Bayes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from s3prl_metaperser.corpora.iemocap import CLASSES as IEMOCAP
from s3prl_metaperser.demo.crowd import CLASSES, POPULATIONS, Population, Rater, alpha, probabilities
from s3prl_metaperser.demo.draws import generator
from s3prl_metaperser.demo.script import Turn

SHOTS = (0, 4, 16, 32)
#: Raters of the population that stand for all of it, and raters of the corpus that are asked about.
SAMPLE, ASKED = 2000, 200
QUERIES = 8
NOTE = (
    "Share of correct answers and surprisal (nats) on the answers of this corpus of a predictor that knows every "
    "utterance's arousal, valence and dominance and how raters are drawn, but of a rater K answers alone (exact Bayes "
    "over a sample of the population; K = 0 is the best consensus), and of the rater's own table. Models that must "
    "hear the utterances stay below."
)


def ceilings(
    population: Population, raters: dict[str, Rater], turns: Sequence[Turn], answers: dict[str, dict[str, str]]
) -> dict:
    """Scores by K and with the rater's own table, means over raters.

    Returns:
        ``note``, ``raters`` (how many were asked about), and ``by_k``: for each K and ``own`` the share of ``correct``
        answers and the mean ``surprisal`` in nats.
    """
    rng = generator(0, "crowd population", population.what)
    sample = [Rater.draw(population, rng) for _ in range(SAMPLE)]
    avd = {turn.utterance: np.array(turn.avd) for turn in turns}
    by_rater: dict[str, list[tuple[str, int]]] = {}
    for utterance, given in answers.items():
        for name, answer in given.items():
            by_rater.setdefault(name, []).append((utterance, CLASSES.index(answer)))
    scores: dict[str, list[tuple[float, float]]] = {}
    for name in [name for name in raters if len(by_rater.get(name, [])) >= max(SHOTS) + QUERIES][:ASKED]:
        order = generator(0, "ceiling", name).permutation(len(by_rater[name]))
        rated = [by_rater[name][place] for place in order]
        heard, chosen = np.stack([avd[utterance] for utterance, _ in rated]), np.array([c for _, c in rated])
        asked = slice(max(SHOTS), None)
        for shots, predicted in predicted_by_k(probabilities(sample, heard), chosen):
            scores.setdefault(str(shots), []).append(_scored(predicted, chosen[asked]))
        own = probabilities([raters[name]], heard[asked])[0]
        scores.setdefault("own", []).append(_scored(own, chosen[asked]))
    means = {key: np.mean(values, axis=0) for key, values in scores.items()}
    found = {key: {"correct": round(float(a), 6), "surprisal": round(float(n), 6)} for key, (a, n) in means.items()}
    return {"note": NOTE, "raters": len(next(iter(scores.values()), [])), "by_k": found}


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


def _scored(predicted: np.ndarray, given: np.ndarray) -> tuple[float, float]:
    rows = np.arange(len(given))
    return float((predicted.argmax(1) == given).mean()), float(-np.log(predicted[rows, given]).mean())


def card(variant: str, raters: dict[str, Rater], turns: Sequence[Turn], answers: dict[str, dict[str, str]]) -> dict:
    """What is true of the crowd, in plain JSON."""
    rated = Counter(name for given in answers.values() for name in given)
    return {
        "what": "Synthetic speech and a crowd of synthetic raters, ratings.csv. No recording of a person.",
        "variant": POPULATIONS[variant].what,
        "classes": list(CLASSES),
        "alpha": round(alpha(answers), 6),
        "ceilings": ceilings(POPULATIONS[variant], raters, turns, answers),
        "spammers": [name for name, rater in raters.items() if rater.type < 0],
        "raters": {
            name: {
                "type": rater.type,
                "weights": rounded(rater.weights),
                "lean": round(rater.lean, 6),
                "sharpness": round(rater.sharpness, 6),
                "bias": rounded(rater.bias),
                "lapse": round(rater.lapse, 6),
                "habit": rounded(rater.habit),
                "rated": rated[name],
            }
            for name, rater in raters.items()
        },
        "intended": {turn.utterance: IEMOCAP[turn.intended] for turn in turns},
        "avd": {turn.utterance: rounded(np.array(turn.avd)) for turn in turns},
    }


def rounded(values: np.ndarray) -> list[float]:
    """As the card has numbers: six decimals."""
    return [round(float(value), 6) for value in values]
