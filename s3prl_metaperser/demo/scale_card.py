"""The card of judgements on a scale: how every rater uses it, and what a predictor that knows this scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from s3prl_metaperser.corpora.agreement import krippendorff_alpha
from s3prl_metaperser.corpora.iemocap import CLASSES as IEMOCAP
from s3prl_metaperser.demo import crowd
from s3prl_metaperser.demo.crowd_card import ASKED, QUERIES, SAMPLE, SHOTS, predicted_by_k, rounded
from s3prl_metaperser.demo.draws import generator
from s3prl_metaperser.demo.raters import VARIANTS
from s3prl_metaperser.demo.scales import LEVELS, Judge, Scaled, crowd_judge, heard, probabilities

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
    """Scores of predictors that know the truth, means over raters.

    Returns:
        ``note``, ``raters`` (how many were asked about) and ``by_k``: for each K of a crowd, or ``others``, and for
        ``own``, the share of ``correct`` levels, the mean ``surprisal`` and the mean absolute ``error``.
    """
    avd = np.array([turn.avd for turn in made.turns])
    by_rater: dict[str, list[int]] = {}
    for at, turn in enumerate(made.turns):
        for name in made.answers[turn.utterance]:
            by_rater.setdefault(name, []).append(at)
    in_a_crowd = variant in crowd.POPULATIONS
    least = max(SHOTS) + QUERIES if in_a_crowd else 1
    asked = [name for name in made.judges if len(by_rater.get(name, [])) >= least][:ASKED]
    sample = _sample(variant) if in_a_crowd else []
    scores: dict[str, list[tuple[float, float, float]]] = {}
    for name in asked:
        order = generator(0, "ceiling", name).permutation(len(by_rater[name]))
        rated = [by_rater[name][place] for place in order]
        turns = [made.turns[at] for at in rated]
        chosen = np.array([made.answers[turn.utterance][name] - LEVELS[0] for turn in turns])

        def tables(judges: Sequence[Judge], rated=rated, turns=turns) -> np.ndarray:
            return probabilities(judges, heard(judges, made.question, avd[rated], turns, seed=seed))

        rest = slice(max(SHOTS) if in_a_crowd else 0, None)
        if in_a_crowd:
            predicted = {str(k): each for k, each in predicted_by_k(tables(sample), chosen)}
        else:
            others = [judge for other, judge in made.judges.items() if other != name]
            predicted = {"others": tables(others).mean(0)}
        for key, each in (*predicted.items(), ("own", tables([made.judges[name]])[0][rest])):
            scores.setdefault(key, []).append(_scored(each, chosen[rest]))
    means = {key: np.mean(values, axis=0) for key, values in scores.items()}
    names = ("correct", "surprisal", "error")
    by_k = {key: dict(zip(names, rounded(values), strict=True)) for key, values in means.items()}
    return {"note": NOTE, "raters": len(asked), "by_k": by_k}


def _sample(variant: str) -> list[Judge]:
    rng = generator(0, "scale population", variant)
    population = crowd.POPULATIONS[variant]
    return [crowd_judge(crowd.Rater.draw(population, rng), variant, rng) for _ in range(SAMPLE)]


def _scored(predicted: np.ndarray, given: np.ndarray) -> tuple[float, float, float]:
    rows, levels = np.arange(len(given)), np.arange(len(LEVELS))
    right = float((predicted.argmax(1) == given).mean())
    surprisal = float(-np.log(np.maximum(predicted[rows, given], 1e-12)).mean())
    return right, surprisal, float(np.abs(predicted @ levels - given).mean())
