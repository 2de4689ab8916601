"""What a system of domain generalisation is: one gradient a step, from one batch of several sources."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from s3prl_metaperser.config.domain_options import DomainOptions
from s3prl_metaperser.config.section import with_values
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.generalise import averaging
from s3prl_metaperser.generalise.model import DomainModel
from s3prl_metaperser.methods.facts import Facts
from s3prl_metaperser.protocol.domain_batches import DomainBatch, Inputs
from s3prl_metaperser.seeding import torch_generator


@dataclass(frozen=True)
class Sources:
    """What a system may know of the sources besides batches.

    Attributes:
        names: of the D sources; their order is that of :attr:`.DomainBatch.domains`.
        classes: C names.
        counts: training samples of each source and class, int64 [D, C].
        seed: of the trial's training; batches and held-out speakers have seeds of their own.
        steps: of the whole training.
        speakers: how many there are in batches; 0 where batches do not say whose a sample is.
    """

    names: tuple[str, ...]
    classes: tuple[str, ...]
    counts: np.ndarray
    seed: int = 0
    steps: int = 0
    speakers: int = 0


@dataclass(frozen=True)
class Step:
    """What a step says of itself.

    Attributes:
        loss: the objective before the update.
        values: further numbers by name, whose mean over some steps is logged.
        each: numbers that are logged at every step, such as ``margin``.
    """

    loss: float
    values: Mapping[str, float] = field(default_factory=dict)
    each: Mapping[str, float] = field(default_factory=dict)


class Generaliser(nn.Module):
    """One row of the tables. What it trains beside the model, or keeps between steps, are its parameters and buffers:
    the optimiser and checkpoints then know of them.

    Args:
        options: the whole configuration; :meth:`options_in_force` of it counts.
        sources: what is known of them.
    """

    #: Set by the registry; another package's system declares its own facts here.
    facts: Facts | None = None
    name: str = ""

    def __init__(self, options: DomainOptions, sources: Sources):
        super().__init__()
        self.average: averaging.Average | None = None
        self.options = self.options_in_force(options)
        self.general = self.options.downstream_expert.generalrc
        self.sources = sources
        #: Shares of the classes in all sources together, float32 [C].
        self.register_buffer("prior", _shares(sources.counts.sum(0)), persistent=False)
        self.prior: Tensor
        sizes_count = {self.options.downstream_expert.datarc.batches, self.general.loss_mean} == {"pooled"}
        met = self.prior if sizes_count else torch.stack([_shares(each) for each in sources.counts]).mean(0)
        #: Shares of the classes as the loss meets them, float32 [C]: sources count alike where batches are balanced or
        #: the loss is a mean over sources.
        self.register_buffer("met", met, persistent=False)
        self.met: Tensor

    @classmethod
    def options_in_force(cls, options: DomainOptions) -> DomainOptions:
        """The configuration with the options that this system's facts fix."""
        return with_values(options, cls.facts.fixed) if cls.facts else options

    def prepare(self, model: DomainModel) -> None:
        """Make what is trained beside the model (a discriminator, say) or kept from step to step, before training."""
        validated = bool(self.options.downstream_expert.datarc.validation)
        if self.general.average == "swad" and not validated:
            raise UserError(
                f"{self.name}: SWAD averages over the valley of the loss on validation speakers of the sources, and "
                "there are none. Write datarc.validation=0.2, or take another average (dense, ema)."
            )
        self.average = averaging.of(model, self.general, self.sources.steps)

    def outer_gradient(self, model: DomainModel, batch: DomainBatch, step: int) -> Step:
        """Put the gradient of one step into ``.grad`` of the model's parameters, and of this system's own.

        Gradients are None before. Whatever is drawn comes from :meth:`generator`.

        Args:
            step: counted from 1.

        Returns:
            The loss, which is checked and logged with the other values.
        """
        raise NotImplementedError

    def after_step(self, model: DomainModel, step: int) -> None:
        """Called when the optimiser has moved the model."""
        if self.average is not None:
            self.average.after_step(model, step)

    def validated(self, loss: float) -> None:
        """Told the model's loss on the sources' validation speakers, where there are some."""
        if self.average is not None:
            self.average.validated(loss)

    def tested(self, model: DomainModel) -> DomainModel:
        """What is tested in the model's place; it itself unless weights are averaged."""
        return model if self.average is None else self.average.tested(model)

    def probabilities(self, model: DomainModel, inputs: Inputs) -> Tensor:
        """Of the classes, float32 [B, C], by a model in evaluation mode."""
        return torch.softmax(model(inputs).float(), dim=-1)

    # -- for systems ---------------------------------------------------------------------------------------------------

    def generator(self, *names: object) -> torch.Generator:
        """A generator that belongs to this trial and these names (a step, say) alone."""
        return torch_generator("generalise", self.sources.seed, *names)

    def sample_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of each sample, [B], with classes weighted, or logits adjusted, as ``class_weights`` says.

        ``balanced``: each class counts as if all were equally frequent. ``logit_adjustment``: the log of the class's
        share is added to its logit in training (Menon et al. 2021). Shares are those that the loss meets
        (:attr:`met`): a large source's classes count no more where sources count alike.
        """
        if self.general.class_weights == "logit_adjustment":
            logits = logits + torch.log(self.met.clamp_min(1e-8)).to(logits)
        losses = functional.cross_entropy(logits, labels, reduction="none")
        if self.general.class_weights == "balanced":
            weights = torch.where(self.met > 0, 1 / self.met.clamp_min(1e-8), 0.0)
            weights = weights / (weights * self.met).sum()
            losses = losses * weights.to(losses)[labels]
        return losses

    def mean_loss(self, losses: Tensor, domains: Tensor) -> Tensor:
        """The mean over domains of each one's mean (Gandhi et al., Eq. 2), or over samples (``loss_mean: pooled``)."""
        if self.general.loss_mean == "pooled":
            return losses.mean()
        return domain_means(losses, domains).mean()

    def loss(self, logits: Tensor, batch: DomainBatch) -> Tensor:
        """:meth:`mean_loss` of a batch's samples, whose logits are [B, C]."""
        return self.mean_loss(self.sample_losses(logits, batch.labels), batch.domains)


def by_domain(values: Tensor, domains: Tensor) -> Iterator[Tensor]:
    """The values [n, ...] of each domain that is present, in the domains' order."""
    return (values[domains == domain] for domain in torch.unique(domains))


def domain_means(values: Tensor, domains: Tensor) -> Tensor:
    """The mean of each domain that is present, [d]."""
    return torch.stack([part.mean() for part in by_domain(values, domains)])


def _shares(counts: np.ndarray) -> Tensor:
    """Of counts [C], float32 [C]."""
    return torch.from_numpy(counts / max(1, counts.sum())).float()
