"""The card of judgements on a scale: how every rater uses it, and what a predictor that knows this scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from s3prl_metaperser.corpora.agreement import krippendorff_alpha
from s3prl_metaperser.corpora.iemocap import CLASSES as IEMOCAP
from s3prl_metaperser.demo import asked, crowd
from s3prl_metaperser.demo.asked import rounded
from s3prl_metaperser.demo.draws import generator
from s3prl_metaperser.demo.raters import VARIANTS
from s3prl_metaperser.demo.scales import LEVELS, Judge, Scaled, crowd_judge, heard, probabilities
from s3prl_metaperser.demo.script import Turn

NOTE = (
    "Share of levels that are right, surprisal (nats) and mean absolute error (levels, of the expected level) on the "
    "answers of this corpus of a predictor that knows every utterance's arousal, valence and dominance, and how the "
    "rater uses the scale ('own'), how raters are drawn and K answers of the rater (exact Bayes over a sample of the "
    "population; K = 0 is the best consensus), or of the eleven how all others use it ('others'). Models that must "
    "hear the utterances stay below."
)


def card(made: Scaled, variant: str, *, seed: int) -> dict:
    """What is true of the corpus, in plain JSON."""
    pairs = [(at, level) for at, given in enumerate(made.answers.values()) for level in given.values()]
    clip, level = np.array(pairs).T
    rated = Counter(name for given in made.answers.values() for name in given)
    return {
        "what": "Synthetic speech, judged on a scale by synthetic raters, ratings.csv. No recording of a person.",
        "variant": VARIANTS[variant] if variant in VARIANTS else crowd.POPULATIONS[variant].what,
        "question": made.question,
        "levels": list(LEVELS),
        "alpha": round(krippendorff_alpha(clip, level[:, None].astype(float)), 6),
        "ceilings": ceilings(made, variant, seed=seed),
        "spammers": [name for name, judge in made.judges.items() if judge.spammer],
        "raters": {
            name: {
                "lean": round(float(judge.lean), 6),
                "offset": round(float(judge.offset), 6),
                "stretch": round(judge.stretch, 6),
                "noise": round(judge.noise, 6),
                "lapse": round(judge.lapse, 6),
                "habit": None if judge.habit is None else rounded(judge.habit),
                "rated": rated[name],
            }
            for name, judge in made.judges.items()
        },
        "intended": {turn.utterance: IEMOCAP[turn.intended] for turn in made.turns},
        "avd": {turn.utterance: rounded(np.array(turn.avd)) for turn in made.turns},
    }


def ceilings(made: Scaled, variant: str, *, seed: int) -> dict:
    """``note``, and the share of ``correct`` levels, the ``surprisal`` and the mean absolute ``error`` of
    :func:`.asked.by_k`; of the eleven raters for ``others`` in place of each K."""
    sample = _sample(variant) if variant in crowd.POPULATIONS else []
    numbers = {u: {name: level - LEVELS[0] for name, level in given.items()} for u, given in made.answers.items()}

    def tables(judges: Sequence[Judge], mine: Sequence[Turn]) -> np.ndarray:
        avd = np.array([turn.avd for turn in mine])
        return probabilities(judges, heard(judges, made.question, avd, mine, seed=seed))

    return {"note": NOTE, **asked.by_k(made.judges, made.turns, numbers, tables, sample, _scored)}


def _sample(variant: str) -> list[Judge]:
    rng = generator(0, "scale population", variant)
    population = crowd.POPULATIONS[variant]
    return [crowd_judge(crowd.Rater.draw(population, rng), variant, rng) for _ in range(asked.SAMPLE)]


def _scored(predicted: np.ndarray, given: np.ndarray) -> dict[str, float]:
    error = float(np.abs(predicted @ np.arange(len(LEVELS)) - given).mean())
    return {**asked.correct_and_surprisal(predicted, given), "error": error}
