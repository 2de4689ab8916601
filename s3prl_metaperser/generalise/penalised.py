"""Deep-All's loss plus a weighted penalty: what many systems of domain generalisation are."""

from __future__ import annotations

from torch import Tensor

from s3prl_metaperser.generalise.base import Generaliser, Step, by_domain, domain_means
from s3prl_metaperser.generalise.model import DomainModel
from s3prl_metaperser.protocol.domain_batches import DomainBatch

__all__ = ["Penalised", "by_domain", "domain_means"]


class Penalised(Generaliser):
    """``L + weight * penalty``.

    The weight is ``generalrc.penalty``, or the system's own where that is null. It rises in a straight line from 0 over
    ``generalrc.anneal_steps``, or the system's own share of training: a jump, as in the first implementations, upsets
    the moments of every optimiser.
    """

    #: The weight where the options give none.
    usual_weight = 1.0
    #: The share of training over which it rises where the options give no number of steps.
    usual_rise = 0.0

    def penalty(self, model: DomainModel, features: Tensor, logits: Tensor, batch: DomainBatch) -> Tensor:
        """Of a batch, a scalar; zero where it has no meaning, as between fewer than two domains.

        Args:
            features: [B, H].
            logits: [B, C], the classifier's of them.
        """
        raise NotImplementedError

    def outer_gradient(self, model: DomainModel, batch: DomainBatch, step: int) -> Step:
        features = model.features(batch.inputs)
        logits = model.classifier(features)
        loss, penalty = self.loss(logits, batch), self.penalty(model, features, logits, batch)
        objective = loss + self.weight(step) * penalty
        objective.backward()
        return Step(objective.item(), {"penalty": penalty.item()})

    def weight(self, step: int) -> float:
        """Of the penalty in a step, counted from 1."""
        full = self.usual_weight if self.general.penalty is None else self.general.penalty
        given = self.general.anneal_steps
        rise = round(self.usual_rise * self.sources.steps) if given is None else given
        return full * min(1.0, step / max(1, rise))
