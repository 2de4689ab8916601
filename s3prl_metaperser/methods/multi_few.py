"""Multi-Few: one classifier for each training rater over shared layers; at meta-test a new one (section 2.4).

Every training rater is a classification task of its own. Layer weights and projector are shared, each rater has a
classifier, and all are trained jointly on the raters' own labels: the loss of an outer step is the mean over raters of
the class-balanced cross-entropy, so that every rater weighs the same. In meta-testing a classifier is drawn at random
from the episode's seed and learned on the K samples with the few-shot optimiser; every other parameter stays.

What the text leaves open:

- The budget is the consensus initialisation's (``initrc``): as many steps, and its batch size shared out equally among
  the raters (rounded up to whole samples). Training starts from a fresh head, not from the consensus initialisation,
  and with ``-f`` from the upstream's checkpoint, not from SSL-E.
- It is trained in the runner's outer steps, not as a cached initialisation: these already select a step by meta-testing
  the validation rater, save, and resume to the same bits. So ``initrc``'s settings are put into force as the runner's
  and the outer optimiser's (:func:`trained_like_the_initialisation`).
- In meta-testing, "a new classifier" is the last linear layer; the projector belongs to what is shared.
- It starts from random values, while all other few-shot baselines start from a trained model, and so has a rate of its
  own, ``fewrc.classifier_lr``: at the rate of the whole model (2e-5 with ``-f``) AdamW moves a weight by no more than
  1e-3 in 50 steps, a sixtieth of the range from which it was drawn, and nothing is learned.
- Before any support sample is seen (``-m inference``) the mean of the training raters' logits predicts.

A state's head holds the raters' classifiers stacked, in the order of the task's raters: weight [A, C, H], bias [A, C].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn

from s3prl_metaperser.config.options import OptimizerOptions, Options
from s3prl_metaperser.config.section import with_values
from s3prl_metaperser.methods.base import Inputs, ModelState, Predictor, Support, System, TrainingTask
from s3prl_metaperser.methods.facts import EXPERT
from s3prl_metaperser.methods.few import each, optimised, through
from s3prl_metaperser.methods.learner import HeadLearner, new_head, new_learner
from s3prl_metaperser.protocol.loader import EpisodeBatch
from s3prl_metaperser.protocol.loss import soft_cross_entropy, unfilled, weighted_targets
from s3prl_metaperser.seeding import torch_generator

CLASSIFIER = ("classifier.weight", "classifier.bias")


class MultiFew(System):
    """Layer weights and projector, and with ``-f`` the upstream, are shared by the training raters.

    At meta-test only a new classifier is learned.
    """

    frozen_at_once = 32

    @classmethod
    def options_in_force(cls, options: Options) -> Options:
        return trained_like_the_initialisation(options)

    def blank(self, task: TrainingTask) -> ModelState:
        return ModelState(multi_rater_learner(task))

    def initialise(self, task: TrainingTask) -> ModelState:
        return self.blank(task)

    def outer_loss(self, state: ModelState, batch: EpisodeBatch, step: int, task: TrainingTask) -> torch.Tensor:
        """The loss of all raters at once, on pooled features."""
        rows, targets = own_samples(batch, samples_of_a_rater(self.options, len(batch.raters)))
        targets = targets.to(task.device)
        present = (targets.sum(-1, keepdim=True) > 0).to(targets)
        share = targets.shape[1] / present.sum(1, keepdim=True)  # a mean over n is then one over those present
        parameters = self.of_rater(state, state.parameters(), slice(None))
        logits = state.learner.logits(parameters, task.pooled[rows.to(task.device)])
        return soft_cross_entropy(logits, share * weighted_targets(targets, self.class_weights)).mean()

    def outer_gradient(self, state: ModelState, batch: EpisodeBatch, step: int, task: TrainingTask) -> float:
        """The gradient of the mean over all raters' losses."""
        if self.scope == "frozen":
            return super().outer_gradient(state, batch, step, task)
        rows, targets = own_samples(batch, samples_of_a_rater(self.options, len(batch.raters)))
        parameters = state.parameters()

        def gradient(index: int, rater: str) -> list[float]:
            present, values = targets[index].sum(-1) > 0, []
            weighted = weighted_targets(targets[index][present].to(task.device), self.class_weights)
            inputs = task.inputs(np.asarray(rows[index][present]))
            own = self.of_rater(state, parameters, index)
            for loss in state.learner.losses(inputs, weighted, "multi-few", task.seed, step, rater):
                share = loss(own, 0) / len(batch.raters)
                share.backward()
                values.append(share.item())
            return values

        return self.rater_by_rater(state, batch, step, gradient)

    def of_rater(
        self, state: ModelState, parameters: Mapping[str, torch.Tensor], index: int | slice
    ) -> dict[str, torch.Tensor]:
        """``parameters`` as one training rater has them, or with a leading axis as several have."""
        names = (f"{state.learner.prefix}{name}" for name in CLASSIFIER)
        return {**parameters, **{name: parameters[name][index] for name in names}}

    def adapt(self, state: ModelState, support: Support) -> Predictor:
        return self.adapt_many(state, [support])[0]

    def adapt_many(self, state: ModelState, supports: Sequence[Support]) -> list[Predictor]:
        """Adaptation to several episodes, all at once."""
        shared = self.unadapted(state)
        with self.adapting(state, supports[0]):
            hidden = torch.stack([self.embed(state, shared, support.features) for support in supports])
        learned = learned_classifiers(hidden, supports, self.class_weights, self.options)
        return [state.learner.with_head(shared, classifier) for classifier in learned]

    def predict(self, state: ModelState, predictor: Predictor, query: Inputs) -> np.ndarray:
        return super().predict(state, with_one_classifier(predictor, state.learner.prefix), query)

    def is_one_head(self, state: ModelState, predictor: Predictor) -> bool:
        """With a single classifier."""
        single = predictor[f"{state.learner.prefix}{CLASSIFIER[0]}"].dim() == 2
        return single and predictor.keys() == state.parameters().keys()


class RaterClassifiers(nn.Module):
    """The last linear layer, once for each rater.

    Attributes:
        weight: [A, C, H].
        bias: [A, C].
    """

    def __init__(self, raters: list[str], hidden: int, classes: int, *seed: object):
        super().__init__()
        drawn = [new_classifier(hidden, classes, *seed, rater) for rater in raters]
        self.weight = nn.Parameter(torch.stack([one["classifier.weight"] for one in drawn]))
        self.bias = nn.Parameter(torch.stack([one["classifier.bias"] for one in drawn]))


def trained_like_the_initialisation(options: Options) -> Options:
    """Outer steps with ``initrc``'s number, optimiser and evaluation interval; its batch size is what is drawn."""
    initrc = options.downstream_expert.initrc
    runner = {"total_steps": initrc.total_steps, "eval_step": initrc.eval_step, "save_step": initrc.eval_step}
    drawn = {"shots": initrc.batch_size, "raters": None, "raters_per_step": None, "combined_set": True}
    changed = {
        "runner": with_values(options.runner, runner),
        "optimizer": OptimizerOptions("AdamW", initrc.lr, initrc.weight_decay),
        f"{EXPERT}.metarc": with_values(options.downstream_expert.metarc, {**drawn, "selection": "best"}),
    }
    return with_values(options, changed)


def multi_rater_learner(task: TrainingTask) -> HeadLearner:
    """A learner whose fresh head has a classifier for each of the task's raters."""
    layers, features = task.features.shape[1:]
    head: nn.Module = new_head(task.options, layers, features, len(task.classes), "multi-few", task.seed)
    hidden = task.options.downstream_expert.modelrc.projector_dim
    head.classifier = RaterClassifiers(list(task.raters), hidden, len(task.classes), "multi-few", task.seed)
    return new_learner(task, head=head)


def samples_of_a_rater(options: Options, raters: int) -> int:
    """n, what ``initrc.batch_size`` comes to for each of ``raters`` raters, rounded up."""
    return -(-options.downstream_expert.initrc.batch_size // raters)


def own_samples(batch: EpisodeBatch, samples: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The first ``samples`` of each rater's draw: rows [A, n] and label distributions [A, n, C], zero where filled."""
    return batch.support_rows[:, :samples], unfilled(batch.support_targets[:, :samples])


def new_classifier(hidden: int, classes: int, *seed: object) -> dict[str, torch.Tensor]:
    """A linear layer by its names in the head, drawn as ``torch.nn.Linear`` does, from a generator of its own."""
    generator, bound = torch_generator("classifier", *seed), hidden**-0.5
    weight = torch.empty(classes, hidden).uniform_(-bound, bound, generator=generator)
    return {
        "classifier.weight": weight,
        "classifier.bias": torch.empty(classes).uniform_(-bound, bound, generator=generator),
    }


def learned_classifiers(
    hidden: torch.Tensor, supports: Sequence[Support], class_weights: torch.Tensor, options: Options
) -> list[dict[str, torch.Tensor]]:
    """New classifiers, learned on K samples each: ``fewrc``'s optimiser at ``classifier_lr``, ``evalrc.steps`` steps.

    Args:
        hidden: embeddings of the A episodes' samples, [A, K, H]; they stay, since all that makes them does.
        supports: for their targets, and their seeds, from which the classifiers are drawn.
    """
    fewrc = options.downstream_expert.fewrc
    targets = weighted_targets(torch.stack([support.targets for support in supports]), class_weights)
    drawn = [new_classifier(hidden.shape[-1], targets.shape[-1], "meta-test", support.seed) for support in supports]
    start = {name: torch.stack([one[name] for one in drawn]).to(hidden) for name in CLASSIFIER}

    def loss(parameters: Mapping[str, torch.Tensor], step: int) -> torch.Tensor:
        weight, bias = (parameters[name] for name in CLASSIFIER)
        return soft_cross_entropy(hidden @ weight.transpose(1, 2) + bias[:, None], targets)

    steps = options.downstream_expert.evalrc.steps
    return each(optimised(start, through([loss]), fewrc.optimizer, fewrc.classifier_lr, fewrc.weight_decay, steps))


def with_one_classifier(parameters: Mapping[str, torch.Tensor], prefix: str = "") -> dict[str, torch.Tensor]:
    """``parameters`` with the mean of stacked classifiers, whose logits are the mean of the raters' logits."""
    names = [f"{prefix}{name}" for name in CLASSIFIER]
    stacked = parameters[names[0]].dim() == 3
    return {**parameters, **{name: parameters[name].mean(0) for name in names if stacked}}
