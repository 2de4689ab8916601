"""Answers to probabilities, and what is right of them in words: exact, by mention, or not applicable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from s3prl_metaperser.corpora.label_set import Answer, LabelSet
from s3prl_metaperser.errors import UserError, shown, unknown_name
from s3prl_metaperser.evaluation.statistics import Estimate, Interval, error_and_freedom, within
from s3prl_metaperser.exchange.predictions import Answered
from s3prl_metaperser.exchange.prompts import spoken
from s3prl_metaperser.exchange.words import Vocabulary
from s3prl_metaperser.seeding import seed_from

#: How far probabilities may sum from 1 and stay as they are (float32), and how far so that they are scaled (rounding).
AS_IT_IS, ROUNDED = 1e-5, 0.02
#: By how much one class leads where nothing is said: a guess, drawn by the row's id, for whatever asks for one class.
LEAD = 1e-9
#: What is counted of answers in words.
EXACT, MENTION, NOT_APPLICABLE = "exact", "mention", "not_applicable"
RATES = (EXACT, MENTION, NOT_APPLICABLE)


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


def rate_intervals(
    raters: Mapping[str, Sequence[Rated]], minus: Mapping[str, Sequence[Rated]] | None = None
) -> dict[str, Interval]:
    """Mean and 95 % interval of each rate over listeners, as :mod:`.statistics` has it of metrics.

    Args:
        minus: other answers to the same queries: the paired difference.
    """
    if minus is not None:
        raters = {
            rater: [replace(e, values=e.values - o.values) for e, o in zip(mine, minus[rater], strict=True)]
            for rater, mine in raters.items()
        }
    means, own, totals = [], np.zeros(len(RATES)), dict[str, np.ndarray]()
    for episodes in raters.values():
        means.append(np.mean([e.values.mean(1) for e in episodes], axis=0))
        mine: dict[str, np.ndarray] = {}
        for e in episodes:
            size = len(e.query)
            nudged = (e.values - e.values.mean(1, keepdims=True)) / np.sqrt(size * max(size - 1, 1)) / len(episodes)
            for utterance, column in zip(e.query, nudged.T, strict=True):
                mine[utterance] = mine.get(utterance, 0.0) + column
        own += sum(column**2 for column in mine.values())
        for utterance, column in mine.items():
            totals[utterance] = totals.get(utterance, 0.0) + column
    total = sum((column**2 for column in totals.values()), np.zeros(len(RATES)))
    low = 0.0 if minus is None else -1.0
    found = {}
    for at, name in enumerate(RATES):
        of_raters = np.array([each[at] for each in means])
        error, freedom = error_and_freedom(of_raters, own[at], total[at], len(totals))
        estimate = Estimate(float(of_raters.mean()), float(error), float(freedom))
        found[name] = within(estimate.interval(), low, 1.0)
    return found
