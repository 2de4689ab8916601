"""Meta-Map: the state is meta-trained under its own output adaptation ``+map`` (:mod:`.class_outputs`).

A listener's linear map of the log-probabilities, (A, b), is the most probable one given the K labels, with the prior of
``+map``; the outer loss is the query loss with that map applied, and its gradient goes through the solution by the
implicit function theorem (:mod:`s3prl_metaperser.meta.logistic_map`) into everything that makes the log-probabilities.
``Linear-Zero+map`` is this without the training, from the same start.

Centred log-probabilities are the logits less their mean, so that the map of a linear head is a linear head: W' = A M W,
b' = A M b_0 + b with M = I - 1/C. ``evalrc.rate_factor`` multiplies the variances of the prior in meta-testing.
"""

from __future__ import annotations

import torch

from s3prl_metaperser.meta.logistic_map import logistic_map
from s3prl_metaperser.methods.base import ModelState
from s3prl_metaperser.methods.class_outputs import BIAS, MAP
from s3prl_metaperser.methods.from_embeddings import Classifiers, FromEmbeddings


class MetaMap(FromEmbeddings):
    """The head that a linear map of the outputs fits best."""

    def classifiers(
        self, state: ModelState, hidden: torch.Tensor, labels: torch.Tensor, factor: float = 1.0
    ) -> Classifiers:
        weight, bias = (value.double() for value in state.learner.classifier(state.parameters()))
        weight, bias = weight - weight.mean(0), bias - bias.mean()
        centred = hidden.double() @ weight.T + bias  # [A, K, C]
        gram = factor * (MAP**2 * centred @ centred.transpose(1, 2) + BIAS**2)
        found = logistic_map(centred, gram, labels.double())
        table = torch.eye(len(bias)).to(centred) + factor * MAP**2 * found.transpose(1, 2) @ centred  # [A, C, C]
        offset = table @ bias + factor * BIAS**2 * found.sum(1)
        return Classifiers((table @ weight).to(hidden), offset.to(hidden))
