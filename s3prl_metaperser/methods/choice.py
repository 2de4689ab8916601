"""Whether to adapt to a listener at all, and how: decided by cross-validation on the listener's own K labels.

Each way to adapt predicts every sample from the other parts of the K. The loss is the negative log-likelihood of its
label, without class weights, which are other raters'. An adaptation is taken only where its mean loss is lower than
zero-shot's by more than :data:`ERRORS` standard errors of the difference, over the K samples; of those
the one with the lowest loss. So zero-shot is kept where the labels do not say otherwise (the one-standard-error rule of
Breiman et al. 1984, towards the model that needs no label).

What that can cost is known: a way that is truly worse than zero-shot by d a sample is taken with a probability of about
Phi(-d / e - ERRORS), e the standard error, so that choosing among m ways costs m max_u u Phi(-u - ERRORS) e at most in
expectation, and less where the ways go along with each other (:meth:`Choice.risk`). That is of normal differences; of
skewed ones, a few samples much worse and all others a little better, it may be twice as much.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from s3prl_metaperser.seeding import numpy_generator

#: How many standard errors better than zero-shot an adaptation must be.
ERRORS = 1.0
#: With fewer samples a standard error says nothing: zero-shot is kept, and no interval is given.
FEWEST = 8


@dataclass(frozen=True)
class Trial:
    """One way to adapt, beside zero-shot.

    Attributes:
        loss: mean over the K samples, each predicted by an adaptation to others.
        difference: to zero-shot's loss; negative is better.
        error: standard error of the difference.
    """

    loss: float
    difference: float
    error: float

    @property
    def pays(self) -> bool:
        """Whether it is better by more than the rule asks for."""
        return self.difference < -ERRORS * self.error


@dataclass(frozen=True)
class Choice:
    """What was chosen among what.

    Attributes:
        chosen: a name in ``trials``.
        trials: by name; the first is zero-shot.
        samples: K.
    """

    chosen: str
    trials: Mapping[str, Trial]
    samples: int

    @property
    def risk(self) -> float:
        """About the most that choosing costs in expectation against keeping zero-shot, in loss a sample."""
        u = np.linspace(0, 5, 501)
        worst = float((u * ndtr(-u - ERRORS)).max())
        return worst * sum(trial.error for trial in self.trials.values())

    def as_json(self) -> dict[str, object]:
        """For a card."""
        trials = {name: vars(trial) for name, trial in self.trials.items()}
        return {"chosen": self.chosen, "trials": trials, "risk": self.risk}


def choose(losses: Mapping[str, np.ndarray]) -> Choice:
    """Choose by the losses of K samples, each predicted without having been adapted to.

    Args:
        losses: way -> [K]; zero-shot first.

    Examples:
        >>> draw = np.random.default_rng(0)
        >>> zero = draw.normal(2, 0.5, 32)
        >>> choose({"zero-shot": zero, "+bias": zero - 0.3 + draw.normal(0, 0.3, 32)}).chosen
        '+bias'
        >>> choose({"zero-shot": zero, "+bias": zero - 0.01 + draw.normal(0, 0.3, 32)}).chosen
        'zero-shot'
    """
    first, zero = next(iter(losses.items()))
    trials = {}
    for name, own in losses.items():
        difference = own - zero
        error = difference.std(ddof=1) / np.sqrt(len(zero)) if len(zero) > 1 else 0.0
        trials[name] = Trial(float(own.mean()), float(difference.mean()), float(error))
    able = [name for name, trial in trials.items() if trial.pays] if len(zero) >= FEWEST else []
    return Choice(min(able, key=lambda name: trials[name].loss, default=first), trials, len(zero))


def parts_of_samples(samples: int, parts: int) -> list[np.ndarray]:
    """The samples in parts of nearly one size, each in order; which are together is drawn, the same every time."""
    order = numpy_generator("leave out", samples, parts).permutation(samples)
    return [np.sort(order[start::parts]) for start in range(parts)]


def sample_losses(probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The negative log-likelihood of each sample's label distribution, [K]: every label weighs the same.

    Args:
        probabilities: [K, C].
        targets: [K, C].
    """
    logs = np.log(np.maximum(probabilities.astype(np.float64), np.finfo(np.float32).tiny))
    return -(targets.astype(np.float64) * logs).sum(-1)
