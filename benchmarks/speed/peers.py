"""One outer step of second-order MAML with LSLR as users of other packages write it; each where it is installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from s3prl_metaperser.meta.model import PARAMETERS, Head, pooled_logits
from s3prl_metaperser.protocol.loss import soft_cross_entropy


class _Module(nn.Module):
    """The head as a module whose every tensor is in use, as peers want it."""

    def __init__(self, head: Head):
        super().__init__()
        self.head = head

    def forward(self, features: Tensor) -> Tensor:
        return pooled_logits(dict(self.head.named_parameters()), features)


def _outer(problem: Any, adapted: Callable[[int], Callable[[Tensor], Tensor]]) -> list[Tensor]:
    """Gradients of the mean outer loss; ``adapted`` gives a rater's model after the inner steps."""
    raters = problem.sizes["raters"]
    losses = [soft_cross_entropy(adapted(a)(problem.features[a]), problem.targets[a]) for a in range(raters)]
    return list(torch.autograd.grad(torch.stack(losses).mean(), problem.wanted))


def with_higher(problem: Any, orders: list[bool]) -> list[Tensor]:
    """``higher``: a differentiable SGD with a group, and so a rate, for each tensor."""
    import higher

    module = _Module(problem.head)

    def adapted(rater: int) -> Callable[[Tensor], Tensor]:
        start = torch.optim.SGD([{"params": [p], "lr": 0.0} for p in module.parameters()], lr=0.0)
        with higher.innerloop_ctx(module, start, copy_initial_weights=False) as (fast, optimizer):
            for step in range(len(orders)):
                loss = soft_cross_entropy(fast(problem.features[rater]), problem.targets[rater])
                optimizer.step(loss, override={"lr": list(problem.rates.values[step].unbind())})
        return fast

    return _outer(problem, adapted)


def with_torchopt(problem: Any, orders: list[bool]) -> list[Tensor]:
    """TorchOpt's functional optimiser; its gradient transformation multiplies by a learned rate for each tensor."""
    import torchopt

    def scaled(rates: Tensor) -> Any:
        def update(updates, state, *, params=None, inplace=True):
            return tuple(-rate * gradient for rate, gradient in zip(rates, updates, strict=True)), state

        return torchopt.base.GradientTransformation(lambda params: torchopt.base.EmptyState(), update)

    def adapted(rater: int) -> Callable[[Tensor], Tensor]:
        current = tuple(problem.head.parameters())

        def model(features: Tensor) -> Tensor:
            return pooled_logits(dict(zip(PARAMETERS, current, strict=True)), features)

        for step in range(len(orders)):
            optimizer = torchopt.FuncOptimizer(scaled(problem.rates.values[step]))
            loss = soft_cross_entropy(model(problem.features[rater]), problem.targets[rater])
            current = optimizer.step(loss, current)
        return model

    return _outer(problem, adapted)


def with_learn2learn(problem: Any, orders: list[bool]) -> list[Tensor]:
    """learn2learn's ``clone_module`` and ``update_module``."""
    import learn2learn

    module = _Module(problem.head)

    def adapted(rater: int) -> Callable[[Tensor], Tensor]:
        fast = learn2learn.clone_module(module)
        for step in range(len(orders)):
            loss = soft_cross_entropy(fast(problem.features[rater]), problem.targets[rater])
            gradients = torch.autograd.grad(loss, list(fast.parameters()), create_graph=True)
            rates = problem.rates.values[step]
            fast = learn2learn.update_module(fast, [-r * g for r, g in zip(rates, gradients, strict=True)])
        return fast

    return _outer(problem, adapted)


PEERS = {"higher": with_higher, "torchopt": with_torchopt, "learn2learn": with_learn2learn}


def installed() -> dict[str, Callable]:
    """Package -> engine, of those that can be imported here."""
    found = {}
    for name, engine in PEERS.items():
        if importlib.util.find_spec(name):
            try:
                importlib.import_module(name)
            except ImportError as error:
                print(f"{name} is installed and cannot be imported: {error}")
            else:
                found[name] = engine
    return found
