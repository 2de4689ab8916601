"""The exact outer gradient without a graph across inner steps: what makes the whole upstream affordable.

The unrolled loop (:mod:`s3prl_metaperser.meta.inner_loop`) keeps the activations of all S inner steps until the outer
loss is differentiated. Here the inner steps run without a graph, and the outer gradient comes from the adjoint
recursion, exact to rounding::

    lambda_S = grad L_query(theta_S)
    d L / d eta_{s,l} = -<lambda_{s+1}, g_s>_l
    lambda_s = lambda_{s+1} - H_s (eta_s * lambda_{s+1})        (first-order steps: lambda_s = lambda_{s+1})

with ``g_s`` the support gradient at ``theta_s`` and ``H_s`` its Jacobian, applied by reverse-over-reverse. Losses come
as micro-batches that are differentiated one after the other, so activations never exceed those of one micro-batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from s3prl_metaperser.errors import UserError
from s3prl_metaperser.meta.rates import InnerRates

#: (parameters, inner step) -> one micro-batch's share of the mean loss, a scalar. The shares of all micro-batches add
#: up to the mean loss. It must give the same value each time it is called with the same arguments.
MicroLoss = Callable[[Mapping[str, Tensor], int], Tensor]


class NonFinite(UserError):
    """A loss or gradient is NaN or infinite.

    Attributes:
        inner_step: counted from 0; S for the outer loss.
        inner_steps: S.
        what: ``"loss"``, or the name of the first parameter whose gradient is at fault.
    """

    def __init__(self, inner_step: int, inner_steps: int, what: str):
        self.inner_step, self.inner_steps, self.what = inner_step, inner_steps, what
        where = f"inner step {inner_step + 1} of {inner_steps}" if inner_step < inner_steps else "the outer loss"
        part = "loss" if what == "loss" else f"gradient of {what}"
        super().__init__(
            f"The {part} is NaN or infinite at {where}. Lower the inner rate (metarc.inner_lr) or the outer one "
            "(optimizer.lr); with bf16, try without."
        )


@dataclass(frozen=True)
class OuterGradient:
    """The outer loss and its gradient.

    Attributes:
        loss: the query loss after S inner steps.
        parameters: d loss / d theta_0, for every name in ``parameters``.
        rates: d loss / d ``rates.values``, [S, P] in the order of ``rates.names``; zeros where the rates are constants.
    """

    loss: float
    parameters: dict[str, Tensor]
    rates: Tensor


class _Graph(NamedTuple):
    """A micro-batch's gradient that can be differentiated, and what it can be differentiated by."""

    leaves: dict[str, Tensor]
    gradient: tuple[Tensor, ...]


def outer_gradient(
    parameters: Mapping[str, Tensor],
    rates: InnerRates,
    support: Sequence[MicroLoss],
    second_order: Sequence[bool],
    query: Sequence[MicroLoss] | None = None,
    keep_graphs: int = 0,
) -> OuterGradient:
    """Loss after adaptation and its gradient with respect to the initialisation and the rates.

    Keeps ``kept_bytes(...)`` beside the parameters themselves: ``theta_s`` of each second-order step but the first
    (``theta_0`` is the caller's) and, where rates are learned, every ``g_s``. The rest is one micro-batch's graph and
    at most three further copies of the parameters (lambda, the vector that H_s takes, a micro-batch's gradient).

    Args:
        parameters: theta_0. Those without a rate do not adapt; they get their outer gradient nevertheless.
        rates: of the inner loop; steps beyond its S reuse its last row. A rate may be zero or negative.
        support: micro-batches of the inner loss; step s calls each with s, twice if second-order.
        second_order: for each inner step whether the outer gradient is taken through it
            (:func:`~s3prl_metaperser.meta.annealing.second_order_steps`). All False costs no Hessian-vector product.
        query: micro-batches of the outer loss, called with the number of inner steps; ``support`` by default (CSMT).
        keep_graphs: of how many of the last inner step's micro-batches the gradient's graph is kept for the way back
            (if that step is second-order). Each saves one forward and backward pass and costs its activations.

    Raises:
        NonFinite: a loss or gradient is NaN or infinite.
    """
    steps = len(second_order)
    theta = {name: value.detach() for name, value in parameters.items()}
    eta = _rates_by_step(rates, theta, steps)
    learned = rates.values.requires_grad
    path: list[dict[str, Tensor]] = []
    inner: list[dict[str, Tensor]] = []
    graphs: list[_Graph] = []
    for step, twice in enumerate(second_order):
        last = twice and step == steps - 1
        _, gradient = _gradient(theta, eta[step], support, step, steps, graphs if last else None, keep_graphs)
        if twice:
            path.append(theta)
        if learned:
            inner.append(gradient)
        theta = _updated(theta, eta[step], gradient, in_place=step > 0 and not twice)
        gradient = {}

    loss, adjoint = _gradient(theta, theta, query or support, steps, steps)
    del theta
    d_rates = torch.zeros_like(rates.values, requires_grad=False)
    for step in reversed(range(steps)):
        row = min(step, len(d_rates) - 1)
        if learned:
            gradient = inner.pop()
            d_rates[row] -= torch.stack([_dot(adjoint[name], gradient[name]) for name in rates.names]).to(d_rates)
            gradient = {}
        if second_order[step]:
            adjoint = _through_step(path.pop(), eta[step], adjoint, support, step, graphs)
            _check(adjoint, step, steps)
    return OuterGradient(loss, adjoint, d_rates)


def adapt(
    parameters: Mapping[str, Tensor], rates: InnerRates, support: Sequence[MicroLoss], steps: int
) -> dict[str, Tensor]:
    """The same inner steps for meta-testing, where nobody differentiates through them.

    Keeps the parameters twice over: one copy that moves, and its gradient.

    Args:
        steps: inner steps to take; those beyond S reuse the last row of rates.

    Returns:
        theta after ``steps`` steps, detached; ``parameters`` are left as they are.

    Raises:
        NonFinite: a loss or gradient is NaN or infinite.
    """
    theta = {name: value.detach() for name, value in parameters.items()}
    eta = _rates_by_step(rates, theta, steps)
    for step in range(steps):
        _, gradient = _gradient(theta, eta[step], support, step, steps)
        theta = _updated(theta, eta[step], gradient, in_place=step > 0)
    return theta


def kept_bytes(parameters: Mapping[str, Tensor], rates: InnerRates, second_order: Sequence[bool]) -> int:
    """Bytes that :func:`outer_gradient` keeps from its inner steps to its adjoint steps, beside theta_0.

    With learned rates and S second-order steps: ``(2 S - 1)`` times the adapting parameters, in float32 and for
    94.6 M of them and S = 5 3.2 GiB.
    """
    adapting = sum(parameters[name].nbytes for name in rates.names)
    trajectory = sum(bool(twice) for twice in second_order[1:])
    return adapting * (trajectory + (len(second_order) if rates.values.requires_grad else 0))


def _rates_by_step(rates: InnerRates, theta: Mapping[str, Tensor], steps: int) -> list[dict[str, Tensor]]:
    unknown = [name for name in rates.names if name not in theta]
    if unknown:
        raise ValueError(f"there are rates for {unknown[0]!r}, which is not among the parameters")
    return [{name: rate.detach() for name, rate in rates.at(step).items()} for step in range(steps)]


def _gradient(
    theta: Mapping[str, Tensor],
    wanted: Mapping[str, object],
    losses: Sequence[MicroLoss],
    step: int,
    steps: int,
    graphs: list[_Graph] | None = None,
    keep: int = 0,
) -> tuple[float, dict[str, Tensor]]:
    """The mean loss at theta and its gradient for the names in ``wanted``, summed over micro-batches in place.

    Where ``graphs`` is given, the last ``keep`` micro-batches' gradients are put there with their graphs.
    """
    leaves = _leaves(theta, wanted)
    total = 0.0
    for index, loss in enumerate(losses):
        kept = graphs is not None and index >= len(losses) - keep
        own = _leaves(theta, theta) if kept else leaves
        with torch.enable_grad():
            share = loss(own, step)
        total += share.item()
        if not math.isfinite(total):
            raise NonFinite(step, steps, "loss")
        if kept:
            graphs.append(_Graph(own, _with_graph(share, own, wanted)))
            for name, part in zip(wanted, graphs[-1].gradient, strict=True):
                leaves[name].grad = part.detach().clone() if leaves[name].grad is None else leaves[name].grad + part
        else:
            torch.autograd.backward(share, inputs=[leaves[name] for name in wanted])
        del share
    gradient = {name: _taken(leaves[name]) for name in wanted}
    _check(gradient, step, steps)
    return total, gradient


def _through_step(
    theta: Mapping[str, Tensor],
    eta: Mapping[str, Tensor],
    adjoint: dict[str, Tensor],
    losses: Sequence[MicroLoss],
    step: int,
    graphs: list[_Graph],
) -> dict[str, Tensor]:
    """``lambda - H (eta * lambda)``, accumulated in lambda's own memory; ``graphs`` are used up."""
    vector = {name: -rate * adjoint[name] for name, rate in eta.items()}
    again = len(losses) - len(graphs)
    while graphs:
        leaves, gradient = graphs.pop()
        adjoint = _add_product(leaves, gradient, vector, adjoint)
        del leaves, gradient
    leaves = _leaves(theta, theta)
    for loss in losses[:again]:
        with torch.enable_grad():
            gradient = _with_graph(loss(leaves, step), leaves, eta)
        adjoint = _add_product(leaves, gradient, vector, adjoint)
        del gradient
    return adjoint


def _with_graph(loss: Tensor, leaves: Mapping[str, Tensor], wanted: Mapping[str, object]) -> tuple[Tensor, ...]:
    return torch.autograd.grad(loss, [leaves[name] for name in wanted], create_graph=True, materialize_grads=True)


def _add_product(
    leaves: Mapping[str, Tensor], gradient: Sequence[Tensor], vector: Mapping[str, Tensor], adjoint: dict[str, Tensor]
) -> dict[str, Tensor]:
    """``adjoint`` plus the Hessian times ``vector``, in the memory of ``adjoint``."""
    for name, leaf in leaves.items():
        leaf.grad = adjoint[name]
    moving = [(g, v) for g, v in zip(gradient, vector.values(), strict=True) if g.requires_grad]
    if moving:
        torch.autograd.backward(*zip(*moving, strict=True), inputs=list(leaves.values()))
    return {name: _taken(leaf) for name, leaf in leaves.items()}


def _updated(
    theta: dict[str, Tensor], eta: Mapping[str, Tensor], gradient: Mapping[str, Tensor], in_place: bool = False
) -> dict[str, Tensor]:
    """``theta - eta * g``; names without a rate are handed on as they are."""
    result = dict(theta)
    for name, rate in eta.items():
        change = rate * gradient[name]
        result[name] = theta[name].sub_(change) if in_place else theta[name] - change
    return result


def _leaves(theta: Mapping[str, Tensor], wanted: Mapping[str, object]) -> dict[str, Tensor]:
    """New leaves on theta's memory. Autograd adds up what arrives at a leaf in place, aliased gradients included."""
    return {name: value.detach().requires_grad_(name in wanted) for name, value in theta.items()}


def _taken(leaf: Tensor) -> Tensor:
    gradient, leaf.grad = leaf.grad, None
    return torch.zeros_like(leaf, requires_grad=False) if gradient is None else gradient


def _dot(one: Tensor, other: Tensor) -> Tensor:
    return torch.dot(one.reshape(-1), other.reshape(-1))


def _check(gradient: Mapping[str, Tensor], step: int, steps: int) -> None:
    finite = {name: torch.isfinite(value).all() for name, value in gradient.items()}
    if finite and not torch.stack(list(finite.values())).all():
        raise NonFinite(step, steps, next(name for name, fine in finite.items() if not fine))
