"""The exact outer gradient without a graph across inner steps: what makes the whole upstream affordable.

The unrolled loop (:mod:`s3prl_metaperser.meta.inner_loop`) keeps the activations of all S inner steps until the outer
loss is differentiated. Here the inner steps run without a graph, and the outer gradient comes from the adjoint
recursion, exact to rounding::

    lambda_S = grad L_query(theta_S)
    d L / d eta_{s,l} = -<lambda_{s+1}, g_s>_l
    lambda_s = lambda_{s+1} - H_s (eta_s * lambda_{s+1})        (first-order steps: lambda_s = lambda_{s+1})

with ``g_s`` the support gradient at ``theta_s`` and ``H_s`` its Jacobian, applied by reverse-over-reverse: the way back
through a second-order step makes ``g_s`` again, tensor by tensor, and keeps of each the scalar <lambda_{s+1}, g_s>_l
alone. That is the rate's gradient and, weighted with -eta_{s,l} and differentiated, what is added to lambda. Losses
come as micro-batches that are differentiated one after the other, so activations never exceed those of one micro-batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from s3prl_metaperser.meta.micro_gradients import (
    Graph,
    MicroLoss,
    NonFinite,
    check_finite,
    dot,
    gradient_of,
    kept_products,
    products,
)
from s3prl_metaperser.meta.rates import InnerRates

__all__ = [
    "KEPT",
    "MicroLoss",
    "NonFinite",
    "OuterGradient",
    "adapt",
    "kept_bytes",
    "one_step_gradient",
    "outer_gradient",
]

#: Where the parameters of the inner steps wait for the way back.
KEPT = ("device", "cpu", "bfloat16")

#: The inner loss's micro-batches: the same in every step, or by step.
Support = Sequence[MicroLoss] | Callable[[int], Sequence[MicroLoss]]


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


def outer_gradient(
    parameters: Mapping[str, Tensor],
    rates: InnerRates,
    support: Support,
    second_order: Sequence[bool],
    query: Sequence[MicroLoss] | None = None,
    keep_graphs: int = 0,
    keep: str = "device",
) -> OuterGradient:
    """Loss after adaptation and its gradient with respect to the initialisation and the rates.

    Keeps ``kept_bytes(...)`` beside the parameters themselves: ``theta_s`` of each second-order step but the first
    (``theta_0`` is the caller's) and, where rates are learned, ``g_s`` of each first-order step. The rest is one
    micro-batch's graph and lambda, or, while the outer loss is differentiated, ``theta_S`` and lambda.

    Args:
        parameters: theta_0. Those without a rate do not adapt; they get their outer gradient nevertheless.
        rates: of the inner loop; steps beyond its S reuse its last row. A rate may be zero or negative.
        support: micro-batches of the inner loss; step s calls each with s, twice if second-order.
        second_order: for each inner step whether the outer gradient is taken through it
            (:func:`~s3prl_metaperser.meta.annealing.second_order_steps`). All False costs no Hessian-vector product.
        query: micro-batches of the outer loss, called with the number of inner steps; ``support`` by default (CSMT).
        keep_graphs: of how many micro-batches the gradient's graph is kept for the way back, those of the last
            second-order steps first. Each saves one forward and backward pass, and its activations and its gradient
            are there while the outer loss is differentiated. With all of them kept it is the unrolled graph.
        keep: one of :data:`KEPT`: what waits for the way back stays where it is, goes to the CPU's memory (exact), or
            is rounded to bfloat16 (half the bytes; second derivatives are then taken beside the path).

    Raises:
        NonFinite: a loss or gradient is NaN or infinite.
        ValueError: ``keep`` is none of :data:`KEPT`.
    """
    if keep not in KEPT:
        raise ValueError(f"keep is {keep!r}; it can be {', '.join(KEPT)}")
    steps = len(second_order)
    losses_of = _by_step(support)
    theta = {name: value.detach() for name, value in parameters.items()}
    eta = _rates_by_step(rates, theta, steps)
    learned = rates.values.requires_grad
    path: list[dict[str, Tensor]] = []
    inner: list[dict[str, Tensor]] = []
    graphs: list[list[Graph]] = [[] for _ in second_order]
    keeping = _graphs_by_step(second_order, losses_of, keep_graphs)
    for step, twice in enumerate(second_order):
        _, gradient = gradient_of(theta, eta[step], losses_of(step), step, steps, graphs[step], keeping[step])
        if twice:
            path.append(theta if step == 0 else _packed(theta, rates.names, keep))
        elif learned:
            inner.append(_packed(gradient, rates.names, keep))
        read_again = bool(graphs[step]) if twice else learned
        theta = _updated(theta, eta[step], gradient, into_gradient=not read_again)

    loss, adjoint = gradient_of(theta, theta, query or losses_of(steps), steps, steps)
    del theta
    d_rates = torch.zeros_like(rates.values, requires_grad=False)
    for step in reversed(range(steps)):
        if second_order[step]:
            dots = _through_step(
                _unpacked(path.pop(), adjoint), eta[step], adjoint, losses_of(step), step, graphs[step]
            )
            check_finite(adjoint, step, steps)
        elif learned:
            gradient = _unpacked(inner.pop(), adjoint)
            dots = {name: dot(adjoint[name], gradient[name]) for name in rates.names}
        if learned:
            row = min(step, len(d_rates) - 1)
            d_rates[row] -= torch.stack([dots[name] for name in rates.names]).to(d_rates)
    return OuterGradient(loss, adjoint, d_rates)


def one_step_gradient(
    parameters: Mapping[str, Tensor], rates: InnerRates, support: Sequence[MicroLoss], query: Sequence[MicroLoss]
) -> OuterGradient:
    """:func:`outer_gradient` of a single second-order step whose rates have the shapes of the parameters (Meta-SGD).

    With alpha the rates: lambda = grad L_query(theta - alpha * g), d alpha = -lambda * g, d theta = lambda -
    H (alpha * lambda), all products by element.

    Args:
        rates: :class:`~s3prl_metaperser.meta.rates.ElementRates`, for each of the parameters.
    """
    theta = {name: value.detach() for name, value in parameters.items()}
    alpha = {name: rate.detach() for name, rate in rates.at(0).items()}
    _, gradient = gradient_of(theta, alpha, support, 0, 1)
    after = {name: theta[name] - rate * gradient[name] for name, rate in alpha.items()}
    loss, adjoint = gradient_of(after, after, query, 1, 1)
    d_rates = torch.cat([(-adjoint[name] * gradient[name]).reshape(-1) for name in rates.names])[None]
    del after, gradient
    vector = {name: rate * adjoint[name] for name, rate in alpha.items()}
    whole = {name: torch.ones((), dtype=value.dtype, device=value.device) for name, value in theta.items()}
    dots = {name: torch.zeros_like(one) for name, one in whole.items()}
    for micro in support:
        products(micro, theta, 0, whole, vector, adjoint, dots)
    check_finite(adjoint, 0, 1)
    return OuterGradient(loss, adjoint, d_rates)


def adapt(parameters: Mapping[str, Tensor], rates: InnerRates, support: Support, steps: int) -> dict[str, Tensor]:
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
        _, gradient = gradient_of(theta, eta[step], _by_step(support)(step), step, steps)
        theta = _updated(theta, eta[step], gradient)
    return theta


def kept_bytes(parameters: Mapping[str, Tensor], rates: InnerRates, second_order: Sequence[bool]) -> int:
    """Bytes that :func:`outer_gradient` keeps from its inner steps to its adjoint steps, beside theta_0.

    With S second-order steps ``S - 1`` times the adapting parameters, in float32 and for 94.6 M of them and S = 5
    1.4 GiB; with S first-order steps and learned rates S times.
    """
    adapting = sum(parameters[name].nbytes for name in rates.names)
    trajectory = sum(bool(twice) for twice in second_order[1:])
    gradients = sum(not twice for twice in second_order) if rates.values.requires_grad else 0
    return adapting * (trajectory + gradients)


def _by_step(support: Support) -> Callable[[int], Sequence[MicroLoss]]:
    return support if callable(support) else lambda step: support


def _graphs_by_step(
    second_order: Sequence[bool], losses_of: Callable[[int], Sequence[MicroLoss]], left: int
) -> list[int]:
    """How many micro-batches' graphs each step keeps, of ``left`` in all."""
    found = [0] * len(second_order)
    for step in reversed(range(len(second_order))):
        if left > 0 and second_order[step]:
            found[step] = min(left, len(losses_of(step)))
            left -= found[step]
    return found


def _packed(tensors: Mapping[str, Tensor], moving: Sequence[str], keep: str) -> dict[str, Tensor]:
    """What waits for the way back; tensors that do not adapt are everybody's and stay as they are."""
    if keep == "device":
        return dict(tensors)
    change = (lambda tensor: tensor.to("cpu")) if keep == "cpu" else (lambda tensor: tensor.to(torch.bfloat16))
    return {name: change(tensor) if name in moving else tensor for name, tensor in tensors.items()}


def _unpacked(tensors: dict[str, Tensor], like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.to(like[name]) for name, tensor in tensors.items()}


def _rates_by_step(rates: InnerRates, theta: Mapping[str, Tensor], steps: int) -> list[dict[str, Tensor]]:
    unknown = [name for name in rates.names if name not in theta]
    if unknown:
        raise ValueError(f"there are rates for {unknown[0]!r}, which is not among the parameters")
    return [{name: rate.detach() for name, rate in rates.at(step).items()} for step in range(steps)]


def _through_step(
    theta: Mapping[str, Tensor],
    eta: Mapping[str, Tensor],
    adjoint: dict[str, Tensor],
    losses: Sequence[MicroLoss],
    step: int,
    graphs: list[Graph],
) -> dict[str, Tensor]:
    """``lambda - H (eta * lambda)``, written into ``adjoint``; ``graphs`` are used up.

    Returns:
        <lambda, g> by name, of lambda as it was.
    """
    dots = {name: torch.zeros((), dtype=adjoint[name].dtype, device=adjoint[name].device) for name in eta}
    again = len(losses) - len(graphs)
    # a single micro-batch reads each tensor of lambda before it adds to it; several must all read lambda as it was
    vector = dict(adjoint) if len(losses) == 1 else {name: adjoint[name].clone() for name in eta}
    while graphs:
        kept_products(graphs.pop(), eta, vector, adjoint, dots)
    for loss in losses[:again]:
        products(loss, theta, step, eta, vector, adjoint, dots)
    return dots


def _updated(
    theta: Mapping[str, Tensor], eta: Mapping[str, Tensor], gradient: dict[str, Tensor], into_gradient: bool = True
) -> dict[str, Tensor]:
    """``theta - eta * g``, in the memory of ``gradient`` if that may be; names without a rate are handed on."""
    result = dict(theta)
    for name, rate in eta.items():
        change = gradient.pop(name)
        change = change.mul_(-rate) if into_gradient else change * -rate
        result[name] = change.add_(theta[name])
    return result
