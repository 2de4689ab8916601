"""Predictions that results hold as decisions: those over the steps of adaptation, and under controls.

Reports read them: nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from s3prl_metaperser.corpora.label_set import LabelSet
from s3prl_metaperser.evaluation.result import Result
from s3prl_metaperser.evaluation.statistics import Scored

#: The control that uses no label at all.
UNADAPTED = "unadapted"
#: Those with other people's own labels: what is lost with either of them, and only that, is personal.
OF_OTHERS = ("swapped", "mixed")
#: What a point of a trajectory holds of each episode beside its metrics.
LOSSES = ("loss", "support_loss")


def decided_classes(probabilities: np.ndarray, label_set: LabelSet, smoothing: float = 0.0) -> list[int]:
    """The classes that are decided (:meth:`.LabelSet.decide`) of each utterance, as the bits of a number: class c is
    2 ** c.

    Args:
        probabilities: [Q, C].
        smoothing: of the targets that the predictions were trained on.
    """
    decided = label_set.decide(probabilities, smoothing).astype(np.int64)
    return (decided @ (1 << np.arange(decided.shape[1]))).tolist()


def scored_trajectory(result: Result) -> dict[str, dict[int, list[Scored]]]:
    """Rater -> number of steps -> its episodes with their predictions at that time, for the statistics.

    Predictions are zeros and ones, whose metrics are those of the probabilities that they come from as far as they go
    by decisions (:attr:`.Metric.of_decisions`). Points that diverged are left out.
    """
    own = result.scored
    found: dict[str, dict[int, list[Scored]]] = {rater: {} for rater in own}
    for point in result.trajectory or ():
        if point.diverged is None:
            for rater, episodes in with_decisions(own, point.predicted).items():
                found[rater][point.steps] = episodes
    return found


def with_decisions(own: Mapping[str, Sequence[Scored]], predicted: Sequence[Sequence[int]]) -> dict[str, list[Scored]]:
    """Rater -> its episodes with other predictions, of which only the decisions are known.

    Args:
        own: rater -> its episodes with their own predictions (:attr:`.Result.scored`).
        predicted: :func:`decided_classes` of each episode, in the order of these.
    """
    left = iter(predicted)  # the order of episodes is that of raters
    return {
        rater: [replace(e, probabilities=_bits(next(left), e.probabilities.shape[1]), smoothing=0.0) for e in episodes]
        for rater, episodes in own.items()
    }


def _bits(numbers: Sequence[int], classes: int) -> np.ndarray:
    return (np.asarray(numbers)[:, None] >> np.arange(classes) & 1).astype(np.float64)
