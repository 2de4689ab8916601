"""Random: standard-normal logits (the first row of Table 1)."""

from __future__ import annotations

import numpy as np
import torch

from s3prl_metaperser.methods.base import Inputs, ModelState, Predictor, Support, System, TrainingTask
from s3prl_metaperser.seeding import numpy_generator

#: A predictor's only entry: the episode's seed.
SEED = "seed"


class Random(System):
    """Knows nothing and learns nothing; each episode's draws come from its seed."""

    personalises = False

    def blank(self, task: TrainingTask) -> ModelState:
        return ModelState()

    def initialise(self, task: TrainingTask) -> ModelState:
        return ModelState()

    def adapt(self, state: ModelState, support: Support) -> Predictor:
        return {SEED: torch.tensor(support.seed)}

    def unadapted(self, state: ModelState) -> Predictor:
        return {SEED: torch.tensor(0)}

    def predict(self, state: ModelState, predictor: Predictor, query: Inputs) -> np.ndarray:
        generator = numpy_generator("random logits", int(predictor[SEED]))
        logits = generator.standard_normal((len(query), len(self.class_weights)))
        return random_probabilities(logits)


def random_probabilities(logits: np.ndarray) -> np.ndarray:
    """Softmax over the last axis, float32."""
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return (raised / raised.sum(axis=-1, keepdims=True)).astype(np.float32)
