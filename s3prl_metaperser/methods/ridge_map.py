"""Ridge-MAP: the last layer's most probable values under a Gaussian prior whose mean and strength are meta-learned.

A listener's classifier phi = (W, b) minimises the class-balanced loss, summed over the K samples, plus
|W - W_0|^2 / (2 s_W^2) + |b - b_0|^2 / (2 s_b^2): the MAP estimate of a Bayesian last layer, and the regularised inner
problem of iMAML (Rajeswaran et al. 2019, equation 3) for the last layer, where it is convex and solved to the end
(:mod:`s3prl_metaperser.meta.logistic_map`) in place of by steps. W_0, b_0, the standard deviations s_W, s_b and all
that makes the embeddings are learned by the exact gradient of the query loss through the solution (their theorem 1).

What is chosen where the paper is silent: training starts from the initialisation, s_b from 1, and s_W from the value of
the lowest query loss on the training raters' first episodes; the two are then learned at ``metarc.lslr_lr``. They stand
where other states have inner rates. ``evalrc.rate_factor`` multiplies both variances in meta-testing.
"""

from __future__ import annotations

import torch

from s3prl_metaperser.meta.logistic_map import logistic_map
from s3prl_metaperser.meta.rates import InnerRates
from s3prl_metaperser.methods.base import ModelState, TrainingTask
from s3prl_metaperser.methods.from_embeddings import Classifiers, Episodes, FromEmbeddings
from s3prl_metaperser.methods.initialisation import initialised
from s3prl_metaperser.methods.learner import HeadLearner, new_learner
from s3prl_metaperser.methods.meta_perser import rates_of
from s3prl_metaperser.protocol.loss import weighted_targets

WEIGHT, BIAS = "classifier.weight", "classifier.bias"


class RidgeMAP(FromEmbeddings):
    """Bayesian last layer, by its most probable classifier."""

    @property
    def initial_rate(self) -> float | None:
        return None  # they are standard deviations, and start from what the training raters say

    def blank(self, task: TrainingTask) -> ModelState:
        return self._with_prior(new_learner(task, "blank"), task)

    def initialise(self, task: TrainingTask) -> ModelState:
        state = self._with_prior(initialised(task), task)

        def put(deviation: float, episodes: Episodes) -> Episodes:
            self._set(state, WEIGHT, deviation)
            return episodes

        self._set(state, WEIGHT, self.best_start(state, task, put))
        return state

    def classifiers(
        self, state: ModelState, hidden: torch.Tensor, labels: torch.Tensor, factor: float = 1.0
    ) -> Classifiers:
        parameters, prefix, deviations = state.parameters(), state.learner.prefix, rates_of(state).at(0)
        weight, bias = (parameters[f"{prefix}{name}"].double() for name in (WEIGHT, BIAS))
        spread, shift = (factor * deviations[f"{prefix}{name}"].double() ** 2 for name in (WEIGHT, BIAS))
        seen, said = hidden.double(), weighted_targets(labels, self.class_weights).double()
        gram = spread * seen @ seen.transpose(1, 2) + shift
        found = logistic_map(seen @ weight.T + bias, gram, said)
        moved = spread * found.transpose(1, 2) @ seen
        return Classifiers((weight + moved).to(hidden), (bias + shift * found.sum(1)).to(hidden))

    def _with_prior(self, learner: HeadLearner, task: TrainingTask) -> ModelState:
        """A state whose rates are the prior's standard deviations: one for the weights, one for the bias."""
        state = ModelState(learner, InnerRates(list(learner.parameters()), 1, 0.0, learned=True).to(task.device))
        self._set(state, WEIGHT, 1.0)
        self._set(state, BIAS, 1.0)
        return state

    @staticmethod
    def _set(state: ModelState, name: str, deviation: float) -> None:
        rates = rates_of(state)
        with torch.no_grad():
            rates.values[0, rates.names.index(f"{state.learner.prefix}{name}")] = deviation
