"""The per-annotator episodic data loader: one batch is one outer step, one episode for each training rater.

Which utterances an outer step draws is a function of (seed, step, rater) alone: any number of workers, and a run that
resumes in the middle of an epoch, get the same batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from s3prl_metaperser.config.options import MetaOptions
from s3prl_metaperser.corpora.base import Rating
from s3prl_metaperser.corpora.label_set import LabelSet
from s3prl_metaperser.protocol.episodes import EpisodeList
from s3prl_metaperser.seeding import numpy_generator, torch_generator


@dataclass(frozen=True)
class LabelTable:
    """Labelled utterances.

    Attributes:
        utterances: ids, n of them.
        rows: their rows in the corpus's feature array, int64 [n].
        counts: what was answered, not normalised: ticks of each class, shares, or the levels beside a number; float64
            [n, C]. Several raters' are added up.
        targets: smoothed label distributions, float32 [n, C].
    """

    utterances: tuple[str, ...]
    rows: np.ndarray
    counts: np.ndarray
    targets: np.ndarray

    @classmethod
    def from_ratings(
        cls, ratings: Iterable[Rating], rows: Mapping[str, int], label_set: LabelSet, smoothing: float
    ) -> LabelTable:
        """From ratings; of several raters of one utterance every tick (or the whole of every answer) counts alike.

        Args:
            rows: utterance id -> row in the feature array.
        """
        found: dict[str, np.ndarray] = {}
        known: dict[tuple, np.ndarray] = {}  # answers repeat
        for rating in ratings:
            key = (rating.ticks, rating.value, rating.shares)
            if (counts := known.get(key)) is None:
                counts = known[key] = label_set.counts(rating.answer)
            found[rating.utterance] = found[rating.utterance] + counts if rating.utterance in found else counts
        utterances = tuple(sorted(found))
        counts = np.array([found[utterance] for utterance in utterances]).reshape(-1, len(label_set.classes))
        return cls(
            utterances=utterances,
            rows=np.array([rows[utterance] for utterance in utterances], dtype=np.int64),
            counts=counts,
            targets=label_set.target(counts, smoothing).astype(np.float32),
        )

    def select(self, utterances: Sequence[str]) -> LabelTable:
        """These utterances, in this order."""
        place = {utterance: index for index, utterance in enumerate(self.utterances)}
        chosen = [place[utterance] for utterance in utterances]
        return LabelTable(tuple(utterances), self.rows[chosen], self.counts[chosen], self.targets[chosen])


class EpisodeBatch(NamedTuple):
    """The training raters' episodes of one outer step.

    Attributes:
        wavs: s3prl's contract: the support (then the query) utterances' waveforms, each float32 [n]; empty where
            pooled features are used and no audio is needed.
        raters: ids, A of them.
        support_rows: rows in the feature array, int64 [A, K]; a rater with fewer than K ratings is filled up with
            copies of its first row.
        support_targets: float32 [A, K, C]; zero where filled up, and the others scaled by K / n, so that a mean over K
            is the mean over the rater's n samples.
        query_rows: as ``support_rows``; the same array under combined-set meta-training.
        query_targets: as ``support_targets``.
    """

    wavs: list
    raters: list[str]
    support_rows: torch.Tensor
    support_targets: torch.Tensor
    query_rows: torch.Tensor
    query_targets: torch.Tensor

    def parts(self, size: int) -> Iterator[EpisodeBatch]:
        """The batch in parts of at most so many raters, without waveforms."""
        for start in range(0, len(self.raters), size):
            rows = slice(start, start + size)
            support = self.support_rows[rows], self.support_targets[rows]
            yield EpisodeBatch([], self.raters[rows], *support, self.query_rows[rows], self.query_targets[rows])


class EpisodicDataset(Dataset):
    """Outer steps ``first_step`` .. ``first_step + steps - 1``, one item each.

    Args:
        labels: training rater -> labelled utterances.
        shots: K.
        combined_set: CSMT: the outer loss is taken on the support samples. Otherwise on K others of the same rater
            (half of its ratings each, if it has fewer than 2 K).
        raters_per_step: how many raters a step has, each once before any twice; by default it has all.
        seed: of all draws.
        audio: utterance id -> waveform, float32 [n]; without it batches carry rows alone.
    """

    def __init__(
        self,
        labels: Mapping[str, LabelTable],
        *,
        shots: int,
        combined_set: bool,
        seed: int,
        first_step: int,
        steps: int,
        raters_per_step: int | None = None,
        audio: Callable[[str], np.ndarray] | None = None,
    ):
        self.labels = dict(labels)
        self.raters_per_step = raters_per_step
        self.shots = shots
        self.combined_set = combined_set
        self.seed = seed
        self.first_step = first_step
        self.steps = steps
        self.audio = audio

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, index: int) -> EpisodeBatch:
        if not 0 <= index < self.steps:
            raise IndexError(index)
        raters = self._raters(self.first_step + index)
        parts = [self._draw(rater, self.labels[rater], self.first_step + index) for rater in raters]
        support = [self._filled(table, chosen) for (table, chosen, _) in parts]
        query = support if self.combined_set else [self._filled(table, chosen) for (table, _, chosen) in parts]
        wavs: list = []
        if self.audio is not None:
            sets = [0] if self.combined_set else [0, 1]
            wavs = [self.audio(table.utterances[i]) for at in sets for table, *drawn in parts for i in drawn[at]]
        stacked = _stack(support)
        return EpisodeBatch(wavs, raters, *stacked, *(stacked if self.combined_set else _stack(query)))

    def _raters(self, step: int) -> list[str]:
        """The raters of an outer step, counted from 1: those whose turn it is, in rounds over all."""
        raters = list(self.labels)
        if self.raters_per_step is None or self.raters_per_step >= len(raters):
            return raters
        found: list[str] = []
        place = (step - 1) * self.raters_per_step
        while len(found) < self.raters_per_step:
            turn, at = divmod(place + len(found), len(raters))
            order = numpy_generator("raters of a step", self.seed, turn).permutation(len(raters))
            found += [raters[i] for i in order[at : at + self.raters_per_step - len(found)]]
        return sorted(set(found))  # who ends one round and begins the next has one episode

    def _draw(self, rater: str, table: LabelTable, step: int) -> tuple[LabelTable, np.ndarray, np.ndarray]:
        order = numpy_generator("meta-training", self.seed, step, rater).permutation(len(table.utterances))
        if self.combined_set:
            chosen = order[: self.shots]
            return table, chosen, chosen
        half = max(1, min(self.shots, len(order) // 2))
        return table, order[:half], order[half : 2 * half] if len(order) > 1 else order[:half]

    def _filled(self, table: LabelTable, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows = np.full(self.shots, table.rows[chosen[0]])
        targets = np.zeros((self.shots, table.targets.shape[1]), dtype=np.float32)
        rows[: len(chosen)] = table.rows[chosen]
        targets[: len(chosen)] = table.targets[chosen]
        if len(chosen) < self.shots:
            targets *= np.float32(self.shots / len(chosen))
        return rows, targets


class FrozenEpisodeDataset(Dataset):
    """The episodes of frozen lists, one batch each, with a single rater.

    Args:
        episodes: a list for each rater.
        labels: rater -> labelled utterances.
        audio: as in :class:`EpisodicDataset`.
    """

    def __init__(
        self,
        episodes: Sequence[EpisodeList],
        labels: Mapping[str, LabelTable],
        *,
        audio: Callable[[str], np.ndarray] | None = None,
    ):
        self.episodes = [(each.rater, episode) for each in episodes for episode in each.episodes]
        self.labels = labels
        self.audio = audio
        self.seed = 0

    def __len__(self) -> int:
        return len(self.episodes)

    def __getitem__(self, index: int) -> EpisodeBatch:
        rater, episode = self.episodes[index]
        support, query = (self.labels[rater].select(part) for part in (episode.support, episode.query))
        wavs = [self.audio(u) for u in (*episode.support, *episode.query)] if self.audio is not None else []
        parts = [(t.rows, t.targets) for t in (support, query)]
        return EpisodeBatch(wavs, [rater], *_stack(parts[:1]), *_stack(parts[1:]))


def _stack(parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[torch.Tensor, torch.Tensor]:
    rows, targets = zip(*parts, strict=True)
    return torch.from_numpy(np.stack(rows)), torch.from_numpy(np.stack(targets))


def steps_per_epoch(labels: Mapping[str, LabelTable], shots: int, raters_per_step: int | None = None) -> int:
    """Outer steps until all raters had their turn, where a step has some of them; otherwise until the rater with the
    most ratings has, on average, been drawn from once over."""
    if raters_per_step is not None and raters_per_step < len(labels):
        return -(-len(labels) // raters_per_step)
    return max(-(-len(table.utterances) // shots) for table in labels.values())


def training_loader(
    labels: Mapping[str, LabelTable],
    metarc: MetaOptions,
    *,
    seed: int,
    epoch: int,
    skip: int,
    num_workers: int = 0,
    audio: Callable[[str], np.ndarray] | None = None,
) -> DataLoader:
    """The outer steps of one epoch (:func:`steps_per_epoch`), but for its first ``skip``.

    Args:
        labels: training rater -> labelled utterances.
        audio: as in :class:`EpisodicDataset`.
    """
    per_epoch = steps_per_epoch(labels, metarc.shots, metarc.raters_per_step)
    dataset = EpisodicDataset(
        labels,
        shots=metarc.shots,
        combined_set=metarc.on_support,
        raters_per_step=metarc.raters_per_step,
        seed=seed,
        first_step=epoch * per_epoch + skip + 1,
        steps=per_epoch - skip,
        audio=audio,
    )
    return episodic_loader(dataset, num_workers)


def episodic_loader(dataset: EpisodicDataset | FrozenEpisodeDataset, num_workers: int = 0) -> DataLoader:
    """A DataLoader over outer steps, in order; its generator is its own, so that global random state is left alone."""
    return DataLoader(
        dataset,
        batch_size=None,
        shuffle=False,
        num_workers=num_workers,
        generator=torch_generator("loader", dataset.seed),
        collate_fn=_as_is,
    )


def _as_is(batch: Any) -> Any:
    return batch
