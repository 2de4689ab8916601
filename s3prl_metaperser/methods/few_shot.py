"""A conventional optimiser on the K samples, for several episodes at once: what the few-shot baselines do."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

Parameters = Mapping[str, torch.Tensor]


def optimised(
    start: Parameters, loss: Callable[[Parameters], torch.Tensor], optimizer: str, rate: float, decay: float, steps: int
) -> dict[str, torch.Tensor]:
    """The parameters of A episodes after so many steps, each on one batch.

    SGD, Adam and AdamW work on every number by itself, so that one of them over A episodes is A of them.

    Args:
        start: each tensor with a leading axis A; left as it is.
        loss: parameters -> [A], episode a's from its own parameters alone.
        optimizer: a class of ``torch.optim``.
        decay: weight decay.

    Returns:
        detached, each tensor with a leading axis A.
    """
    leaves = {name: value.detach().clone().requires_grad_() for name, value in start.items()}
    stepper = getattr(torch.optim, optimizer)(leaves.values(), lr=rate, weight_decay=decay)
    with torch.enable_grad():
        for _ in range(steps):
            stepper.zero_grad(set_to_none=True)
            loss(leaves).sum().backward()
            stepper.step()
    return {name: value.detach() for name, value in leaves.items()}
