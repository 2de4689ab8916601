"""What this project's own encoders share: clips are heard one by one, and weights are all of one model's."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn

from s3prl_metaperser.errors import UserError


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
        """The L + 1 hidden states of one waveform [n], each [T, D]."""

    def get_downsample_rates(self, key: str = "") -> int:
        """Samples a frame."""
        return self.samples

    def forward(self, wavs: Sequence[Tensor]) -> dict[str, Any]:
        """Hidden states of waveforms, each [n] at 16 kHz; each is computed alone, and padded with zeros afterwards.

        Returns:
            ``hidden_states``, L + 1 tensors [B, T, D], and ``last_hidden_state``.
        """
        alone = [self.states(wave) for wave in wavs]
        layers = [nn.utils.rnn.pad_sequence(list(same), batch_first=True) for same in zip(*alone, strict=True)]
        return {"hidden_states": layers, "last_hidden_state": layers[-1]}


def fill(model: nn.Module, tensors: Mapping[str, Tensor], source: Path, what: str) -> None:
    """Load weights into a model.

    Args:
        source: where they are from, for messages.
        what: they should be, such as ``one Whisper encoder``.

    Raises:
        UserError: some are missing, left over or of another shape.
    """
    own = model.state_dict()
    wrong = {name for name in own.keys() & tensors.keys() if own[name].shape != tensors[name].shape}
    faults = ((own.keys() - tensors.keys(), "missing"), (tensors.keys() - own.keys(), "left over"))
    said = [f"{_listed(names)} {why}" for names, why in (*faults, (wrong, "of another shape")) if names]
    if said:
        raise UserError(
            f"-k {source}: these are not the weights of {what}: {'; '.join(said)}. Copy or convert the model again."
        )
    model.load_state_dict(tensors)


def _listed(names: set[str]) -> str:
    return f"{len(names)} ({', '.join(sorted(names)[:3])}{', ...' if len(names) > 3 else ''})"
