"""One outer step as others take it, for any model and ``loss(model, batch)``: one graph of all steps, and two packages.

Each engine gives the outer gradient by name, that of the rates as "rates". Finite differences say who is right.
"""

from __future__ import annotations

import contextlib
import copy
import importlib.util
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from encoder import loss64
from torch import Tensor, nn

from s3prl_metaperser import meta
from s3prl_metaperser.meta import inner_loop

Gradient = dict[str, Tensor]


@contextlib.contextmanager
def kernels() -> Iterator[None]:
    """Attention by the kernel that can be differentiated twice, which only the adjoint chooses by itself."""
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        yield


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def value_of(model: nn.Module, batch: Any, loss: Any) -> Callable[[Any], Tensor]:
    """The loss as a function of the parameters."""

    def value(theta: Any) -> Tensor:
        return loss(lambda *inputs: torch.func.functional_call(model, dict(theta), inputs), batch)

    return value


def named(model: nn.Module, outer: Tensor, rates: Any) -> Gradient:
    own = trained(model)
    found = torch.autograd.grad(outer, [*own.values(), rates.values], materialize_grads=True)
    return dict(zip([*own, "rates"], found, strict=True))


def adjoint(model: nn.Module, inner: Any, outer: Any, loss: Any, rates: Any, **options: Any) -> Gradient:
    found = meta.outer_gradient(model, inner, outer, loss, rates, **options)
    return {**found.parameters, "rates": found.rates}


def unrolled(model: nn.Module, inner: Any, outer: Any, loss: Any, rates: Any) -> Gradient:
    """The textbook's MAML: one graph through all inner steps."""
    with kernels():
        theta = inner_loop.adapt(value_of(model, inner, loss), trained(model), rates.at, [True] * len(rates.values))
        return named(model, value_of(model, outer, loss)(theta), rates)


def with_higher(model: nn.Module, inner: Any, outer: Any, loss: Any, rates: Any) -> Gradient:
    """``higher``: a differentiable SGD with a group, and so a rate, for each tensor."""
    import higher

    optimizer = torch.optim.SGD([{"params": [p], "lr": 1.0} for p in trained(model).values()])
    with kernels(), higher.innerloop_ctx(model, optimizer, copy_initial_weights=False) as (fast, steps):
        for step in range(len(rates.values)):
            steps.step(loss(fast, inner), override={"lr": list(rates.at(step).values())})
        return named(model, loss(fast, outer), rates)


def with_learn2learn(model: nn.Module, inner: Any, outer: Any, loss: Any, rates: Any) -> Gradient:
    """What learn2learn's ``MAML`` is made of, ``clone_module`` and ``update_module``, with a rate for each tensor."""
    import learn2learn

    with kernels():
        fast = learn2learn.clone_module(model)
        for step in range(len(rates.values)):
            own, rate = trained(fast), rates.at(step)
            found = torch.autograd.grad(loss(fast, inner), list(own.values()), create_graph=True)
            change = dict(zip(own, found, strict=True))
            updates = [-rate[n] * change[n] if n in change else None for n, _ in fast.named_parameters()]
            fast = learn2learn.update_module(fast, updates)
        return named(model, loss(fast, outer), rates)


PEERS: dict[str, Callable[..., Gradient]] = {"higher": with_higher, "learn2learn": with_learn2learn}


def installed() -> dict[str, Callable[..., Gradient]]:
    """Those packages that are there."""
    return {name: engine for name, engine in PEERS.items() if importlib.util.find_spec(name)}


# ------------------------------------------------------------------ who is right


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = nn.TransformerEncoderLayer(6, 2, 12, dropout=0.0, activation="gelu", batch_first=True)
        self.out = nn.Linear(6, 9)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.block(x).mean(1))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.out = nn.LSTM(6, 8, batch_first=True), nn.Linear(8, 9)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.layer(x)[0][:, -1])


class Residual(nn.Module):
    """The basic block of a ResNet and a linear layer, with batch statistics in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm1 = nn.Conv2d(1, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.second, self.norm2 = nn.Conv2d(6, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.out = nn.Linear(6, 9)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.norm1(self.first(x)))
        return self.out(F.gelu(self.norm2(self.second(x)) + x).mean((2, 3)))


def _normed() -> nn.Module:
    return nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(6, 8)), nn.Tanh(), nn.Linear(8, 9))


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "transformer": (Attending, (4, 6)),
    "residual network with batch norm": (Residual, (1, 5, 5)),
    "LSTM": (Recurrent, (4, 6)),
    "fused weight norm": (_normed, (6,)),
}


def problem(name: str, device: str = "cpu") -> tuple[nn.Module, Any, Any, Any]:
    """A model in float64, a support and a query batch, and their loss."""
    build, shape = MODELS[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build().to(device).double()
        inner, outer = ((torch.randn(6, *shape), torch.softmax(torch.randn(6, 9), -1)) for _ in range(2))
    return model, *(tuple(part.to(device).double() for part in batch) for batch in (inner, outer)), loss64


def apart(one: Gradient, other: Gradient) -> float:
    """The largest ``||one - other|| / ||other||`` of a tensor.

    A tensor whose gradient is nothing beside the whole (a key's bias has only rounding) counts as a millionth of it.
    """
    whole = torch.stack([value.norm() for value in other.values()]).norm()
    return max(((one[n] - other[n]).norm() / other[n].norm().clamp_min(1e-6 * whole)).item() for n in other)


def along(
    model: nn.Module, inner: Any, outer: Any, loss: Any, rates: Any, found: Gradient, step: float = 1e-5
) -> float:
    """How far ``found`` is from central differences, along one random direction in parameters and rates: relative."""
    generator = torch.Generator().manual_seed(3)
    start = {**{n: p.detach() for n, p in trained(model).items()}, "rates": rates.values.detach()}
    direction = {n: torch.randn(v.shape, generator=generator).to(v) * v.abs().mean() for n, v in start.items()}

    def at(distance: float) -> float:
        theta = {n: v + distance * direction[n] for n, v in start.items()}
        moved = copy.deepcopy(rates)
        moved.values.data = theta.pop("rates")
        theta = inner_loop.adapt_without_graph(value_of(model, inner, loss), theta, moved.at, len(rates.values))
        return value_of(model, outer, loss)(theta).item()

    slope = (at(step) - at(-step)) / (2 * step)
    return abs(sum((found[n] * d).sum().item() for n, d in direction.items()) - slope) / abs(slope)


def compared(name: str, device: str, steps: int) -> dict[str, dict[str, Any]]:
    """Of one model in float64: each engine's distance from the adjoint's gradient, and from finite differences."""
    model, inner, outer, loss = problem(name, device)
    rates = meta.learned_rates(model, steps, 0.05)
    differences: dict[str, float | str] = {}
    engines: dict[str, Callable[..., Gradient]] = {"unrolled": unrolled, **installed()}
    others = {}
    for engine, run in engines.items():
        try:
            others[engine] = run(copy.deepcopy(model), inner, outer, loss, rates)
        except Exception as error:  # a package that cannot do it is a finding
            differences[engine] = f"{type(error).__name__}: {error}"[:200]
    meta.prepare(model)
    ours = adjoint(model, inner, outer, loss, rates)
    against = {"adjoint": along(model, inner, outer, loss, rates, ours)}
    for engine, found in others.items():
        renamed = dict(zip(ours, found.values(), strict=True))  # prepared weight norms have other names
        differences[engine] = apart(renamed, ours)
        against[engine] = along(model, inner, outer, loss, rates, renamed)
    return {"from_adjoint": differences, "from_finite_differences": against}
