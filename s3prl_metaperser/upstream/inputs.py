"""Model inputs: a corpus's waveforms, and clips outside a corpus (``-m inference`` and listeners).

A clip's input equals, bit by bit, that of the same audio in a corpus on the same kind of device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from s3prl_metaperser.corpora.audio import RATE, load_audio
from s3prl_metaperser.corpora.base import Utterance
from s3prl_metaperser.upstream.pooling import pool_waveforms
from s3prl_metaperser.upstream.store import FeatureIdentity


class PooledInputs:
    """For a frozen upstream: pooled features, layer-selected and standardised.

    Args:
        upstream: builds the upstream; called once, at the first clip.
        identity: what the features are computed from.
        layer: s3prl's ``-l``.
        mean: what is subtracted, [L, D].
        scale: what is divided by, [L, D].
        device: where the inputs go.
    """

    def __init__(
        self,
        upstream: Callable[[], nn.Module],
        identity: FeatureIdentity,
        layer: int | None,
        mean: Tensor,
        scale: Tensor,
        device: str = "cpu",
    ):
        self._build = upstream
        self._upstream: nn.Module | None = None
        self.identity, self.layer = identity, layer
        self.mean, self.scale, self.device = mean, scale, device

    @property
    def upstream(self) -> nn.Module:
        """Built at the first use."""
        if self._upstream is None:
            self._upstream = self._build().eval()
        return self._upstream

    def each(self, waves: Sequence[Tensor]) -> list[Tensor]:
        """Waveforms, each float32 [n] at 16 kHz, to one input each, float32 [L, D]."""
        identity = self.identity
        pooled = pool_waveforms(
            self.upstream,
            list(waves),
            selection=identity.selection,
            normalize=identity.normalize,
            pooling=identity.pooling,
            # a CPU gains nothing from bfloat16: it computes exactly what a GPU rounded
            bf16=identity.precision == "bfloat16" and str(self.device).startswith("cuda"),
        )
        return [self._prepared(features) for features in pooled]

    def together(self, items: Sequence[Tensor]) -> Tensor:
        """K inputs as a system takes them, [K, L, D]."""
        return torch.stack(list(items))

    def _prepared(self, pooled: Tensor) -> Tensor:
        stored = pooled.to(getattr(torch, self.identity.dtype)).float()
        chosen = stored if self.layer is None else stored[[self.layer]]
        return ((chosen - self.mean) / self.scale).to(self.device)


class WaveInputs:
    """For a fine-tuned upstream: the waveforms themselves, cropped to their beginning.

    Args:
        longest_seconds: longer clips are cropped.
        device: where they go.
    """

    def __init__(self, longest_seconds: float, device: str = "cpu"):
        self.longest, self.device = int(longest_seconds * RATE), device

    def each(self, waves: Sequence[Tensor]) -> list[Tensor]:
        """Waveforms, each float32 [n] at 16 kHz, to one input each, [at most longest]."""
        return [wave[: self.longest].to(self.device) for wave in waves]

    def together(self, items: Sequence[Tensor]) -> list[Tensor]:
        """K inputs as a system takes them."""
        return list(items)


class Waveforms(WaveInputs):
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
        super().__init__(longest_seconds, device)
        self.utterances = list(utterances)
        self.shape = (len(self.utterances), *shape)

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

    def __getitem__(self, rows: Iterable[int]) -> list[Tensor]:
        return self.each([torch.from_numpy(load_audio(self.utterances[int(row)].path)) for row in rows])
