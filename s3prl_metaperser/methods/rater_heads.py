"""Nearest-Rater and Rater-Mixture: the training raters' own heads, for a listener who is like one or several of them.

A model of many annotators, trained as Multi-Few's (:mod:`.multi_few`: shared layers, a classifier a rater), predicts
for a new annotator in the place of the one who answered most alike (Tavernor and Mower Provost 2025, arXiv:2509.12295).
There similarity is measured on dimensional ratings; here it is the likelihood of the K labels.

- ``Nearest-Rater``: the one classifier under which the K label distributions are most likely; of equals the first. A
  listener is one linear head.
- ``Rater-Mixture``: the weighted mean of all raters' predictions; weights by EM (:func:`.mixture_weights`) with a
  Dirichlet prior that counts like C labels, C over ``outputrc.spread``. A listener is a number a training rater.

Nothing is drawn at random at test. Each selects its outer step by its own loss on the validation rater. Before any
label is seen the mean of the training raters' logits predicts, as with Multi-Few.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from s3prl_metaperser.methods.base import Inputs, ModelState, Predictor, Support
from s3prl_metaperser.methods.map_fit import SMALLEST, mixture_weights, tempered
from s3prl_metaperser.methods.multi_few import CLASSIFIER, MultiFew

#: A predictor's entry for the training raters' weights, [R].
WEIGHTS = "rater_weights"


class NearestRater(MultiFew):
    """The training rater whose classifier makes the K labels most likely."""

    def adapt_many(self, state: ModelState, supports: Sequence[Support]) -> list[Predictor]:
        return [self._adapted(state, support) for support in supports]

    def predict(self, state: ModelState, predictor: Predictor, query: Inputs) -> np.ndarray:
        found = super().predict(state, predictor, query)
        return tempered(found, self.options.downstream_expert.outputrc.temperature)

    def is_one_head(self, state: ModelState, predictor: Predictor) -> bool:
        """Unless a temperature follows."""
        return self.options.downstream_expert.outputrc.temperature == 1 and super().is_one_head(state, predictor)

    def _adapted(self, state: ModelState, support: Support) -> Predictor:
        shared = self.unadapted(state)
        likely = torch.log(self.of_all_raters(state, shared, support.features).clamp_min(SMALLEST))
        targets = support.targets.detach().cpu().double()
        nearest = int((targets * likely).sum((1, 2)).argmax())
        chosen = {name: shared[f"{state.learner.prefix}{name}"][nearest] for name in CLASSIFIER}
        return state.learner.with_head(shared, chosen)

    def of_all_raters(self, state: ModelState, shared: Predictor, inputs: Inputs) -> torch.Tensor:
        """What each training rater's classifier predicts, float64 [R, K, C] on the CPU."""
        hidden = self.embed(state, shared, inputs)
        weight, bias = state.learner.classifier(shared)
        logits = hidden @ weight.transpose(1, 2) + bias[:, None]
        return torch.softmax(logits.cpu().double(), -1)


class RaterMixture(NearestRater):
    """A weighted mean of what the training raters' classifiers predict."""

    def _adapted(self, state: ModelState, support: Support) -> Predictor:
        shared = self.unadapted(state)
        heard = self.of_all_raters(state, shared, support.features)
        counts = heard.shape[-1] / self.options.downstream_expert.outputrc.spread
        weights = mixture_weights(heard, support.targets.detach().cpu().double(), counts)
        return {**shared, WEIGHTS: weights.to(next(iter(shared.values())))}

    def predict(self, state: ModelState, predictor: Predictor, query: Inputs) -> np.ndarray:
        if WEIGHTS not in predictor:
            return super().predict(state, predictor, query)
        heard = self.of_all_raters(state, self._own(state, predictor), query)
        mixed = torch.einsum("r,rqc->qc", predictor[WEIGHTS].cpu().double(), heard)
        return tempered(mixed.float().numpy(), self.options.downstream_expert.outputrc.temperature)
