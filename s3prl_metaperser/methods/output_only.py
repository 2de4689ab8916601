"""A system whose outputs alone adapt further: ``SYSTEM+bias``, ``SYSTEM+map``, ``SYSTEM+tilt+map``.

A few numbers are fitted to the listener's K labels, on top of the probabilities that any system gives. The system is
trained, and its step is selected, as without; only meta-testing differs. Each output adaptation maximises the
likelihood of the K labels under a Gaussian prior around "change nothing" (:mod:`.map_fit`), whose standard deviations
are fixed: the same for every system, corpus and K.

A system that has adapted to the K samples knows their labels, so that its probabilities on them say nothing about new
ones. There the numbers are fitted to probabilities from outside: the samples are dealt out to :data:`FOLDS` parts, the
system adapts to all parts but one and predicts that one. What is fitted is then applied to the system adapted to all K.
With a single sample the numbers are fitted to the predictions before adaptation.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from s3prl_metaperser.config.options import Options
from s3prl_metaperser.corpora.label_set import LabelSet
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.methods.base import Inputs, ModelState, Predictor, Support, System, TrainingTask
from s3prl_metaperser.methods.facts import Facts
from s3prl_metaperser.methods.learned_priors import Rated, learned_prior
from s3prl_metaperser.methods.map_fit import SMALLEST, TOLERANCE, most_probable, tempered
from s3prl_metaperser.methods.outputs import FOLDS, LEARNED, MARK, OUTPUTS, kinds_of
from s3prl_metaperser.methods.tuning import Overrides, grid, overridden
from s3prl_metaperser.protocol.loader import EpisodeBatch
from s3prl_metaperser.seeding import numpy_generator

#: Of learned priors: labels of a rater where the system does not adapt, else so many draws of K; and raters.
MOST_LABELS, DRAWS, MOST_RATERS = 256, 4, 100
#: What the parameters of an output adaptation are named in a predictor, with its place behind.
NAME = "output."


class Output:
    """One way to adapt outputs. All tensors are float64; rows of log-probabilities need not sum to one.

    Attributes:
        spread: factor on the prior's standard deviations (``outputrc.spread``).
        learned: whether the prior is learned over the training raters (:mod:`.learned_priors`).
    """

    spread: float = 1.0
    learned: bool = False

    def prior(self, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation of the parameters, each [P]; the mean changes nothing, or as little as can be."""
        raise NotImplementedError

    def apply(self, parameters: torch.Tensor, logs: torch.Tensor) -> torch.Tensor:
        """New log-probabilities [N, C], up to a constant a row, from old ones [N, C]."""
        raise NotImplementedError

    def as_linear(self, parameters: torch.Tensor, classes: int) -> tuple[torch.Tensor, torch.Tensor] | None:
        """M [C, C] and b [C]: M z + b are logits of the new probabilities wherever z are those of the old ones.

        None where it is no linear map of logits. A constant that is added to all entries of z must come out as one.
        """
        return None

    def as_table(self, parameters: torch.Tensor, classes: int) -> torch.Tensor | None:
        """T [C, C]: the new probabilities are the old ones times it. None where they are no such mixture."""
        return None

    def fit(self, logs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The most probable parameters [P], given label distributions [K, C] beside log-probabilities [K, C]."""

        return self.fit_under(logs, targets, *self.prior(logs.shape[-1]))

    def fit_under(
        self,
        logs: torch.Tensor,
        targets: torch.Tensor,
        mean: torch.Tensor,
        deviation: torch.Tensor,
        tolerance: float = TOLERANCE,
    ) -> torch.Tensor:
        """The same under another prior's mean and standard deviations [P], or a factor of its covariance [P, P]."""

        def energy(parameters: torch.Tensor) -> torch.Tensor:
            return -(targets * torch.log_softmax(self.apply(parameters, logs), -1)).sum()

        return most_probable(energy, mean, deviation * self.spread, tolerance)


class OutputOnly(System):
    """A system with its outputs adapted; :func:`on_top_of` makes the classes."""

    system: type[System]
    outputs: tuple[Output, ...]

    def __init__(self, options: Options, class_weights: torch.Tensor):
        super().__init__(options, class_weights)
        self.base = self.system(_as_sharp_as_it_is(options), class_weights)
        self.outputs = self._spread()

    # -- as the system without ---------------------------------------------------------------------------------

    @classmethod
    def options_in_force(cls, options: Options) -> Options:
        return cls.system.options_in_force(options)

    @property
    def outer_steps(self) -> int:
        return self.base.outer_steps

    @property
    def episodes_at_once(self) -> int:
        return self.base.episodes_at_once

    @property
    def if_it_diverges(self) -> str:
        return self.base.if_it_diverges

    @property
    def adapts_in_steps(self) -> bool:
        return False  # its numbers are fitted after any number of steps, 0 among them

    @property
    def selected_by(self) -> System:
        return self.base

    def tunable(self) -> list[Overrides]:
        return self.base.tunable() or grid("numbers", self.scope, self.options)

    def under(self, options: Options) -> System:
        other = copy.copy(self)
        other.options = self.options_in_force(options)
        other.base = self.base.under(_as_sharp_as_it_is(options))
        other.outputs = other._spread()
        return other

    def blank(self, task: TrainingTask) -> ModelState:
        return self.base.blank(task)

    def initialise(self, task: TrainingTask) -> ModelState:
        return self.base.initialise(task)

    def outer_loss(self, state: ModelState, batch: EpisodeBatch, step: int, task: TrainingTask) -> torch.Tensor:
        return self.base.outer_loss(state, batch, step, task)

    def outer_gradient(self, state: ModelState, batch: EpisodeBatch, step: int, task: TrainingTask) -> float:
        return self.base.outer_gradient(state, batch, step, task)

    def unadapted(self, state: ModelState) -> Predictor:
        return self.base.unadapted(state)

    def engine(self, state: ModelState) -> str:
        return self.base.engine(state)

    # -- what differs ------------------------------------------------------------------------------------------

    @classmethod
    def check(cls, label_set: LabelSet) -> None:
        cls.system.check(label_set)
        names = cls.name.rsplit(MARK, len(cls.outputs))[1:] if cls.outputs else []
        for name in names:
            if names.count(name) > 1:
                raise UserError(f"{cls.name}: {MARK}{name} is fitted once; a second one has nothing left to fit.")
            if (kinds := kinds_of(name)) and label_set.kind not in kinds:
                raise UserError(
                    f"{cls.name}: {MARK}{name} is for labels of the kind {' or '.join(kinds)}, and those of "
                    f"{label_set.name} are of the kind {label_set.kind}. `metaperser list systems` has others."
                )

    def adapt(self, state: ModelState, support: Support) -> Predictor:
        return self.adapt_many(state, [support])[0]

    def adapt_many(self, state: ModelState, supports: Sequence[Support]) -> list[Predictor]:
        predictors = self.base.adapt_many(state, supports)
        known = self._from_outside(state, supports) if self.base.personalises else None
        found: list[Predictor] = []
        for index, (predictor, support) in enumerate(zip(predictors, supports, strict=True)):
            own = self.base.predict(state, predictor, support.features) if known is None else known[index]
            found.append({**predictor, **self._fitted(own, support.targets, state.priors)})
        return found

    def learn_priors(self, state: ModelState, task: TrainingTask) -> None:
        """The priors that are learned, one after another, each of what the endings before it leave."""
        if not any(output.learned for output in self.outputs) or state.priors:
            return
        rated = [self._rated(state, task, rater) for rater in _drawn(task)]
        for index, output in enumerate(self.outputs):
            if output.learned:
                mean, factor = learned_prior(output, rated)
                state.priors |= {f"{index}.mean": mean, f"{index}.factor": factor}
            after = [output.apply(self._fit(index, *each, state.priors), each[0]) for each in rated]
            rated = [(torch.log_softmax(logs, -1), each[1]) for logs, each in zip(after, rated, strict=True)]

    def predict(self, state: ModelState, predictor: Predictor, query: Inputs) -> np.ndarray:
        probabilities = self.base.predict(state, predictor, query)
        fitted = self.fitted(predictor)
        if not fitted:
            return probabilities
        logs = _logs(probabilities)
        for output, parameters in fitted:
            logs = torch.log_softmax(output.apply(parameters, logs), -1)
        return tempered(torch.exp(logs).float().numpy(), self.options.downstream_expert.outputrc.temperature)

    def is_one_head(self, state: ModelState, predictor: Predictor) -> bool:
        """Where nothing is fitted beside the base's head, or is part of it."""
        return not self.fitted(predictor) and self.base.is_one_head(state, predictor)

    def as_one_head(self, state: ModelState, predictor: Predictor) -> Predictor:
        """Scores that are only shifted or mixed are another classifier; what else is fitted stays beside the head."""
        fitted, below = self.fitted(predictor), dict(self.base.as_one_head(state, self.below(predictor)))
        if not fitted or not self.base.is_one_head(state, below):
            return predictor
        classes = len(self.class_weights)
        matrix = torch.eye(classes, dtype=torch.float64) / self.options.downstream_expert.outputrc.temperature
        offset = torch.zeros(classes, dtype=torch.float64)
        for output, parameters in reversed(fitted):
            linear = output.as_linear(parameters, classes)
            if linear is None:
                return predictor
            matrix, offset = matrix @ linear[0], offset + matrix @ linear[1]
        weight, bias = state.learner.classifier(below)
        changed = {
            "classifier.weight": (matrix @ weight.cpu().double()).to(weight),
            "classifier.bias": (matrix @ bias.cpu().double() + offset).to(bias),
        }
        return state.learner.with_head(below, changed)

    def embed(self, state: ModelState, predictor: Predictor, inputs: Inputs) -> torch.Tensor:
        return self.base.embed(state, predictor, inputs)

    def fitted(self, predictor: Predictor) -> list[tuple[Output, torch.Tensor]]:
        """The own outputs that a predictor holds parameters of, in their order, with these."""
        named = ((output, self._named(index)) for index, output in enumerate(self.outputs))
        return [(output, predictor[name].cpu()) for output, name in named if name in predictor]

    def below(self, predictor: Predictor) -> Predictor:
        """A predictor without these: the base's."""
        own = {self._named(index) for index in range(len(self.outputs))}
        return {name: value for name, value in predictor.items() if name not in own}

    @property
    def places(self) -> int:
        """How many outputs a predictor may hold parameters of: its own, behind those of a base that has some."""
        return self._below + len(self.outputs)

    @property
    def _below(self) -> int:
        return self.base.places if isinstance(self.base, OutputOnly) else 0

    def _named(self, index: int) -> str:
        """What the parameters of an own output are named in a predictor."""
        return f"{NAME}{self._below + index}"

    def _spread(self) -> tuple[Output, ...]:
        """The outputs, with priors as wide as the options say."""
        own = tuple(copy.copy(output) for output in type(self).outputs)
        for output in own:
            output.spread = self.options.downstream_expert.outputrc.spread
        return own

    def _fit(
        self, index: int, logs: torch.Tensor, targets: torch.Tensor, priors: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        output = self.outputs[index]
        if not output.learned:
            return output.fit(logs, targets)
        return output.fit_under(logs, targets, priors[f"{index}.mean"].cpu(), priors[f"{index}.factor"].cpu())

    def _rated(self, state: ModelState, task: TrainingTask, rater: str) -> Rated:
        """What a training rater answered, and what is predicted of it as of a listener's clips."""
        table, shots = task.raters[rater], self.options.downstream_expert.evalrc.shots
        order = numpy_generator("output priors", task.seed, rater).permutation(len(table.rows))
        if not self.base.personalises:
            rows = order[:MOST_LABELS]
            heard = self.base.predict(state, self.base.unadapted(state), task.inputs(table.rows[rows]))
            return _logs(heard), torch.from_numpy(table.targets[rows]).double()
        drawn = [order[start : start + shots] for start in range(0, len(order) - shots + 1, shots)][:DRAWS] or [order]
        device = self.class_weights.device
        supports = [
            Support(task.inputs(table.rows[rows]), torch.from_numpy(table.targets[rows]).to(device), index)
            for index, rows in enumerate(drawn)
        ]
        outside = np.concatenate(self._from_outside(state, supports))
        return _logs(outside), torch.from_numpy(table.targets[np.concatenate(drawn)]).double()

    def _fitted(
        self, probabilities: np.ndarray, targets: torch.Tensor, priors: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """The parameters of each output adaptation, fitted one after another."""
        logs, wanted, found = _logs(probabilities), targets.detach().cpu().double(), {}
        for index, output in enumerate(self.outputs):
            parameters = found[self._named(index)] = self._fit(index, logs, wanted, priors)
            logs = torch.log_softmax(output.apply(parameters, logs), -1)
        return found

    def _from_outside(self, state: ModelState, supports: Sequence[Support]) -> list[np.ndarray]:
        samples = np.arange(len(supports[0].targets))
        folds = min(FOLDS, len(samples))
        return held_out(self.base, state, supports, [samples[fold::folds] for fold in range(folds)])


def held_out(
    system: System, state: ModelState, supports: Sequence[Support], parts: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """Probabilities [K, C] of each episode's samples, each part's from an adaptation to the others.

    Args:
        parts: places of samples; each of the K is in one of them.

    Returns:
        One array an episode; where there is one part, or the system does not adapt, those before adaptation.
    """
    if len(parts) == 1 or not system.personalises:
        return [system.predict(state, system.unadapted(state), support.features) for support in supports]
    found = [np.empty(support.targets.shape, dtype=np.float32) for support in supports]
    for part in parts:
        rest = np.setdiff1d(np.concatenate(parts), part)
        predictors = system.adapt_many(state, [support.some(rest) for support in supports])
        for own, predictor, support in zip(found, predictors, supports, strict=True):
            own[part] = system.predict(state, predictor, support.some(part).features)
    return found


def on_top_of(system: type[System], name: str, outputs: Sequence[str], facts: Facts) -> type[System]:
    """The class of ``system`` with output adaptations on top.

    Args:
        system: as the registry gives it.
        name: such as ``Linear-Zero+bias``.
        outputs: names in :data:`.OUTPUTS`, in the order in which they are applied.
        facts: those of the whole.
    """
    content = {
        "system": system,
        "outputs": tuple(_made(output) for output in outputs),
        "name": name,
        "scope": system.scope,
        "facts": facts,
        "__doc__": facts.summary,
        "__module__": __name__,
    }
    return type(system.__name__, (OutputOnly,), content)


def _made(name: str) -> Output:
    output = OUTPUTS.get(name)()
    output.learned = name.endswith(LEARNED)
    return output


def _drawn(task: TrainingTask) -> list[str]:
    """Training raters whose numbers the priors are learned from: all, or so many of a crowd."""
    raters = sorted(task.raters)
    order = numpy_generator("raters of output priors", task.seed).permutation(len(raters))[:MOST_RATERS]
    return [raters[index] for index in sorted(order)]


def _as_sharp_as_it_is(options: Options) -> Options:
    """For the system below: the temperature is of what is predicted in the end."""
    return overridden(options, {"outputrc.temperature": 1.0})


def _logs(probabilities: np.ndarray) -> torch.Tensor:
    return torch.log(torch.from_numpy(probabilities).double().clamp_min(SMALLEST))
