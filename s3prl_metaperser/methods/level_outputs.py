"""Output adaptations for levels of a scale (labels of the kind ``ordinal``).

With p the probabilities of the C levels, F_j = p_1 + ... + p_j their cumulative ones, levels at u_1 = -1 .. u_C = 1:

- ``+offset``: logit F'_j = logit F_j - d, d ~ N(0, 2). One number: proportional odds (McCullagh 1980); d > 0 moves to
  higher levels.
- ``+line``: logit F'_j = exp(a) logit F_j - d, a ~ N(0, 0.5), d ~ N(0, 2). Two numbers.
- ``+tilt``: p'_j proportional to p_j exp(t u_j + v u_j^2), t ~ N(0, 2), v ~ N(0, 2). Two numbers; v < 0: to the middle.
"""

from __future__ import annotations

import torch

from s3prl_metaperser.methods.map_fit import SMALLEST
from s3prl_metaperser.methods.output_only import Output

SHIFT, STRETCH, TILT = 2.0, 0.5, 2.0


class Line(Output):
    """logit F' = exp(a) logit F - d; the parameters are d, a."""

    def prior(self, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.zeros(2, dtype=torch.float64), torch.tensor([SHIFT, STRETCH], dtype=torch.float64)

    def apply(self, parameters: torch.Tensor, logs: torch.Tensor) -> torch.Tensor:
        return along_the_scale(logs, parameters[0], torch.exp(parameters[1]))


class Offset(Output):
    """logit F' = logit F - d."""

    def prior(self, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.zeros(1, dtype=torch.float64), torch.tensor([SHIFT], dtype=torch.float64)

    def apply(self, parameters: torch.Tensor, logs: torch.Tensor) -> torch.Tensor:
        return along_the_scale(logs, parameters[0], torch.ones((), dtype=torch.float64))


class Tilt(Output):
    """p' proportional to p exp(t u + v u^2); the parameters are t, v."""

    def prior(self, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.zeros(2, dtype=torch.float64), torch.full((2,), TILT, dtype=torch.float64)

    def apply(self, parameters: torch.Tensor, logs: torch.Tensor) -> torch.Tensor:
        place = torch.linspace(-1, 1, logs.shape[-1], dtype=torch.float64)
        return logs + parameters[0] * place + parameters[1] * place**2


def along_the_scale(logs: torch.Tensor, shift: torch.Tensor, stretch: torch.Tensor) -> torch.Tensor:
    """Log-probabilities [N, C] whose cumulative logits are ``stretch`` times the old ones, less ``shift``."""
    probabilities = torch.softmax(logs, -1)
    below = probabilities.cumsum(-1)[:, :-1].clamp_min(SMALLEST)
    above = probabilities.flip(-1).cumsum(-1).flip(-1)[:, 1:].clamp_min(SMALLEST)
    moved = torch.sigmoid(stretch * (torch.log(below) - torch.log(above)) - shift)
    edge = moved.new_zeros(len(moved), 1)
    cumulative = torch.cat([edge, moved, 1 + edge], -1)
    return torch.log((cumulative[:, 1:] - cumulative[:, :-1]).clamp_min(SMALLEST))
