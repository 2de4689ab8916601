"""Label sets of public corpora, and scales in common use, by name (``datarc.labels``).

A label set from another package: an entry point in the group ``s3prl_metaperser.label_sets`` that leads to a
:class:`.LabelSet`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from s3prl_metaperser.corpora.label_set import OTHER, Kind, LabelSet
from s3prl_metaperser.registry import Registry

#: One name for each emotion in the words of several corpora.
_WORDS = {
    "anger": "angry",
    "disgusted": "disgust",
    "fearful": "fear",
    "afraid": "fear",
    "scared": "fear",
    "happiness": "happy",
    "joy": "happy",
    "neutral state": "neutral",
    "sadness": "sad",
    "surprised": "surprise",
    "others": OTHER,
}


def _emotions(name: str, kind: Kind, *classes: str, **codes: str) -> LabelSet:
    words = {word: meant for word, meant in _WORDS.items() if meant in (*classes, OTHER)}
    return LabelSet(name, kind, classes, words | codes)


def _scale(name: str, low: int, high: int) -> LabelSet:
    return LabelSet(name, "ordinal", levels=tuple(float(level) for level in range(low, high + 1)))


_SIX = ("angry", "disgust", "fear", "happy", "neutral", "sad")
CREMA_D = _emotions("crema_d", "single", *_SIX, **{name[0]: name for name in _SIX})
EMOZIONALMENTE = LabelSet(
    "emozionalmente",
    "single",
    ("anger", "disgust", "fear", "joy", "neutrality", "sadness", "surprise"),
    {"neutral": "neutrality"},
)
MSP_PODCAST = _emotions(
    *("msp_podcast", "single", "angry", "sad", "happy", "surprise", "fear", "disgust", "contempt", "neutral"),
    **{"a": "angry", "s": "sad", "h": "happy", "u": "surprise", "f": "fear", "d": "disgust", "c": "contempt"},
    **{"n": "neutral", "o": OTHER},
)
MSP_IMPROV = _emotions(
    *("msp_improv", "single", "angry", "happy", "sad", "neutral"),
    **{"a": "angry", "h": "happy", "s": "sad", "n": "neutral", "o": OTHER},
)
BIG_SIX = _emotions("big_six", "single", "angry", "disgust", "fear", "happy", "sad", "surprise")
AROUSAL, VALENCE, DOMINANCE = (_scale(f"{name}-1-7", 1, 7) for name in ("arousal", "valence", "dominance"))
MOS = _scale("mos-1-5", 1, 5)
FLUENCY, ACCURACY, PROSODIC = (_scale(f"speechocean762-{name}", 0, 10) for name in ("fluency", "accuracy", "prosodic"))

LABEL_SETS = Registry("label set", "s3prl_metaperser.label_sets")
LABEL_SETS.register("iemocap", "s3prl_metaperser.corpora.iemocap:LABEL_SET", "nine emotions, several may be ticked")
for _set, _where, _summary in (
    (CREMA_D, "CREMA_D", "six emotions, one a rating"),
    (EMOZIONALMENTE, "EMOZIONALMENTE", "seven emotions, one a rating"),
    (MSP_PODCAST, "MSP_PODCAST", "eight emotions with contempt, one a rating"),
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


def set_of(content: Mapping[str, Any]) -> LabelSet:
    """The label set of a result or a model card; what version 0.1.0 wrote says its classes alone.

    Args:
        content: with ``label_set`` (:meth:`.LabelSet.as_dict`), or with ``classes``.
    """
    if "label_set" in content:
        return LabelSet.from_dict(content["label_set"])
    plain = LabelSet("plain", "multi", tuple(content["classes"]))
    known = LABEL_SETS.get("iemocap")
    return known if known.classes == plain.classes else plain
