"""Prototypical networks (Snell, Swersky & Zemel 2017), for labels with several classes.

The prototype of class k is the mean of the support embeddings, each weighted by its share of the label that is k:
c_k = sum_i t_ik h_i / sum_i t_ik, with t a label's shares before smoothing (for one class a label: their equation 1). A
query's probabilities are the softmax of -|h - c_k|^2 (equation 2), which is a linear classifier with weights 2 c_k and
bias -|c_k|^2 (their section 2.4); the embedding is trained through it by the query loss of episodes.

What the paper leaves open: a class without a support sample keeps a fallback prototype, which starts as that of the
training raters' consensus labels (of a class that nobody ticked, the mean of all) and is trained where it is used. It
is kept as the state's classifier, 2 c_k and -|c_k|^2 with the bias free, which also predicts before any sample is seen.
The embedding starts as the initialisation's projector, scaled by the number of the lowest query loss on the training
raters' first episodes, since distances have no temperature. ``evalrc.rate_factor`` multiplies the distances in
meta-testing.
"""

from __future__ import annotations

import torch

from s3prl_metaperser.methods.base import ModelState, TrainingTask
from s3prl_metaperser.methods.from_embeddings import Classifiers, Episodes, FromEmbeddings

#: A share of less than this is none: what rounding leaves of a smoothed zero.
NOTHING = 1e-5


class ProtoNet(FromEmbeddings):
    """The nearest class mean of the K samples, in a space that is meta-learned for it."""

    def initialise(self, task: TrainingTask) -> ModelState:
        state = super().initialise(task)
        labels, prefix = task.consensus, state.learner.prefix
        hidden = self.embed(state, self.unadapted(state), task.inputs(labels.rows))
        shares = self.shares(torch.from_numpy(labels.targets).to(hidden))
        count = shares.sum(0)[:, None]
        self._keep(state, torch.where(count > 0, (shares.T @ hidden) / count.clamp_min(NOTHING), hidden.mean(0)))
        kept = state.learner.classifier(state.parameters())[0].detach() / 2

        def scaled(number: float, known: Episodes) -> Episodes:
            self._keep(state, number * kept)
            return Episodes(number * known.support, known.labels, number * known.query, known.weighted)

        number = self.best_start(state, task, scaled)
        with torch.no_grad():
            for name in ("projector.weight", "projector.bias"):
                state.parameters()[f"{prefix}{name}"].mul_(number)
        self._keep(state, number * kept)
        return state

    def classifiers(
        self, state: ModelState, hidden: torch.Tensor, labels: torch.Tensor, factor: float = 1.0
    ) -> Classifiers:
        fallback, shares = state.learner.classifier(state.parameters()), self.shares(labels).to(hidden)
        count = shares.sum(1)[..., None]  # [A, C, 1]
        prototypes = shares.transpose(1, 2) @ hidden / torch.where(count > 0, count, 1.0)
        weight = torch.where(count > 0, 2 * prototypes, fallback[0])
        squares = -(prototypes**2).sum(-1)
        bias = torch.where(count[..., 0] > 0, squares, fallback[1])
        return Classifiers(factor * weight, factor * bias)

    def shares(self, labels: torch.Tensor) -> torch.Tensor:
        """Label distributions [..., C] without their smoothing; zeros stay zeros."""
        smoothing, classes = self.options.downstream_expert.datarc.smoothing, labels.shape[-1]
        other = smoothing / (classes - 1)
        found = (labels - other) / (1 - smoothing - other)
        return torch.where(found > NOTHING, found, 0.0)

    @staticmethod
    def _keep(state: ModelState, prototypes: torch.Tensor) -> None:
        """Fallback prototypes [C, H], as a classifier."""
        weight, bias = state.learner.classifier(state.parameters())
        with torch.no_grad():
            weight.copy_(2 * prototypes)
            bias.copy_(-(prototypes**2).sum(-1))
