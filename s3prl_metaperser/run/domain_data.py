"""Several corpora as sources and target: who trains, chooses and is tested, and which utterances a step draws."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from s3prl_metaperser.config.domain_options import DomainData, DomainExpert, DomainOptions
from s3prl_metaperser.config.options import DataOptions
from s3prl_metaperser.corpora.base import Corpus
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.protocol.domain_batches import DomainSampler
from s3prl_metaperser.protocol.domains import DomainSplit, make_domain_split, refuse_domain_leaks
from s3prl_metaperser.protocol.splits import Split
from s3prl_metaperser.run.workspace import Workspace
from s3prl_metaperser.seeding import seed_from


class Domains:
    """Corpus and split of the options.

    Args:
        options: of domain generalisation, in force.
        open_workspace: how corpus and features are come by; a process with many cells shares them.

    Attributes:
        split: who trains, chooses and is tested.
        rows: utterance id -> row of what is learned from.

    Raises:
        UserError: the split cannot be made, leaks, or lacks the held-out speakers that options need.
    """

    def __init__(self, options: DomainOptions, of_run: int, open_workspace: Callable[..., Workspace] = Workspace):
        self.options, self.of_run = options, of_run
        self.expert: DomainExpert = options.downstream_expert
        self.workspace = open_workspace(options, splits=self._split)
        self.corpus = self.workspace.corpus
        self.rows = {utterance.id: row for row, utterance in enumerate(self.workspace.utterances)}

    def refuse(self) -> None:
        """Refuse what leaks from the target into the sources, and options that need speakers who are not there."""
        data = self.expert.datarc
        if data.equal_audio != "allow":
            by_speaker = not (self.split.domains.single and data.split == "random")
            refuse_domain_leaks(self.split, self.corpus, self.workspace.contents.sounds, by_speaker=by_speaker)
        if self.validates and not any(self.split.validation.values()):
            raise UserError(
                "generalrc.selection: source_validation and generalrc.average: swad need held-out speakers, and there "
                "are none: no source has enough speakers for so small a share. Raise datarc.validation, or set these "
                "to last and dense."
            )

    @property
    def validates(self) -> bool:
        """Whether speakers of the sources are held out, to choose a step or what is averaged; else all train."""
        general = self.expert.generalrc
        return general.selection == "source_validation" or general.average == "swad"

    def _split(self, corpus: Corpus, data: DataOptions) -> Split:
        assert isinstance(data, DomainData)
        self.split: DomainSplit = make_domain_split(
            corpus,
            scenario=data.scenario,
            trial=data.trial,
            seed=self.of_run,
            validation=data.validation if self.validates else 0.0,
            sources=data.sources,
            target=data.target,
            by=data.split,
        )
        return self.split.as_split()

    def seed(self, what: str) -> int:
        """Of ``weights`` or ``batches``: each draw of a trial has a seed of its own."""
        data, again = self.expert.datarc, self.expert.generalrc.seed_set
        return seed_from(what, self.of_run, self.split.scenario, data.trial, *([again] if again else []))

    @functools.cached_property
    def labels(self) -> dict[str, int]:
        """Utterance id -> class."""
        place = {name: at for at, name in enumerate(self.corpus.classes)}
        return {rating.utterance: place[rating.ticks[0]] for rating in self.corpus.ratings}

    def ids(self, role: str) -> dict[str, list[str]]:
        """Domain -> utterances that it has in ``train``, ``validation`` or ``test``."""
        if role == "test":
            return {self.split.domains.target: [rating.utterance for rating in self.split.test]}
        parts: Mapping[str, Sequence[Any]] = getattr(self.split, role)
        return {name: [rating.utterance for rating in ratings] for name, ratings in parts.items()}

    @functools.cached_property
    def sampler(self) -> DomainSampler:
        """Which rows a step draws."""
        data = self.expert.datarc
        rows = {name: tuple(self.rows[u] for u in ids) for name, ids in self.ids("train").items()}
        return DomainSampler(rows, data.batch_size, data.batches, self.seed("batches"))

    @functools.cached_property
    def of_row(self) -> np.ndarray:
        """Label, source and speaker of each row that trains, int64 [3, N]."""
        found = np.full((3, len(self.rows)), -1)
        speakers = {name: at for at, name in enumerate(self.training_speakers)}
        by_id = {utterance.id: utterance.speaker for utterance in self.corpus.utterances}
        for at, ids in enumerate(self.ids("train").values()):
            for utterance in ids:
                found[:, self.rows[utterance]] = self.labels[utterance], at, speakers[by_id[utterance]]
        return found

    @functools.cached_property
    def training_speakers(self) -> list[str]:
        """Whose utterances are learned from."""
        learned = {utterance for ids in self.ids("train").values() for utterance in ids}
        return sorted({utterance.speaker for utterance in self.corpus.utterances if utterance.id in learned})

    def described(self) -> Iterator[str]:
        """Sources and target, a line each, with what is left out."""
        split = self.split
        speakers = {utterance.id: utterance.speaker for utterance in self.corpus.utterances}

        def said(utterances: Sequence[str]) -> str:
            return f"{len(utterances)} utterances of {len({speakers[u] for u in utterances})} speakers"

        for name, ids in self.ids("train").items():
            held = self.ids("validation")[name]
            yield f"source {name}: {said(ids)}{f'; {said(held)} choose the step' if held else ''}"
        yield f"target {split.domains.target}: {said(self.ids('test')[split.domains.target])}"
        used = {*split.domains.sources, split.domains.target}
        for reason, count in sorted(self.corpus.dropped.items()):
            if reason.partition(":")[0] in used:
                yield f"left out: {count} x {reason}"
        yield from split.notes
