"""The exact outer gradient of MLDG (Li et al. 2018) and DA-MLDG (Gandhi et al., Eq. 2 and 3), on any module.

With S' the meta-train and V the meta-test samples, an inner rate eta and ``theta' = theta - eta grad L_S'(theta)``::

    J(theta) = L_S'(theta) + gamma L_V(theta')                                             (Eq. 2; MLDG: gamma = 1)
    gamma    = |E(S', theta') - E(V, theta')|,  E(X, theta) = |mean over X of logsumexp(z / T)|             (Eq. 3)

No graph is kept across the inner step. With ``lam`` the gradient at theta' of what stands behind the plus, and H the
Hessian of L_S' at theta::

    grad J = grad L_S'(theta) + lam - eta H lam            (first order: without the last term)

Losses are weighted sums over samples, so they come apart into micro-batches that are differentiated one by one. The
margin is no such sum: L_V and both energies are computed first, and the margin's derivatives by these three numbers
weight the micro-batches' gradients.

Batch normalisation in training mode normalises S' and V each by its own statistics (each micro-batch by its own, where
there are several); running statistics follow the first pass over S' at theta alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from s3prl_metaperser.meta.masks import drawn_from
from s3prl_metaperser.meta.micro_gradients import Graph, check_finite, gradient_of, kept_products, leaves_on, products
from s3prl_metaperser.protocol.domain_batches import Inputs

#: Logits [N, C] and labels [N] to the loss of each sample, [N].
Criterion = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """The loss of each sample, [N]."""
    return F.cross_entropy(logits, labels, reduction="none")


@dataclass(frozen=True)
class Margin:
    """How the domain-shift margin gamma is read (Eq. 3); the text leaves all of it open but the temperature.

    Attributes:
        attached: whether gamma is differentiated (as the public code's form has it) or a number.
        absolute: the absolute value within E; without it E has the sign of Liu et al.'s energy turned.
        temperature: T.
        largest: gamma is cut off there; None: nowhere.
    """

    attached: bool = False
    absolute: bool = True
    temperature: float = 1.0
    largest: float | None = None

    def __call__(self, one: Tensor, other: Tensor) -> Tensor:
        """Gamma of two means of logsumexp(z / T)."""
        gamma = (one.abs() - other.abs()).abs() if self.absolute else (one - other).abs()
        gamma = gamma if self.largest is None else gamma.clamp_max(self.largest)
        return gamma if self.attached else gamma.detach()


@dataclass(frozen=True)
class Samples:
    """A set of samples and what each weighs in its loss.

    Attributes:
        inputs: what the network takes, of N samples.
        labels: [N].
        weights: [N]; the loss is the sum of weight times loss over samples, and the weights add up to 1.
        names: of what is drawn for them, such as dropout's masks, which are then the same in each pass of a step.
    """

    inputs: Inputs
    labels: Tensor
    weights: Tensor
    names: tuple[object, ...] = ()

    def split(self, size: int | None) -> list[Samples]:
        """Parts of ``size`` samples, the last of those that remain; None: one part."""
        if size is None or size >= len(self.labels):
            return [self]
        parts = [slice(start, start + size) for start in range(0, len(self.labels), size)]
        return [
            Samples(self.inputs[part], self.labels[part], self.weights[part], (*self.names, part.start))
            for part in parts
        ]


@dataclass(frozen=True)
class MetaStep:
    """What one step gives.

    Attributes:
        gradient: of J, by parameter.
        train_loss: L_S'(theta).
        test_loss: L_V(theta').
        margin: gamma; 1 for MLDG.
    """

    gradient: dict[str, Tensor]
    train_loss: float
    test_loss: float
    margin: float

    @property
    def loss(self) -> float:
        """J."""
        return self.train_loss + self.margin * self.test_loss


@dataclass
class Problem:
    """A network, its losses, and the two sets of samples of a step.

    Attributes:
        network: inputs to logits. Parameters without ``requires_grad`` stand still, and so do its running statistics
            but for one pass.
        train: S'.
        test: V.
        inner_rate: eta, of the inner step.
        margin: None is MLDG, whose gamma is 1.
        criterion: loss of each sample.
        micro_batch: samples in memory with a graph at once; None: all.
    """

    network: nn.Module
    train: Samples
    test: Samples
    inner_rate: float
    margin: Margin | None = None
    criterion: Criterion = cross_entropy
    micro_batch: int | None = None
    _running: dict[str, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        self._running = dict(self.network.named_buffers())

    def parameters(self) -> dict[str, Tensor]:
        """Theta: those that are trained, by name."""
        return {name: value for name, value in self.network.named_parameters() if value.requires_grad}

    def logits(self, theta: Mapping[str, Tensor], part: Samples, *, running: bool = False) -> Tensor:
        """Of a part's inputs at theta; the running statistics change only where ``running`` says so."""
        buffers = self._running if running else {name: value.clone() for name, value in self._running.items()}
        with drawn_from([part.labels.device], *part.names):
            return functional_call(self.network, {**theta, **buffers}, (part.inputs,))

    def terms(self, theta: Mapping[str, Tensor], part: Samples) -> tuple[Tensor, Tensor]:
        """A part's share of the loss, and its sum of logsumexp(z / T)."""
        logits = self.logits(theta, part)
        temperature = self.margin.temperature if self.margin else 1.0
        loss = self.criterion(logits, part.labels) @ part.weights.to(logits)
        return loss, torch.logsumexp(logits / temperature, -1).sum()


def outer_gradient(problem: Problem, *, second_order: bool = True) -> MetaStep:
    """One step's gradient by the exact adjoint.

    Raises:
        NonFinite: a loss or gradient is NaN or infinite.
    """
    theta, rate = problem.parameters(), torch.tensor(problem.inner_rate, dtype=torch.float64)
    eta = dict.fromkeys(theta, rate)
    losses = [_FirstThenAgain(problem, part) for part in problem.train.split(problem.micro_batch)]
    graphs: list[Graph] = []
    kept = graphs if second_order else None
    train_loss, gradient = gradient_of(theta, theta, losses, 0, 1, kept, keep=1)
    fast = {name: (value - problem.inner_rate * gradient[name]).detach() for name, value in theta.items()}
    test_loss, margin, adjoint = _beyond_the_inner_step(problem, fast)
    total = {name: gradient[name] + adjoint[name] for name in theta}
    del fast, gradient
    if second_order:
        dots = {name: torch.zeros_like(value.sum()) for name, value in total.items()}
        again = len(losses) - len(graphs)
        while graphs:
            kept_products(graphs.pop(), eta, adjoint, total, dots)
        for loss in losses[:again]:
            products(loss, theta, 0, eta, adjoint, total, dots)
    return MetaStep(total, train_loss, test_loss, margin)


def unrolled_gradient(problem: Problem, *, second_order: bool = True) -> MetaStep:
    """The same through one graph of everything: the reference, and ``engine: loop``."""
    theta = leaves_on(problem.parameters(), problem.parameters())
    with torch.enable_grad():
        train_loss = _FirstThenAgain(problem, problem.train)(theta, 0)
        inner = torch.autograd.grad(train_loss, list(theta.values()), create_graph=second_order, retain_graph=True)
        steps = zip(theta.items(), inner, strict=True)
        fast = {name: value - problem.inner_rate * step for (name, value), step in steps}
        test_loss, test_energy = problem.terms(fast, problem.test)
        margin = torch.ones_like(test_loss)
        if problem.margin:
            train_energy = problem.terms(fast, problem.train)[1] / len(problem.train.labels)
            margin = problem.margin(train_energy, test_energy / len(problem.test.labels))
        gradient = torch.autograd.grad(train_loss + margin * test_loss, list(theta.values()), materialize_grads=True)
    return MetaStep(dict(zip(theta, gradient, strict=True)), train_loss.item(), test_loss.item(), margin.item())


class _FirstThenAgain:
    """A micro-batch's loss; of all its calls the first alone moves the running statistics."""

    def __init__(self, problem: Problem, part: Samples) -> None:
        self.problem, self.part, self.first = problem, part, True

    def __call__(self, theta: Mapping[str, Tensor], step: int) -> Tensor:
        logits = self.problem.logits(theta, self.part, running=self.first)
        self.first = False
        return self.problem.criterion(logits, self.part.labels) @ self.part.weights.to(logits)


def _beyond_the_inner_step(problem: Problem, fast: Mapping[str, Tensor]) -> tuple[float, float, dict[str, Tensor]]:
    """L_V at theta', the margin, and the gradient of margin times L_V there."""
    tests = problem.test.split(problem.micro_batch)
    trains = problem.train.split(problem.micro_batch) if problem.margin else []
    leaves = leaves_on(fast, fast)
    # a set in one part keeps its graph from the first pass; one in several is passed a second time
    with torch.set_grad_enabled(len(tests) == 1):
        of_tests = [problem.terms(leaves, part) for part in tests]
    attached = problem.margin is not None and problem.margin.attached
    with torch.set_grad_enabled(attached and len(trains) == 1):
        of_trains = [problem.terms(leaves, part) for part in trains]
    loss, test_energy = (_number(each) for each in zip(*of_tests, strict=True))
    numbers, margin = [loss, test_energy], torch.ones_like(loss)
    with torch.enable_grad():
        if problem.margin:
            numbers.append(_number([energy for _, energy in of_trains]))
            sizes = len(problem.train.labels), len(problem.test.labels)
            margin = problem.margin(numbers[2] / sizes[0], test_energy / sizes[1])
        outer = torch.autograd.grad(margin * loss, numbers, materialize_grads=True)
        for part, made in zip(tests, of_tests, strict=True):
            of_loss, of_energy = made if len(tests) == 1 else problem.terms(leaves, part)
            _add_gradient(outer[0] * of_loss + outer[1] * of_energy, leaves)
        for part, made in zip(trains, of_trains, strict=True) if attached else ():
            energy = (made if len(trains) == 1 else problem.terms(leaves, part))[1]
            _add_gradient(outer[2] * energy, leaves)
    gradient = {name: leaf.new_zeros(leaf.shape) if leaf.grad is None else leaf.grad for name, leaf in leaves.items()}
    check_finite({"loss": loss.detach(), **gradient}, 1, 1)
    return loss.item(), margin.item(), gradient


def _number(parts: Sequence[Tensor]) -> Tensor:
    """Their sum, to be differentiated by."""
    return torch.stack([part.detach() for part in parts]).sum().requires_grad_()


def _add_gradient(value: Tensor, leaves: Mapping[str, Tensor]) -> None:
    torch.autograd.backward(value, inputs=list(leaves.values()))
