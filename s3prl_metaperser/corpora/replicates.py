"""Corpora that are drawn with a seed: with another seed they are replicates of one, not another corpus."""

from __future__ import annotations

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
