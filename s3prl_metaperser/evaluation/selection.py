"""What the validation rater chooses, and by which criterion (docs/protocols.md): the outer step that is tested, and
under the protocol ``tuned`` optimiser, learning rate and number of steps."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from s3prl_metaperser.corpora.label_set import LabelSet
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.evaluation.criteria import said
from s3prl_metaperser.evaluation.meta_testing import EpisodeResult, validation
from s3prl_metaperser.evaluation.metrics import Weighted, metric_of_decisions
from s3prl_metaperser.evaluation.result_keys import Tuned
from s3prl_metaperser.methods.base import ModelState, System, TrainingTask
from s3prl_metaperser.methods.tuning import Overrides, overridden
from s3prl_metaperser.protocol.loss import class_balanced_loss


def validated(system: System, state: ModelState, task: TrainingTask) -> float:
    """What the validation rater says of a state by ``metarc.criterion``: lower is better, infinite where it diverges.

    ``loss``: the class-balanced loss. ``metric``: one minus the first metric of decisions
    (:func:`.metric_of_decisions`; the metric itself where lower is better). ``both``: the loss as a share of that of
    equal probabilities, plus the latter.
    """
    options, label_set = system.options.downstream_expert, task.label_set
    criterion, weights = options.metarc.criterion, system.class_weights.detach().cpu().double().numpy()

    def scored(result: EpisodeResult) -> float:
        if criterion == "loss":
            return result.loss
        risk = _risk(result, label_set, options.datarc.smoothing)
        if criterion == "metric":
            return risk
        targets = label_set.target(result.ticks, options.datarc.smoothing)
        equal = np.full_like(targets, 1 / targets.shape[1])
        return result.loss / class_balanced_loss(equal, targets, weights) + risk

    return validation(system, state, task.validation_episodes, scored)


def _risk(result: EpisodeResult, label_set: LabelSet, smoothing: float) -> float:
    """One episode by the metric of decisions, so that lower is better; one where it is undefined."""
    metric = metric_of_decisions(label_set)
    assert metric.weighted is not None
    known = Weighted(result.probabilities, result.ticks, label_set, smoothing=smoothing)
    value = float(metric.weighted(known)[0])
    if math.isnan(value):
        return 1.0
    return 1 - value if metric.higher_is_better else value


@dataclass(frozen=True)
class Selection:
    """What was chosen among what.

    Attributes:
        system: under the chosen options; the system that was given where it has nothing to choose.
        chosen: ``section.option`` -> value; empty where there was nothing to choose.
        losses: every choice with its value of the criterion, infinite where adaptation diverged.
    """

    system: System
    chosen: Overrides
    losses: tuple[tuple[Overrides, float], ...]
    criterion: str = ""

    def record(self, episodes: int) -> Tuned:
        """For the result file; the loss of a choice that diverged is null."""
        grid = [{**choice, "loss": loss if math.isfinite(loss) else None} for choice, loss in self.losses]
        return Tuned(self.criterion, episodes, dict(self.chosen), tuple(grid))


def select(system: System, state: ModelState, task: TrainingTask) -> Selection:
    """The choice of :meth:`.System.tunable` that is best by the criterion; of equals the first.

    The criterion is the one by which training selects its step (:func:`validated`), the same for all systems. The
    task holds nothing of the test rater, so that nothing of it can be used.

    Raises:
        UserError: every choice diverges.
    """
    losses = []
    for choice in system.tunable():
        trial = system.under(overridden(system.options, choice))
        losses.append((choice, validated(trial, state, task)))
    criterion = said(system.options.downstream_expert.metarc.criterion, task.label_set)
    if not losses:
        return Selection(system, {}, (), criterion)
    chosen, loss = min(losses, key=lambda pair: math.inf if math.isnan(pair[1]) else pair[1])
    if not math.isfinite(loss):
        raise UserError(f"{system.name} diverges on the validation rater under every choice of the tuned protocol.")
    return Selection(system.under(overridden(system.options, chosen)), chosen, tuple(losses), criterion)
