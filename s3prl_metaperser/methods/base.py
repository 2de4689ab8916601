"""What a system is: how its initialisation is trained, and how the K support samples are used."""

from __future__ import annotations

import abc
import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from s3prl_metaperser.config.options import Options
from s3prl_metaperser.corpora.label_set import LabelSet
from s3prl_metaperser.meta.model import Head, pooled_logits
from s3prl_metaperser.meta.rates import InnerRates
from s3prl_metaperser.protocol.loader import EpisodeBatch, LabelTable
from s3prl_metaperser.seeding import torch_generator

if TYPE_CHECKING:
    from s3prl_metaperser.upstream.finetuning import FineTunedModel
    from s3prl_metaperser.upstream.waveforms import Waveforms

#: Pooled features [K, L, D], or K waveforms.
Inputs = torch.Tensor | list[torch.Tensor]
#: What adaptation returns: the head's parameters by name; None where a system has none.
Predictor = Mapping[str, torch.Tensor] | None


@dataclass(frozen=True)
class Support:
    """The K labelled samples of one episode.

    Attributes:
        features: pooled, prepared like those in training, float32 [K, L, D]; with a fine-tuned upstream K waveforms,
            each float32 [n] at 16 kHz.
        targets: smoothed label distributions, float32 [K, C].
        seed: the episode's; the source of whatever a system draws.
    """

    features: Inputs
    targets: torch.Tensor
    seed: int


@dataclass(frozen=True)
class EpisodeData:
    """One episode of meta-testing, with features.

    Attributes:
        query: pooled features [Q, L, D], or Q waveforms.
        query_labels: the rater's labels on them; never shown to a system.
        support_utterances: ids, K of them.
    """

    support: Support
    query: Inputs
    query_labels: LabelTable
    support_utterances: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrainingTask:
    """Everything that a system may learn from, for one corpus, upstream, scenario and fold.

    Attributes:
        features: prepared pooled features of the whole corpus, float32 [N, L, D], or its waveforms; labels point into
            it by row.
        label_set: what raters may answer; its classes are the order of every class axis.
        raters: training rater -> labels.
        consensus: pooled labels of the training raters.
        class_weights: from the consensus labels, float32 [C].
        validation: the validation rater's labels; for choosing a step, never for a gradient.
        validation_episodes: the same rater's meta-testing episodes.
        cache: folder for what systems share, such as the initialisation.
        identity: hash of ``made_from``.
        model: upstream and head, where the upstream is fine-tuned.
        made_from: all that training under this task depends on, as parts for :mod:`.storage.provenance`.
        learned_from: the same for an initialisation, which depends on nothing of the test rater.
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

    @property
    def classes(self) -> tuple[str, ...]:
        """C class names."""
        return self.label_set.classes

    @property
    def device(self) -> torch.device:
        """Where training happens."""
        return self.class_weights.device


@dataclass
class ModelState:
    """What training leaves behind.

    Attributes:
        head: layer weights, projector and classifier.
        rates: of the inner loop, for systems that have one.
        model: upstream and head, where the upstream is fine-tuned; ``head`` is its head.
    """

    head: Head | None = None
    rates: InnerRates | None = None
    model: FineTunedModel | None = None

    def parameters(self) -> dict[str, torch.Tensor]:
        """What adapts, by name: the head's parameters, or the whole model's."""
        if self.model is not None:
            return self.model.named_adapted()
        return {} if self.head is None else dict(self.head.named_parameters())


class System(abc.ABC):
    """One row of the tables.

    Args:
        options: the whole configuration; the system goes by :meth:`options_in_force`.
        class_weights: of the training split, float32 [C].
    """

    name: str = ""
    #: Whether the K support samples change what is predicted; only such a system can be handed to a listener.
    personalises: bool = True
    #: Episodes that :meth:`adapt_many` is given at once; their predictors are in memory together.
    episodes_at_once: int = 1

    def __init__(self, options: Options, class_weights: torch.Tensor):
        self.options = self.options_in_force(options)
        self.class_weights = class_weights

    @classmethod
    def options_in_force(cls, options: Options) -> Options:
        """The configuration that this system runs under, where its definition fixes some of it; else ``options``.

        Runs, checkpoints and results hold these options. Applying it twice is the same as applying it once.
        """
        return options

    @property
    def outer_steps(self) -> int:
        """Training steps after :meth:`initialise`; none by default."""
        return 0

    def tunable(self) -> list[dict[str, Any]]:
        """What the protocol ``tuned`` chooses from, on the validation rater; by default nothing.

        Each choice is ``section.option`` of ``downstream_expert`` -> value, such as ``{"evalrc.steps": 25}``, and may
        name only what :meth:`adapt` and :meth:`predict` go by: the trained state is the same for all of them. A system
        with ``fewrc``'s optimiser or with inner rates returns :func:`s3prl_metaperser.methods.tuning.grid`, so that
        all systems have as many choices.
        """
        return []

    @property
    def adapts_in_steps(self) -> bool:
        """Whether adaptation goes by ``evalrc.steps``, so that it can be looked at after fewer or more of them."""
        return any("evalrc.steps" in choice for choice in self.tunable())

    def under(self, options: Options) -> System:
        """This system under other options, for another way to adapt the same state."""
        other = copy.copy(self)
        other.options = self.options_in_force(options)
        return other

    @abc.abstractmethod
    def blank(self, task: TrainingTask) -> ModelState:
        """A state of the right shapes, to load a checkpoint into."""

    @abc.abstractmethod
    def initialise(self, task: TrainingTask) -> ModelState:
        """The state before the first outer step."""

    def outer_loss(self, state: ModelState, batch: EpisodeBatch, step: int, task: TrainingTask) -> torch.Tensor:
        """The loss of outer step ``step`` (counted from 1), a scalar to be differentiated."""
        raise NotImplementedError(f"{self.name} has no outer steps")

    def outer_gradient(self, state: ModelState, batch: EpisodeBatch, step: int, task: TrainingTask) -> float:
        """Add the gradient of the outer loss to ``.grad`` of all that is trained; returns the loss."""
        loss = self.outer_loss(state, batch, step, task)
        loss.backward()
        return loss.item()

    @abc.abstractmethod
    def adapt(self, state: ModelState, support: Support) -> Predictor:
        """Use the K support samples; ``state`` is left as it is."""

    def adapt_many(self, state: ModelState, supports: Sequence[Support]) -> list[Predictor]:
        """:meth:`adapt` for several episodes with as many samples each."""
        return [self.adapt(state, support) for support in supports]

    def unadapted(self, state: ModelState) -> Predictor:
        """What predicts before any support sample is seen: the state's own parameters, detached."""
        return {name: value.detach() for name, value in state.parameters().items()}

    def engine(self, state: ModelState) -> str:
        """How adaptation is computed, for the log and the result."""
        return "autograd"

    def predict(self, predictor: Predictor, query: Inputs) -> np.ndarray:
        """Probabilities, float32 [Q, C], of query features [Q, L, D] (or Q waveforms)."""
        with torch.no_grad():
            return torch.softmax(pooled_logits(predictor, query), dim=-1).cpu().numpy()


def new_head(options: Options, layers: int, features: int, classes: int, *seed: object) -> Head:
    """A fresh head, drawn from a generator that ``seed`` names."""
    return Head(
        layers,
        features,
        options.downstream_expert.modelrc.projector_dim,
        classes,
        torch_generator("head", *seed),
    )
