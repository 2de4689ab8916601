"""What a classifier scores that knows the intended emotion: a mark for every model that has to hear it."""

from __future__ import annotations

import numpy as np

from s3prl_metaperser.corpora.iemocap import CLASSES
from s3prl_metaperser.demo.raters import RaterModel
from s3prl_metaperser.demo.script import SPEAKERS, Turn

#: In the card: what the numbers are and are not.
NOTE = (
    "Scores from 0 to 1, on the ticks of this corpus, of a classifier that knows the intended emotion and "
    "predicts every class whose probability exceeds 1/9: with the consensus of all other raters' tables, and "
    "with the rater's own table. They are ceilings of that decision rule; another threshold may score higher."
)
#: Added where no table describes a rater.
NOTE_ON_TURNS = (
    "The own table is the rater's mean over turns, the most that one table a rater can know; with “turn”, the table of "
    "the very turn is known, which depends on who speaks, and how loudly."
)


def scores(probabilities: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """Macro-F1, micro-F1 and UA, from 0 to 1, of multi-label decisions.

    Args:
        probabilities: [Q, C]; a class is predicted where it exceeds 1/C.
        targets: [Q, C], true where the rater ticked the class.
    """
    predicted = probabilities > 1 / probabilities.shape[1]
    hits = (predicted & targets).sum(axis=0)
    either = predicted.sum(axis=0) + targets.sum(axis=0)
    f1 = np.divide(2.0 * hits, either, out=np.zeros(len(hits)), where=either > 0)
    return {
        "macro_f1": float(f1.mean()),
        "micro_f1": 2.0 * float(hits.sum()) / max(float(either.sum()), 1.0),
        "unweighted_accuracy": float((predicted == targets).mean()),
    }


def consensus_table(models: tuple[RaterModel, ...], rater: str) -> np.ndarray:
    """The other raters' tables [C, C], weighted by the ticks each should give; ``rater`` left out."""
    others = [model for model in models if model.id != rater]
    reach = [1.0 if model.speaker is None else 1 / len(SPEAKERS) for model in others]
    weights = np.array([m.coverage * m.tick_rate * share for m, share in zip(others, reach, strict=True)])
    return np.tensordot(weights / weights.sum(), np.stack([model.table for model in others]), axes=1)


def ceilings(
    models: tuple[RaterModel, ...], turns: list[Turn], ratings: dict[str, dict[str, tuple[str, ...]]], *, seed: int
) -> dict:
    """Scores with the consensus table and with the own table, for every rater and on average; of raters whom no table
    describes also with what they go by (``turn``: the table of the very turn).

    Args:
        models: all raters.
        turns: all utterances.
        ratings: utterance id -> rater id -> ticks, as drawn.
        seed: of the corpus.

    Returns:
        ``note``, ``raters`` (rater id -> ``{"consensus": scores, "own": scores}``, with ``turn`` where tables are
        wrong), ``mean`` and ``mean_external``.
    """
    per_rater = {}
    for model in models:
        mine = [turn for turn in turns if model.id in ratings[turn.utterance]]
        if not mine:
            continue
        intended = [turn.intended for turn in mine]
        targets = np.array([[c in ratings[turn.utterance][model.id] for c in CLASSES] for turn in mine])
        per_rater[model.id] = {
            "consensus": scores(consensus_table(models, model.id)[intended], targets),
            "own": scores(model.table[intended], targets),
        }
        if model.hearing is not None:
            rows = np.array([model.row(turn, seed=seed) for turn in mine])
            per_rater[model.id]["turn"] = scores(rows, targets)
    external = [scored for rater, scored in per_rater.items() if rater.startswith("C-E")]
    return {
        "note": NOTE if all(model.hearing is None for model in models) else f"{NOTE} {NOTE_ON_TURNS}",
        "raters": per_rater,
        "mean": _mean(list(per_rater.values())),
        "mean_external": _mean(external),
    }


def _mean(scored: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    return {
        table: {metric: float(np.mean([one[table][metric] for one in scored])) for metric in scored[0][table]}
        for table in scored[0]
    }
