"""Label sets of public corpora, and scales in common use, by name (``datarc.labels``).

A label set from another package: an entry point in the group ``s3prl_metaperser.label_sets`` that leads to a
:class:`.LabelSet`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from s3prl_metaperser.corpora.label_set import OTHER, LabelSet
from s3prl_metaperser.errors import UserError, unknown_name
from s3prl_metaperser.registry import Registry
from s3prl_metaperser.storage.paths import user_path

#: A label set of its own, beside ratings.csv.
LABELS = "labels.yaml"
#: What to do where IEMOCAP's labels do not fit.
OWN_LABELS = (
    " Other labels than IEMOCAP's? Name a registered set (--labels, datarc.labels; `metaperser list labels`), or put "
    "labels.yaml beside the table: {name: mine, kind: single, classes: [calm, tense]}."
)

#: One name for each emotion in the words of several corpora.
WORDS = {
    "frustration": "frustrated",
    "anger": "angry",
    "sadness": "sad",
    "disgusted": "disgust",
    "excitement": "excited",
    "fearful": "fear",
    "afraid": "fear",
    "scared": "fear",
    "neutral state": "neutral",
    "surprised": "surprise",
    "happiness": "happy",
    "joy": "happy",
    "others": OTHER,
}


def _emotions(name: str, classes: str, codes: str = "") -> LabelSet:
    """A set of one emotion for each rating.

    Args:
        classes: names, with blanks between.
        codes: the letter of each class in the corpus's files, and then that of "other", if it has one.
    """
    names = tuple(classes.split())
    words = {word: meant for word, meant in WORDS.items() if meant in (*names, OTHER)}
    return LabelSet(name, "single", names, words | dict(zip(codes.split(), (*names, OTHER), strict=False)))


def _scale(name: str, low: int, high: int) -> LabelSet:
    return LabelSet(name, "ordinal", levels=tuple(float(level) for level in range(low, high + 1)))


CREMA_D = _emotions("crema_d", "angry disgust fear happy neutral sad", "a d f h n s")
EMOZIONALMENTE = LabelSet(
    "emozionalmente",
    "single",
    ("anger", "disgust", "fear", "joy", "neutrality", "sadness", "surprise"),
    {"neutral": "neutrality"},
)
MSP_PODCAST = _emotions("msp_podcast", "angry sad happy surprise fear disgust contempt neutral", "a s h u f d c n o")
MSP_PODCAST_SECONDARY = LabelSet(
    "msp_podcast-secondary",
    "multi",
    (
        *("angry", "sad", "happy", "amused", "neutral", "frustrated", "depressed", "surprise", "concerned", "disgust"),
        *("disappointed", "excited", "confused", "annoyed", "fear", "contempt"),
    ),
    {"dissapointed": "disappointed"},  # the release's own spelling
)
MSP_IMPROV = _emotions("msp_improv", "angry happy sad neutral", "a h s n o")
BIG_SIX = _emotions("big_six", "angry disgust fear happy sad surprise")
AROUSAL, VALENCE, DOMINANCE = (_scale(f"{name}-1-7", 1, 7) for name in ("arousal", "valence", "dominance"))
MOS = _scale("mos-1-5", 1, 5)
FLUENCY, ACCURACY, PROSODIC = (_scale(f"speechocean762-{name}", 0, 10) for name in ("fluency", "accuracy", "prosodic"))

LABEL_SETS: Registry[LabelSet] = Registry(
    "label set",
    "s3prl_metaperser.label_sets",
    expected=("a LabelSet", lambda _, found: isinstance(found, LabelSet)),
)
LABEL_SETS.register("iemocap", "s3prl_metaperser.corpora.iemocap:LABEL_SET", "nine emotions, several may be ticked")
for _set, _where, _summary in (
    (CREMA_D, "CREMA_D", "six emotions, one a rating"),
    (EMOZIONALMENTE, "EMOZIONALMENTE", "seven emotions, one a rating"),
    (MSP_PODCAST, "MSP_PODCAST", "eight emotions with contempt, one a rating"),
    (MSP_PODCAST_SECONDARY, "MSP_PODCAST_SECONDARY", "sixteen secondary emotions, several may be ticked"),
    (MSP_IMPROV, "MSP_IMPROV", "four emotions, one a rating"),
    (BIG_SIX, "BIG_SIX", "Ekman's six emotions, one a rating"),
    (AROUSAL, "AROUSAL", "arousal (activation), 1 to 7"),
    (VALENCE, "VALENCE", "valence, 1 to 7"),
    (DOMINANCE, "DOMINANCE", "dominance, 1 to 7"),
    (MOS, "MOS", "mean opinion score, 1 to 5"),
    (FLUENCY, "FLUENCY", "fluency of a sentence, 0 to 10"),
    (ACCURACY, "ACCURACY", "accuracy of a sentence, 0 to 10"),
    (PROSODIC, "PROSODIC", "prosody of a sentence, 0 to 10"),
):
    LABEL_SETS.register(_set.name, f"s3prl_metaperser.corpora.label_sets:{_where}", _summary)


def sets_with(label: str) -> list[str]:
    """The registered sets that have a class for a label."""
    sets = {name: LABEL_SETS.get(name) for name in LABEL_SETS.names()}
    return [name for name, each in sets.items() if each.kind != "ordinal" and each.lookup(label) in each.classes]


def label_set_of(folder: Path, labels: Mapping[str, str] | str | None = None) -> LabelSet | None:
    """The label set that ``labels`` names (a registered set, or a file, also relative to ``folder``).

    Without ``labels`` the one in ``labels.yaml``; None where there is no such file. Where ``labels`` says what becomes
    of single labels, that set, or IEMOCAP's, with these changes.

    Raises:
        UserError: no such set or file, or a file that is no label set.
    """
    if labels is None:
        own = folder / LABELS
        return LabelSet.from_yaml(own) if os.path.lexists(own) else None
    if not isinstance(labels, str):
        return (label_set_of(folder) or LABEL_SETS.get("iemocap")).with_merges(labels)
    if labels in LABEL_SETS.names():
        return LABEL_SETS.get(labels)
    for path in (user_path(labels), folder / labels):
        if path.is_file():
            return LabelSet.from_yaml(path)
    raise UserError(f"{unknown_name('label set', labels, LABEL_SETS.names())} No such file either.")


def set_of(content: Mapping[str, Any]) -> LabelSet:
    """The label set of a result or a model card; what version 0.1.0 wrote says its classes alone.

    Args:
        content: with ``label_set`` (:meth:`.LabelSet.as_dict`), or with ``classes``.

    Raises:
        UserError: a label set that is none, or 0.1.0's classes in another order: they were edited.
    """
    if "label_set" in content:
        return LabelSet.from_dict(content["label_set"])
    plain = LabelSet("plain", "multi", tuple(content["classes"]))
    known = LABEL_SETS.get("iemocap")
    if known.classes != plain.classes and sorted(known.classes) == sorted(plain.classes):
        raise UserError("classes are not in the order in which version 0.1.0 wrote them.")
    return known if known.classes == plain.classes else plain
