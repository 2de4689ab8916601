"""Batches of several domains (corpora): which samples a step draws depends on the seed and the step alone."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from s3prl_metaperser.seeding import numpy_generator

#: One tensor with a first axis of B (pooled features [B, L, D], spectrograms [B, 1, M, T]), or B waveforms.
Inputs = torch.Tensor | list[torch.Tensor]


@dataclass(frozen=True)
class DomainBatch:
    """Labelled samples of several domains.

    Attributes:
        inputs: what the model takes, of B samples.
        labels: classes, int64 [B].
        domains: of each sample its place among the sources, int64 [B].
        speakers: of each sample its speaker's place among all that train, int64 [B]; None where that is not known.
    """

    inputs: Inputs
    labels: torch.Tensor
    domains: torch.Tensor
    speakers: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def present(self) -> list[int]:
        """The domains that have a sample here, sorted."""
        return sorted(set(self.domains.tolist()))

    def take(self, which: torch.Tensor) -> DomainBatch:
        """The samples at these places, int64 [n]."""
        chosen = self.inputs[which] if isinstance(self.inputs, torch.Tensor) else [self.inputs[i] for i in which]
        speakers = None if self.speakers is None else self.speakers[which]
        return DomainBatch(chosen, self.labels[which], self.domains[which], speakers)

    def part(self, domains: Sequence[int]) -> DomainBatch:
        """The samples of these domains, in their order here."""
        wanted = torch.tensor(list(domains), device=self.domains.device)
        return self.take(torch.isin(self.domains, wanted).nonzero().flatten())


@dataclass(frozen=True)
class DomainSampler:
    """The order in which samples are drawn, for any step without those before it.

    ``balanced``: a step takes the next ``ceil(size / D)`` samples of each domain; each domain is shuffled anew whenever
    it is used up. ``pooled``: the next ``size`` of all samples together, shuffled anew in each epoch.

    Attributes:
        rows: domain -> rows of its samples.
        seed: names the draws.

    Examples:
        >>> sampler = DomainSampler({"a": (0, 1, 2), "b": (3, 4, 5, 6, 7)}, 4, "balanced", 1)
        >>> [[row < 3 for row in sampler.at(step)] for step in (1, 2)]
        [[True, True, False, False], [True, True, False, False]]
        >>> sorted(sampler.at(1)[:2].tolist() + sampler.at(2)[:1].tolist())
        [0, 1, 2]
    """

    rows: Mapping[str, Sequence[int]]
    size: int
    kind: Literal["balanced", "pooled"]
    seed: int

    def __post_init__(self) -> None:
        if not self.rows or not all(len(rows) for rows in self.rows.values()):
            raise ValueError("every domain needs a sample")

    @property
    def per_domain(self) -> int:
        """Samples of each domain in a balanced batch."""
        return math.ceil(self.size / len(self.rows))

    @property
    def samples(self) -> int:
        """In a batch."""
        return self.per_domain * len(self.rows) if self.kind == "balanced" else self.size

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which as many samples are drawn as there are."""
        return math.ceil(sum(map(len, self.rows.values())) / self.samples)

    def at(self, step: int) -> np.ndarray:
        """Rows of step ``step``, counted from 1; int64 [B]. Those of one domain stand together if ``balanced``."""
        if self.kind == "balanced":
            return np.concatenate([self._drawn(name, step, self.per_domain) for name in self.rows])
        return self._drawn("", step, self.size)

    def _drawn(self, stream: str, step: int, many: int) -> np.ndarray:
        found: list[int] = []
        at, end = (step - 1) * many, step * many
        size = len(self._of(stream))
        while at < end:
            epoch, begin = divmod(at, size)
            found += self._shuffled(stream, epoch)[begin : begin + end - at].tolist()
            at = (step - 1) * many + len(found)
        return np.array(found, dtype=np.int64)

    def _of(self, stream: str) -> Sequence[int]:
        return self.rows[stream] if stream else [row for rows in self.rows.values() for row in rows]

    @functools.cached_property
    def _kept(self) -> dict[str, tuple[int, np.ndarray]]:
        return {}

    def _shuffled(self, stream: str, epoch: int) -> np.ndarray:
        """One epoch's order of a stream; the last one asked for is kept."""
        if self._kept.get(stream, (-1, None))[0] != epoch:
            order = numpy_generator("domain batches", self.seed, stream, epoch).permutation(len(self._of(stream)))
            self._kept[stream] = epoch, np.asarray(self._of(stream), dtype=np.int64)[order]
        return self._kept[stream][1]
