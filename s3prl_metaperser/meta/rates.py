"""Learning rates of the inner loop: one fixed rate, or LSLR (Antoniou et al. 2019, section 4)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


class InnerRates(nn.Module):
    """One rate per inner step and parameter tensor ("per-layer per-step learning rates", LSLR).

    Args:
        names: the parameter tensors that adapt, in order.
        steps: S, inner steps of meta-training.
        initial: what every rate starts from.
        learned: LSLR; otherwise the rates are constants.

    Attributes:
        values: [S, P]. A learned rate may change its sign ("gradient directions").
    """

    def __init__(self, names: Sequence[str], steps: int, initial: float, learned: bool):
        super().__init__()
        self.names = tuple(names)
        self.values = nn.Parameter(torch.full((steps, len(self.names)), float(initial)), requires_grad=learned)

    def at(self, step: int) -> dict[str, torch.Tensor]:
        """Name -> scalar rate of inner step ``step``; steps beyond S reuse the last one's rates."""
        row = self.values[min(step, self.values.shape[0] - 1)]
        return {name: row[index] for index, name in enumerate(self.names)}

    def scaled(self, factor: float) -> InnerRates:
        """Constant rates that are ``factor`` times these."""
        other = InnerRates(self.names, len(self.values), 0.0, learned=False)
        other.values = nn.Parameter(self.values.detach() * factor, requires_grad=False)
        return other
