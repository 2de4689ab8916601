"""What a corpus's ratings say before anything is trained: who agrees on what, and whether there is anybody to learn."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix, triu

from s3prl_metaperser.corpora import agreement
from s3prl_metaperser.corpora.alike import Answers
from s3prl_metaperser.corpora.base import Corpus
from s3prl_metaperser.evaluation.before_training import Personal, over_raters, personal
from s3prl_metaperser.evaluation.statistics import Interval

QUANTILES = {"least": 0, "10 %": 10, "median": 50, "90 %": 90, "most": 100}
#: Pairs of raters who share so many clips can be compared with each other.
SHARED = 8
#: So few raters who have a trait in common stand for nobody.
OF_A_KIND = 5


@dataclass(frozen=True)
class CorpusCard:
    """What the ratings of a corpus say.

    Attributes:
        classes: their names; of a scale its levels'.
        single: clips that one rater rated alone: nothing can be compared there.
        ratings_per_clip, ratings_per_rater: name of a quantile -> its value.
        shared: of pairs of raters, the mean number of clips that both rated, and the share of pairs with none, and with
            :data:`SHARED` or more.
        shares: class -> share of all answers.
        per_rating: mean number of classes in an answer.
        alpha: Krippendorff's; None where it is undefined.
        alpha_by_class: the same of each class alone; empty for scales.
        agreed: share of the clips with several ratings on which all answers are equal.
        others: how often a rater's answer is the most frequent one of the others; of a scale the mean distance from
            the others' mean, in points. None where nobody shares a clip.
        varies_with: share of clip, rater and rest in how answers vary; empty where it cannot be said.
        lasting: reliability of how raters differ (:func:`.split_half`), of ``lasting_raters`` raters; or None.
        personal: what K answers of a rater are worth.
        by_rater: rater -> ``ratings``, ``agreement``, ``score`` (None where ``known`` is too small), and of a scale
            ``mean`` and ``deviation``.
        tell_nothing: raters whose answers are not told from shuffled ones.
        by_trait: trait -> its value -> ``raters`` and their mean ``agreement``, of values that :data:`OF_A_KIND` raters
            share, where there are two such.
    """

    corpus: str
    root: str
    label_set: str
    kind: str
    classes: tuple[str, ...]
    clips: int
    raters: int
    ratings: int
    single: int
    ratings_per_clip: dict[str, float]
    ratings_per_rater: dict[str, float]
    shared: dict[str, float]
    shares: dict[str, float]
    per_rating: float
    alpha: float | None
    alpha_by_class: dict[str, float | None]
    agreed: float | None
    others: Interval | None
    varies_with: dict[str, float]
    lasting: float | None
    lasting_raters: int
    personal: tuple[Personal, ...]
    by_rater: dict[str, dict[str, Any]]
    tell_nothing: tuple[str, ...]
    by_trait: dict[str, dict[str, dict[str, float]]]

    @property
    def judged(self) -> int:
        """How many raters have ratings enough to be told from shuffled answers."""
        return sum(row["score"] is not None for row in self.by_rater.values())

    def as_json(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return dataclasses.asdict(self)


def corpus_card(corpus: Corpus) -> CorpusCard:
    """The card of a corpus; its audio is not touched.

    Examples:
        >>> from s3prl_metaperser import load_corpus
        >>> card = corpus_card(load_corpus("iemocap", demo))
        >>> card.clips, card.raters, 0 < card.alpha < 1
        (120, 11, True)
    """
    answers = corpus.answers
    clip, rater, values = answers.clip, answers.rater, agreement.vectors(answers)
    counts = answers.counts[answers.answer]
    per_clip, per_rater = np.bincount(clip), np.bincount(rater)
    scale = answers.levels is not None
    parts = agreement.variance(clip, rater, values)
    lasting, lasting_raters = agreement.split_half(clip, rater, values)
    told = agreement.told(clip, rater, values, numbers=scale)
    by_class = {} if scale else dict(zip(corpus.classes, (values[:, [c]] for c in range(values.shape[1])), strict=True))
    return CorpusCard(
        corpus=corpus.name,
        root=str(corpus.root),
        label_set=corpus.label_set.name,
        kind=corpus.label_set.kind,
        classes=corpus.classes,
        clips=len(per_clip),
        raters=len(answers.raters),
        ratings=len(clip),
        single=int((per_clip == 1).sum()),
        ratings_per_clip=_quantiles(per_clip),
        ratings_per_rater=_quantiles(per_rater),
        shared=_shared(answers),
        shares=_rounded(dict(zip(corpus.classes, counts.sum(0) / counts.sum(), strict=True))),
        per_rating=round(float((counts > 0).sum(1).mean()), 3) if not scale else 1.0,
        alpha=_number(agreement.krippendorff_alpha(clip, values)),
        alpha_by_class={name: _number(agreement.krippendorff_alpha(clip, column)) for name, column in by_class.items()},
        agreed=_agreed(answers),
        others=_distance(answers, values, counts),
        varies_with=_rounded(parts.shares) if parts else {},
        lasting=_number(lasting),
        lasting_raters=lasting_raters,
        personal=tuple(personal(answers)),
        by_rater=_by_rater(answers, per_rater, told, values if scale else None),
        tell_nothing=tuple(answers.raters[at] for at in np.flatnonzero(told.nothing)),
        by_trait=_by_trait(corpus, told),
    )


def _quantiles(counts: np.ndarray) -> dict[str, float]:
    return {name: round(float(np.percentile(counts, at)), 1) for name, at in QUANTILES.items()}


def _number(value: float) -> float | None:
    return round(float(value), 6) if math.isfinite(value) else None


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(float(value), 6) for name, value in values.items()}


def _shared(answers: Answers) -> dict[str, float]:
    raters = len(answers.raters)
    matrix = csr_matrix((np.ones(len(answers.clip), dtype=np.int32), (answers.rater, answers.clip)))
    both = triu(matrix @ matrix.T, k=1)
    pairs = max(raters * (raters - 1) // 2, 1)
    found = {"mean": both.sum() / pairs, "none": 1 - both.nnz / pairs, "enough": (both.data >= SHARED).sum() / pairs}
    return _rounded(found)


def _agreed(answers: Answers) -> float | None:
    different = np.unique(answers.clip * len(answers.counts) + answers.answer) // len(answers.counts)
    several = np.bincount(answers.clip) > 1
    return _number((np.bincount(different)[several] == 1).mean()) if several.any() else None


def _distance(answers: Answers, values: np.ndarray, counts: np.ndarray) -> Interval | None:
    """What the others' answers say of a rater's, mean over raters."""
    others = agreement.others_mean(answers.clip, counts if answers.levels is None else values)
    known = np.isfinite(others).all(1)
    if not known.any():
        return None
    if answers.levels is None:
        score = counts[np.arange(len(counts)), np.where(known[:, None], others, 0).argmax(1)] > 0
    else:
        score = np.abs(others - values)[:, 0]
    who = answers.rater[known]
    size = np.bincount(who)
    most = 1 if answers.levels is None else np.inf
    return over_raters(np.bincount(who, score[known])[size > 0] / size[size > 0], 0, most)


def _by_rater(
    answers: Answers, ratings: np.ndarray, told: agreement.Told, numbers: np.ndarray | None
) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for at, name in enumerate(answers.raters):
        judged = bool(told.judged[at])
        found[name] = {
            "ratings": int(ratings[at]),
            "known": int(told.known[at]),
            "agreement": _number(told.agreement[at]) if judged else None,
            "score": _number(told.score[at]) if judged else None,
        }
    if numbers is not None:
        mean, squares = (np.bincount(answers.rater, numbers[:, 0] ** power) / ratings for power in (1, 2))
        deviation = np.sqrt(np.maximum(squares - mean**2, 0.0))
        for at, name in enumerate(answers.raters):
            found[name] |= {"mean": _number(mean[at]), "deviation": _number(deviation[at])}
    return found


def _by_trait(corpus: Corpus, told: agreement.Told) -> dict[str, dict[str, dict[str, float]]]:
    grouped: dict[str, dict[str, list[float]]] = {}
    for at, name in enumerate(corpus.answers.raters):
        for trait, value in corpus.traits.get(name, {}).items() if told.judged[at] else ():
            grouped.setdefault(trait, {}).setdefault(value, []).append(float(told.agreement[at]))
    found: dict[str, dict[str, dict[str, float]]] = {}
    for trait, values in sorted(grouped.items()):
        known = {value: each for value, each in sorted(values.items()) if len(each) >= OF_A_KIND}
        if len(known) > 1:
            found[trait] = {v: {"raters": len(x), "agreement": round(float(np.mean(x)), 6)} for v, x in known.items()}
    return found
