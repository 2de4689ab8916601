"""Meta-PerSER's neighbours: each is Meta-PerSER (:mod:`.meta_perser`) with one thing changed, so that a difference says
what that thing is worth.

- ``Meta-Rates``: theta stays the initialisation, and the inner rates alone are meta-learned. It has S times 5 numbers
  to learn on a frozen upstream, where theta has tens of thousands.

In all of them the outer loss is taken on other samples of the same rater than the inner steps (no combined set), and
training starts from the initialisation; everything else is as ``metarc`` says. docs/meta_learners.md has the table.
"""

from __future__ import annotations

from s3prl_metaperser.methods.base import ModelState, TrainingTask
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
