"""What learns: features of the inputs, and a linear classifier on them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from s3prl_metaperser.meta.model import linear
from s3prl_metaperser.protocol.domain_batches import Inputs
from s3prl_metaperser.upstream.finetuning import FineTunedModel, double_backward_attention


class DomainModel(nn.Module):
    """A network whose last layer is linear, which many systems go by.

    Attributes:
        classifier: [C, H].
    """

    classifier: nn.Linear

    def features(self, inputs: Inputs) -> Tensor:
        """What the classifier sees, [B, H]."""
        raise NotImplementedError

    @property
    def styled(self) -> Sequence[nn.Module]:
        """The stages whose outputs [B, channels, T, M] carry a recording's style; none on pooled features."""
        return ()

    def forward(self, inputs: Inputs) -> Tensor:
        """Logits [B, C]."""
        return self.classifier(self.features(inputs))


class PooledModel(DomainModel):
    """On stored means or vectors [B, L, D]: weighted layer sum, projector (with a ReLU as ``mlp``), classifier.

    Args:
        shape: (L, D).
        hidden: H.
        classes: C.
        generator: draws the initial parameters.
        nonlinear: whether a ReLU follows the projector.
    """

    def __init__(
        self, shape: tuple[int, int], hidden: int, classes: int, generator: torch.Generator, nonlinear: bool = False
    ):
        super().__init__()
        layers, size = shape
        self.weights = nn.Parameter(torch.zeros(layers))
        self.projector = linear(size, hidden, generator)
        self.classifier = linear(hidden, classes, generator)
        self.nonlinear = nonlinear

    def features(self, inputs: Inputs) -> Tensor:
        if not isinstance(inputs, Tensor):
            raise TypeError("this network takes pooled features [B, L, D], not waveforms")
        mixed = torch.einsum("l,bld->bd", torch.softmax(self.weights, dim=-1), inputs)
        projected = self.projector(mixed)
        return torch.relu(projected) if self.nonlinear else projected


class FineTuned(DomainModel):
    """An upstream that is fine-tuned, and a network on its time means; on B waveforms, each [n] at 16 kHz.

    Args:
        model: whose head is a :class:`PooledModel`.
    """

    def __init__(self, model: FineTunedModel):
        super().__init__()
        self.model = model

    @property
    def head(self) -> PooledModel:
        """What follows the upstream."""
        assert isinstance(self.model.head, PooledModel)
        return self.model.head

    @property
    def classifier(self) -> nn.Linear:  # type: ignore[override]
        return self.head.classifier

    def features(self, inputs: Inputs) -> Tensor:
        if isinstance(inputs, Tensor):
            raise TypeError("a whole model takes a list of waveforms, not pooled features")
        with double_backward_attention():
            return self.head.features(self.model.embed(inputs))
