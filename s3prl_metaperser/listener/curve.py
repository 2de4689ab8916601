"""How far a listener is: what more labels still gain and change, and when they are enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from s3prl_metaperser.evaluation.statistics import LEVEL, Estimate, Interval, within
from s3prl_metaperser.listener.labels import ListenerLabels
from s3prl_metaperser.methods.choice import FEWEST

#: Predictions stand still when new labels move them by less than this share of what the first ones did, twice running.
STILL = 1 / 3


@dataclass(frozen=True)
class Point:
    """After ``labels`` labels.

    Attributes:
        labels: how many the model was adapted to.
        gain: probability given to the listener's own answers, each clip predicted without itself, minus that of the
            model that is not adapted; in points, mean over the clips with its interval for clips like these: all points
            together hold in 95 %. None where nothing was left out.
        moved: how far predictions for clips without a label moved since the point before: half the sum of absolute
            differences of probabilities, in points, mean over the clips. None at the first point.
    """

    labels: int
    gain: Interval | None = None
    moved: float | None = None


def gained(labels: ListenerLabels, left_out: np.ndarray, average: np.ndarray, looks: int = 1) -> Interval:
    """``gain`` of a point.

    Args:
        labels: K answers.
        left_out: probabilities [K, C] of each clip by the model adapted without it.
        average: probabilities [K, C] by the model that is not adapted.
        looks: points of the curve. Who looks at each errs more often than at one: each has a share of the 5 %
            (Bonferroni), so that all of them together hold in 95 %.
    """
    counts = labels.counts
    each = 100 * ((left_out - average) * counts / counts.sum(1, keepdims=True)).sum(1)
    error = float(each.std(ddof=1)) / len(each) ** 0.5
    return within(Estimate(float(each.mean()), error, len(each) - 1).interval(1 - (1 - LEVEL) / looks), -100, 100)


def movement(
    before: Mapping[int, np.ndarray], after: Mapping[int, np.ndarray], labelled: Mapping[int, object]
) -> float | None:
    """``moved`` of a point, over the clips that both know and that have no label; None where there are none."""
    fresh = [index for index in after if index in before and index not in labelled]
    if not fresh:
        return None
    return float(np.mean([50 * np.abs(after[index] - before[index]).sum() for index in fresh]))


def enough(curve: Sequence[Point], labels: int, shots: int) -> Literal["", "shots", "flat"]:
    """Why the labels are enough: as many as the model was trained for, or predictions stand still; else empty.

    >>> still = [Point(4), Point(8, moved=9.0), Point(12, moved=2.5), Point(16, moved=2.0)]
    >>> enough(still, 16, 32), enough(still[:3], 12, 32), enough(still[:1], 32, 32)
    ('flat', '', 'shots')
    """
    if labels >= shots:
        return "shots"
    moved = [point.moved for point in curve if point.moved is not None]
    still = len(moved) > 2 and max(moved[-2:]) < STILL * moved[0]
    return "flat" if still and labels >= FEWEST else ""
