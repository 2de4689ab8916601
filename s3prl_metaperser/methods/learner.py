"""What learns, in either scope: the head on pooled features, or upstream and head together on waveforms.

A system sees only the learner (parameters, logits, embeddings, losses), so that one class serves both scopes.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping
from typing import cast

import numpy as np
import torch
from torch import nn

from s3prl_metaperser import parallel
from s3prl_metaperser.config.options import Options
from s3prl_metaperser.meta.micro_gradients import MicroLoss
from s3prl_metaperser.meta.model import Head, pooled_logits
from s3prl_metaperser.methods.task import Inputs, TrainingTask, pooled, waves
from s3prl_metaperser.protocol.loader import LabelTable
from s3prl_metaperser.protocol.loss import class_balanced_loss, soft_cross_entropy
from s3prl_metaperser.seeding import torch_generator
from s3prl_metaperser.upstream.finetuning import FineTunedModel
from s3prl_metaperser.upstream.memory import explaining_memory
from s3prl_metaperser.upstream.micro_batches import MicroLogits, micro_batches, micro_logits, micro_losses

Parameters = Mapping[str, torch.Tensor]


class Learner:
    """A learner without parameters, for a system that learns nothing; the other learners are made from it."""

    #: What stands before the head's names among the parameters.
    prefix = ""

    @property
    def module(self) -> nn.Module:
        """All its tensors, to be moved and stored."""
        return nn.Module()

    def parameters(self) -> dict[str, torch.Tensor]:
        """What adapts, by name, in an order that does not change."""
        return {}

    def logits(self, parameters: Parameters, inputs: Inputs) -> torch.Tensor:
        """Logits [K, C] with these parameters; without a graph if the caller wants none."""
        raise NotImplementedError("This system has no model")

    def losses(self, inputs: Inputs, weighted: torch.Tensor, *seed: object) -> list[MicroLoss]:
        """The class-balanced loss of K samples in parts, whose sum is the mean over the samples.

        Args:
            weighted: :func:`.weighted_targets`, [K, C].
            seed: identifies this adaptation; seeds its dropout masks.
        """
        raise NotImplementedError("This system has no model")

    @contextlib.contextmanager
    def training(self) -> Iterator[None]:
        """Training mode while parameters are trained."""
        yield

    def explaining(self, where: str, *advice: str) -> contextlib.AbstractContextManager[None]:
        """Explain running out of memory in the block, if an upstream runs in it."""
        return contextlib.nullcontext()

    def embed(self, parameters: Parameters, inputs: Inputs) -> torch.Tensor:
        """What the classifier sees, float32 [K, H], without a graph."""
        with torch.no_grad():
            return self.logits(self.passing_on(parameters), inputs).float()

    def passing_on(self, parameters: Parameters) -> dict[str, torch.Tensor]:
        """``parameters`` whose logits are what the classifier sees, [K, H]."""
        bias = parameters[f"{self.prefix}projector.bias"]
        identity = torch.eye(len(bias), dtype=bias.dtype, device=bias.device)
        return self.with_head(parameters, {"classifier.weight": identity, "classifier.bias": torch.zeros_like(bias)})

    def parts(self, inputs: Inputs, *seed: object) -> list[MicroLogits]:
        """Logits of K samples in parts that fit in memory: (indices, (parameters, step) -> logits [n, C]) of each.

        A part has the same logits each time, dropout included, whose masks ``seed`` names.
        """
        raise NotImplementedError("This system has no model")

    def probabilities(self, parameters: Parameters, inputs: Inputs) -> np.ndarray:
        """Softmax of the logits, float32 [K, C]."""
        with torch.no_grad():
            return torch.softmax(self.logits(parameters, inputs).float(), dim=-1).cpu().numpy()

    def classifier(self, parameters: Parameters) -> tuple[torch.Tensor, torch.Tensor]:
        """The last layer's weight [C, H] and bias [C] among ``parameters``; of stacked raters [R, C, H] and [R, C]."""
        return parameters[f"{self.prefix}classifier.weight"], parameters[f"{self.prefix}classifier.bias"]

    def with_head(self, parameters: Parameters, changed: Parameters) -> dict[str, torch.Tensor]:
        """``parameters`` with some of the head's (by their names in the head) replaced."""
        return {**parameters, **{f"{self.prefix}{name}": value for name, value in changed.items()}}


class HeadLearner(Learner):
    """The head, on pooled features [..., K, L, D] of a frozen upstream.

    Parameters may carry a leading axis A where inputs do: then A episodes or raters are computed at once.
    """

    def __init__(self, head: nn.Module):
        self.head = cast(Head, head)

    @property
    def module(self) -> nn.Module:
        return self.head

    def parameters(self) -> dict[str, torch.Tensor]:
        return dict(self.head.named_parameters())

    def logits(self, parameters: Parameters, inputs: Inputs) -> torch.Tensor:
        return pooled_logits(parameters, pooled(inputs))

    def parts(self, inputs: Inputs, *seed: object) -> list[MicroLogits]:
        return [(list(range(len(inputs))), lambda parameters, step: self.logits(parameters, inputs))]

    def losses(self, inputs: Inputs, weighted: torch.Tensor, *seed: object) -> list[MicroLoss]:
        return [lambda parameters, step: soft_cross_entropy(self.logits(parameters, inputs), weighted)]

    def loss_on(self, task: TrainingTask, labels: LabelTable) -> float:
        """Class-balanced loss over labelled utterances, which selects the initialisation's step."""
        inputs, weighted = task.samples(labels)
        with torch.no_grad():
            return soft_cross_entropy(self.logits(self.parameters(), inputs), weighted).item()


class EntireLearner(HeadLearner):
    """Upstream and head, on waveforms each [n] at 16 kHz, in micro-batches of bounded size."""

    prefix = "head."

    def __init__(self, model: FineTunedModel):
        super().__init__(model.head)
        self.model = model
        self.seconds: float = model.options.micro_batch_seconds

    @property
    def module(self) -> nn.Module:
        return self.model

    def parameters(self) -> dict[str, torch.Tensor]:
        return dict(self.model.named_adapted())

    def logits(self, parameters: Parameters, inputs: Inputs) -> torch.Tensor:
        audio = waves(inputs)
        bias = parameters[f"{self.prefix}classifier.bias"]
        found = bias.new_empty(len(audio), len(bias))
        for group in micro_batches([len(wave) for wave in audio], self.seconds):
            found[group] = self.model.functional(parameters, [audio[index] for index in group]).to(found.dtype)
        return found

    def parts(self, inputs: Inputs, *seed: object) -> list[MicroLogits]:
        return micro_logits(self.model, waves(inputs), self.seconds, *seed)

    def losses(self, inputs: Inputs, weighted: torch.Tensor, *seed: object) -> list[MicroLoss]:
        return micro_losses(self.model, waves(inputs), weighted, self.seconds, *seed)

    @contextlib.contextmanager
    def training(self) -> Iterator[None]:
        self.model.train(self.model.options.dropout)
        try:
            yield
        finally:
            self.model.eval()

    def explaining(self, where: str, *advice: str) -> contextlib.AbstractContextManager[None]:
        return explaining_memory(where, *advice)

    def loss_on(self, task: TrainingTask, labels: LabelTable) -> float:
        """The same, in micro-batches that are shared among processes."""
        training, total = self.model.training, 0.0
        self.model.eval()
        weights = task.class_weights.detach().cpu().double().numpy()
        lengths = [task.waveforms.samples(row) for row in labels.rows]
        with torch.no_grad():
            for _, group in parallel.share(micro_batches(lengths, self.seconds)):
                logits = self.model(task.waveforms[labels.rows[group]])
                probabilities = torch.softmax(logits.float(), -1).cpu().numpy()
                total += len(group) * class_balanced_loss(probabilities, labels.targets[group], weights)
        self.model.train(training)
        return parallel.sum_value(total) / len(labels.rows)


def new_head(options: Options, layers: int, features: int, classes: int, *seed: object) -> Head:
    """A fresh head, drawn from a generator that ``seed`` names."""
    generator = torch_generator("head", *seed)
    return Head(layers, features, options.downstream_expert.modelrc.projector_dim, classes, generator)


def new_learner(task: TrainingTask, *seed: object, head: nn.Module | None = None) -> HeadLearner:
    """An untrained learner of the task's shapes, on its device.

    Args:
        seed: names the generator of a fresh head; with a fine-tuned upstream the task's model is used unchanged.
        head: in place of that head; the task's model keeps its own.
    """
    if task.model is None:
        layers, features = task.features.shape[1:]
        drawn = head if head is not None else new_head(task.options, layers, features, len(task.classes), *seed)
        return HeadLearner(drawn.to(task.device))
    if head is None:
        return EntireLearner(task.model)
    other = copy.copy(task.model)  # the upstream's parameters are shared
    other._modules = {**task.model._modules, "head": head.to(task.device)}
    return EntireLearner(other)
