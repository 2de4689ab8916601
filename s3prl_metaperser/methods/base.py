"""The base class of systems: how the initialisation is trained, and how the K support samples are used."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from s3prl_metaperser import parallel
from s3prl_metaperser.config.options import Options
from s3prl_metaperser.config.section import with_values
from s3prl_metaperser.corpora.label_set import LabelSet
from s3prl_metaperser.meta.micro_gradients import MicroLoss
from s3prl_metaperser.meta.rates import InnerRates
from s3prl_metaperser.methods.facts import START, Facts, Scope
from s3prl_metaperser.methods.initialisation import initialised
from s3prl_metaperser.methods.learner import HeadLearner, Learner, Parameters, new_head, new_learner
from s3prl_metaperser.methods.task import EpisodeData, Inputs, Support, TrainingTask
from s3prl_metaperser.methods.tuning import RATES, Overrides, grid
from s3prl_metaperser.protocol.loader import EpisodeBatch
from s3prl_metaperser.protocol.loss import weighted_targets

__all__ = [
    "EpisodeData",
    "HeadLearner",
    "Inputs",
    "Learner",
    "ModelState",
    "Predictor",
    "Support",
    "System",
    "TrainingTask",
    "new_head",
]

#: What adaptation returns: tensors by name, the learner's parameters and anything else that prediction needs.
Predictor = Mapping[str, torch.Tensor]


@dataclass
class ModelState:
    """The result of training.

    Attributes:
        learner: the head, or upstream and head; without parameters where a system learns nothing.
        rates: of the inner loop, for systems that learn or fix some.
        priors: of output adaptations, where they are learned (:meth:`.System.learn_priors`).
    """

    learner: Learner = field(default_factory=Learner)
    rates: InnerRates | None = None
    priors: dict[str, torch.Tensor] = field(default_factory=dict)

    def parameters(self) -> dict[str, torch.Tensor]:
        """What adapts, by name."""
        return self.learner.parameters()

    def to(self, device: str | torch.device) -> ModelState:
        """Move everything, in place."""
        self.learner.module.to(device)
        if self.rates is not None:
            self.rates.to(device)
        return self


class System:
    """One row of the tables, in both scopes. This base class is the shared initialisation without adaptation.

    Shapes by letters: A raters in a meta-batch, K support, Q query, C classes, H the projector's size.

    Args:
        options: the whole configuration; the system uses :meth:`options_in_force` of it.
        class_weights: of the training split, float32 [C].
    """

    #: Known without running it; another package's system declares its own here.
    facts: Facts | None = None
    #: Set by the registry: its name and scope there.
    name: str = ""
    scope: Scope = "frozen"
    #: Whether the K support samples change what is predicted; only such a system can be handed to a listener.
    personalises: bool = True
    #: Episodes that :meth:`adapt_many` is given at once on a frozen upstream; their predictors are in memory together.
    frozen_at_once: int = 1

    def __init__(self, options: Options, class_weights: torch.Tensor):
        self.options = self.options_in_force(options)
        self.class_weights = class_weights

    # -- options -----------------------------------------------------------------------------------------------

    @classmethod
    def options_in_force(cls, options: Options) -> Options:
        """The configuration with the options that this system's facts fix.

        Runs, checkpoints and results hold these options. Applying it twice is the same as applying it once.
        """
        fixed = dict(cls.facts.fixed) if cls.facts else {}
        if fixed.get(START) and isinstance(options.downstream_expert.metarc.initialisation, str):
            del fixed[START]  # it is fixed to have a start, and this is one
        return with_values(options, fixed)

    @property
    def outer_steps(self) -> int:
        """Training steps after :meth:`initialise`; ``runner.total_steps`` where the facts say that it trains."""
        return self.options.runner.total_steps if self.facts and self.facts.trains else 0

    @property
    def episodes_at_once(self) -> int:
        """Episodes that :meth:`adapt_many` is given at once; one where the whole upstream adapts."""
        return self.frozen_at_once if self.scope == "frozen" else 1

    def tunable(self) -> list[Overrides]:
        """What the protocol ``tuned`` chooses from, on the validation rater: by the facts, or nothing.

        Each choice is ``section.option`` of ``downstream_expert`` -> value, such as ``{"evalrc.steps": 25}``, and may
        name only what :meth:`adapt` and :meth:`predict` use: the trained state is the same for all of them. All
        systems with choices have as many.
        """
        kind = self.facts.adapts_by if self.facts else ""
        return grid(kind, self.scope, self.options) if kind else []

    @property
    def if_it_diverges(self) -> str:
        """Which option to lower where predictions are not finite."""
        kind = self.facts.adapts_by if self.facts else ""
        return f"Lower {RATES[kind]}." if kind in RATES else "Lower the rate at which it is trained."

    @property
    def initial_rate(self) -> float | None:
        """What the state's rates start from; None where there is no one number that all start from."""
        return self.options.downstream_expert.metarc.inner_lr

    @property
    def adapts_in_steps(self) -> bool:
        """Whether ``evalrc.steps`` controls adaptation, so that it can be evaluated after fewer or more steps."""
        return any("evalrc.steps" in choice for choice in self.tunable())

    @property
    def selected_by(self) -> System:
        """The system by whose loss on the validation rater training selects its step: itself, but for one that is
        trained as another."""
        return self

    @classmethod
    def check(cls, label_set: LabelSet) -> None:
        """Refuse a corpus's label set before any work is spent.

        Raises:
            UserError: this system is for labels of another kind.
        """

    def under(self, options: Options) -> System:
        """This system under other options, for another way to adapt the same state."""
        other = copy.copy(self)
        other.options = self.options_in_force(options)
        return other

    # -- training ----------------------------------------------------------------------------------------------

    def blank(self, task: TrainingTask) -> ModelState:
        """A state of the right shapes, to load a checkpoint into."""
        return ModelState(new_learner(task, "blank"))

    def initialise(self, task: TrainingTask) -> ModelState:
        """The state before the first outer step."""
        return ModelState(initialised(task))

    def outer_loss(self, state: ModelState, batch: EpisodeBatch, step: int, task: TrainingTask) -> torch.Tensor:
        """The loss of outer step ``step`` (counted from 1), a scalar to be differentiated."""
        raise NotImplementedError(f"{self.name} has no outer steps")

    def outer_gradient(self, state: ModelState, batch: EpisodeBatch, step: int, task: TrainingTask) -> float:
        """Add the gradient of the outer loss to ``.grad`` of all that is trained; returns the loss."""
        loss = self.outer_loss(state, batch, step, task)
        loss.backward()
        return loss.item()

    def rater_by_rater(
        self, state: ModelState, batch: EpisodeBatch, step: int, gradient: Callable[[int, str], list[float]]
    ) -> float:
        """:meth:`outer_gradient` with one rater in memory at a time; raters are shared out over processes.

        Args:
            gradient: (index, rater) -> the rater's shares of the loss; adds their gradient to ``.grad``.
        """
        total = 0.0
        with state.learner.training():
            for index, rater in parallel.share(batch.raters):
                with state.learner.explaining(f"Outer step {step}, rater {rater}"):
                    for value in gradient(index, rater):
                        total += value
        rates = [] if state.rates is None else [p for p in state.rates.parameters() if p.requires_grad]
        parallel.sum_gradients([*state.parameters().values(), *rates])
        return parallel.sum_value(total)

    def learn_priors(self, state: ModelState, task: TrainingTask) -> None:
        """Fill ``state.priors`` from the training raters' labels, once a state is trained, if this system needs any."""

    # -- meta-testing ------------------------------------------------------------------------------------------

    def adapt(self, state: ModelState, support: Support) -> Predictor:
        """Use the K support samples; ``state`` is not modified."""
        return self.unadapted(state)

    def adapt_many(self, state: ModelState, supports: Sequence[Support]) -> list[Predictor]:
        """:meth:`adapt` for several episodes with as many samples each."""
        return [self.adapt(state, support) for support in supports]

    def unadapted(self, state: ModelState) -> Predictor:
        """What predicts before any support sample is seen: the state's own parameters, detached."""
        return {name: value.detach() for name, value in state.parameters().items()}

    def engine(self, state: ModelState) -> str:
        """How adaptation is computed, for the log and the result."""
        return "autograd"

    def predict(self, state: ModelState, predictor: Predictor, query: Inputs) -> np.ndarray:
        """Probabilities, float32 [Q, C], of query features [Q, L, D] (or Q waveforms)."""
        with state.learner.explaining(f"{self.name}, predicting {len(query)} utterances,"):
            return state.learner.probabilities(self._own(state, predictor), query)

    def is_one_head(self, state: ModelState, predictor: Predictor) -> bool:
        """Whether the softmax of the learner's logits under the predictor's parameters is all that predicts."""
        return type(self).predict is System.predict and predictor.keys() == state.parameters().keys()

    def as_one_head(self, state: ModelState, predictor: Predictor) -> Predictor:
        """The predictor as parameters of the learner alone, which predict the same; as it is where that cannot be."""
        return predictor

    def embed(self, state: ModelState, predictor: Predictor, inputs: Inputs) -> torch.Tensor:
        """What the classifier sees of K inputs, float32 [K, H], without a graph."""
        with state.learner.explaining(f"{self.name}, embedding {len(inputs)} utterances,"):
            return state.learner.embed(self._own(state, predictor), inputs)

    def losses(self, state: ModelState, support: Support, *seed: object) -> list[MicroLoss]:
        """The class-balanced loss of the support samples, in parts."""
        weighted = weighted_targets(support.targets, self.class_weights)
        return state.learner.losses(support.features, weighted, *seed, support.seed)

    def adapting(self, state: ModelState, support: Support) -> contextlib.AbstractContextManager[None]:
        """Context of an adaptation: names the episode if memory runs out."""
        return state.learner.explaining(f"{self.name}, adapting to episode {support.seed},")

    @staticmethod
    def _own(state: ModelState, predictor: Predictor) -> Parameters:
        return {name: predictor[name] for name in state.parameters()}
