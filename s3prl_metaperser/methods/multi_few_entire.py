"""Multi-Few over the whole model: upstream and projector shared, a classifier for each training rater (section 2.4).

The method and what the text leaves open are as in :mod:`s3prl_metaperser.methods.multi_few`. Training starts from the
upstream's checkpoint, not from SSL-E.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np
import torch

from s3prl_metaperser import parallel
from s3prl_metaperser.config.options import Options
from s3prl_metaperser.meta.model import Head
from s3prl_metaperser.methods.base import Inputs, ModelState, Predictor, Support, TrainingTask
from s3prl_metaperser.methods.entire import EntireZero
from s3prl_metaperser.methods.entire_sim import embeddings
from s3prl_metaperser.methods.multi_few import (
    learned_classifier,
    multi_rater_head,
    own_samples,
    samples_of_a_rater,
    trained_like_the_initialisation,
    with_one_classifier,
)
from s3prl_metaperser.methods.tuning import Overrides, grid
from s3prl_metaperser.protocol.loader import EpisodeBatch
from s3prl_metaperser.protocol.loss import weighted_targets
from s3prl_metaperser.upstream.finetuning import FineTunedModel
from s3prl_metaperser.upstream.memory import explaining_memory
from s3prl_metaperser.upstream.micro_batches import micro_losses

CLASSIFIER = ("head.classifier.weight", "head.classifier.bias")


class MultiFewEntire(EntireZero):
    """The whole model is shared by the training raters; at meta-test only a new classifier is learned."""

    name = "Multi-Few"
    personalises = True

    @classmethod
    def options_in_force(cls, options: Options) -> Options:
        return trained_like_the_initialisation(options)

    @property
    def outer_steps(self) -> int:
        return self.options.runner.total_steps

    def tunable(self) -> list[Overrides]:
        return grid("classifier", "finetuned", self.options)

    def blank(self, task: TrainingTask) -> ModelState:
        head = multi_rater_head(task).to(task.device)
        self.model = with_head(task.model, head)
        return ModelState(head=head, model=self.model)

    def initialise(self, task: TrainingTask) -> ModelState:
        return self.blank(task)

    def outer_gradient(self, state: ModelState, batch: EpisodeBatch, step: int, task: TrainingTask) -> float:
        """Raters are shared out over processes; gradients are those of the mean over all raters' losses."""
        rows, targets = own_samples(batch, samples_of_a_rater(self.options, len(batch.raters)))
        tunerc = self.options.downstream_expert.tunerc
        state.model.train(tunerc.dropout)
        parameters, total = state.parameters(), 0.0
        try:
            for index, rater in parallel.share(batch.raters):
                present = targets[index].sum(-1) > 0
                weighted = weighted_targets(targets[index][present].to(task.device), self.class_weights)
                waves = task.features[np.asarray(rows[index][present])]
                seed = ("multi-few", task.seed, step, rater)
                losses = micro_losses(state.model, waves, weighted, tunerc.micro_batch_seconds, *seed)
                with explaining_memory(f"Outer step {step}, rater {rater}"):
                    for loss in losses:
                        share = loss(of_rater(parameters, index), 0) / len(batch.raters)
                        share.backward()
                        total += share.item()
        finally:
            state.model.eval()
        parallel.sum_gradients(parameters.values())
        return parallel.sum_value(total)

    def adapt(self, state: ModelState, support: Support) -> Predictor:
        shared = {name: value.detach() for name, value in state.parameters().items()}
        seconds = self.options.downstream_expert.tunerc.micro_batch_seconds
        with explaining_memory(f"{self.name}, adapting to episode {support.seed},"):
            hidden = embeddings(state.model, shared, support.features, seconds)
        classifier = learned_classifier(hidden, support, self.class_weights, self.options)
        return {**shared, **{f"head.{name}": value for name, value in classifier.items()}}

    def predict(self, predictor: Predictor, query: Inputs) -> np.ndarray:
        return super().predict(with_one_classifier(predictor, "head."), query)


def with_head(model: FineTunedModel, head: Head) -> FineTunedModel:
    """``model`` with another head on the same upstream, whose parameters are shared; ``model`` keeps its own head."""
    other = copy.copy(model)
    other._modules = {**model._modules, "head": head}
    return other


def of_rater(parameters: Mapping[str, torch.Tensor], index: int) -> dict[str, torch.Tensor]:
    """The whole model's parameters with the classifier of one rater, differentiable in the stack of them."""
    return {**parameters, **{name: parameters[name][index] for name in CLASSIFIER}}
