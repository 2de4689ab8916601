"""``X:chosen``: for each listener, by cross-validation on the K labels, zero-shot, a few numbers at the outputs, or X.

The state is X's. The ways to adapt (:func:`ways`) are zero-shot, i.e. the state before any label is seen; output
adaptations on top of that; and X itself. :mod:`.choice` has the rule. ``metaperser adapt`` chooses in the same way.
``outputrc.temperature`` is of what is predicted in the end, whichever it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from s3prl_metaperser.corpora.label_set import Kind, LabelSet
from s3prl_metaperser.methods.base import Inputs, ModelState, Predictor, Support, System, TrainingTask
from s3prl_metaperser.methods.choice import choose, parts_of_samples, sample_losses
from s3prl_metaperser.methods.facts import Facts
from s3prl_metaperser.methods.map_fit import tempered
from s3prl_metaperser.methods.output_only import OutputOnly, held_out, on_top_of
from s3prl_metaperser.methods.outputs import MARK, PARTS, TRIED, on_top

ZERO = "zero-shot"
#: The entry of a predictor that says which way was chosen, by its place.
WAY = "way"


def ways(system: System, kind: Kind) -> dict[str, System]:
    """The ways to adapt a system's state to a listener, by name: zero-shot first, the system itself last.

    Args:
        kind: of the label set; it says which output adaptations are tried.
    """
    made, facts = type(system), system.facts or Facts()
    zero = type(made.__name__, (_Unadapted, made), {"__module__": made.__module__})
    found: dict[str, System] = {ZERO: zero(system.options, system.class_weights)}
    for output in TRIED[kind]:
        adapted = on_top_of(zero, f"{made.name}{MARK}{output}", (output,), on_top(facts, (output,)))
        found[f"{ZERO}{MARK}{output}"] = adapted(system.options, system.class_weights)
    return {**found, made.name: system}


class _Unadapted(System):
    """A system that leaves its state as it is."""

    personalises = False

    def adapt(self, state: ModelState, support: Support) -> Predictor:
        return self.unadapted(state)

    def adapt_many(self, state: ModelState, supports: Sequence[Support]) -> list[Predictor]:
        return [self.unadapted(state) for _ in supports]


class Chosen(OutputOnly):
    """The way to adapt that the K labels call for."""

    outputs = ()
    kind: Kind = "multi"

    @classmethod
    def check(cls, label_set: LabelSet) -> None:
        cls.system.check(label_set)

    @property
    def places(self) -> int:
        return super().places + 1  # a way may hold an output's

    def blank(self, task: TrainingTask) -> ModelState:
        self.kind = task.label_set.kind
        return super().blank(task)

    def initialise(self, task: TrainingTask) -> ModelState:
        self.kind = task.label_set.kind
        return super().initialise(task)

    def adapt_many(self, state: ModelState, supports: Sequence[Support]) -> list[Predictor]:
        tried, samples = ways(self.base, self.kind), len(supports[0].targets)
        parts = parts_of_samples(samples, min(PARTS[self.scope], samples))
        losses = {
            name: [
                sample_losses(found, support.targets.cpu().numpy())
                for found, support in zip(held_out(way, state, supports, parts), supports, strict=True)
            ]
            for name, way in tried.items()
        }
        found: list[Predictor] = []
        for index, support in enumerate(supports):
            chosen = choose({name: each[index] for name, each in losses.items()}).chosen
            place = torch.tensor(float(list(tried).index(chosen)))
            found.append({**tried[chosen].adapt(state, support), WAY: place})
        return found

    def predict(self, state: ModelState, predictor: Predictor, query: Inputs) -> np.ndarray:
        if WAY not in predictor:
            return self.base.predict(state, predictor, query)
        way = list(ways(self.base, self.kind).values())[int(predictor[WAY])]
        return tempered(way.predict(state, predictor, query), self.options.downstream_expert.outputrc.temperature)
