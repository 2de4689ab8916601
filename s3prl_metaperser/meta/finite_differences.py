"""Whether the exact outer gradient is exact for a model of yours: finite differences in float64, tensor by tensor."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from s3prl_metaperser.meta.library import Loss, learned_rates, outer_gradient

#: (place, weight): the first derivative to fourth order, in units of the step.
_POINTS = ((1, 8 / 12), (-1, -8 / 12), (2, -1 / 12), (-2, 1 / 12))
#: In units of a tensor's size. An inner gradient jumps where ReLU or max pooling switch; where they do within the first
#: step, they seldom do within the second, which has more rounding. The third has less, for gradients that are tiny.
_STEPS = (1e-4, 1e-6, 1e-3)


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

    Works on a copy in float64; floating-point tensors of the batches become float64, too, and so does what model and
    loss convert to float32. Each tensor is moved in one random direction of the size of its own values; four forward
    adaptations a tensor, and four more where those differ, nearer by, then farther off.

    Args:
        batch: of the inner steps, small.
        outer: of the outer loss; ``batch`` by default.
        steps, rate: of the inner loop; each tensor and step has its own rate, a little above or below ``rate``.
        tolerance: of the relative error. Where ReLU or max pooling switch within the differences' reach, even of the
            nearer ones, errors of 1e-4 and more mean nothing: try another ``seed``, or smooth activations.
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
    with _Float64():
        found = outer_gradient(model, batch, outer, loss, rates, seed=seed)

    def value() -> float:
        with _Float64():
            return outer_gradient(model, batch, outer, loss, rates, second_order=False, seed=seed).loss

    own: dict[str, Tensor] = dict(model.named_parameters())
    tensors = {**{name: own[name] for name in found.parameters}, "rates": rates.values}
    directions = _directions(model, tensors, generator)
    gradients = {**found.parameters, "rates": found.rates}
    exact = {name: float((gradients[name] * direction).sum()) for name, direction in directions.items()}
    floor = max(1e-3 * max(abs(derivative) for derivative in exact.values()), 1e-300)
    errors = dict.fromkeys(tensors, math.inf)
    for name, tensor in tensors.items():
        for step in _STEPS:
            numeric = _difference(tensor, directions[name], step, value)
            error = abs(exact[name] - numeric) / max(abs(exact[name]), abs(numeric), floor)
            errors[name] = min(errors[name], error)
            if error <= tolerance:
                break
    result = Check(errors, tolerance)
    if show:
        print(result)
    return result


def _directions(model: nn.Module, tensors: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
    """One for each tensor; an embedding's padding stays, whose gradient torch leaves out by definition."""
    padding = {id(part.weight): part.padding_idx for part in model.modules() if isinstance(part, nn.Embedding)}
    found = {}
    for name, tensor in tensors.items():
        size = float(tensor.detach().square().mean().sqrt()) + 1e-3
        found[name] = torch.randn(tensor.shape, generator=generator, dtype=torch.float64).to(tensor) * size
        if (row := padding.get(id(tensor))) is not None:
            found[name][row] = 0
    return found


def _difference(tensor: Tensor, direction: Tensor, step: float, value: Callable[[], float]) -> float:
    """The derivative of ``value`` along ``direction``."""
    start, total = tensor.detach().clone(), 0.0
    with torch.no_grad():
        for place, weight in _POINTS:
            tensor.copy_(start + place * step * direction)
            with torch.enable_grad():
                total += weight * value()
        tensor.copy_(start)
    return total / step


class _Float64(TorchFunctionMode):
    """Within the block what asks for float32 gets float64: many a model's loss says ``logits.float()``."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        def wider(value: Any) -> Any:
            return torch.float64 if value is torch.float32 else value

        function = Tensor.double if function is Tensor.float else function
        return function(*map(wider, args), **{key: wider(value) for key, value in (kwargs or {}).items()})


def _in_float64(batch: Any) -> Any:
    if isinstance(batch, Tensor):
        return batch.double() if batch.is_floating_point() else batch
    if isinstance(batch, Mapping):
        return {key: _in_float64(value) for key, value in batch.items()}
    if isinstance(batch, list | tuple):
        return type(batch)(_in_float64(value) for value in batch)
    return batch
