"""The crowd's card."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from s3prl_metaperser.corpora.iemocap import CLASSES as IEMOCAP
from s3prl_metaperser.demo import asked
from s3prl_metaperser.demo.asked import rounded
from s3prl_metaperser.demo.crowd import CLASSES, POPULATIONS, Population, Rater, alpha, probabilities
from s3prl_metaperser.demo.draws import generator
from s3prl_metaperser.demo.script import Turn

NOTE = (
    "Share of correct answers and surprisal (nats) on the answers of this corpus of a predictor that knows every "
    "utterance's arousal, valence and dominance and how raters are drawn, but of a rater K answers alone (exact Bayes "
    "over a sample of the population; K = 0 is the best consensus), and of the rater's own table. Models that must "
    "hear the utterances stay below."
)


def ceilings(
    population: Population, raters: dict[str, Rater], turns: Sequence[Turn], answers: dict[str, dict[str, str]]
) -> dict:
    """``note``, and the share of ``correct`` answers and the ``surprisal`` of :func:`.asked.by_k`."""
    rng = generator(0, "crowd population", population.what)
    sample = [Rater.draw(population, rng) for _ in range(asked.SAMPLE)]
    numbers = {u: {name: CLASSES.index(answer) for name, answer in given.items()} for u, given in answers.items()}

    def tables(people: Sequence[Rater], mine: Sequence[Turn]) -> np.ndarray:
        return probabilities(people, np.array([turn.avd for turn in mine]))

    found = asked.by_k(raters, turns, numbers, tables, sample, asked.correct_and_surprisal)
    return {"note": NOTE, **found}


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
