"""Label sets of public corpora, and scales in common use, by name (``datarc.labels``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from s3prl_metaperser.corpora.label_set import LabelSet
from s3prl_metaperser.registry import Registry

LABEL_SETS: Registry[LabelSet] = Registry("label set", "s3prl_metaperser.label_sets")
LABEL_SETS.register("iemocap", "s3prl_metaperser.corpora.iemocap:LABEL_SET", "nine emotions, several may be ticked")


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
