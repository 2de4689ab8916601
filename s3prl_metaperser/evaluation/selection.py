"""The protocol ``tuned``: optimiser, learning rate and number of steps by the validation rater (docs/protocols.md)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from s3prl_metaperser.errors import UserError
from s3prl_metaperser.evaluation.meta_testing import validation_loss
from s3prl_metaperser.evaluation.result import Tuned
from s3prl_metaperser.methods.base import ModelState, System, TrainingTask
from s3prl_metaperser.methods.tuning import Overrides, overridden

CRITERION = "class-balanced loss in meta-testing the validation rater"


@dataclass(frozen=True)
class Selection:
    """What was chosen among what.

    Attributes:
        system: under the chosen options; the system that was given where it has nothing to choose.
        chosen: ``section.option`` -> value; empty where there was nothing to choose.
        losses: every choice with its loss, infinite where adaptation diverged.
    """

    system: System
    chosen: Overrides
    losses: tuple[tuple[Overrides, float], ...]

    def record(self, episodes: int) -> Tuned:
        """For the result file; the loss of a choice that diverged is null."""
        grid = [{**choice, "loss": loss if math.isfinite(loss) else None} for choice, loss in self.losses]
        return Tuned(CRITERION, episodes, dict(self.chosen), tuple(grid))


def select(system: System, state: ModelState, task: TrainingTask) -> Selection:
    """The choice of :meth:`.System.tunable` with the lowest loss; of equals the first.

    The loss is the one by which training selects its step: class-balanced cross-entropy in meta-testing the validation
    rater, the same for all systems. The task holds nothing of the test rater, so that nothing of it can be used.

    Raises:
        UserError: every choice diverges.
    """
    losses = []
    for choice in system.tunable():
        trial = system.under(overridden(system.options, choice))
        losses.append((choice, validation_loss(trial, state, task.validation_episodes)))
    if not losses:
        return Selection(system, {}, ())
    chosen, loss = min(losses, key=lambda pair: math.inf if math.isnan(pair[1]) else pair[1])
    if not math.isfinite(loss):
        raise UserError(f"{system.name} diverges on the validation rater under every choice of the tuned protocol.")
    return Selection(system.under(overridden(system.options, chosen)), chosen, tuple(losses))
