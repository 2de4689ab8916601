"""What adaptation gains: a system before and after it has seen the support samples, on the same episodes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from s3prl_metaperser.evaluation.metrics import METRICS
from s3prl_metaperser.evaluation.result import Result
from s3prl_metaperser.evaluation.statistics import Interval, Scored, mean_scores, paired_intervals
from s3prl_metaperser.methods.base import EpisodeData, ModelState, System
from s3prl_metaperser.run.workspace import say

#: Probabilities that differ by no more are the same, computed in another order.
SAME = 1e-6
#: Characters of a whole bar.
WIDE = 40
#: Eighths of a block.
_EIGHTHS = " ▏▎▍▌▋▊▉"


@dataclasses.dataclass(frozen=True)
class Gains:
    """What adapting to the listener changed, by metric.

    Attributes:
        difference: paired, over the same episodes.
    """

    before: Mapping[str, float]
    after: Mapping[str, float]
    difference: Mapping[str, Interval]
    raters: tuple[str, ...]

    def __str__(self) -> str:
        alone = f" (of rater {self.raters[0]} alone)" if len(self.raters) == 1 else ""
        wide = max([28, *(len(METRICS.get(name).heading) for name in self.difference)])
        lines = [
            f"the same episodes without adaptation (zero-shot) and with it; differences with 95 % intervals{alone}",
            f"{'metric':<{wide}} {'zero-shot':>9} {'adapted':>8}   difference",
        ]
        for name, gain in self.difference.items():
            metric = METRICS.get(name)
            shown = f"{metric.shown(gain.mean, '+')} [{metric.shown(gain.low, '+')}, {metric.shown(gain.high, '+')}]"
            before_and_after = f"{metric.shown(self.before[name]):>9} {metric.shown(self.after[name]):>8}"
            lines.append(f"{metric.heading:<{wide}} {before_and_after}   {shown}{metric.less}")
        return "\n".join(lines)

    def bars(self, blocks: bool = True) -> str:
        """A bar for each metric that goes from 0 to 1, before and after; a whole bar is 1.

        Where there is none, as on a scale, for those of at most 1: below 0 a bar is empty.

        Args:
            blocks: draw with block characters; otherwise with ``#``.
        """
        named = {name: METRICS.get(name) for name in self.difference}
        good = {name: metric for name, metric in named.items() if metric.higher_is_better and metric.bounds[1] == 1.0}
        lines = []
        for name, metric in ({n: metric for n, metric in good.items() if metric.bounds[0] == 0.0} or good).items():
            for said, value in (("zero-shot", self.before[name]), ("adapted", self.after[name])):
                title = metric.heading if said == "zero-shot" else ""
                lines.append(f"{title:<28} {said:>9} {_bar(value, blocks)} {metric.shown(value)}")
        return "\n".join(lines)

    def scalars(self) -> dict[str, float]:
        """For TensorBoard: ``macro_f1-zero_shot``, ``-adapted``, ``-difference`` and its ``_low`` and ``_high``."""
        found: dict[str, float] = {}
        for name, gain in self.difference.items():
            found |= {f"{name}-zero_shot": self.before[name], f"{name}-adapted": self.after[name]}
            found |= {f"{name}-difference": gain.mean}
            found |= {f"{name}-difference_low": gain.low, f"{name}-difference_high": gain.high}
        return found


def _bar(value: float, blocks: bool) -> str:
    """``value``, from 0 to 1, as a bar of :data:`WIDE` characters."""
    eighths = round(min(max(value, 0.0), 1.0) * WIDE * 8)
    if not blocks:
        return f"{'#' * round(eighths / 8):.<{WIDE}}"
    whole, rest = divmod(eighths, 8)
    return f"{'█' * whole + (_EIGHTHS[rest] if rest else ''):<{WIDE}}"


def against_unadapted(
    result: Result, system: System, state: ModelState, episodes: Sequence[EpisodeData]
) -> Gains | None:
    """The metrics without adaptation, with it, and their paired difference; None for a system that does not adapt."""
    if not system.personalises:
        return None
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
    return Gains(
        before={name: scores[name] for name in gains},
        after={name: result.metrics[name].mean for name in gains},
        difference=gains,
        raters=tuple(after),
    )


def _unmoved(after: Sequence[Scored], before: Sequence[Scored]) -> bool:
    pairs = zip(after, before, strict=True)
    return all(np.abs(one.probabilities - other.probabilities).max() <= SAME for one, other in pairs)
