"""F1 at the level of annotators, of utterances and of traits (PersEval, EMNLP 2025), beside that of all answers.

A score over all answers is one of those who gave most of them, and of the utterances that most rated. These are means
of macro-F1 over groups of answers: of one rater; to one utterance, whoever rated it; of raters who share a trait.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from s3prl_metaperser.evaluation.statistics import Scored


@dataclass(frozen=True)
class Levels:
    """Macro-F1 over the classes that are predicted or answered in a group, from 0 to 1; means over groups and episodes.

    Attributes:
        everything: all answers are one group.
        rater: a group for each rater.
        utterance: a group for each utterance.
        trait: a group for each value of each trait; None where traits are not known.
    """

    everything: float
    rater: float
    utterance: float
    trait: float | None = None


def levels(raters: Mapping[str, Sequence[Scored]], traits: Mapping[str, Mapping[str, str]] | None = None) -> Levels:
    """The four of one cell. Episodes of one place in the raters' lists are taken together, as one test.

    Args:
        traits: rater -> trait -> value (``{"anna": {"gender": "female"}}``); raters without are in no group.
    """
    found = []
    for number in range(max(map(len, raters.values()))):
        episodes = {rater: mine[number] for rater, mine in raters.items() if number < len(mine)}
        whose = [rater for rater, e in episodes.items() for _ in e.query]
        utterances = [utterance for e in episodes.values() for utterance in e.query]
        sets = [
            (e.label_set.decide(np.asarray(e.probabilities, np.float64), e.smoothing), e.label_set.answered(e.counts))
            for e in episodes.values()
        ]
        decided, answered = (np.concatenate(part) for part in zip(*sets, strict=True))
        groups = [np.zeros(len(whose), dtype=int), *(_numbered(names) for names in (whose, utterances))]
        scores = [float(macro_f1_of(group, decided, answered).mean()) for group in groups]
        shared = []
        for trait, value in sorted({pair for own in (traits or {}).values() for pair in own.items()}):
            mine = np.array([(traits or {}).get(rater, {}).get(trait) == value for rater in whose])
            if mine.any():
                shared.append(float(macro_f1_of(groups[0][mine], decided[mine], answered[mine])[0]))
        found.append((*scores, float(np.mean(shared)) if shared else np.nan))
    everything, rater, utterance, trait = np.mean(found, axis=0).tolist()
    return Levels(everything, rater, utterance, None if np.isnan(trait) else trait)


def macro_f1_of(group: np.ndarray, decided: np.ndarray, answered: np.ndarray) -> np.ndarray:
    """Macro-F1 of each group over the classes that are predicted or answered in it, [G].

    Args:
        group: the number of each answer's group, int [N].
        decided: bool [N, C].
        answered: bool [N, C].
    """
    groups, classes = int(group.max()) + 1, decided.shape[1]

    def counted(given: np.ndarray) -> np.ndarray:
        places = np.broadcast_to(group[:, None] * classes + np.arange(classes), given.shape)[given]
        return np.bincount(places, minlength=groups * classes).reshape(groups, classes).astype(float)

    hits, either = counted(decided & answered), counted(decided) + counted(answered)
    f1 = np.divide(2 * hits, either, out=np.zeros_like(hits), where=either > 0)
    return f1.sum(1) / np.maximum((either > 0).sum(1), 1)


def _numbered(names: Sequence[str]) -> np.ndarray:
    place = {name: at for at, name in enumerate(sorted(set(names)))}
    return np.array([place[name] for name in names])
