"""Answers to probabilities, and what is right of them in words: exact, by mention, or not applicable."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from s3prl_metaperser.corpora.label_set import Answer, LabelSet
from s3prl_metaperser.errors import UserError, shown, unknown_name
from s3prl_metaperser.evaluation.metrics import Metric
from s3prl_metaperser.evaluation.statistics import (
    Influences,
    Interval,
    Scored,
    difference_intervals,
    intervals,
    joined,
    mean_intervals,
    paired_intervals,
)
from s3prl_metaperser.exchange.predictions import Answered
from s3prl_metaperser.exchange.prompts import spoken
from s3prl_metaperser.exchange.words import Vocabulary
from s3prl_metaperser.seeding import seed_from

#: How far probabilities may sum from 1 and stay as they are (float32), and how far so that they are scaled (rounding).
AS_IT_IS, ROUNDED = 1e-5, 0.02
#: By how much one class leads where nothing is said: a guess, drawn by the row's id, for whatever asks for one class.
LEAD = 1e-9
#: What is counted of answers in words.
RATES = tuple(Metric(name, name, (), lambda *_: math.nan) for name in ("exact", "mention", "not_applicable"))


@dataclass(frozen=True)
class Row:
    """One answer.

    Attributes:
        probabilities: [C].
        rates: of an answer in words, 1 or 0 for each of :data:`RATES`; None of probabilities.
        scaled: whether the probabilities were scaled to a sum of 1.
    """

    probabilities: np.ndarray
    rates: tuple[float, float, float] | None = None
    scaled: bool = False


def row_of(id: str, answered: Answered | None, counts: np.ndarray, words: Vocabulary, smoothing: float) -> Row:
    """What is scored of an answer.

    An answer in words is taken as a listener's is: the same smoothed distribution that a label becomes. One that says
    nothing is a uniform distribution, in which a class drawn by the id leads by :data:`LEAD`.

    Args:
        answered: None: there is none.
        counts: what the listener answered, [C].

    Raises:
        UserError: probabilities of other classes, or that do not sum to 1.
    """
    if answered is not None and not isinstance(answered, str):
        return _of_probabilities(id, answered, words.label_set)
    label_set = words.label_set
    said = None if answered is None else words.read(answered)
    truth = _truth(label_set, counts)
    if said is None:
        return Row(_guess(id, len(label_set.classes)), (0.0, 0.0, 1.0))
    probabilities = label_set.target(label_set.counts(said), smoothing)
    exact = " ".join(str(answered).split()).casefold() == spoken(truth).casefold()
    return Row(probabilities, (float(exact), float(_same(said, truth, label_set)), 0.0))


def _of_probabilities(id: str, given: Mapping[str, float] | Sequence[float], label_set: LabelSet) -> Row:
    classes = label_set.classes
    if isinstance(given, Mapping):
        for name in given:
            if name not in classes:
                raise UserError(f"{shown(id)}: {unknown_name('class', str(name), classes)}")
        given = [given.get(name, 0.0) for name in classes]
    if len(given) != len(classes):
        raise UserError(f"{shown(id)}: {len(given)} probabilities for {len(classes)} classes ({', '.join(classes)}).")
    found = np.asarray(given, dtype=np.float64)
    off = abs(found.sum() - 1)
    if off > ROUNDED:
        raise UserError(f"{shown(id)}: its probabilities sum to {found.sum():.6g}. They must sum to 1.")
    return Row(found / found.sum(), scaled=True) if off > AS_IT_IS else Row(found)


def _guess(id: str, classes: int) -> np.ndarray:
    found = np.full(classes, (1 - LEAD) / classes)
    found[seed_from("no answer", id) % classes] += LEAD
    return found


def _truth(label_set: LabelSet, counts: np.ndarray) -> Answer:
    """What the listener answered, as labels are written."""
    if label_set.kind == "ordinal":
        return float(label_set.value(counts / counts.sum()))
    named = [(name, count) for name, count in zip(label_set.classes, counts, strict=True) if count]
    return dict(named) if label_set.kind == "soft" else tuple(name for name, _ in named)


def _same(said: Answer, truth: Answer, label_set: LabelSet) -> bool:
    """Whether the classes are the same; of shares those that stand out; a number to half the scale's step."""
    mine, right = (label_set.answered(label_set.counts(each)) for each in (said, truth))
    return bool((mine == right).all())


@dataclass(frozen=True)
class Rated:
    """The rates of one episode's answers in words.

    Attributes:
        query: utterance ids, Q of them.
        values: [3, Q], in the order of :data:`RATES`.
    """

    query: tuple[str, ...]
    values: np.ndarray

    @property
    def influence(self) -> tuple[np.ndarray, np.ndarray]:
        """The rates, [3], and their derivatives by the weight of each utterance, [3, Q]."""
        means = self.values.mean(1)
        return means, (self.values - means[:, None]) / len(self.query)


@dataclass
class Answers:
    """Answers to the queries of listeners.

    Attributes:
        scored: listener (in several folds: fold and listener) -> episodes, for metrics.
        rated: the same, as far as they are answers in words.
    """

    scored: dict[str, list[Scored]] = field(default_factory=dict)
    rated: dict[str, list[Rated]] = field(default_factory=dict)

    def intervals(self) -> Rates:
        """Means over listeners with 95 % intervals: metrics, and rates where there are answers in words."""
        return Rates(intervals(self.scored), mean_intervals(self._rates()) if self.rated else {})

    def gain_over(self, other: Answers) -> Rates:
        """The paired differences, of metrics and of rates each where both have answers to the same queries."""
        both = _asked(self.scored) == _asked(other.scored) != {}
        words = _asked(self.rated) == _asked(other.rated) != {}
        mine, theirs = (self._rates(), other._rates()) if words else ({}, {})
        return Rates(
            paired_intervals(self.scored, other.scored) if both else {},
            difference_intervals({who: own - theirs[who] for who, own in mine.items()}) if words else {},
        )

    def _rates(self) -> dict[str, Influences]:
        found = {}
        for listener, mine in self.rated.items():
            queries = [each.query for each in mine]
            found[listener] = joined(RATES, queries, queries, [each.influence for each in mine])
        return found


def _asked(answers: Mapping[str, Sequence[Rated | Scored]]) -> dict[str, list[tuple[str, ...]]]:
    """Listener -> the queries of each episode."""
    return {listener: [tuple(each.query) for each in mine] for listener, mine in answers.items()}


class Rates(NamedTuple):
    """Means or differences with their 95 % intervals, by name: metrics of what was understood, and rates."""

    metrics: dict[str, Interval]
    rates: dict[str, Interval]

    def as_json(self) -> dict[str, Any]:
        """For a file."""
        return {what: {name: span.as_json() for name, span in found.items()} for what, found in self._asdict().items()}
