"""How an episode's predictions change over the steps of adaptation (docs/results.md, ``trajectory``).

Each number of steps is an adaptation of its own, from the start and by the very code that gives the cell its numbers:
the system under the same options, those that the protocol ``tuned`` chose included, but for ``evalrc.steps``.
"""

from __future__ import annotations

from collections.abc import Sequence

from s3prl_metaperser import parallel
from s3prl_metaperser.corpora.label_set import LabelSet
from s3prl_metaperser.evaluation.decided import decided_classes
from s3prl_metaperser.evaluation.meta_testing import Diverged, EpisodeResult, meta_test
from s3prl_metaperser.evaluation.metrics import episode_scores, metrics_for
from s3prl_metaperser.evaluation.result_keys import Point
from s3prl_metaperser.methods.base import EpisodeData, ModelState, System
from s3prl_metaperser.methods.tuning import overridden
from s3prl_metaperser.progress import tqdm


def trajectory(
    system: System, state: ModelState, episodes: Sequence[EpisodeData], steps: Sequence[int], label_set: LabelSet
) -> tuple[Point, ...] | None:
    """Meta-test after each number of steps.

    Args:
        steps: numbers of steps, in any order; 0 is the state before adaptation.

    Returns:
        A point for each number of steps, in ascending order; ``predicted`` is :func:`.decided_classes`. Where
        adaptation diverges a point has ``steps`` and ``diverged`` alone. None where ``steps`` is empty or the system
        does not adapt in steps.
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
            points.append(point_of(number, results, label_set, system.options.downstream_expert.datarc.smoothing))
    return tuple(points)


def point_of(steps: int, results: Sequence[EpisodeResult], label_set: LabelSet, smoothing: float) -> Point:
    """What is stored of predictions that are not the cell's own."""
    scores = [episode_scores(r.probabilities, r.ticks, label_set, smoothing) for r in results]
    defined = [metric.name for metric in metrics_for(label_set) if all(metric.name in score for score in scores)]
    return Point(
        steps,
        metrics={name: tuple(score[name] for score in scores) for name in defined},
        loss=tuple(result.loss for result in results),
        support_loss=tuple(result.support_loss for result in results if result.support_loss is not None),
        predicted=tuple(tuple(decided_classes(r.probabilities, label_set, smoothing)) for r in results),
    )
