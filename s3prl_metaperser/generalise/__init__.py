"""Systems of domain generalisation, one file each, behind one table. docs/adding_a_system.md shows how to add one.

Nothing here imports torch.
"""

from __future__ import annotations

import dataclasses
import importlib
from typing import TYPE_CHECKING, Any

from s3prl_metaperser.methods.facts import EXPERT, Facts
from s3prl_metaperser.methods.outputs import MARK
from s3prl_metaperser.registry import Registry

if TYPE_CHECKING:
    from s3prl_metaperser.generalise.base import Generaliser

__all__ = ["AVERAGES", "GENERALISERS", "TRAINING", "Facts"]

#: What every system goes by that learns.
TRAINING = (
    *("optimizer", "runner.total_steps", "runner.epochs", "runner.gradient_clipping", "runner.eval_step"),
    *(f"{EXPERT}.generalrc.{name}" for name in ("loss_mean", "class_weights", "average", "selection")),
)
_OPTION = f"{EXPERT}.generalrc"
#: Averages of the weights of many steps, around any system that learns: ``Deep-All+swad``.
AVERAGES = {"ema": "an exponential average of its weights", "swad": "its weights averaged over the last half of steps"}


class Generalisers(Registry["type[Generaliser]"]):
    """The systems, each also with its weights averaged."""

    def get(self, name: str) -> type[Generaliser]:
        """The class behind ``name``, with its name and facts.

        Raises:
            UserError: the name is unknown.
        """
        loaded = super().get(name)
        facts = self._entry(name).facts or getattr(loaded, "facts", None) or Facts()
        content = {"name": name, "facts": facts, "__doc__": loaded.__doc__, "__module__": loaded.__module__}
        return type(loaded.__name__, (loaded,), content)

    def _entry(self, name: str) -> Any:
        base, mark, last = name.rpartition(MARK)
        if not mark or last not in AVERAGES or base not in self.names():
            return super()._entry(name)
        entry = super()._entry(base)
        facts = entry.facts or Facts()
        fixed = {**facts.fixed, f"{_OPTION}.average": last}
        summary = f"{entry.summary}; {AVERAGES[last]}"
        own = dataclasses.replace(facts, summary=summary, fixed=fixed, colour=None)
        return dataclasses.replace(entry, summary=summary, facts=own)


def _is_generaliser(name: str, found: Any) -> bool:
    base = importlib.import_module(f"{__name__}.base").Generaliser
    return isinstance(found, type) and issubclass(found, base)


GENERALISERS = Generalisers(
    "system of domain generalisation",
    "s3prl_metaperser.generalisers",
    expected=("a Generaliser", _is_generaliser),
)


def _register(name: str, target: str, summary: str, *options: str, colour: str | None = None, **facts: Any) -> None:
    """Add a system.

    Args:
        options: of ``generalrc``, beyond those that every system goes by.
    """
    uses = (*TRAINING, *(f"{_OPTION}.{option}" for option in options))
    own = Facts(**{"summary": summary, "uses": uses, "trains": "batches", "colour": colour, **facts})
    GENERALISERS.register(name, f"{__name__}.{target}", summary, facts=own)


_register(
    "Majority",
    "majority:Majority",
    "the shares of the classes in the sources, whatever is heard: a floor",
    uses=(),
    learns=False,
    trains="",
    colour="#8a8f98",
)
_register("Deep-All", "deep_all:DeepAll", "all sources as one training set", colour="#0072b2")
