"""The five emotions that corpora of acted speech share, and a corpus seen in their terms."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping

from s3prl_metaperser.corpora.base import Corpus, Rating
from s3prl_metaperser.corpora.label_set import LEFT_OUT, LabelSet
from s3prl_metaperser.errors import UserError, unknown_name

#: In the order in which the paper on DA-MLDG names them.
COMMON = ("happiness", "sadness", "anger", "fear", "disgust")
FIVE = LabelSet("five_emotions", "single", COMMON)
#: The rater of a corpus whose labels are what was acted, or what its publishers settled on: nobody's perception.
ACTED = "acted"


def same_words(*classes: str) -> dict[str, str]:
    """The map of a corpus that calls the common emotions by their names; of these classes those that are common."""
    return {name: name for name in classes if name in COMMON}


def has_listeners(corpus: Corpus) -> bool:
    """Whether the labels are what people heard, and not what was acted, in one corpus or in several as one."""
    return corpus.raters() != [ACTED] and corpus.label_set != FIVE


def in_common(corpus: Corpus, emotions: Mapping[str, str], merge: Mapping[str, str] | None = None) -> Corpus:
    """A corpus of acted labels with the five emotions as its classes; what has none of them is left out and counted.

    Args:
        corpus: one label for each utterance.
        emotions: the corpus's own class -> one of :data:`COMMON` (:attr:`.Card.emotions`).
        merge: changes of it: own class -> one of :data:`COMMON`, or ``-``: left out.

    Raises:
        UserError: ``merge`` names a class or an emotion that does not exist, or nothing is left.

    Examples:
        >>> from pathlib import Path
        >>> moods = LabelSet("moods", "single", ("happy", "excited", "bored"))
        >>> ratings = tuple(Rating(str(n), ACTED, (label,)) for n, label in enumerate(moods.classes))
        >>> corpus = Corpus("mine", Path("."), moods, (), ratings)
        >>> five = in_common(corpus, {"happy": "happiness"}, {"excited": "happiness"})
        >>> [rating.ticks[0] for rating in five.ratings], dict(five.dropped)
        (['happiness', 'happiness'], {'utterances: bored, none of the five emotions': 1})
    """
    for name, emotion in (merge or {}).items():
        if name not in corpus.classes:
            raise unknown_name(f"class of corpus {corpus.name!r} to merge", name, corpus.classes)
        if emotion not in (*COMMON, LEFT_OUT):
            raise unknown_name(f"emotion for {name!r}", emotion, (*COMMON, LEFT_OUT))
    known = {name: emotion for name, emotion in {**emotions, **(merge or {})}.items() if emotion != LEFT_OUT}
    dropped, ratings = Counter(corpus.dropped), []
    for rating in corpus.ratings:
        (own,) = rating.ticks
        if own in known:
            ratings.append(Rating(rating.utterance, rating.rater, (known[own],)))
        else:
            dropped[f"utterances: {own}, none of the five emotions"] += 1
    if not ratings:
        raise UserError(f"{corpus.root}: no utterance of corpus {corpus.name!r} has one of {', '.join(COMMON)}.")
    kept = {rating.utterance for rating in ratings}
    utterances = tuple(utterance for utterance in corpus.utterances if utterance.id in kept)
    return dataclasses.replace(corpus, label_set=FIVE, utterances=utterances, ratings=tuple(ratings), dropped=dropped)
