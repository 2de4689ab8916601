"""Meta-PerSER's neighbours: each is Meta-PerSER (:mod:`.meta_perser`) with one thing changed, so that a difference says
what that thing is worth.

- ``Meta-Rates``: theta stays the initialisation, and the inner rates alone are meta-learned. It has S times 5 numbers
  to learn on a frozen upstream, where theta has tens of thousands.
- ``FOMAML`` (Finn et al. 2017, section 5.2): inner gradients are constants in every outer step, so that theta's
  gradient is that of the outer loss at theta_S. It is derivative annealing that never ends: options fixed by its facts.
- ``ANIL`` (Raghu et al. 2020, section 5): the inner steps adapt the classifier alone, in training and at test; the
  outer loss trains everything. The other tensors' inner rates are zero and are not learned.

In all of them the outer loss is taken on other samples of the same rater than the inner steps (no combined set), and
training starts from the initialisation; everything else is as ``metarc`` says. docs/meta_learners.md has the table.
"""

from __future__ import annotations

import torch

from s3prl_metaperser.methods.base import ModelState, TrainingTask
from s3prl_metaperser.methods.learner import HeadLearner
from s3prl_metaperser.methods.meta_perser import MetaPerSER
from s3prl_metaperser.protocol.loader import EpisodeBatch


class MetaRates(MetaPerSER):
    """The rates of the inner steps are learned (LSLR), theta is not."""

    def outer_gradient(self, state: ModelState, batch: EpisodeBatch, step: int, task: TrainingTask) -> float:
        """The rates' gradient; theta has none, so that neither the optimiser nor its weight decay moves it."""
        loss = super().outer_gradient(state, batch, step, task)
        for parameter in state.parameters().values():
            parameter.grad = None
        return loss


class ANIL(MetaPerSER):
    """Almost no inner loop: layer weights and projector, and with ``-f`` the upstream, stay in the inner steps."""

    def _with_rates(self, learner: HeadLearner, task: TrainingTask) -> ModelState:
        state = super()._with_rates(learner, task)
        _without_the_rest(state, state.rates.values if state.rates else None)
        return state

    def outer_gradient(self, state: ModelState, batch: EpisodeBatch, step: int, task: TrainingTask) -> float:
        """The gradient of everything but the rates that are zero."""
        loss = super().outer_gradient(state, batch, step, task)
        _without_the_rest(state, state.rates.values.grad if state.rates else None)
        return loss


def _without_the_rest(state: ModelState, values: torch.Tensor | None) -> None:
    """Set the columns of values [S, P] to zero that are not the classifier's."""
    inner = f"{state.learner.prefix}classifier."
    rest = [index for index, name in enumerate(state.parameters()) if not name.startswith(inner)]
    if values is not None:
        with torch.no_grad():
            values[:, rest] = 0.0
