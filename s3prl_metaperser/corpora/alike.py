"""Raters that are no second person: one person under two names, and votes of the others that stand among people.

Both are judged by how often answers are equal against how often that is to be expected from what all others answered
to the same utterances. By Hoeffding's bound the chance of ``k`` or more equal answers among ``n`` independent ones is
at most ``exp(-n KL(k / n, q))``, ``q`` being their mean probability. Chance alone is not enough, since real raters
share habits: they must also disagree far less than expected. docs/protocols.md has what it was measured on.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from s3prl_metaperser.corpora.base import Rating
    from s3prl_metaperser.corpora.label_set import LabelSet

#: Fewer utterances say nothing.
FEWEST = 10
#: (highest chance over all that is compared, largest disagreement as a share of the expected one).
CERTAIN, SUSPECT = (1e-6, 1 / 100), (1e-3, 1 / 8)
#: A vote tells a person from a majority only where the others are divided: its largest share of theirs.
DIVIDED = 2 / 3
#: Of a whole corpus so many raters are compared with all others, those with the most ratings.
LOOKED_AT = 20


@dataclass(frozen=True)
class Alike:
    """Answers that are equal more often than those of two people.

    Attributes:
        rater: whose answers.
        other: the other rater; empty for the vote of all others.
        shared: utterances that both answered; with a vote those on which the others are divided.
        equal: equal answers among them.
        expected: what the agreement of the others explains, as a share.
        certain: or a suspicion.
    """

    rater: str
    other: str
    shared: int
    equal: int
    expected: float
    certain: bool

    def __str__(self) -> str:
        counts = f"{self.equal} of {self.shared} utterances"
        explained = f"{self.expected:.0%} could be expected"
        if self.other:
            what = f"raters {self.rater} and {self.other} gave equal answers to {counts} that both rated ({explained})"
            return f"{what}: {'' if self.certain else 'perhaps '}one person under two names, or a copy"
        what = f"rater {self.rater} gave the vote of the others to {counts} on which they are divided ({explained})"
        return f"{what}: {'' if self.certain else 'perhaps '}a majority or consensus, not a person"


@dataclass(frozen=True, eq=False)
class Answers:
    """A corpus's ratings as arrays, one row each, those of an utterance together.

    Attributes:
        raters: sorted; ``rater`` counts them.
        clip, rater, answer: int64 [N]; equal answers have equal numbers.
        counts: what each answer is in counts of classes, float64 [answers, C].
        levels: numbers of the classes, where they are a scale, float64 [C].
    """

    raters: tuple[str, ...]
    clip: np.ndarray
    rater: np.ndarray
    answer: np.ndarray
    counts: np.ndarray
    levels: np.ndarray | None

    @classmethod
    def of(cls, ratings: Sequence[Rating], labels: LabelSet, same: Mapping[str, str] | None = None) -> Answers:
        """Those of a corpus.

        Args:
            same: utterance id -> what it shares with others that are the same recording, where there is such.
        """
        raters = sorted({rating.rater for rating in ratings})
        number = {rater: at for at, rater in enumerate(raters)}
        clips: dict[str, int] = {}
        answers: dict[tuple, int] = {}
        table: list[tuple[int, int, int]] = []
        counted = []
        for rating in ratings:
            key = (rating.ticks, rating.value, rating.shares)
            if key not in answers:
                answers[key] = len(answers)
                counted.append(labels.counts(rating.answer))
            clip = same.get(rating.utterance, rating.utterance) if same else rating.utterance
            table.append((clips.setdefault(clip, len(clips)), number[rating.rater], answers[key]))
        rows = np.array(table, dtype=np.int64).reshape(-1, 3)
        rows = rows[np.argsort(rows[:, 0], kind="stable")]
        levels = np.asarray(labels.levels) if labels.kind == "ordinal" else None
        counts = np.array(counted).reshape(-1, len(labels.classes))
        return cls(tuple(raters), rows[:, 0].copy(), rows[:, 1].copy(), rows[:, 2].copy(), counts, levels)

    @functools.cached_property
    def _starts(self) -> np.ndarray:
        """The first row of each utterance, and the number of rows."""
        return np.searchsorted(self.clip, np.arange(self.clip[-1] + 2 if len(self.clip) else 1))

    @functools.cached_property
    def _agreement(self) -> float:
        """How often two raters of one utterance give equal answers, over all pairs."""
        _, same = np.unique(self.clip * len(self.counts) + self.answer, return_counts=True)
        pairs = (np.diff(self._starts) * (np.diff(self._starts) - 1)).sum()
        return float((same * (same - 1)).sum() / pairs) if pairs else 1.0

    def doubles_of(self, rater: str) -> Iterator[Alike]:
        """Raters whose answers are those of this one.

        An equal answer is expected as often as the others gave it to the utterance, and where the other rater likes it
        anyway, as often as that.
        """
        if rater not in self._number:
            return
        me = self._number[rater]
        clips, first = np.unique(self.clip[self.rater == me], return_index=True)
        mine = self.answer[self.rater == me][first]
        lengths = np.diff(self._starts)[clips]
        rows = np.repeat(self._starts[clips] - np.concatenate([[0], np.cumsum(lengths)[:-1]]), lengths)
        rows += np.arange(lengths.sum())
        at = np.repeat(np.arange(len(clips)), lengths)
        rows, at = rows[self.rater[rows] != me], at[self.rater[rows] != me]
        others, equal = self.rater[rows], self.answer[rows] == mine[at]
        if not len(rows):
            return
        of_clip = np.bincount(at, minlength=len(clips))[at] - 1
        equal_of_clip = np.bincount(at, equal, minlength=len(clips))[at] - equal
        expected = (equal_of_clip + self._agreement) / (of_clip + 1)
        expected = np.maximum(expected, self._habit(others, mine[at], self.answer[rows]))
        shared, agreed = (np.bincount(others, weights) for weights in (None, equal))
        means = np.bincount(others, expected) / np.maximum(shared, 1)
        compared = np.flatnonzero(shared >= FEWEST)
        for other in compared:
            verdict = _judged(int(shared[other]), int(agreed[other]), float(means[other]), len(compared))
            if verdict is not None:
                counts = (int(shared[other]), int(agreed[other]), float(means[other]))
                yield Alike(rater, self.raters[other], *counts, certain=verdict)

    def all_alike(self) -> list[Alike]:
        """All that there is, each pair once; of crowds, pairs with one of the raters that rated most."""
        most = np.argsort(-np.bincount(self.rater, minlength=len(self.raters)), kind="stable")[:LOOKED_AT]
        found: dict[frozenset[str], Alike] = {}
        for rater in most.tolist():
            for alike in self.doubles_of(self.raters[rater]):
                found.setdefault(frozenset((alike.rater, alike.other)), alike)
        return [*found.values(), *self.votes]

    def _habit(self, others: np.ndarray, wanted: np.ndarray, given: np.ndarray) -> np.ndarray:
        """How often each row's rater gives the wanted answer at all, among these rows."""
        known, counted = np.unique(others * len(self.counts) + given, return_counts=True)
        asked = others * len(self.counts) + wanted
        place = np.minimum(np.searchsorted(known, asked), len(known) - 1)
        return np.where(known[place] == asked, counted[place], 0) / np.bincount(others)[others]

    @functools.cached_property
    def votes(self) -> tuple[Alike, ...]:
        """Raters whose answers are the vote of all others: most frequent class, majority, mean or mean distribution."""
        found: dict[int, Alike] = {}
        for divided, equal, share in self._compared_with_votes():
            size = len(self.raters)
            shared = np.bincount(self.rater[divided], minlength=size)
            agreed = np.bincount(self.rater[divided], equal[divided], minlength=size)
            explained = np.bincount(self.rater[divided], share[divided], minlength=size) / np.maximum(shared, 1)
            of_others = (agreed.sum() - agreed) / np.maximum(shared.sum() - shared, 1)
            expected, compared = np.maximum(explained, of_others), np.flatnonzero(shared >= FEWEST)
            for rater in compared.tolist():
                counts = (int(shared[rater]), int(agreed[rater]), float(expected[rater]))
                verdict = _judged(*counts, len(compared))
                if verdict is not None and not (rater in found and found[rater].certain):
                    found[rater] = Alike(self.raters[rater], "", *counts, certain=verdict)
        return tuple(found[rater] for rater in sorted(found))

    def _compared_with_votes(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """For each kind of vote: rows on which it can be told, whether they equal it, and its share of the others."""
        if not len(self.clip):
            return
        own = self.counts[self.answer]
        pooled = np.add.reduceat(own, self._starts[:-1])[self.clip] - own  # of the others
        voters = np.diff(self._starts)[self.clip] - 1
        total = np.maximum(pooled.sum(1), 1e-9)
        best, top = pooled.argmax(1), pooled.max(1)
        alone = (pooled == top[:, None]).sum(1) == 1
        several = voters >= 3
        divided = several & alone & (top <= DIVIDED * total + 1e-9)
        yield divided, (own > 0).sum(1) * (own[np.arange(len(own)), best] > 0) == 1, top / total
        most = pooled > voters[:, None] / 2
        yield several & most.any(1) & (top <= DIVIDED * total + 1e-9), ((own > 0) == most).all(1), top / total
        share = pooled / total[:, None]
        spread = several & (share.max(1) < 1 - 1e-9)
        close = np.abs(own / own.sum(1, keepdims=True) - share).max(1) < 1e-3
        yield spread, close, np.zeros(len(own))
        if self.levels is not None:
            mean, value = share @ self.levels, (own / own.sum(1, keepdims=True)) @ self.levels
            level = np.abs(mean[:, None] - self.levels).argmin(1)
            part = share[np.arange(len(own)), level]
            near = (np.abs(value - mean) < 6e-3) | (value == self.levels[level])
            yield several & (part <= DIVIDED + 1e-9), near, part

    @functools.cached_property
    def _number(self) -> dict[str, int]:
        return {rater: at for at, rater in enumerate(self.raters)}


def _judged(shared: int, equal: int, expected: float, compared: int) -> bool | None:
    """True where it is certain, False where it is suspect, None where it is neither."""
    for verdict, (chance, part) in ((True, CERTAIN), (False, SUSPECT)):
        rate, expected = equal / shared, min(expected, 1 - 1e-12)
        if 1 - rate > part * (1 - expected):
            continue
        divergence = rate * np.log(rate / expected)
        if rate < 1:
            divergence += (1 - rate) * np.log((1 - rate) / (1 - expected))
        if -shared * divergence <= np.log(chance / compared):
            return verdict
    return None
