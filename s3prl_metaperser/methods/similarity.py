"""Entire-Sim and its frozen twin Linear-Sim: classification by proximity to class centres (section 2.4, eq. 1).

Nothing is trained on the K samples. For each class the embeddings of its support samples are averaged to a centre; a
query sample's probabilities are the softmax, over all classes, of its cosine similarities to the centres, without a
temperature. They are ticked where they exceed 1/C, as everywhere.

What the text leaves open:

- The embedding is what the classifier of the initialisation (SSL-E) sees: the projector's output for the pooled
  features.
- A sample belongs to every class that its label ticks (``> 1/C``), and counts in full in each of these centres.
- A class without a support sample has no centre. Its similarity is -1, the least that a cosine can be. Leaving it out
  of the softmax would give it a probability of zero, whose loss is infinite, and would raise all other classes for no
  better reason than that K is small; equation 1 also sums over all emotions.
- Before any support sample is seen (``-m inference``) the initialisation's own classifier predicts.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from s3prl_metaperser.methods.base import Inputs, ModelState, Predictor, Support, System
from s3prl_metaperser.protocol.labels import binarise

#: A predictor's entry for the centres, [C, H]; a class without one has a row of NaN.
CENTRES = "centres"


class Similarity(System):
    """Cosine similarity to the support samples' class centres; no parameter adapts."""

    def adapt(self, state: ModelState, support: Support) -> Predictor:
        parameters = self.unadapted(state)
        hidden = self.embed(state, parameters, support.features)
        return {**parameters, CENTRES: class_centres(hidden, support.targets)}

    def predict(self, state: ModelState, predictor: Predictor, query: Inputs) -> np.ndarray:
        if CENTRES not in predictor:
            return super().predict(state, predictor, query)
        hidden = self.embed(state, predictor, query)
        return similarity_probabilities(hidden, predictor[CENTRES]).cpu().numpy()


def class_centres(hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean embedding of the support samples of each class.

    Args:
        hidden: embeddings, [K, H].
        targets: the samples' label distributions, [K, C]; a sample is of every class above ``1 / C``.

    Returns:
        [C, H]; NaN for a class without samples.
    """
    member = torch.from_numpy(binarise(targets.cpu().numpy())).to(hidden)
    return (member.T @ hidden) / member.sum(0)[:, None]


def similarity_probabilities(hidden: torch.Tensor, centres: torch.Tensor) -> torch.Tensor:
    """Equation 1: the softmax over classes of cosine similarities, which are -1 for missing centres.

    Args:
        hidden: embeddings, [Q, H].
        centres: [C, H]; NaN where missing.

    Returns:
        float32 [Q, C].
    """
    similarity = F.cosine_similarity(hidden[:, None], centres[None], dim=-1)
    missing = centres.isnan().any(-1)
    return torch.softmax(similarity.masked_fill(missing, -1.0).float(), dim=-1)
