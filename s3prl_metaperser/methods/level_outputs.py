"""Output adaptations for levels of a scale (labels of the kind ``ordinal``).

With p the probabilities of the C levels, F_j = p_1 + ... + p_j their cumulative ones, levels at u_1 = -1 .. u_C = 1:

- ``+offset``: logit F'_j = logit F_j - d, d ~ N(0, 2). One number: proportional odds (McCullagh 1980); d > 0 moves to
  higher levels.
- ``+line``: logit F'_j = exp(a) logit F_j - d, a ~ N(0, 0.5), d ~ N(0, 2). Two numbers.
- ``+tilt``: p'_j proportional to p_j exp(t u_j + v u_j^2), t ~ N(0, 2), v ~ N(0, 2). Two numbers; v < 0: to the middle.
- ``+affine``: level j goes to a (j - m) + m + c, m the scale's middle, blurred by a normal distribution of standard
  deviation s and rounded to the next level, at the ends to the last one: p' = p T(a, c, s). Three numbers, in levels;
  log a ~ N(0, 0.35), c ~ N(0, (C - 1) / 4), log s ~ N(log((C - 1) / 12), 1). Not the most probable ones are applied,
  but their posterior given the K labels, on a grid: since p' is linear in T, predicting with the mean table is exact.
"""

from __future__ import annotations

import functools

import torch

from s3prl_metaperser.methods.map_fit import SMALLEST
from s3prl_metaperser.methods.output_only import Output

SHIFT, STRETCH, TILT = 2.0, 0.5, 2.0
#: Of ``+affine``: of log a; of c and the median of s, both in lengths of the scale; of log s.
SCALED, MOVED, BLURRED, BLUR = 0.35, 1 / 4, 1 / 12, 1.0
#: Points of the grid of (a, c, s), and how many standard deviations it reaches to either side.
GRID, REACH = (9, 25, 7), 2.5
#: Samples whose likelihood is computed at once.
AT_ONCE = 64


class Line(Output):
    """logit F' = exp(a) logit F - d; the parameters are d, a."""

    def prior(self, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.zeros(2, dtype=torch.float64), torch.tensor([SHIFT, STRETCH], dtype=torch.float64)

    def moves(self, parameters: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """d, and what the logits are multiplied by."""
        return parameters[0], torch.exp(parameters[1])

    def apply(self, parameters: torch.Tensor, logs: torch.Tensor) -> torch.Tensor:
        return along_the_scale(logs, *self.moves(parameters))


class Offset(Line):
    """logit F' = logit F - d."""

    def prior(self, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.zeros(1, dtype=torch.float64), torch.tensor([SHIFT], dtype=torch.float64)

    def moves(self, parameters: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return parameters[0], torch.ones((), dtype=torch.float64)


class Tilt(Output):
    """p' proportional to p exp(t u + v u^2); the parameters are t, v."""

    def prior(self, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.zeros(2, dtype=torch.float64), torch.full((2,), TILT, dtype=torch.float64)

    def apply(self, parameters: torch.Tensor, logs: torch.Tensor) -> torch.Tensor:
        return logs + self.as_linear(parameters, logs.shape[-1])[1]

    def as_linear(self, parameters: torch.Tensor, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
        place = torch.linspace(-1, 1, classes, dtype=torch.float64)
        return torch.eye(classes, dtype=torch.float64), parameters[0] * place + parameters[1] * place**2


class Affine(Output):
    """p' = p T; the parameters are the posterior's mean of T, [C, C], row by row."""

    def fit(self, logs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        tables, prior = affine_tables(logs.shape[-1], self.spread)
        for some, answered in zip(torch.softmax(logs, -1).split(AT_ONCE), targets.split(AT_ONCE), strict=True):
            said = torch.einsum("kc,gcd->gkd", some, tables).clamp_min(SMALLEST)
            prior = prior + torch.einsum("kd,gkd->g", answered, torch.log(said))
        posterior = torch.softmax(prior, 0)
        return torch.einsum("g,gcd->cd", posterior, tables).flatten()

    def apply(self, parameters: torch.Tensor, logs: torch.Tensor) -> torch.Tensor:
        return torch.log((torch.softmax(logs, -1) @ self.as_table(parameters, logs.shape[-1])).clamp_min(SMALLEST))

    def as_table(self, parameters: torch.Tensor, classes: int) -> torch.Tensor:
        return parameters.reshape(classes, classes)


@functools.cache
def affine_tables(classes: int, spread: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """The tables of ``+affine`` at each point of its grid, float64 [G, C, C], and the logarithms of their prior, [G].

    Args:
        spread: factor on the standard deviations of log a and of c.
    """
    steps = [torch.linspace(-REACH, REACH, count, dtype=torch.float64) for count in GRID]
    points = torch.cartesian_prod(*steps)
    length = classes - 1.0
    scale = torch.exp(SCALED * spread * points[:, 0])[:, None, None]
    shift = (MOVED * spread * length * points[:, 1])[:, None, None]
    blur = (BLURRED * length * torch.exp(BLUR * points[:, 2]))[:, None, None]
    level = torch.arange(classes, dtype=torch.float64)
    centre = scale * (level - length / 2) + length / 2 + shift.transpose(1, 2)
    below = torch.special.ndtr((level[:-1] + 0.5 - centre.transpose(1, 2)) / blur)
    edge = below.new_zeros(len(points), classes, 1)
    cumulative = torch.cat([edge, below, 1 + edge], -1)
    return cumulative[..., 1:] - cumulative[..., :-1], -(points**2).sum(-1) / 2


def along_the_scale(logs: torch.Tensor, shift: torch.Tensor, stretch: torch.Tensor) -> torch.Tensor:
    """Log-probabilities [N, C] whose cumulative logits are ``stretch`` times the old ones, less ``shift``."""
    probabilities = torch.softmax(logs, -1)
    below = probabilities.cumsum(-1)[:, :-1].clamp_min(SMALLEST)
    above = probabilities.flip(-1).cumsum(-1).flip(-1)[:, 1:].clamp_min(SMALLEST)
    moved = torch.sigmoid(stretch * (torch.log(below) - torch.log(above)) - shift)
    edge = moved.new_zeros(len(moved), 1)
    cumulative = torch.cat([edge, moved, 1 + edge], -1)
    return torch.log((cumulative[:, 1:] - cumulative[:, :-1]).clamp_min(SMALLEST))
