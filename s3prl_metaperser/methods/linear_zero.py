"""Linear-Zero: the consensus initialisation as it is, the frozen twin of Entire-Zero (section 2.4)."""

from __future__ import annotations

from s3prl_metaperser.methods.base import ModelState, Predictor, Support, System, TrainingTask, new_head
from s3prl_metaperser.methods.initialisation import consensus_initialisation


class LinearZero(System):
    """Never looks at the support samples."""

    name = "Linear-Zero"
    personalises = False

    def blank(self, task: TrainingTask) -> ModelState:
        return ModelState(head=new_head(self.options, *task.features.shape[1:], len(task.classes), "blank"))

    def initialise(self, task: TrainingTask) -> ModelState:
        return ModelState(head=consensus_initialisation(task))

    def adapt(self, state: ModelState, support: Support) -> Predictor:
        return {name: value.detach() for name, value in state.parameters().items()}
