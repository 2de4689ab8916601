"""What a selected outer step means for the parts of meta-training: whether annealing had ended by then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from s3prl_metaperser.meta.annealing import second_order_steps
from s3prl_metaperser.methods.facts import EXPERT, Facts


@dataclass(frozen=True)
class OuterSteps:
    """The outer steps behind a tested state.

    Attributes:
        selected: that it went through.
        total: of the whole training.
        second_order: of the selected ones, those with a second-order gradient.
        annealed: whether derivative annealing was on, and was to end.
    """

    selected: int
    total: int
    second_order: int
    annealed: bool

    @property
    def vacuous(self) -> bool:
        """Whether annealing was on and had not ended: the state is one of first-order training."""
        return self.annealed and self.second_order == 0


def outer_steps(facts: Facts, config: Mapping[str, Any], selected: int) -> OuterSteps | None:
    """The outer steps of a system that meta-trains; None for others, and where the options do not say.

    Args:
        config: the whole configuration that a result was made with.
        selected: the outer step that was tested.
    """
    metarc = (config.get(EXPERT) or {}).get("metarc")
    total = (config.get("runner") or {}).get("total_steps")
    if facts.trains != "episodes" or not isinstance(metarc, Mapping) or not isinstance(total, int):
        return None
    inner, annealed = metarc["inner_steps"], metarc["derivative_annealing"]
    how = {"annealed": annealed, "fraction": metarc["annealed_fraction"], "scope": metarc["annealing_scope"]}
    taken = sum(any(second_order_steps(step, total, inner, **how)) for step in range(1, selected + 1))
    return OuterSteps(selected, total, taken, annealed and metarc["annealed_fraction"] < 1)
