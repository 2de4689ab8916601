"""Weighted layer sum, linear projector, mean pooling, linear classifier (Meta-PerSER, section 2.1).

Softmax-weighted layer sum, projector and mean pooling are all linear and commute, so the same parameters give the
same logits from pooled features [L, D] (each layer's mean over time) and from frames [L, T, D].
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

#: Names of the head's parameters, in the order in which learning rates are listed.
PARAMETERS = ("weights", "projector.weight", "projector.bias", "classifier.weight", "classifier.bias")


class Head(nn.Module):
    """The part of the model that follows the upstream.

    Args:
        layers: L, number of hidden states that are summed.
        features: D, size of each.
        projector: H, size after the projector.
        classes: C.
        generator: draws the initial parameters, as ``torch.nn.Linear`` does; layer weights start equal.
    """

    def __init__(self, layers: int, features: int, projector: int, classes: int, generator: torch.Generator):
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(layers))
        self.projector = linear(features, projector, generator)
        self.classifier = linear(projector, classes, generator)

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        """Logits [..., C] of pooled features [..., L, D]."""
        return pooled_logits(dict(self.named_parameters()), pooled)


def pooled_logits(parameters: Mapping[str, torch.Tensor], pooled: torch.Tensor) -> torch.Tensor:
    """Logits from pooled features, one set of parameters for all or one for each rater.

    Args:
        parameters: by the names in ``PARAMETERS``; each may carry a leading axis A.
        pooled: [K, L, D], or [A, K, L, D] where the parameters carry A.

    Returns:
        [K, C] or [A, K, C].
    """
    mixing = torch.softmax(parameters["weights"], dim=-1)
    mixed = torch.einsum("...l,...kld->...kd", mixing, pooled)
    projected = mixed @ parameters["projector.weight"].transpose(-1, -2) + _row(parameters["projector.bias"])
    return projected @ parameters["classifier.weight"].transpose(-1, -2) + _row(parameters["classifier.bias"])


def _row(bias: torch.Tensor) -> torch.Tensor:
    """[..., H] -> [..., 1, H], so that it is added to each of K samples."""
    return bias.unsqueeze(-2)


def linear(inputs: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    """A layer drawn from ``generator`` as ``torch.nn.Linear`` draws it from the global state, which stays as it is."""
    with torch.random.fork_rng(devices=[]):  # torch.nn.utils.skip_init would import sympy and half of torch's compiler
        layer = nn.Linear(inputs, outputs)
    bound = inputs**-0.5
    with torch.no_grad():
        layer.weight.uniform_(-bound, bound, generator=generator)
        layer.bias.uniform_(-bound, bound, generator=generator)
    return layer
