"""Whether the exact outer gradient is exact for a model of yours: finite differences in float64, tensor by tensor."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from s3prl_metaperser.meta.library import Loss, learned_rates, outer_gradient

#: (place, weight): the first derivative to fourth order, in units of the step.
_POINTS = ((1, 8 / 12), (-1, -8 / 12), (2, -1 / 12), (-2, 1 / 12))


@dataclass(frozen=True)
class Check:
    """What :func:`check` found.

    Attributes:
        errors: tensor (or ``"rates"``) -> distance between the exact directional derivative and that by finite
            differences, relative to the larger of the two, or to a thousandth of the largest of all tensors.
        tolerance: what the largest may be.
    """

    errors: dict[str, float]
    tolerance: float

    @property
    def worst(self) -> tuple[str, float]:
        """The tensor that is furthest off, and how far."""
        name = max(self.errors, key=lambda key: self.errors[key])
        return name, self.errors[name]

    @property
    def passed(self) -> bool:
        return self.worst[1] <= self.tolerance

    def __str__(self) -> str:
        name, error = self.worst
        verdict = (
            "exact" if self.passed else "NOT exact: a part of the model is differentiated twice wrongly, or has kinks"
        )
        return f"{len(self.errors)} tensors, the worst is {name}: relative error {error:.1e} ({verdict})"


def check(
    model: nn.Module,
    loss: Loss,
    batch: Any,
    outer: Any = None,
    *,
    steps: int = 2,
    rate: float = 0.01,
    tolerance: float = 1e-6,
    seed: int = 0,
    show: bool = True,
) -> Check:
    """Hold :func:`~s3prl_metaperser.meta.outer_gradient` of your model and loss against finite differences.

    Works on a copy in float64; floating-point tensors of the batches become float64, too. Each tensor is moved in one
    random direction of the size of its own values; four forward adaptations a tensor.

    Args:
        batch: of the inner steps, small.
        outer: of the outer loss; ``batch`` by default.
        steps, rate: of the inner loop; each tensor and step has its own rate, a little above or below ``rate``.
        tolerance: of the relative error. Where ReLU or max pooling switch within the differences' reach, errors of
            1e-4 and more mean nothing: try another ``seed``, or smooth activations.
        show: print the result.

        >>> squared = lambda model, batch: (model(batch) ** 2).mean()
        >>> check(torch.nn.Linear(3, 2), squared, torch.randn(4, 3), show=False).passed
        True
    """
    model = copy.deepcopy(model).double()
    batch, outer = _in_float64(batch), _in_float64(batch if outer is None else outer)
    generator = torch.Generator().manual_seed(seed)
    rates = learned_rates(model, steps, rate)
    with torch.no_grad():
        rates.values.mul_(1 + 0.3 * torch.rand(rates.values.shape, generator=generator).to(rates.values))
    found = outer_gradient(model, batch, outer, loss, rates, seed=seed)

    def value() -> float:
        return outer_gradient(model, batch, outer, loss, rates, second_order=False, seed=seed).loss

    own = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    pairs: dict[str, tuple[Tensor, Tensor]] = {name: (own[name], g) for name, g in found.parameters.items()}
    pairs["rates"] = (rates.values, found.rates)
    derivatives = {name: _along(*pair, value, generator) for name, pair in pairs.items()}
    floor = 1e-3 * max(abs(exact) for exact, _ in derivatives.values())
    errors = {
        name: abs(exact - numeric) / max(abs(exact), abs(numeric), floor, 1e-300)
        for name, (exact, numeric) in derivatives.items()
    }
    result = Check(errors, tolerance)
    if show:
        print(result)
    return result


def _along(
    tensor: Tensor, gradient: Tensor, value: Callable[[], float], generator: torch.Generator
) -> tuple[float, float]:
    """The derivative in a random direction: exact, and by finite differences."""
    size = float(tensor.detach().square().mean().sqrt()) + 1e-3
    direction = torch.randn(tensor.shape, generator=generator, dtype=torch.float64).to(tensor) * size
    start, step = tensor.detach().clone(), 1e-4
    total = 0.0
    with torch.no_grad():
        for place, weight in _POINTS:
            tensor.copy_(start + place * step * direction)
            with torch.enable_grad():
                total += weight * value()
        tensor.copy_(start)
    return float((gradient * direction).sum()), total / step


def _in_float64(batch: Any) -> Any:
    if isinstance(batch, Tensor):
        return batch.double() if batch.is_floating_point() else batch
    if isinstance(batch, Mapping):
        return {key: _in_float64(value) for key, value in batch.items()}
    if isinstance(batch, list | tuple):
        return type(batch)(_in_float64(value) for value in batch)
    return batch
