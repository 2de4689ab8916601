"""How an episode's predictions change over the steps of adaptation (docs/results.md, ``trajectory``).

Each number of steps is an adaptation of its own, from the start and by the very code that gives the cell its numbers:
the system under the same options, those that the protocol ``tuned`` chose included, but for ``evalrc.steps``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from s3prl_metaperser import parallel
from s3prl_metaperser.evaluation.meta_testing import Diverged, EpisodeResult, meta_test
from s3prl_metaperser.evaluation.metrics import METRICS, multilabel_scores
from s3prl_metaperser.evaluation.result import Point, Result
from s3prl_metaperser.evaluation.statistics import Scored
from s3prl_metaperser.methods.base import EpisodeData, ModelState, System
from s3prl_metaperser.methods.tuning import overridden
from s3prl_metaperser.protocol.labels import binarise

#: What a point holds of each episode beside its metrics.
LOSSES = ("loss", "support_loss")


def trajectory(
    system: System, state: ModelState, episodes: Sequence[EpisodeData], steps: Sequence[int]
) -> tuple[Point, ...] | None:
    """Meta-test after each number of steps.

    Args:
        steps: numbers of steps, in any order; 0 is the state before adaptation.

    Returns:
        A point for each number of steps, in ascending order; ``predicted`` is :func:`ticked_classes`. Where adaptation
        diverges a point has ``steps`` and ``diverged`` alone. None where ``steps`` is empty or the system does not
        adapt in steps.
    """
    if not steps or not system.adapts_in_steps:
        return None
    points = []
    for number in tqdm(sorted(set(steps)), desc="trajectory", disable=not parallel.is_leader(), dynamic_ncols=True):
        trial = system.under(overridden(system.options, {"evalrc.steps": number}))
        try:
            results = meta_test(trial, state, episodes, support_loss=True)
        except Diverged as error:
            points.append(Point(number, diverged=str(error)))
        else:
            points.append(_point(number, results))
    return tuple(points)


def _point(steps: int, results: Sequence[EpisodeResult]) -> Point:
    scores = [multilabel_scores(r.probabilities, r.ticks / r.ticks.sum(1, keepdims=True)) for r in results]
    return Point(
        steps,
        metrics={metric: tuple(score[metric] for score in scores) for metric in METRICS},
        loss=tuple(result.loss for result in results),
        support_loss=tuple(result.support_loss for result in results if result.support_loss is not None),
        predicted=tuple(tuple(ticked_classes(result.probabilities)) for result in results),
    )


def ticked_classes(probabilities: np.ndarray) -> list[int]:
    """The classes that are ticked (above 1 / C) of each utterance, as the bits of a number: class c is 2 ** c.

    Args:
        probabilities: [Q, C].
    """
    ticked = binarise(np.asarray(probabilities)).astype(np.int64)
    return (ticked @ (1 << np.arange(ticked.shape[1]))).tolist()


def scored_trajectory(result: Result) -> dict[int, list[Scored]]:
    """Number of steps -> the episodes of a result file with their predictions at that time, for the statistics.

    Predictions are zeros and ones, whose metrics are those of the probabilities that they come from. Points that
    diverged are left out.
    """
    classes, found = len(result.classes), {}
    for point in result.trajectory or ():
        if point.diverged is not None:
            continue
        found[point.steps] = [
            Scored(
                episode.query,
                (np.asarray(numbers)[:, None] >> np.arange(classes) & 1).astype(np.float64),
                np.asarray(episode.ticks),
            )
            for episode, numbers in zip(result.episodes, point.predicted, strict=True)
        ]
    return found
