"""Learning rates of the inner loop: one fixed rate, LSLR (Antoniou et al. 2019, section 4), or one for each number."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

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
        other = copy.copy(self)
        other._parameters = {"values": nn.Parameter(self.values.detach() * factor, requires_grad=False)}
        return other


class ElementRates(InnerRates):
    """A learned rate for each number that adapts, in a single inner step (Meta-SGD, Li et al. 2017).

    Args:
        parameters: the tensors that adapt, by name.
        initial: what every rate starts from.

    Attributes:
        values: [1, N], the tensors' numbers one after another.
    """

    def __init__(self, parameters: Mapping[str, torch.Tensor], initial: float):
        super().__init__(list(parameters), 1, initial, learned=True)
        self.shapes = [value.shape for value in parameters.values()]
        self.values = nn.Parameter(torch.full((1, sum(shape.numel() for shape in self.shapes)), float(initial)))

    def at(self, step: int) -> dict[str, torch.Tensor]:
        """Name -> rates in the tensor's shape; the same for every step."""
        parts = self.values[0].split([shape.numel() for shape in self.shapes])
        return {name: part.view(shape) for name, part, shape in zip(self.names, parts, self.shapes, strict=True)}
