"""Adaptation of a system's outputs alone: which there are, and how a name such as ``Linear-Zero+bias`` is read.

Nothing here imports torch. The mathematics of each is in :mod:`.class_outputs` and :mod:`.level_outputs`.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from s3prl_metaperser.methods.facts import NUMBERS, Facts
from s3prl_metaperser.registry import Registry

if TYPE_CHECKING:
    from s3prl_metaperser.corpora.label_set import Kind
    from s3prl_metaperser.methods.output_only import Output

#: Into how many parts the K samples of a system that adapts to them are dealt out.
FOLDS = 4
#: Behind an output adaptation's name: its prior is learned over the training raters.
LEARNED = ":learned"
#: What stands between a system and what adapts its outputs.
MARK = "+"

#: Into how many parts the K samples are dealt out to choose how to adapt; the whole upstream takes long to.
PARTS = {"frozen": 8, "finetuned": 4}
#: Kind of labels -> output adaptations that a listener's choice tries (:mod:`.chosen`), the fewest numbers first.
TRIED: dict[Kind, tuple[str, ...]] = {
    **dict.fromkeys(("multi", "single", "soft"), ("bias", "map")),
    "ordinal": ("offset", "affine"),
}


def _is_output(name: str, found: Any) -> bool:
    return isinstance(found, type) and all(hasattr(found, part) for part in ("prior", "apply", "fit"))


OUTPUTS: Registry[type[Output]] = Registry(
    "output adaptation", "s3prl_metaperser.outputs", expected=("an Output", _is_output)
)


def parts_of(name: str) -> tuple[str, tuple[str, ...]]:
    """A system's name and the output adaptations on top of it, in the order in which they are applied.

    >>> parts_of("Meta-PerSER:INI+DA+tilt+map"), parts_of("Linear-Zero")
    (('Meta-PerSER:INI+DA', ('tilt', 'map')), ('Linear-Zero', ()))
    """
    base, mark, last = name.rpartition(MARK)
    if not mark or last not in OUTPUTS.names():
        return name, ()
    system, others = parts_of(base)
    return system, (*others, last)


def kinds_of(output: str) -> tuple[Kind, ...]:
    """The kinds of label sets that an output adaptation is for; none named: all."""
    return OUTPUTS.facts(output, tuple) or ()


def on_top(facts: Facts, outputs: tuple[str, ...]) -> Facts:
    """The facts of a system with its outputs adapted: it is trained as without, and has no row of the paper's."""
    added = "; ".join(f"{MARK}{name}: {OUTPUTS.summary(name)}" for name in outputs)
    summary = f"{facts.summary}, then {added}"
    return dataclasses.replace(
        facts,
        summary=summary,
        uses=None if facts.uses is None else (*facts.uses, *NUMBERS),
        adaptations=facts.adaptations * FOLDS,  # to all K, and FOLDS times to all parts but one
        colour=None,
        table1=None,
        guest=False,
        parts={},
        variant_of="",
    )


def _register(name: str, target: str, summary: str, kinds: tuple[Kind, ...] | None = None) -> None:
    """Register it, and where it has a Gaussian prior the same with a learned one."""
    OUTPUTS.register(name, target, summary, facts=kinds)
    if name not in ("prior", "affine"):
        OUTPUTS.register(
            f"{name}{LEARNED}", target, "the same, its prior learned over the training raters", facts=kinds
        )


_CLASSES, _LEVELS = "s3prl_metaperser.methods.class_outputs", "s3prl_metaperser.methods.level_outputs"
for _name, _target, _summary in (
    ("bias", "Bias", "one number a class is added to the log-probabilities"),
    ("bias-scale", "BiasScale", "the same, and one number that sharpens or flattens them all"),
    ("map", "Map", "a linear map of the log-probabilities, drawn to the identity"),
    ("confusion", "Confusion", "a table of what is said where each class is heard, drawn to the identity"),
    ("prior", "Prior", "label shift: the listener's own shares of the classes"),
):
    _register(_name, f"{_CLASSES}:{_target}", _summary)
for _name, _target, _summary in (
    ("offset", "Offset", "a shift along the scale"),
    ("tilt", "Tilt", "an exponential tilt along the scale, with its square"),
    ("affine", "Affine", "a shift, a stretch and a blur of the scale, averaged over what the labels leave open"),
    ("line", "Line", "a shift along the scale, and a stretch of it"),
):
    _register(_name, f"{_LEVELS}:{_target}", _summary, ("ordinal",))
