"""A corpus's waveforms, read on demand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from s3prl_metaperser.corpora.audio import RATE, load_audio
from s3prl_metaperser.corpora.base import Utterance


class Waveforms:
    """Takes the place of pooled features: indexing by rows gives waveforms.

    Args:
        utterances: N of them; their order is the order of rows.
        longest_seconds: longer utterances are cropped to their beginning.
        shape: (L, D) of the upstream's features.
        device: where waveforms go.
    """

    def __init__(
        self, utterances: Sequence[Utterance], longest_seconds: float, shape: tuple[int, int], device: str = "cpu"
    ):
        self.utterances = list(utterances)
        self.longest = int(longest_seconds * RATE)
        self.shape = (len(self.utterances), *shape)
        self.device = device

    @property
    def cropped(self) -> int:
        """How many utterances are longer than ``longest_seconds``."""
        return sum(u.seconds * RATE > self.longest for u in self.utterances)

    def to(self, device: str) -> Waveforms:
        """The same waveforms for another device."""
        return Waveforms(self.utterances, self.longest / RATE, self.shape[1:], device)

    def samples(self, row: int) -> int:
        """How many samples one utterance has after cropping, by its header."""
        return min(int(self.utterances[row].seconds * RATE), self.longest)

    def __getitem__(self, rows: Iterable[int]) -> list[torch.Tensor]:
        return [self._read(int(row)) for row in rows]

    def _read(self, row: int) -> torch.Tensor:
        return torch.from_numpy(load_audio(self.utterances[row].path))[: self.longest].to(self.device)
