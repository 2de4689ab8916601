"""Averages of a model's weights over steps, around any system: EMA, a dense mean, and SWAD (Cha et al. 2021)."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from s3prl_metaperser.config.domain_options import GeneralOptions
from s3prl_metaperser.generalise.model import DomainModel


class Average(nn.Module):
    """What is tested in the trained model's place. All of its state is in buffers, for checkpoints.

    Running statistics of batch normalisation are averaged as the weights are.
    """

    def after_step(self, model: DomainModel, step: int) -> None:
        """The optimiser has moved the model."""
        raise NotImplementedError

    def validated(self, loss: float) -> None:
        """The model as it is has this loss on the sources' validation speakers."""

    def tested(self, model: DomainModel) -> DomainModel:
        """The averaged model; the model itself where nothing is averaged yet."""
        raise NotImplementedError


class Running(Average):
    """An exponential average of all steps, or the mean of those from a certain one on.

    Args:
        model: gives the shapes.
        decay: of the exponential average; None: a mean.
        begin: the first step of the mean.
    """

    def __init__(self, model: DomainModel, decay: float | None, begin: int = 1):
        super().__init__()
        rule = None if decay is None else get_ema_multi_avg_fn(decay)
        self.averaged = AveragedModel(model, multi_avg_fn=rule, use_buffers=True).requires_grad_(False)
        self.begin = begin

    def after_step(self, model: DomainModel, step: int) -> None:
        if step >= self.begin:
            self.averaged.update_parameters(model)

    def tested(self, model: DomainModel) -> DomainModel:
        if not self.averaged.n_averaged:
            return model
        averaged = self.averaged.module
        assert isinstance(averaged, DomainModel)
        return averaged


class SWAD(Average):
    """The mean of all weights between the start and the end of a valley of the validation loss (their Algorithm 1).

    The valley starts where a validation loss is the least of ``patience`` from it on, and ends before ``overfit`` of
    them in a row are above ``tolerance`` times the mean of those first ones. Between validations all steps count alike.
    Without a start the steps of the last validation are averaged.

    Args:
        model: gives the shapes.
        patience: their N_s.
        overfit: their N_e.
        tolerance: their r.
    """

    current: Tensor
    pending: Tensor
    total: Tensor
    losses: Tensor
    steps: Tensor
    threshold: Tensor
    valley: Tensor

    def __init__(self, model: DomainModel, patience: int = 3, overfit: int = 6, tolerance: float = 1.3):
        super().__init__()
        self.patience, self.overfit, self.tolerance = patience, overfit, tolerance
        like, kept = _vector(model), max(patience, overfit)
        self.register_buffer("current", torch.zeros_like(like))
        self.register_buffer("total", torch.zeros_like(like))
        #: Sums over the steps up to each of the last validations, the newest first; not yet in the total.
        self.register_buffer("pending", like.new_zeros(kept, len(like)))
        #: Those validations' losses; infinite where there was none.
        self.register_buffer("losses", torch.full((kept,), math.inf, dtype=torch.float64))
        #: Steps in the current sum, in the total, and in each pending sum.
        self.register_buffer("steps", torch.zeros(2 + kept, dtype=torch.int64))
        self.register_buffer("threshold", torch.tensor(math.inf, dtype=torch.float64))
        #: 0 before the valley, 1 in it, 2 behind it.
        self.register_buffer("valley", torch.tensor(0))

    def after_step(self, model: DomainModel, step: int) -> None:
        if self.valley < 2:
            self.current += _vector(model)
            self.steps[0] += 1

    def validated(self, loss: float) -> None:
        if self.valley == 2:
            return
        if self.valley == 1:
            for place in range(self.overfit - 1, len(self.losses)):  # too old to be behind the valley
                self._take(place)
        self.pending, self.losses = self.pending.roll(1, 0), self.losses.roll(1)
        self.pending[0], self.losses[0] = self.current, loss
        self.steps[2:] = self.steps[2:].roll(1)
        self.steps[2], self.steps[0] = self.steps[0].clone(), 0
        self.current.zero_()
        first, last = self.losses[: self.patience], self.losses[: self.overfit]
        if self.valley == 0 and torch.isfinite(first).all() and first[-1] == first.min():
            self.valley.fill_(1)
            self.threshold = self.tolerance * first.mean()
            self.steps[2 + self.patience :] = 0  # before the valley
        elif self.valley == 1 and torch.isfinite(last).all() and last.min() > self.threshold:
            self.valley.fill_(2)
            self.steps[2:] = 0

    def tested(self, model: DomainModel) -> DomainModel:
        inside = self.steps[2:] > 0
        if self.valley == 0:  # no start was found: the last segment
            inside[1:] = False
        many = int(self.steps[1]) * bool(self.valley) + int(self.steps[2:][inside].sum())
        if not many:
            return model
        mean = (self.pending[inside].sum(0) + (self.total if self.valley else 0.0)) / many
        return _with_vector(model, mean)

    def _take(self, place: int) -> None:
        """Move a pending sum into the total."""
        self.total += self.pending[place] * (self.steps[2 + place] > 0)
        self.steps[1] += self.steps[2 + place]
        self.steps[2 + place] = 0


def of(model: DomainModel, general: GeneralOptions, total_steps: int) -> Average | None:
    """The average that ``generalrc.average`` names.

    Args:
        total_steps: of training; ``dense`` averages their second half.
    """
    if general.average == "none":
        return None
    if general.average == "swad":
        return SWAD(model)
    decay = general.ema_decay if general.average == "ema" else None
    return Running(model, decay, 1 if decay is not None else total_steps // 2 + 1)


def _floats(model: nn.Module) -> list[Tensor]:
    """The weights and running statistics that are averaged, in an order that does not change."""
    return [value for value in model.state_dict().values() if value.is_floating_point()]


def _vector(model: nn.Module) -> Tensor:
    return torch.cat([value.detach().flatten() for value in _floats(model)])


def _with_vector(model: DomainModel, vector: Tensor) -> DomainModel:
    """A copy of a model with other weights."""
    other = copy.deepcopy(model)
    for value in _floats(other):
        part, vector = vector[: value.numel()], vector[value.numel() :]
        with torch.no_grad():
            value.copy_(part.view_as(value))
    return other
