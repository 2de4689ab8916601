"""Floors that a system must beat before its gain is called personal or learned.

- ``Calibrated-Zero``: zero-shot with one temperature, chosen on the validation rater: what predictions gain that are
  merely sharper or flatter. Nothing of the listener is used.
- ``Most-Frequent``: the K labels' own shares of the classes, for every clip: what is gained by knowing how often a
  listener uses each label, without hearing anything.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from scipy.optimize import minimize_scalar

from s3prl_metaperser.methods.base import EpisodeData, Inputs, ModelState, Predictor, Support, System, TrainingTask
from s3prl_metaperser.methods.few import Zero
from s3prl_metaperser.methods.learner import Parameters
from s3prl_metaperser.protocol.loss import class_balanced_loss

#: The temperature stays within this factor of one.
MOST = 20.0
SHARES = "shares"


class CalibratedZero(Zero):
    """The consensus initialisation, its logits divided by the temperature of the lowest loss on the validation rater.

    The loss is that by which training selects its step. The classifier is divided, so that a state is a plain head.
    """

    def initialise(self, task: TrainingTask) -> ModelState:
        state = super().initialise(task)
        factor = 1 / self.temperature(state, task.validation_episodes)
        with torch.no_grad():
            for value in state.learner.classifier(state.parameters()):
                value.mul_(factor)
        return state

    def temperature(self, state: ModelState, episodes: Sequence[EpisodeData]) -> float:
        """What all logits are divided by."""
        own: Parameters = self.unadapted(state)
        with torch.no_grad():
            logits = [state.learner.logits(own, episode.query).cpu().double() for episode in episodes]
        weights = self.class_weights.detach().cpu().double().numpy()
        targets = [episode.query_labels.targets for episode in episodes]

        def loss(log_temperature: float) -> float:
            found = [torch.softmax(each / math.exp(log_temperature), -1).numpy() for each in logits]
            return float(np.mean([class_balanced_loss(*pair, weights) for pair in zip(found, targets, strict=True)]))

        limits = (-math.log(MOST), math.log(MOST))
        return math.exp(minimize_scalar(loss, bounds=limits, method="bounded", options={"xatol": 1e-6}).x)


class MostFrequent(System):
    """The mean of the K label distributions; before any label is seen every class is as likely."""

    frozen_at_once = 32

    def blank(self, task: TrainingTask) -> ModelState:
        return ModelState()

    def initialise(self, task: TrainingTask) -> ModelState:
        return ModelState()

    def adapt(self, state: ModelState, support: Support) -> Predictor:
        return {SHARES: support.targets.detach().double().mean(0)}

    def unadapted(self, state: ModelState) -> Predictor:
        return {SHARES: torch.full((len(self.class_weights),), 1 / len(self.class_weights), dtype=torch.float64)}

    def predict(self, state: ModelState, predictor: Predictor, query: Inputs) -> np.ndarray:
        return np.tile(predictor[SHARES].cpu().float().numpy(), (len(query), 1))
