"""The base of meta-learners whose adaptation is a classifier computed from the K samples' embeddings.

An outer step embeds each rater's support and query samples, makes a classifier from the support and takes the
class-balanced loss of the query; the gradient goes through the classifier into the embeddings and so into all that
makes them. On a frozen upstream that is one graph; with ``-f`` samples are embedded without a graph, the loss is
differentiated by the embeddings, and each micro-batch is embedded once more to pass its part on: exact, in the memory
of one micro-batch. A listener is a plain head: the state's, with another classifier.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize_scalar

from s3prl_metaperser.methods.base import ModelState, Predictor, Support, System, TrainingTask
from s3prl_metaperser.methods.meta_perser import part_by_part
from s3prl_metaperser.methods.tuning import Overrides, factors
from s3prl_metaperser.protocol.loader import EpisodeBatch, training_loader
from s3prl_metaperser.protocol.loss import soft_cross_entropy, unfilled, weighted_batch

#: Outer steps, and of a crowd episodes, that choose a number that training starts from; and the most that it may be.
FIRST_STEPS, FIRST_EPISODES, MOST = 4, 256, 1000.0


class Classifiers(NamedTuple):
    """One linear classifier for each of A episodes.

    Attributes:
        weight: [A, C, H].
        bias: [A, C].
    """

    weight: torch.Tensor
    bias: torch.Tensor

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits [A, Q, C] of embeddings [A, Q, H]."""
        return hidden @ self.weight.transpose(1, 2) + self.bias[:, None]


class Episodes(NamedTuple):
    """Embeddings and targets of A episodes.

    Attributes:
        support: [A, K, H].
        labels: label distributions, [A, K, C]; zero where an episode was filled up.
        query: [A, Q, H].
        weighted: weighted targets of the query samples, [A, Q, C], scaled where an episode was filled up.
    """

    support: torch.Tensor
    labels: torch.Tensor
    query: torch.Tensor
    weighted: torch.Tensor


class FromEmbeddings(System):
    """A system that computes a classifier; :meth:`classifiers` is all that one of them adds."""

    frozen_at_once = 32

    def classifiers(
        self, state: ModelState, hidden: torch.Tensor, labels: torch.Tensor, factor: float = 1.0
    ) -> Classifiers:
        """A classifier for each of A episodes, differentiable by the state's parameters and rates and by ``hidden``.

        Args:
            hidden: embeddings of K samples, [A, K, H].
            labels: their label distributions, [A, K, C]; a sample of zeros does not count.
            factor: in meta-testing ``evalrc.rate_factor``; the system says what it multiplies.
        """
        raise NotImplementedError

    def tunable(self) -> list[Overrides]:
        """A factor alone: these systems take no steps."""
        return factors(self.scope, self.options)

    @property
    def if_it_diverges(self) -> str:
        return "Lower optimizer.lr."

    # -- training ----------------------------------------------------------------------------------------------

    def outer_loss(self, state: ModelState, batch: EpisodeBatch, step: int, task: TrainingTask) -> torch.Tensor:
        """The mean over raters of the query loss, on pooled features."""
        passing_on = state.learner.passing_on(state.parameters())
        hidden = [
            state.learner.logits(passing_on, task.pooled[rows.to(task.device)])
            for rows in (batch.support_rows, batch.query_rows)
        ]
        return self._loss(state, self._episodes(task, batch, *hidden)).mean()

    def outer_gradient(self, state: ModelState, batch: EpisodeBatch, step: int, task: TrainingTask) -> float:
        """The gradient of the mean over raters; with the whole model one rater and one micro-batch at a time."""
        if self.scope == "frozen":
            return part_by_part(self, state, batch, step, task)
        learner, ones = state.learner, list(batch.parts(1))

        def gradient(index: int, rater: str) -> list[float]:
            one = ones[index]
            inputs = task.inputs(np.asarray(torch.cat([one.support_rows[0], one.query_rows[0]])))
            parts = learner.parts(inputs, "embeddings", task.seed, step, rater)
            with torch.no_grad():
                found = [(group, logits(learner.passing_on(state.parameters()), 0)) for group, logits in parts]
            hidden = found[0][1].new_empty(len(inputs), found[0][1].shape[1])
            for group, values in found:
                hidden[group] = values
            leaf = hidden[None].requires_grad_()
            loss = self._loss(state, self._episodes(task, one, *leaf.split(one.support_rows.shape[1], 1)))
            share = loss.sum() / len(batch.raters)
            share.backward()
            assert leaf.grad is not None
            for group, logits in parts:
                (logits(learner.passing_on(state.parameters()), 0) * leaf.grad[0][group]).sum().backward()
            return [share.item()]

        return self.rater_by_rater(state, batch, step, gradient)

    def _episodes(
        self, task: TrainingTask, batch: EpisodeBatch, support: torch.Tensor, query: torch.Tensor
    ) -> Episodes:
        labels, asked = batch.support_targets.to(task.device), batch.query_targets.to(task.device)
        return Episodes(support, unfilled(labels), query, weighted_batch(asked, self.class_weights))

    def _loss(self, state: ModelState, episodes: Episodes) -> torch.Tensor:
        """The query loss of each of A episodes."""
        found = self.classifiers(state, episodes.support, episodes.labels)
        return soft_cross_entropy(found.logits(episodes.query), episodes.weighted)

    def best_start(self, state: ModelState, task: TrainingTask, put: Callable[[float, Episodes], Episodes]) -> float:
        """A positive number that training starts from: of the lowest loss on the training raters' first episodes.

        Args:
            put: puts a candidate into force, in the state or in the episodes that are evaluated.
        """
        metarc, known = self.options.downstream_expert.metarc, list[Episodes]()
        for number, batch in enumerate(training_loader(task.meta_training, metarc, seed=task.seed, epoch=0, skip=0)):
            if number == FIRST_STEPS or len(known) >= FIRST_EPISODES:
                break
            for one in list(batch.parts(1))[:FIRST_EPISODES]:
                hidden = [
                    self.embed(state, self.unadapted(state), task.inputs(np.asarray(rows[0])))[None]
                    for rows in (one.support_rows, one.query_rows)
                ]
                known.append(self._episodes(task, one, *hidden))
        together = Episodes(*(torch.cat(values) for values in zip(*known, strict=True)))

        def loss(log: float) -> float:
            with torch.no_grad():
                return self._loss(state, put(math.exp(log), together)).double().mean().item()

        limits = (-math.log(MOST), math.log(MOST))
        return math.exp(minimize_scalar(loss, bounds=limits, method="bounded", options={"xatol": 1e-3}).x)

    # -- meta-testing ------------------------------------------------------------------------------------------

    def adapt(self, state: ModelState, support: Support) -> Predictor:
        return self.adapt_many(state, [support])[0]

    def adapt_many(self, state: ModelState, supports: Sequence[Support]) -> list[Predictor]:
        """Adaptation to several episodes, their classifiers all at once."""
        shared = self.unadapted(state)
        with self.adapting(state, supports[0]):
            hidden = torch.stack([self.embed(state, shared, support.features) for support in supports])
        labels = torch.stack([support.targets for support in supports])
        factor = self.options.downstream_expert.evalrc.rate_factor
        with torch.no_grad():
            found = self.classifiers(state, hidden, labels, factor)
        return [
            state.learner.with_head(shared, {"classifier.weight": weight, "classifier.bias": bias})
            for weight, bias in zip(found.weight, found.bias, strict=True)
        ]
