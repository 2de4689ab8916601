"""Gradients and Hessian-vector products of a loss that comes as micro-batches, one after the other."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from s3prl_metaperser.errors import UserError

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


class Graph(NamedTuple):
    """A micro-batch's gradient that can be differentiated, and what it can be differentiated by."""

    leaves: dict[str, Tensor]
    gradient: tuple[Tensor, ...]


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
        kept = graphs is not None and index >= len(losses) - keep
        own = leaves_on(theta, theta) if kept else leaves
        with torch.enable_grad():
            share = loss(own, step)
        total += share.item()
        if not math.isfinite(total):
            raise NonFinite(step, steps, "loss")
        if kept:
            graphs.append(Graph(own, with_graph(share, own, wanted)))
            for name, part in zip(wanted, graphs[-1].gradient, strict=True):
                known = leaves[name].grad  # no more is added in place: those without a graph came first
                leaves[name].grad = part.detach() if known is None else known + part.detach()
        else:
            torch.autograd.backward(share, inputs=[leaves[name] for name in wanted])
        del share
    gradient = {name: _taken(leaves[name]) for name in wanted}
    check_finite(gradient, step, steps)
    return total, gradient


def with_graph(loss: Tensor, leaves: Mapping[str, Tensor], wanted: Mapping[str, object]) -> tuple[Tensor, ...]:
    """The gradient for the names in ``wanted``, to be differentiated again."""
    return torch.autograd.grad(loss, [leaves[name] for name in wanted], create_graph=True, materialize_grads=True)


def add_product(
    leaves: Mapping[str, Tensor], gradient: Sequence[Tensor], vector: Mapping[str, Tensor], adjoint: dict[str, Tensor]
) -> dict[str, Tensor]:
    """``adjoint`` plus the Hessian times ``vector``, in the memory of ``adjoint``."""
    for name, leaf in leaves.items():
        leaf.grad = adjoint[name]
    moving = [(g, v) for g, v in zip(gradient, vector.values(), strict=True) if g.requires_grad]
    if moving:
        torch.autograd.backward(*zip(*moving, strict=True), inputs=list(leaves.values()))
    return {name: _taken(leaf) for name, leaf in leaves.items()}


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
