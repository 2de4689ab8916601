"""Entire-Sim.: SSL-E's embeddings, classified by proximity to the support samples' class centres (section 2.4, eq. 1).

The method and what the text leaves open are as in :mod:`s3prl_metaperser.methods.linear_sim`; the embedding is that of
SSL-E, upstream and projector having been trained on consensus labels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from s3prl_metaperser.methods.base import Inputs, ModelState, Predictor, Support
from s3prl_metaperser.methods.entire import EntireZero
from s3prl_metaperser.methods.linear_sim import CENTRES, class_centres, identity_classifier, similarity_probabilities
from s3prl_metaperser.upstream.finetuning import FineTunedModel
from s3prl_metaperser.upstream.memory import explaining_memory
from s3prl_metaperser.upstream.micro_batches import micro_batches


class EntireSim(EntireZero):
    """Cosine similarity to the support samples' class centres; no parameter adapts."""

    name = "Entire-Sim"
    personalises = True

    def adapt(self, state: ModelState, support: Support) -> Predictor:
        predictor = super().adapt(state, support)
        hidden = self._embeddings(predictor, support.features)
        return {**predictor, CENTRES: class_centres(hidden, support.targets)}

    def predict(self, predictor: Predictor, query: Inputs) -> np.ndarray:
        if CENTRES not in predictor:
            return super().predict(predictor, query)
        parameters = {name: value for name, value in predictor.items() if name != CENTRES}
        return similarity_probabilities(self._embeddings(parameters, query), predictor[CENTRES]).cpu().numpy()

    def _embeddings(self, parameters: Predictor, waves: Sequence[torch.Tensor]) -> torch.Tensor:
        with explaining_memory(f"{self.name}, embedding {len(waves)} utterances,"):
            return embeddings(self.model, parameters, waves, self.options.downstream_expert.tunerc.micro_batch_seconds)


def embeddings(
    model: FineTunedModel, parameters: Predictor, waves: Sequence[torch.Tensor], seconds: float
) -> torch.Tensor:
    """What the classifier sees of waveforms, without a graph.

    Args:
        parameters: all that adapts, by the names of :meth:`.FineTunedModel.named_adapted`.
        waves: K waveforms, each [n] at 16 kHz.
        seconds: padded audio in one forward pass.

    Returns:
        float32 [K, H].
    """
    identity = identity_classifier(parameters["head.projector.bias"])
    cut = {**parameters, **{f"head.{name}": value for name, value in identity.items()}}
    found = parameters["head.projector.bias"].new_empty(len(waves), len(parameters["head.projector.bias"]))
    with torch.no_grad():
        for group in micro_batches([len(wave) for wave in waves], seconds):
            found[group] = model.functional(cut, [waves[index] for index in group]).to(found.dtype)
    return found.float()
