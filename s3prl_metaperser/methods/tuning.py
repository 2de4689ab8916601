"""The grid of the protocol ``tuned``, chosen on a rater that is not the test rater (docs/protocols.md).

Every system that adapts gets as many choices as any other of its scope, among the same numbers of steps. One that uses
an optimiser chooses the optimiser and its learning rate; one with inner rates, which took the place of both in
training, a factor on all of them. A classifier that starts from random values needs other rates than a trained model
does and has a list of its own. A system that takes no steps chooses a factor alone, among as many; one that fits a few
numbers under a prior how wide that is and how sharp predictions are. The shipped configuration is one of the choices.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, Literal

from s3prl_metaperser.config.options import Options
from s3prl_metaperser.config.section import with_values
from s3prl_metaperser.methods.facts import EXPERT

#: ``section.option`` of ``downstream_expert`` -> value.
Overrides = dict[str, Any]

STEPS = {"frozen": (10, 25, 50, 100), "finetuned": (20, 50)}
OPTIMIZERS = {
    "frozen": (("AdamW", 3e-4), ("AdamW", 1e-3), ("AdamW", 3e-3), ("AdamW", 1e-2), ("SGD", 3e-2), ("SGD", 3e-1)),
    "finetuned": (("AdamW", 2e-5), ("AdamW", 1e-4), ("AdamW", 1e-3), ("SGD", 1e-2)),
}
CLASSIFIERS = {
    "frozen": OPTIMIZERS["frozen"],
    "finetuned": (("AdamW", 1e-3), ("AdamW", 3e-3), ("AdamW", 1e-2), ("SGD", 3e-1)),
}
#: What a system adapts by -> the option that says how far a step goes.
RATES = {
    "rates": "metarc.inner_lr",
    "optimizer": "fewrc.lr",
    "classifier": "fewrc.classifier_lr",
    "numbers": "outputrc.spread",
}
RATE_FACTORS = {"frozen": (0.25, 0.5, 1.0, 2.0, 4.0, 8.0), "finetuned": (0.5, 1.0, 2.0, 4.0)}
SPREADS = {"frozen": (0.125, 0.25, 0.5, 1.0, 2.0, 4.0), "finetuned": (0.25, 0.5, 1.0, 2.0)}
TEMPERATURES = {"frozen": (0.5, 0.7, 1.0, 1.5), "finetuned": (0.7, 1.0)}
#: For what has nothing else to choose: as many as the others' choices, from a third to three.
SHARPNESS = {
    "frozen": tuple(round(3 ** (step / 12), 3) for step in range(-12, 12)),
    "finetuned": (0.4, 0.5, 0.6, 0.7, 0.85, 1.0, 1.4, 2.0),
}


def grid(
    kind: Literal["optimizer", "classifier", "rates", "numbers", "sharpness"],
    scope: Literal["frozen", "finetuned"],
    options: Options,
) -> list[Overrides]:
    """The choices of a system, for :meth:`.System.tunable`.

    Args:
        kind: ``optimizer``: ``fewrc.optimizer`` with ``fewrc.lr``; ``classifier``: the same with
            ``fewrc.classifier_lr``; ``rates``: ``evalrc.rate_factor``; all with ``evalrc.steps``. ``numbers``:
            ``outputrc.spread`` with ``outputrc.temperature``; ``sharpness``: the latter alone.
        scope: 24 choices in ``frozen``, 8 in ``finetuned``, where one costs much more.
        options: the configured values are added as a choice if the grid lacks them.
    """
    expert = options.downstream_expert
    if kind in ("numbers", "sharpness"):
        return _without_steps(kind == "numbers", scope, options)
    if kind == "rates":
        first: Overrides = {"evalrc.rate_factor": expert.evalrc.rate_factor}
        how: list[Overrides] = [{"evalrc.rate_factor": factor} for factor in RATE_FACTORS[scope]]
    else:
        option, choices = RATES[kind], OPTIMIZERS if kind == "optimizer" else CLASSIFIERS
        own = getattr(expert.fewrc, option.removeprefix("fewrc."))
        first = {"fewrc.optimizer": expert.fewrc.optimizer, option: own}
        how = [{"fewrc.optimizer": name, option: rate} for name, rate in choices[scope]]
    found = [{**one, "evalrc.steps": steps} for one, steps in itertools.product(how, STEPS[scope])]
    configured = {**first, "evalrc.steps": expert.evalrc.steps}
    return found if configured in found else [configured, *found]


def factors(scope: Literal["frozen", "finetuned"], options: Options) -> list[Overrides]:
    """The choices of a system without steps: ``evalrc.rate_factor`` from 1/16 to 16, as many as others have.

    >>> [round(choice["evalrc.rate_factor"], 4) for choice in factors("finetuned", Options())]
    [0.0625, 0.1575, 0.3969, 1.0, 2.5198, 6.3496, 16.0, 40.3175]
    """
    count = number_of_choices(scope)
    below = (count - 1) // 2
    found = [{"evalrc.rate_factor": 16.0 ** (place / below)} for place in range(-below, count - below)]
    configured: Overrides = {"evalrc.rate_factor": options.downstream_expert.evalrc.rate_factor}
    return found if configured in found else [configured, *found]


def _without_steps(spread: bool, scope: Literal["frozen", "finetuned"], options: Options) -> list[Overrides]:
    own = options.downstream_expert.outputrc
    configured: Overrides = {"outputrc.temperature": own.temperature}
    found: list[Overrides] = [{"outputrc.temperature": value} for value in SHARPNESS[scope]]
    if spread:
        configured = {"outputrc.spread": own.spread, **configured}
        both = itertools.product(SPREADS[scope], TEMPERATURES[scope])
        found = [{"outputrc.spread": one, "outputrc.temperature": other} for one, other in both]
    return found if configured in found else [configured, *found]


def overridden(options: Options, overrides: Mapping[str, Any]) -> Options:
    """``options`` with ``section.option`` of ``downstream_expert`` replaced."""
    return with_values(options, {f"{EXPERT}.{name}": value for name, value in overrides.items()})


def number_of_choices(scope: Literal["frozen", "finetuned"]) -> int:
    """How many choices every system of a scope has (one more where the configuration's own is none of them).

    >>> number_of_choices("frozen"), number_of_choices("finetuned")
    (24, 8)
    """
    return len(STEPS[scope]) * len(RATE_FACTORS[scope])
