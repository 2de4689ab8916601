"""What this project's own upstreams share: clips are heard one by one, and weights are all of one model's."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from s3prl_metaperser.errors import UserError, listed


class OwnUpstream(nn.Module, ABC):
    """An upstream as s3prl has them.

    Attributes:
        samples: at 16 kHz, a frame.
    """

    #: All of them are real: none stands for padding.
    keeps_all_frames = True
    samples: ClassVar[int]

    @abstractmethod
    def states(self, wave: Tensor) -> list[Tensor]:
        """The hidden states of one waveform [n], each [T, D]."""

    def get_downsample_rates(self, key: str = "") -> int:
        """Samples a frame."""
        return self.samples

    def forward(self, wavs: Sequence[Tensor]) -> dict[str, Any]:
        """Hidden states of waveforms, each [n] at 16 kHz; each is computed alone, and padded with zeros afterwards.

        Returns:
            ``hidden_states``, tensors [B, T, D], and ``last_hidden_state``.
        """
        alone = [self.states(wave) for wave in wavs]
        layers = [nn.utils.rnn.pad_sequence(list(same), batch_first=True) for same in zip(*alone, strict=True)]
        return {"hidden_states": layers, "last_hidden_state": layers[-1]}


@dataclass(frozen=True)
class ModelTensors:
    """A model's weights; what it takes is read from their shapes.

    Attributes:
        what: they should be, for messages.
        source: the file or folder, for messages.
        tensors: by their names in the model, in the file's precision.
    """

    what: ClassVar[str]
    source: Path
    tensors: dict[str, Tensor]

    @property
    def layers(self) -> int:
        """Blocks."""
        return len({name.split(".")[2] for name in self.tensors if name.startswith("encoder.layers.")})

    def shape(self, name: str, dimensions: int) -> torch.Size:
        """Of a tensor that must be there.

        Raises:
            UserError: it is not, or has other dimensions.
        """
        found = self.tensors.get(name)
        if found is None or found.dim() != dimensions or not found.numel():
            raise self.refused(f"{name} is missing")
        return found.shape

    def fill(self, model: nn.Module) -> None:
        """Load them into a model.

        Raises:
            UserError: some are missing, left over or of another shape.
        """
        own, given = model.state_dict(), self.tensors
        wrong = {name for name in own.keys() & given.keys() if own[name].shape != given[name].shape}
        faults = ((own.keys() - given.keys(), "missing"), (given.keys() - own.keys(), "left over"))
        all_faults = (*faults, (wrong, "of another shape"))
        said = [f"{len(names)} ({listed(sorted(names))}) {why}" for names, why in all_faults if names]
        if said:
            raise self.refused(f"{'; '.join(said)}. Copy or convert the model again")
        model.load_state_dict(given)

    def refused(self, why: str) -> UserError:
        """The error for weights of something else."""
        return UserError(f"-k {self.source}: these are not the weights of {self.what}: {why}.")
