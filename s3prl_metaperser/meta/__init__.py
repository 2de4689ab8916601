"""Meta-learning: the inner loop, its learned rates, derivative annealing, the exact outer gradient.

For any ``nn.Module`` and loss (docs/meta_gradients.md): :func:`outer_gradient`, :func:`adapt`, :func:`learned_rates`,
:func:`check`, :func:`not_twice`, :func:`prepare`. Each name is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from s3prl_metaperser.meta.annealing import second_order_steps
    from s3prl_metaperser.meta.finite_differences import Check, check
    from s3prl_metaperser.meta.library import Outer, OuterTerm, adapt, all_reduce, learned_rates, outer_gradient
    from s3prl_metaperser.meta.micro_gradients import NonFinite
    from s3prl_metaperser.meta.rates import InnerRates
    from s3prl_metaperser.meta.twice import Finding, NotTwice, not_twice, prepare

_HOMES = {
    "Check": "finite_differences",
    "Finding": "twice",
    "InnerRates": "rates",
    "NonFinite": "micro_gradients",
    "NotTwice": "twice",
    "Outer": "library",
    "OuterTerm": "library",
    "adapt": "library",
    "all_reduce": "library",
    "check": "finite_differences",
    "learned_rates": "library",
    "not_twice": "twice",
    "outer_gradient": "library",
    "prepare": "twice",
    "second_order_steps": "annealing",
}
__all__ = [
    "Check",
    "Finding",
    "InnerRates",
    "NonFinite",
    "NotTwice",
    "Outer",
    "OuterTerm",
    "adapt",
    "all_reduce",
    "check",
    "learned_rates",
    "not_twice",
    "outer_gradient",
    "prepare",
    "second_order_steps",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
