"""The inputs of a system: labelled samples, episodes, and the task that it may learn from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from s3prl_metaperser.config.options import Options
from s3prl_metaperser.corpora.label_set import LabelSet
from s3prl_metaperser.methods.start import Start
from s3prl_metaperser.protocol.loader import LabelTable
from s3prl_metaperser.protocol.loss import weighted_targets

if TYPE_CHECKING:
    from s3prl_metaperser.upstream.finetuning import FineTunedModel
    from s3prl_metaperser.upstream.inputs import Waveforms

#: Pooled features [K, L, D], or K waveforms.
Inputs = torch.Tensor | list[torch.Tensor]


def pooled(inputs: Any) -> torch.Tensor:
    """Inputs that are pooled features.

    Raises:
        TypeError: they are waveforms.
    """
    if not isinstance(inputs, torch.Tensor):
        raise TypeError("A head takes pooled features [K, L, D], not waveforms.")
    return inputs


def waves(inputs: Inputs) -> list[torch.Tensor]:
    """Inputs that are waveforms.

    Raises:
        TypeError: they are pooled features.
    """
    if isinstance(inputs, torch.Tensor):
        raise TypeError("A whole model takes a list of waveforms, not pooled features.")
    return inputs


@dataclass(frozen=True)
class Support:
    """The K labelled samples of one episode.

    Attributes:
        features: pooled, prepared like those in training, float32 [K, L, D]; with a fine-tuned upstream K waveforms,
            each float32 [n] at 16 kHz.
        targets: smoothed label distributions, float32 [K, C].
        seed: the episode's; seeds everything that a system draws.
    """

    features: Inputs
    targets: torch.Tensor
    seed: int

    @property
    def pooled(self) -> torch.Tensor:
        """The features, where the upstream is frozen."""
        return pooled(self.features)

    def some(self, chosen: np.ndarray) -> Support:
        """The episode with some of its samples, by their places."""
        index, inputs = torch.from_numpy(chosen), self.features
        features = inputs[index.to(inputs.device)] if isinstance(inputs, torch.Tensor) else [inputs[i] for i in chosen]
        return Support(features, self.targets[index.to(self.targets.device)], self.seed)


@dataclass(frozen=True)
class EpisodeData:
    """One episode of meta-testing, with features.

    Attributes:
        query: pooled features [Q, L, D], or Q waveforms.
        query_labels: the rater's labels on them; never shown to a system.
    """

    support: Support
    query: Inputs
    query_labels: LabelTable


@dataclass(frozen=True)
class TrainingTask:
    """Everything that a system may learn from, for one corpus, upstream, scenario and fold.

    Attributes:
        features: prepared pooled features of the whole corpus, float32 [N, L, D], or its waveforms; labels point into
            it by row (:meth:`inputs`).
        label_set: what raters may answer; its classes are the order of every class axis.
        raters: training rater -> labels.
        meta_trainers: those of them of whom outer steps draw; nobody is named where that is all.
        consensus: pooled labels of the training raters.
        class_weights: from the consensus labels, float32 [C].
        validation: the validation rater's labels; for choosing a step, never for a gradient.
        validation_episodes: the same rater's meta-testing episodes.
        cache: folder for what systems share, such as the initialisation.
        identity: hash of ``made_from``.
        model: upstream and head, where the upstream is fine-tuned.
        made_from: all that training under this task depends on, as parts for :mod:`.storage.provenance`.
        learned_from: the same for an initialisation, which depends on nothing of the test rater.
        start: what is started from in place of the initialisation, where it is another task's model.
    """

    features: torch.Tensor | Waveforms
    label_set: LabelSet
    raters: dict[str, LabelTable]
    consensus: LabelTable
    class_weights: torch.Tensor
    validation: LabelTable
    validation_episodes: tuple[EpisodeData, ...]
    options: Options
    seed: int
    cache: Path
    identity: str
    model: FineTunedModel | None = None
    made_from: Mapping[str, Any] = field(default_factory=dict)
    learned_from: Mapping[str, Any] = field(default_factory=dict)
    meta_trainers: tuple[str, ...] = ()
    start: Start | None = None

    @property
    def meta_training(self) -> dict[str, LabelTable]:
        """Labels of the raters of whom outer steps draw."""
        return {rater: self.raters[rater] for rater in self.meta_trainers} if self.meta_trainers else self.raters

    @property
    def classes(self) -> tuple[str, ...]:
        """C class names."""
        return self.label_set.classes

    @property
    def device(self) -> torch.device:
        """Where training happens."""
        return self.class_weights.device

    @property
    def pooled(self) -> torch.Tensor:
        """The pooled features, where the upstream is frozen."""
        return pooled(self.features)

    @property
    def waveforms(self) -> Waveforms:
        """The waveforms, where the upstream is fine-tuned."""
        assert not isinstance(self.features, torch.Tensor)
        return self.features

    def inputs(self, rows: np.ndarray) -> Inputs:
        """Pooled features or waveforms of some rows."""
        if isinstance(self.features, torch.Tensor):
            return self.features[torch.from_numpy(rows).to(self.device)]
        return self.features[rows]

    def samples(self, labels: LabelTable, chosen: np.ndarray | slice = slice(None)) -> tuple[Inputs, torch.Tensor]:
        """Inputs and weighted targets, float32 [n, C], of labelled utterances, or of some of them."""
        targets = torch.from_numpy(labels.targets[chosen]).to(self.device)
        return self.inputs(labels.rows[chosen]), weighted_targets(targets, self.class_weights)
