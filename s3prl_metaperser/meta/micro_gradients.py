"""Gradients and Hessian-vector products of a loss that comes as micro-batches, one after the other."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from s3prl_metaperser.errors import UserError

#: (parameters, inner step) -> one micro-batch's share of the mean loss, a scalar. The shares of all micro-batches add
#: up to the mean loss. It must give the same value each time it is called with the same arguments. Where its graph
#: computes again on the way back (checkpoints), ``loss.hold(parameters)`` has it do so with these.
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


class Graph(NamedTuple):
    """A micro-batch's gradient that can be differentiated, what it can be differentiated by, and its loss."""

    leaves: dict[str, Tensor]
    gradient: tuple[Tensor, ...]
    loss: MicroLoss


def gradient_of(
    theta: Mapping[str, Tensor],
    wanted: Mapping[str, object],
    losses: Sequence[MicroLoss],
    step: int,
    steps: int,
    graphs: list[Graph] | None = None,
    keep: int = 0,
) -> tuple[float, dict[str, Tensor]]:
    """The mean loss at theta and its gradient for the names in ``wanted``, summed over micro-batches in place.

    Where ``graphs`` is given, the last ``keep`` micro-batches' gradients are put there with their graphs.
    """
    leaves = leaves_on(theta, wanted)
    total = 0.0
    for index, loss in enumerate(losses):
        kept = graphs if index >= len(losses) - keep else None
        own = leaves if kept is None else leaves_on(theta, theta)
        with torch.enable_grad():
            share = loss(own, step)
        total += share.item()
        if not math.isfinite(total):
            raise NonFinite(step, steps, "loss")
        if kept is not None:
            kept.append(Graph(own, with_graph(share, own, wanted), loss))
            for name, part in zip(wanted, kept[-1].gradient, strict=True):
                known = leaves[name].grad  # no more is added in place: those without a graph came first
                leaves[name].grad = part.detach() if known is None else known + part.detach()
        else:
            torch.autograd.backward(share, inputs=[leaves[name] for name in wanted])
        del share
    if wanted and all(leaves[name].grad is None for name in wanted):
        raise UserError(
            "The loss does not depend on the parameters: it is of another model than the one that it is given, or of a "
            "part that does not adapt."
        )
    gradient = {name: _taken(leaves[name]) for name in wanted}
    check_finite(gradient, step, steps)
    return total, gradient


def with_graph(loss: Tensor, leaves: Mapping[str, Tensor], wanted: Mapping[str, object]) -> tuple[Tensor, ...]:
    """The gradient for the names in ``wanted``, to be differentiated again."""
    return torch.autograd.grad(loss, [leaves[name] for name in wanted], create_graph=True, materialize_grads=True)


def products(
    loss: MicroLoss,
    theta: Mapping[str, Tensor],
    step: int,
    eta: Mapping[str, Tensor],
    vector: Mapping[str, Tensor],
    adjoint: dict[str, Tensor],
    dots: dict[str, Tensor],
) -> None:
    """Add ``H (-eta * vector)`` to ``adjoint`` and ``<vector, g>`` to ``dots``; g and H are of one micro-batch.

    No more than one tensor of ``g`` is in memory at a time. ``vector`` may share its tensors with ``adjoint``: a tensor
    is read by all that needs it before it is added to, and autograd raises an error should that ever not be so.

    Args:
        theta: where the micro-batch's loss is differentiated.
        eta: name -> rate, a scalar; names without one count as constants in ``g``, and get their part of the product.
    """
    leaves = leaves_on(theta, theta)
    terms: dict[str, Tensor] = {}

    def reduced(name: str) -> Callable[[Tensor], Tensor]:
        def hook(gradient: Tensor) -> Tensor:
            terms[name] = dot(gradient, vector[name])
            return gradient.new_zeros(()).expand_as(gradient)  # nobody reads it, and it takes no memory

        return hook

    hooks = [leaves[name].register_hook(reduced(name)) for name in eta]
    with torch.enable_grad():
        torch.autograd.grad(loss(leaves, step), [leaves[n] for n in eta], create_graph=True, allow_unused=True)
    for hook in hooks:
        hook.remove()
    _add_derivative(terms, leaves, eta, adjoint, dots)


def kept_products(
    graph: Graph,
    eta: Mapping[str, Tensor],
    vector: Mapping[str, Tensor],
    adjoint: dict[str, Tensor],
    dots: dict[str, Tensor],
) -> None:
    """The same where the gradient is at hand, with its graph; ``eta`` has the gradient's names in its order."""
    with torch.enable_grad():
        terms = {name: dot(part, vector[name]) for name, part in zip(eta, graph.gradient, strict=True)}
    leaves = graph.leaves
    if hold := getattr(graph.loss, "hold", None):
        hold(leaves)
    del graph
    _add_derivative(terms, leaves, eta, adjoint, dots)


def _add_derivative(
    terms: dict[str, Tensor],
    leaves: Mapping[str, Tensor],
    eta: Mapping[str, Tensor],
    adjoint: dict[str, Tensor],
    dots: dict[str, Tensor],
) -> None:
    """Add the derivative of the sum of -eta_l * term_l to ``adjoint``, and the terms to ``dots``; empties ``terms``."""
    for name, term in terms.items():
        dots[name] += term.detach()
    # one root: torch imports two seconds of symbolic algebra where several have weights
    with torch.enable_grad():
        moving = [term * -eta[name].to(term) for name, term in terms.items() if term.requires_grad]
        root = torch.stack([term.to(moving[0]) for term in moving]).sum() if moving else None
    terms.clear()
    moving.clear()
    for name, leaf in leaves.items():
        leaf.grad = adjoint[name]
    if root is not None:
        torch.autograd.backward(root, inputs=list(leaves.values()))
    for name, leaf in leaves.items():
        adjoint[name] = _taken(leaf)


def dot(one: Tensor, other: Tensor) -> Tensor:
    """The sum of products of two tensors of one shape, a scalar."""
    return torch.dot(one.reshape(-1), other.reshape(-1))


def leaves_on(theta: Mapping[str, Tensor], wanted: Mapping[str, object]) -> dict[str, Tensor]:
    """New leaves on theta's memory. Autograd adds up what arrives at a leaf in place, aliased gradients included."""
    return {name: value.detach().requires_grad_(name in wanted) for name, value in theta.items()}


def _taken(leaf: Tensor) -> Tensor:
    gradient, leaf.grad = leaf.grad, None
    return torch.zeros_like(leaf, requires_grad=False) if gradient is None else gradient


def check_finite(gradient: Mapping[str, Tensor], step: int, steps: int) -> None:
    """Raise :class:`NonFinite` if anything in ``gradient`` is NaN or infinite; waits for the device once."""
    finite = {name: torch.isfinite(value).all() for name, value in gradient.items()}
    if finite and not torch.stack(list(finite.values())).all():
        raise NonFinite(step, steps, next(name for name, fine in finite.items() if not fine))
