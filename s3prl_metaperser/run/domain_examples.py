"""The corpus's utterances as a network of domain generalisation takes them: in training by batch, in testing whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import nn

from s3prl_metaperser.corpora.audio import load_audio
from s3prl_metaperser.corpora.base import Utterance
from s3prl_metaperser.generalise.augment import Augmentation, augmented
from s3prl_metaperser.protocol.domain_batches import Inputs
from s3prl_metaperser.upstream.batching import hidden_states
from s3prl_metaperser.upstream.inputs import Waveforms

#: So many samples of waveforms stay in memory: about five hours.
KEPT_SAMPLES = 300_000_000
#: Utterances of pooled features that are predicted at once.
AT_ONCE = 512


class Examples(Protocol):
    """The corpus's utterances as a network takes them."""

    def batch(self, rows: np.ndarray, step: int) -> Inputs:
        """Those that an outer step learns from."""
        ...

    def whole(self, rows: np.ndarray) -> Iterator[Inputs]:
        """Those that are tested, whole, in parts of any size."""
        ...


class PooledExamples:
    """Stored means or vectors, standardised: float32 [N, L, D]."""

    def __init__(self, values: torch.Tensor):
        self.values = values

    def batch(self, rows: np.ndarray, step: int) -> Inputs:
        return self.values[torch.from_numpy(rows).to(self.values.device)]

    def whole(self, rows: np.ndarray) -> Iterator[Inputs]:
        for start in range(0, len(rows), AT_ONCE):
            yield self.batch(rows[start : start + AT_ONCE], 0)


class WaveExamples:
    """Waveforms, for an upstream that is fine-tuned."""

    def __init__(self, waves: Waveforms):
        self.waves = waves

    def batch(self, rows: np.ndarray, step: int) -> Inputs:
        return self.waves[rows]

    def whole(self, rows: np.ndarray) -> Iterator[Inputs]:
        for row in rows:
            yield self.waves[[row]]


class FrameExamples:
    """Frames of a frozen upstream, [N, L, T, D]: of changed crops in training, of whole recordings in testing.

    Args:
        selection: s3prl's ``-s``.
        layer: s3prl's ``-l``.
        seed: of the changes; each belongs to the step and the place in its batch, too.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        upstream: nn.Module,
        selection: str,
        layer: int | None,
        how: Augmentation,
        seed: int,
        device: str,
    ):
        self.utterances, self.upstream, self.selection, self.layer = utterances, upstream.eval(), selection, layer
        self.how, self.seed, self.device = how, seed, device
        self._kept: dict[int, torch.Tensor] = {}
        self._samples = 0

    def batch(self, rows: np.ndarray, step: int) -> Inputs:
        crops = [augmented(self._wave(int(row)), self.how, self.seed, step, at) for at, row in enumerate(rows)]
        return torch.stack(self._frames(crops))

    def whole(self, rows: np.ndarray) -> Iterator[Inputs]:
        for row in rows:
            yield self._frames([self._wave(int(row))])

    def _frames(self, waves: list[torch.Tensor]) -> list[torch.Tensor]:
        with torch.no_grad():
            states = hidden_states(self.upstream, [wave.to(self.device) for wave in waves], self.selection)
        return [state if self.layer is None else state[[self.layer]] for state in states]

    def _wave(self, row: int) -> torch.Tensor:
        """A recording at 16 kHz; the first ones that are asked for are kept."""
        if row in self._kept:
            return self._kept[row]
        wave = torch.from_numpy(load_audio(self.utterances[row].path))
        if self._samples + len(wave) <= KEPT_SAMPLES:
            self._kept[row] = wave
            self._samples += len(wave)
        return wave
