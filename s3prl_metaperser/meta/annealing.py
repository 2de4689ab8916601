"""Derivative annealing: first-order gradients first, second-order ones later (Antoniou et al. 2019; paper 2.3.3)."""

from __future__ import annotations

import math

from s3prl_metaperser.errors import unknown_name

SCOPES = ("training", "adaptation")


def second_order_steps(
    outer_step: int,
    outer_steps: int,
    inner_steps: int,
    *,
    annealed: bool,
    fraction: float = 0.3,
    scope: str = "training",
) -> list[bool]:
    """Which inner steps of this outer step are differentiated twice.

    The paper's "first 30% of inner-loop steps" can be read in two ways, and both are here. ``training``: the inner
    loops of the first ``fraction`` of all outer steps are first-order, as in MAML++. ``adaptation``: in every inner
    loop the first ``fraction`` of its steps are.

    Args:
        outer_step: counted from 1.
        annealed: derivative annealing; without it every step is second-order.

    Returns:
        S booleans.
    """
    if scope not in SCOPES:
        raise unknown_name("derivative-annealing scope", scope, SCOPES)
    if not annealed:
        return [True] * inner_steps
    if scope == "training":
        return [outer_step > math.ceil(fraction * outer_steps)] * inner_steps
    first_order = math.ceil(fraction * inner_steps)
    return [step >= first_order for step in range(inner_steps)]
