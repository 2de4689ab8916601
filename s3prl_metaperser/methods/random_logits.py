"""Random: standard-normal logits (the first row of Table 1)."""

from __future__ import annotations

import numpy as np
import torch

from s3prl_metaperser.methods.base import ModelState, Support, System, TrainingTask
from s3prl_metaperser.seeding import numpy_generator


class Random(System):
    """Knows nothing and learns nothing; each episode's draws come from its seed."""

    name = "Random"
    personalises = False

    def blank(self, task: TrainingTask) -> ModelState:
        return ModelState()

    def initialise(self, task: TrainingTask) -> ModelState:
        return ModelState()

    def adapt(self, state: ModelState, support: Support) -> int:
        return support.seed

    def unadapted(self, state: ModelState) -> int:
        return 0

    def predict(self, predictor: int, query: torch.Tensor) -> np.ndarray:
        logits = numpy_generator("random logits", predictor).standard_normal((len(query), len(self.class_weights)))
        return random_probabilities(logits)


def random_probabilities(logits: np.ndarray) -> np.ndarray:
    """Softmax over the last axis, float32."""
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return (raised / raised.sum(axis=-1, keepdims=True)).astype(np.float32)
