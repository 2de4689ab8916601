"""Rater-Embedding: a vector a rater, added to the projector's output; a new listener's alone is fitted to K samples.

Everything is shared by the training raters but one embedding e_r [H] each: logits are W (P x + p + e_r) + b. All are
trained jointly on the raters' own labels as Multi-Few is (:mod:`.multi_few`: same loss, budget and selection), from a
fresh head; embeddings start at zero. In meta-testing e starts at the mean of the training raters' and is learned on the
K samples with the few-shot optimiser at ``fewrc.classifier_lr``, ``evalrc.steps`` steps; every other parameter stays.

The head has no non-linearity, so that what e can do is W e, a bias a class: the system asks what is gained where shared
layers are trained beside raters' habits, and where W says which of these go together. A listener is H numbers, and one
linear head, with another bias of the projector.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from s3prl_metaperser.methods.base import ModelState, Predictor, Support, TrainingTask
from s3prl_metaperser.methods.few import each, optimised, through
from s3prl_metaperser.methods.learner import HeadLearner, new_head, new_learner
from s3prl_metaperser.methods.multi_few import MultiFew
from s3prl_metaperser.protocol.loss import soft_cross_entropy, weighted_targets

#: The head's entry for the training raters' embeddings, [R, H]; and what they are added to.
EMBEDDINGS, BIAS = "embeddings", "projector.bias"


class RaterEmbedding(MultiFew):
    """All is shared but a vector a rater."""

    def blank(self, task: TrainingTask) -> ModelState:
        return ModelState(_learner(task))

    def of_rater(
        self, state: ModelState, parameters: Mapping[str, torch.Tensor], index: int | slice
    ) -> dict[str, torch.Tensor]:
        bias, embeddings = (f"{state.learner.prefix}{name}" for name in (BIAS, EMBEDDINGS))
        return {**parameters, bias: parameters[bias] + parameters[embeddings][index]}

    def unadapted(self, state: ModelState) -> Predictor:
        """With the mean of the training raters' embeddings."""
        own = {name: value.detach() for name, value in state.parameters().items()}
        bias, embeddings = (f"{state.learner.prefix}{name}" for name in (BIAS, EMBEDDINGS))
        return {**own, bias: own[bias] + own[embeddings].mean(0)}

    def adapt_many(self, state: ModelState, supports: Sequence[Support]) -> list[Predictor]:
        """Adaptation to several episodes, all at once."""
        start, prefix = self.unadapted(state), state.learner.prefix
        with self.adapting(state, supports[0]):
            hidden = torch.stack([self.embed(state, start, support.features) for support in supports])
        targets = weighted_targets(torch.stack([support.targets for support in supports]), self.class_weights)
        weight, bias = state.learner.classifier(start)

        def loss(moved: Mapping[str, torch.Tensor], step: int) -> torch.Tensor:
            return soft_cross_entropy((hidden + moved[EMBEDDINGS][:, None]) @ weight.T + bias, targets)

        expert = self.options.downstream_expert
        fewrc, nothing = expert.fewrc, {EMBEDDINGS: torch.zeros_like(hidden[:, 0])}
        rate = fewrc.classifier_lr
        learned = optimised(nothing, through([loss]), fewrc.optimizer, rate, fewrc.weight_decay, expert.evalrc.steps)
        moved = [start[f"{prefix}{BIAS}"] + one[EMBEDDINGS] for one in each(learned)]
        return [state.learner.with_head(start, {BIAS: value}) for value in moved]


def _learner(task: TrainingTask) -> HeadLearner:
    """A learner whose fresh head has an embedding for each of the task's raters."""
    layers, features = task.features.shape[1:]
    head: nn.Module = new_head(task.options, layers, features, len(task.classes), "rater-embedding", task.seed)
    hidden = task.options.downstream_expert.modelrc.projector_dim
    head.register_parameter(EMBEDDINGS, nn.Parameter(torch.zeros(len(task.raters), hidden)))
    return new_learner(task, head=head)
