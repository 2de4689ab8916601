"""Output adaptations for any classes. Standard deviations of the priors are in natural logarithms.

With z the log-probabilities of a clip, [C], or with p = exp(z) its probabilities:

- ``+bias``: softmax(z + b), b ~ N(0, 1). C numbers.
- ``+bias-scale``: softmax(s z + b), s ~ N(1, 0.5), b ~ N(0, 1). C + 1 numbers.
- ``+map``: softmax(W c + b), c = z less its mean, W ~ N(identity, 0.3), b ~ N(0, 1). C^2 + C numbers. That is
  multinomial logistic regression on c with a ridge that draws to the zero-shot prediction in place of zero.
- ``+confusion``: q_j = sum_i p_i T_ij, the rows of T softmax(log T0 + D), T0 = 0.9 identity + 0.1 / C, D ~ N(0, 2). C^2
  numbers: the table of Dawid and Skene (1979) of one rater, with the class as it was heard in place of the true one.
- ``+prior``: softmax(z + log(r / m)), m the mean prediction over the K clips, r the K labels' mean with C labels like m
  added (the mean of a Dirichlet posterior). C numbers: Saerens et al. (2002), where the new shares are known.
"""

from __future__ import annotations

import torch

from s3prl_metaperser.methods.output_only import Output

BIAS, SCALE, MAP, TABLE = 1.0, 0.5, 0.3, 2.0
#: What T0 has outside of the identity.
CONFUSED = 0.1


class Bias(Output):
    """softmax(z + b)."""

    def prior(self, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
        return _zeros(classes), BIAS + _zeros(classes)

    def apply(self, parameters: torch.Tensor, logs: torch.Tensor) -> torch.Tensor:
        return logs + parameters

    def as_linear(self, parameters: torch.Tensor, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.eye(classes, dtype=torch.float64), parameters


class BiasScale(Output):
    """softmax(s z + b); s stands first."""

    def prior(self, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
        mean, deviation = _zeros(1 + classes), BIAS + _zeros(1 + classes)
        mean[0], deviation[0] = 1.0, SCALE
        return mean, deviation

    def apply(self, parameters: torch.Tensor, logs: torch.Tensor) -> torch.Tensor:
        return parameters[0] * logs + parameters[1:]

    def as_linear(self, parameters: torch.Tensor, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
        return parameters[0] * torch.eye(classes, dtype=torch.float64), parameters[1:]


class Map(Output):
    """softmax(W c + b); W stands first, row by row."""

    def prior(self, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
        mean = torch.cat([torch.eye(classes, dtype=torch.float64).flatten(), _zeros(classes)])
        deviation = torch.cat([MAP + _zeros(classes * classes), BIAS + _zeros(classes)])
        return mean, deviation

    def apply(self, parameters: torch.Tensor, logs: torch.Tensor) -> torch.Tensor:
        classes = logs.shape[-1]
        centred = logs - logs.mean(-1, keepdim=True)
        return centred @ parameters[:-classes].reshape(classes, classes).T + parameters[-classes:]

    def as_linear(self, parameters: torch.Tensor, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
        matrix = parameters[:-classes].reshape(classes, classes)
        return matrix - matrix.mean(1, keepdim=True), parameters[-classes:]


class Confusion(Output):
    """log of p T; D stands row by row."""

    def prior(self, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
        return _zeros(classes * classes), TABLE + _zeros(classes * classes)

    def apply(self, parameters: torch.Tensor, logs: torch.Tensor) -> torch.Tensor:
        return torch.log(torch.softmax(logs, -1) @ self.as_table(parameters, logs.shape[-1]))

    def as_table(self, parameters: torch.Tensor, classes: int) -> torch.Tensor:
        """T, [C heard, C said]; every row sums to one."""
        before = (1 - CONFUSED) * torch.eye(classes, dtype=torch.float64) + CONFUSED / classes
        return torch.softmax(torch.log(before) + parameters.reshape(classes, classes), -1)


class Prior(Bias):
    """softmax(z + log(r / m)); the parameters are log(r / m)."""

    def fit(self, logs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        count, classes = logs.shape
        heard = torch.softmax(logs, -1).mean(0)
        counted = classes / self.spread
        said = (targets.sum(0) + counted * heard) / (count + counted)
        return torch.log(said / heard)


def _zeros(count: int) -> torch.Tensor:
    return torch.zeros(count, dtype=torch.float64)
