"""What readers say of corpora that are drawn: the option that draws one anew, and what its labels are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from s3prl_metaperser.config.options import sections_of_readers
from s3prl_metaperser.corpora import CORPORA


def drawn_by(corpus: str) -> str:
    """The option with which a reader draws its corpus anew (:attr:`.Reader.drawn_by`); empty for none.

    >>> drawn_by("demo"), drawn_by("iemocap")
    ('downstream_expert.datarc.demo.seed', '')
    """
    if corpus not in CORPORA.names() or not (option := getattr(CORPORA.get(corpus), "drawn_by", "")):
        return ""
    section = f"{corpus}." if corpus in sections_of_readers() else ""
    return f"downstream_expert.datarc.{section}{option}"


def caveat_of(corpus: str, datarc: Mapping[str, Any]) -> str:
    """What whoever reads numbers of a corpus must know of its labels (:attr:`.Reader.caveat`); empty for nothing.

    Args:
        datarc: the options of that name.
    """
    said = getattr(CORPORA.get(corpus), "caveat", None) if corpus in CORPORA.names() else None
    options = datarc.get(corpus) if corpus in sections_of_readers() else datarc
    return said(options or {}) if said else ""
