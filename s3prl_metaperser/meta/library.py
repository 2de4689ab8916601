"""Exact meta-gradients for any ``nn.Module`` and loss: the public face of this room.

    >>> import torch
    >>> from s3prl_metaperser import meta
    >>> model = torch.nn.Linear(3, 2)
    >>> loss = lambda model, batch: torch.nn.functional.cross_entropy(model(batch[0]), batch[1])
    >>> rates = meta.learned_rates(model, steps=5, initial=0.1)
    >>> support = query = (torch.randn(8, 3), torch.randint(2, (8,)))
    >>> outer = meta.outer_gradient(model, support, query, loss, rates)
    >>> outer.add_to(model, rates)                         # as .grad, for any optimiser
    >>> [name for name, p in model.named_parameters() if p.grad is not None], rates.values.grad.shape
    (['weight', 'bias'], torch.Size([5, 2]))

A loss is ``loss(model, batch)``: the **mean** over the samples of a batch, a scalar. It may do with the model what it
likes; while it runs and on the way back through it, the model has the parameters of the inner loop in place of its own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from s3prl_metaperser.errors import UserError
from s3prl_metaperser.meta import adjoint
from s3prl_metaperser.meta.batches import part, samples
from s3prl_metaperser.meta.masks import drawn_from
from s3prl_metaperser.meta.micro_gradients import MicroLoss
from s3prl_metaperser.meta.rates import InnerRates
from s3prl_metaperser.meta.stateless import in_place_of_its_own
from s3prl_metaperser.meta.twice import differentiable_twice, reentrant_refused, refuse_fused, refuse_once

#: (model, batch) -> the mean loss over the batch's samples, a scalar.
Loss = Callable[[Any, Any], Tensor]


@dataclass(frozen=True)
class Outer:
    """One task's outer loss and its gradient.

    Attributes:
        loss: the outer loss after the inner steps; with several, their weighted sum.
        losses: each of several outer losses, unweighted; one where there is one.
        parameters: d loss / d theta_0 by name, for every parameter of the model that requires a gradient.
        rates: d loss / d ``rates.values``, [S, P]; zeros for rates that are not learned.
    """

    loss: float
    losses: tuple[float, ...]
    parameters: dict[str, Tensor]
    rates: Tensor

    def add_to(self, model: nn.Module, rates: InnerRates | None = None, weight: float = 1.0) -> None:
        """Add ``weight`` times this gradient to ``.grad`` of the model's parameters, and of learned ``rates``.

        Call it for each task of a meta-batch with ``weight=1/tasks``. Under ``torch.distributed``, where each process
        has its own tasks, :func:`all_reduce` then sums over processes.
        """
        own = dict(model.named_parameters())
        pairs = [(own[name], gradient) for name, gradient in self.parameters.items()]
        if rates is not None and rates.values.requires_grad:
            pairs.append((rates.values, self.rates))
        for parameter, gradient in pairs:
            share = gradient.to(parameter) * weight
            parameter.grad = share if parameter.grad is None else parameter.grad.add_(share)


@dataclass(frozen=True)
class OuterTerm:
    """One of several outer losses.

    Attributes:
        batch: its samples.
        loss: of them.
        weight: in the sum.
    """

    batch: Any
    loss: Loss
    weight: float = 1.0


def learned_rates(
    model: nn.Module, steps: int, initial: float, only: str | Sequence[str] = "*", learned: bool = True
) -> InnerRates:
    """An inner learning rate for each step and parameter tensor (LSLR, Antoniou et al. 2019, section 4).

    Args:
        steps: S, inner steps.
        initial: what every rate starts from.
        only: shell patterns of parameter names that take inner steps; ``"head.*"`` is ANIL (Raghu et al. 2020). The
            others get their outer gradient nevertheless.
        learned: False makes them constants.

    Raises:
        UserError: a pattern fits no parameter that requires a gradient.

        >>> learned_rates(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 1)), 3, 0.1, only="1.*").names
        ('1.weight', '1.bias')
    """
    trainable = _trainable(model)
    patterns = [only] if isinstance(only, str) else list(only)
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in trainable):
            raise UserError(
                f"No parameter of the model that requires a gradient is called {pattern!r}. Its names are "
                f"{', '.join(list(trainable)[:4])}{' ...' if len(trainable) > 4 else ''}."
            )
    names = [name for name in trainable if any(fnmatchcase(name, pattern) for pattern in patterns)]
    rates = InnerRates(names, steps, initial, learned)
    example = next(iter(trainable.values()))
    return rates.to(device=example.device, dtype=torch.promote_types(example.dtype, torch.float32))


def outer_gradient(
    model: nn.Module,
    inner: Any,
    outer: Any,
    loss: Loss,
    rates: InnerRates | float,
    *,
    steps: int | None = None,
    second_order: bool | Sequence[bool] = True,
    micro_batch: int | None = None,
    keep: str = "device",
    keep_graphs: int = 0,
    seed: int = 0,
) -> Outer:
    """The outer loss of one task after S inner steps of gradient descent, and its exact gradient.

    Nothing of the model changes: neither its parameters nor its buffers (running statistics of batch norm). Memory is
    one micro-batch's graph and ``S - 1`` copies of the adapting parameters, whatever the activations' size
    (:mod:`~s3prl_metaperser.meta.adjoint` has the equations).

    Args:
        model: in the mode that you want it in; dropout and batch statistics work in training mode. Dropout's masks are
            a function of (seed, step, micro-batch) alone.
        inner: a batch, used in every inner step; or a list with one batch for each of the S steps. A list of tensors
            is one batch.
        outer: the outer loss's batch (a query set); None: ``inner``'s (combined-set meta-training; with a list, its
            last); a list of :class:`OuterTerm` for several outer losses.
        loss: ``loss(model, batch)``, the mean over samples.
        rates: :func:`learned_rates`, or one constant rate for all.
        steps: S; by default as many as ``rates`` has, or batches in ``inner``. Steps beyond the last row of rates
            reuse it.
        second_order: False: first-order MAML (Finn et al. 2017); a list says it for each step
            (:func:`~s3prl_metaperser.meta.annealing.second_order_steps` makes one for derivative annealing).
        micro_batch: samples of one forward and backward pass; by default all. The result is the same to rounding, if
            the model's output for a sample does not depend on the others (padding to the longest may).
        keep: where the S - 1 copies of the parameters wait: ``"device"``, ``"cpu"`` (exact) or ``"bfloat16"`` (half
            the bytes; what it changes is in docs/meta_gradients.md).
        keep_graphs: of how many micro-batches the graph is kept for the way back, the last steps' first: time for
            memory (:func:`s3prl_metaperser.meta.adjoint.outer_gradient`; docs/speed.md has what it costs).
        seed: of the masks.

    Raises:
        UserError: the model holds a part that torch differentiates twice wrongly (:func:`prepare` replaces it), or is
            wrapped by DDP or FSDP (:func:`all_reduce` is what several processes use);
            micro-batches of a model whose batch norm takes its statistics from the batch; batches without samples.
        NonFinite: a loss or gradient is NaN or infinite; it names the step and the parameter.
        NotTwice: a part cannot be differentiated twice, or a checkpoint is reentrant; it is named, with what to use
            instead.
    """
    task = _Task(model, loss, micro_batch, seed)
    inner_loop = _steps_of(inner, rates, steps)
    own = _rates_for(model, rates, inner_loop.steps)
    orders = [second_order] * inner_loop.steps if isinstance(second_order, bool) else list(second_order)
    if keep not in adjoint.KEPT:
        raise UserError(f"keep is {keep!r}. Give {', '.join(adjoint.KEPT[:-1])} or {adjoint.KEPT[-1]}.")
    if keep_graphs < 0:
        raise UserError(f"keep_graphs is {keep_graphs}. Give a number of micro-batches, 0 or more.")
    if len(orders) != inner_loop.steps:
        raise UserError(f"second_order has {len(orders)} values for {inner_loop.steps} inner steps. Give one for each.")
    task.looks = any(orders)
    if task.looks:
        _refuse_compiled(model)
        refuse_fused(model)
    terms = _terms(outer, inner_loop, loss)
    support = [task.losses(batch) for batch in inner_loop.batches]
    query = [task.losses(term.batch, term.loss, term.weight, number) for number, term in enumerate(terms)]
    with task, differentiable_twice(model, any(orders)):
        found = adjoint.outer_gradient(
            _trainable(model),
            own,
            _by_step(support),
            orders,
            [part_ for parts in query for part_ in parts],
            keep_graphs,
            keep,
        )
    losses = tuple(task.values.get(number, 0.0) for number in range(len(terms)))
    return Outer(found.loss, losses, found.parameters, found.rates)


def adapt(
    model: nn.Module,
    inner: Any,
    loss: Loss,
    rates: InnerRates | float,
    *,
    steps: int | None = None,
    micro_batch: int | None = None,
    seed: int = 0,
) -> dict[str, Tensor]:
    """The model's parameters after the inner steps, for one task's use; the model stays as it is.

    Use them with ``torch.func.functional_call(model, adapted, inputs)``, or load them into a copy
    (``copy.load_state_dict(adapted, strict=False)``), which you must where a module of the model has two names (T5,
    BART): torch's ``functional_call`` leaves such a model changed. Arguments and errors are those of
    :func:`outer_gradient`.

    Returns:
        every parameter that requires a gradient, by name, detached.

        >>> model = torch.nn.Linear(1, 1, bias=False)
        >>> squared = lambda model, batch: (model(batch) ** 2).mean()
        >>> adapted = adapt(model, torch.ones(4, 1), squared, 0.5, steps=1)      # w - 0.5 * 2 w
        >>> float(adapted["weight"])
        0.0
    """
    task = _Task(model, loss, micro_batch, seed)
    inner_loop = _steps_of(inner, rates, steps)
    own = _rates_for(model, rates, inner_loop.steps)
    support = [task.losses(batch) for batch in inner_loop.batches]
    with task:
        return adjoint.adapt(_trainable(model), own, _by_step(support), inner_loop.steps)


def all_reduce(model: nn.Module, rates: InnerRates | None = None) -> None:
    """Sum ``.grad`` of the model and of learned rates over the processes of ``torch.distributed``; alone, nothing."""
    from s3prl_metaperser.parallel import sum_gradients

    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    sum_gradients([*parameters, *([rates.values] if rates is not None and rates.values.requires_grad else [])])


# ------------------------------------------------------------------ what these are made of


def _trainable(model: nn.Module) -> dict[str, Tensor]:
    """By name."""
    found: dict[str, Tensor] = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not found:
        raise UserError("No parameter of the model requires a gradient. Set requires_grad on those that are to.")
    return found


@dataclass(frozen=True)
class _Inner:
    batches: list[Any]
    steps: int


class _Task:
    """A model and a loss as the adjoint wants them: functions of the parameters, a micro-batch at a time."""

    def __init__(self, model: nn.Module, loss: Loss, micro_batch: int | None, seed: int):
        if micro_batch is not None and micro_batch < 1:
            raise UserError(f"micro_batch is {micro_batch}. Give a number of samples, 1 or more.")
        if micro_batch is not None and (norm := _batch_statistics(model)):
            raise UserError(
                f"{norm} takes its statistics from the batch, so that micro-batches change the result. "
                "Put it into evaluation mode, or leave micro_batch out."
            )
        _refuse_wrapped(model)
        _refuse_embeddings(model)
        self.model, self.loss, self.micro_batch, self.seed = model, loss, micro_batch, seed
        self.holding = contextlib.ExitStack()
        self.values: dict[int, float] = {}
        self.looks = False  # whether the next graph is looked through for what has no second derivative

    def __enter__(self) -> None:
        pass

    def __exit__(self, *what: object) -> None:
        self.holding.close()
        torch.clear_autocast_cache()

    def hold(self, parameters: Mapping[str, Tensor]) -> None:
        """The model has these until it gets others or the task ends: a checkpoint runs again on the way back."""
        self.holding.close()
        torch.clear_autocast_cache()  # an autocast around all keeps a copy of every step's parameters, and their graphs
        buffers = {name: buffer.clone() for name, buffer in self.model.named_buffers()}
        self.holding.enter_context(in_place_of_its_own(self.model, {**buffers, **parameters}))

    def losses(
        self, batch: Any, loss: Loss | None = None, weight: float = 1.0, term: int | None = None
    ) -> list[MicroLoss]:
        """A batch's micro-batches, whose losses add up to ``weight`` times the mean."""
        loss = loss or self.loss
        if self.micro_batch is None:
            return [_Share(self, batch, loss, weight, 1.0, 0, term)]
        count = samples(batch)
        if not count:
            raise UserError("A batch has no samples. Give at least one.")
        found: list[MicroLoss] = []
        for number, start in enumerate(range(0, count, self.micro_batch)):
            stop = min(start + self.micro_batch, count)
            share = (stop - start) / count
            found.append(_Share(self, part(batch, start, stop), loss, weight, share, number, term))
        return found


@dataclass(frozen=True)
class _Share:
    """One micro-batch's share of a loss: a :data:`MicroLoss`."""

    task: _Task
    batch: Any
    loss: Loss
    weight: float
    share: float
    number: int
    term: int | None

    def hold(self, parameters: Mapping[str, Tensor]) -> None:
        self.task.hold(parameters)

    def __call__(self, parameters: Mapping[str, Tensor], step: int) -> Tensor:
        task = self.task
        task.hold(parameters)
        devices = {tensor.device for tensor in parameters.values()}
        names = (task.seed, step, self.number, self.term or 0)
        with reentrant_refused(), drawn_from(devices, *names) if task.model.training else contextlib.nullcontext():
            found = self.loss(task.model, self.batch)
        if not isinstance(found, Tensor) or found.dim():
            kind = f"a tensor of shape {list(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
            raise UserError(f"The loss returned {kind}. Return the mean over the batch's samples, a scalar tensor.")
        if not found.requires_grad:
            raise UserError(
                "The loss does not depend on the parameters: it is detached, converted (.item(), NumPy), made under "
                "torch.no_grad(), or of a part of the model that does not adapt. Return it with its graph."
            )
        if task.looks:
            task.looks = False
            refuse_once(found)
        if self.term is not None:
            task.values[self.term] = task.values.get(self.term, 0.0) + self.share * float(found.detach())
        return found * (self.weight * self.share)


def _steps_of(inner: Any, rates: InnerRates | float, steps: int | None) -> _Inner:
    several = isinstance(inner, list) and not (inner and all(isinstance(value, Tensor) for value in inner))
    if several and not inner:
        raise UserError("inner is an empty list. Give a batch, or a list of one batch a step.")
    batches = inner if several else [inner]
    if steps is None:
        steps = len(batches) if several else len(rates.values) if isinstance(rates, InnerRates) else None
    if steps is None:
        raise UserError("How many inner steps? Give steps=, or rates of several steps.")
    if steps < 0 or (several and steps != len(batches)):
        raise UserError(
            f"steps is {steps}, and there are {len(batches)} inner batches. Give as many, or one batch for all."
        )
    return _Inner(batches, steps)


def _by_step(support: list[list[MicroLoss]]) -> adjoint.Support:
    """Micro-batches of the one inner batch, or of each step's; the outer loss of combined sets is on the last."""
    return (lambda step: support[min(step, len(support) - 1)]) if len(support) > 1 else support[0]


def _rates_for(model: nn.Module, rates: InnerRates | float, steps: int) -> InnerRates:
    if not isinstance(rates, InnerRates):
        return learned_rates(model, max(steps, 1), float(rates), learned=False)
    trainable = _trainable(model)
    if unknown := [name for name in rates.names if name not in trainable]:
        raise UserError(
            f"There is a rate for {unknown[0]}, which is no parameter of the model that requires a gradient. "
            "Make the rates with learned_rates(model, ...) once it is as it will be trained."
        )
    return rates


def _terms(outer: Any, inner: _Inner, loss: Loss) -> list[OuterTerm]:
    if outer is None:
        return [OuterTerm(inner.batches[-1], loss)]
    if isinstance(outer, OuterTerm):
        return [outer]
    if isinstance(outer, list | tuple) and outer and all(isinstance(term, OuterTerm) for term in outer):
        return list(outer)
    return [OuterTerm(outer, loss)]


def _refuse_wrapped(model: nn.Module) -> None:
    """Wrappers put their own exchange between processes into each pass; here each process passes alone."""
    for module in model.modules():
        kinds = {kind.__name__ for kind in type(module).__mro__}
        if found := kinds & {"DistributedDataParallel", "FullyShardedDataParallel", "FSDPModule"}:
            raise UserError(
                f"The model is wrapped by {found.pop()}, which exchanges gradients or parameters within each pass. "
                "Give the plain module on every process, each with its own tasks, and meta.all_reduce(model, rates) "
                "before the optimiser's step; against memory, micro_batch and keep='cpu'."
            )


def _refuse_embeddings(model: nn.Module) -> None:
    kinds = (nn.Embedding, nn.EmbeddingBag)
    for name, part_ in model.named_modules():
        if isinstance(part_, kinds) and part_.weight.requires_grad and (part_.sparse or part_.max_norm is not None):
            what = "sparse=True" if part_.sparse else "max_norm, which changes its weight in every pass"
            raise UserError(f"{name or 'The model'} is an embedding with {what}. Make it without, or freeze it.")


def _refuse_compiled(model: nn.Module) -> None:
    if any(type(module).__name__ == "OptimizedModule" for module in model.modules()):
        raise UserError(
            "The model is compiled by torch.compile, which has no second derivative. Give the module that was "
            "compiled, or second_order=False."
        )


def _batch_statistics(model: nn.Module) -> str | None:
    """The name of a batch norm that normalises by the batch it sees."""
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and (module.training or module.running_mean is None):
            return name or type(module).__name__
    return None
