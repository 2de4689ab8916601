"""The reference inner loop: any model, first and second order, testable in float64. The oracle for faster engines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch

Parameters = Mapping[str, torch.Tensor]
#: parameters -> losses, a scalar or one for each rater [A].
LossFunction = Callable[[Parameters], torch.Tensor]


def adapt(
    loss: LossFunction,
    parameters: Parameters,
    rates: Callable[[int], Parameters],
    second_order: Sequence[bool],
) -> dict[str, torch.Tensor]:
    """``theta_{s+1} = theta_s - eta_{s,l} g_s``, differentiable in theta_0 and in the rates.

    First-order steps detach ``g_s`` (the rates still get their gradient); second-order steps keep its graph.

    Args:
        loss: of the support samples. Where parameters carry a leading rater axis A it returns [A], and rater a's loss
            depends on rater a's parameters alone, so that one backward pass serves all raters.
        parameters: theta_0; each must require a gradient or be derived from one that does.
        rates: inner step -> name -> rate (:meth:`InnerRates.at`). Names without a rate do not adapt.
        second_order: S booleans, one for each inner step (:func:`second_order_steps`).

    Returns:
        theta_S.
    """
    current = dict(parameters)
    for step, twice in enumerate(second_order):
        rate = rates(step)
        names = [name for name in current if name in rate]
        with torch.enable_grad():
            gradients = torch.autograd.grad(
                loss(current).sum(),
                [current[name] for name in names],
                create_graph=twice,
                materialize_grads=True,
            )
        for name, gradient in zip(names, gradients, strict=True):
            current[name] = current[name] - rate[name] * (gradient if twice else gradient.detach())
    return current


def adapt_without_graph(
    loss: LossFunction, parameters: Parameters, rates: Callable[[int], Parameters], steps: int
) -> dict[str, torch.Tensor]:
    """The same steps for meta-testing, where nobody differentiates through them; results are detached."""
    current = {name: value.detach() for name, value in parameters.items()}
    for step in range(steps):
        rate = {name: value.detach() for name, value in rates(step).items()}
        leaves = {name: value.requires_grad_(name in rate) for name, value in current.items()}
        names = [name for name in leaves if name in rate]
        with torch.enable_grad():
            gradients = torch.autograd.grad(loss(leaves).sum(), [leaves[n] for n in names], materialize_grads=True)
        for name, gradient in zip(names, gradients, strict=True):
            current[name] = (leaves[name] - rate[name] * gradient).detach()
    return {name: value.detach() for name, value in current.items()}


def expand(parameters: Parameters, raters: int) -> dict[str, torch.Tensor]:
    """Give every tensor a leading rater axis A, without copying."""
    return {name: value.expand(raters, *value.shape) for name, value in parameters.items()}
