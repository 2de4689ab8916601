"""Averages over scenarios, recalls, and paired differences that are corrected over systems and scenarios at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from s3prl_metaperser.evaluation.compare import Comparison, compare, corrected
from s3prl_metaperser.evaluation.result_keys import Cell
from s3prl_metaperser.evaluation.statistics import Scored


@dataclass(frozen=True)
class Averages:
    """Means of one number over scenarios.

    Attributes:
        unweighted: UM.
        weighted: WM, by the targets' utterances.
        geometric: GM; 0 where one of them is 0.

    Examples:
        >>> Averages.of([20.0, 80.0], [300, 100])
        Averages(unweighted=50.0, weighted=35.0, geometric=40.0)
    """

    unweighted: float
    weighted: float
    geometric: float

    @classmethod
    def of(cls, values: Sequence[float], weights: Sequence[float]) -> Averages:
        """Of one value and one weight for each scenario."""
        given = np.asarray(values, dtype=np.float64)
        with np.errstate(divide="ignore"):
            geometric = float(np.exp(np.log(given).mean()))
        rounded = round(geometric, 9)
        return cls(float(given.mean()), float(np.average(given, weights=weights)), rounded)


def recalls(trials: Mapping[str, Sequence[Scored]]) -> list[float | None]:
    """Recall of each class, a mean over trials; None for a class that the target does not have."""
    found = []
    for (episode,) in trials.values():
        decided = np.asarray(episode.label_set.decide(np.asarray(episode.probabilities, np.float64), episode.smoothing))
        answered = np.asarray(episode.counts) > 0
        many = answered.sum(0)
        found.append(np.where(many > 0, (decided & answered).sum(0) / np.maximum(many, 1), np.nan))
    means = np.mean(found, axis=0)
    return [None if np.isnan(value) else float(value) for value in means]


def constant_accuracy(trials: Mapping[str, Sequence[Scored]]) -> float:
    """What the best constant class scores on the target: no more than knowing its commonest class."""
    (episode,) = next(iter(trials.values()))
    return float(np.asarray(episode.counts).mean(0).max())


def speakers(trials: Mapping[str, Sequence[Scored]]) -> int:
    """How many the target has; in trials that test different ones, the fewest."""
    return min(len(set(episode.clusters or ())) for episodes in trials.values() for episode in episodes)


def paired(
    cells: Mapping[Cell, Mapping[str, Sequence[Scored]]], against: str, metric: str, fewest_speakers: int
) -> list[Comparison]:
    """Every system minus ``against``, by trial and utterance, corrected over all systems and scenarios together.

    Args:
        fewest_speakers: below, nothing can be said about other speakers, and a comparison stands in no family.
    """
    found = compare(cells, against, metric=metric)
    tested = {cell.setting: speakers(trials) for cell, trials in cells.items()}
    return corrected(found, [not c.too_few and tested[c.setting] >= fewest_speakers for c in found])
