"""What adaptation gains: a system before and after it has seen the support samples, on the same episodes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from s3prl_metaperser.evaluation.metrics import METRICS
from s3prl_metaperser.evaluation.result import Result
from s3prl_metaperser.evaluation.statistics import Scored, mean_scores, paired_intervals, within
from s3prl_metaperser.methods.base import EpisodeData, ModelState, System
from s3prl_metaperser.run.workspace import say

#: Probabilities that differ by no more are the same, computed in another order.
SAME = 1e-6


def against_unadapted(result: Result, system: System, state: ModelState, episodes: Sequence[EpisodeData]) -> str:
    """The metrics without adaptation, with it, and their paired difference, as text; empty for a system that does not
    adapt.

    Args:
        result: of these episodes.
    """
    if not system.personalises:
        return ""
    unadapted = system.unadapted(state)
    before, after = (system.predict(state, unadapted, episode.query) for episode in episodes), result.scored
    zero_shot = {
        rater: [dataclasses.replace(episode, probabilities=next(before)) for episode in mine]
        for rater, mine in after.items()
    }
    if all(_unmoved(mine, zero_shot[rater]) for rater, mine in after.items()):
        say(
            "NOTE: adaptation changes no prediction: the parameters do not move. Raise the rates that it goes by "
            "(metarc.inner_lr, evalrc.rate_factor), or take a system that does not adapt."
        )
    scores, gains = mean_scores(zero_shot), paired_intervals(after, zero_shot)
    alone = f" (of rater {result.raters.tested[0]} alone)" if len(after) == 1 else ""
    wide = max([28, *(len(METRICS.get(name).heading) for name in gains)])
    lines = [
        f"the same episodes without adaptation (zero-shot) and with it; differences with 95 % intervals{alone}",
        f"{'metric':<{wide}} {'zero-shot':>9} {'adapted':>8}   difference",
    ]
    for name, gain in gains.items():
        metric, span = METRICS.get(name), result.metrics[name]
        low, high = metric.bounds
        gain = within(gain, low - high, high - low)
        shown = f"{metric.shown(gain.mean, '+')} [{metric.shown(gain.low, '+')}, {metric.shown(gain.high, '+')}]"
        less = "" if metric.higher_is_better else " (less is better)"
        before_and_after = f"{metric.shown(scores[name]):>9} {metric.shown(span.mean):>8}"
        lines.append(f"{metric.heading:<{wide}} {before_and_after}   {shown}{less}")
    return "\n".join(lines)


def _unmoved(after: Sequence[Scored], before: Sequence[Scored]) -> bool:
    pairs = zip(after, before, strict=True)
    return all(np.abs(one.probabilities - other.probabilities).max() <= SAME for one, other in pairs)
