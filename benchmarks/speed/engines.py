"""One outer step by three engines: the exact adjoint, the unrolled graph and the package `higher`."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import subject  # noqa: F401  (puts the checkout on the path and makes s3prl importable)
import torch
from torch import Tensor, nn

from s3prl_metaperser.meta.adjoint import outer_gradient
from s3prl_metaperser.meta.inner_loop import adapt

Gradient = dict[str, Tensor]


def adjoint(model: Any, losses: list, rates: Any) -> Gradient:
    """The project's engine as it trains: the graph of the last inner step is kept if there is one micro-batch."""
    return _adjoint(model, losses, rates, int(len(losses) == 1))


def recomputing(model: Any, losses: list, rates: Any) -> Gradient:
    """The same without any kept graph, as with several micro-batches: a forward and a backward pass more."""
    return _adjoint(model, losses, rates, 0)


def _adjoint(model: Any, losses: list, rates: Any, keep_graphs: int) -> Gradient:
    result = outer_gradient(model.named_adapted(), rates, losses, [True] * len(rates.values), keep_graphs=keep_graphs)
    return {**result.parameters, "rates": result.rates}


def unrolled(model: Any, losses: list, rates: Any) -> Gradient:
    """The graph of all inner steps at once: the textbook's MAML."""
    parameters = model.named_adapted()

    def total(current: Any) -> Tensor:
        return torch.stack([loss(current, 0) for loss in losses]).sum()

    adapted = adapt(total, parameters, rates.at, [True] * len(rates.values))
    gradients = torch.autograd.grad(total(adapted), [*parameters.values(), rates.values])
    return dict(zip([*parameters, "rates"], gradients, strict=True))


class _Bag(nn.Module):
    """A model's parameters as a module that `higher` can patch without having to copy an s3prl upstream."""

    def __init__(self, parameters: dict[str, nn.Parameter]):
        super().__init__()
        self.names = tuple(parameters)
        for index, parameter in enumerate(parameters.values()):
            self.register_parameter(f"p{index}", parameter)

    def forward(self, losses: list) -> Tensor:
        current = {name: getattr(self, f"p{index}") for index, name in enumerate(self.names)}
        return torch.stack([loss(current, 0) for loss in losses]).sum()


def with_higher(model: Any, losses: list, rates: Any) -> Gradient:
    """The same outer step as `higher` users write it."""
    import higher

    parameters = model.named_adapted()
    bag = _Bag(parameters)
    optimiser = torch.optim.SGD([{"params": [p], "lr": 1.0} for p in bag.parameters()])
    with higher.innerloop_ctx(bag, optimiser, copy_initial_weights=False) as (patched, inner):
        for step in range(len(rates.values)):
            inner.step(patched(losses), override={"lr": list(rates.at(step).values())})
        gradients = torch.autograd.grad(patched(losses), [*parameters.values(), rates.values])
    return dict(zip([*parameters, "rates"], gradients, strict=True))


ENGINES: dict[str, Callable[[Any, list, Any], Gradient]] = {
    "adjoint": adjoint,
    "recomputing": recomputing,
    "unrolled": unrolled,
    "higher": with_higher,
}


def available(names: list[str]) -> list[str]:
    """Those of ``names`` that can run here; what `higher` imports at its first use is in no measurement."""
    found = [name for name in ENGINES if name in names and (name != "higher" or importlib.util.find_spec("higher"))]
    if "higher" in found:
        import higher  # noqa: F401

        torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    return found


def difference(one: Gradient, other: Gradient) -> float:
    """``||one - other|| / ||other||`` over parameters and rates, in float64; the larger of the two."""

    def relative(names: list[str]) -> float:
        apart = sum((one[n].double() - other[n].double()).square().sum().item() for n in names)
        return (apart / sum(other[n].double().square().sum().item() for n in names)) ** 0.5

    return max(relative([name for name in other if name != "rates"]), relative(["rates"]))
