"""Corpus readers, one file each, behind one registry.

A reader is a callable ``read(root: pathlib.Path, **options) -> Corpus``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path

from s3prl_metaperser.corpora.base import Corpus, Problem, Rating, Suggestions, Utterance
from s3prl_metaperser.corpora.label_set import LabelSet
from s3prl_metaperser.corpora.label_sets import LABEL_SETS
from s3prl_metaperser.errors import unknown_name
from s3prl_metaperser.registry import Registry
from s3prl_metaperser.storage.paths import user_path

__all__ = [
    "CORPORA",
    "LABEL_SETS",
    "Corpus",
    "LabelSet",
    "Problem",
    "Rating",
    "Suggestions",
    "Utterance",
    "load_corpus",
]

CORPORA: Registry[Callable[..., Corpus]] = Registry("corpus", "s3prl_metaperser.corpora")
CORPORA.register("iemocap", "s3prl_metaperser.corpora.iemocap:read", "the IEMOCAP release")
CORPORA.register("demo", "s3prl_metaperser.demo.reader:read", "synthetic speech, made on first use")
CORPORA.register("ratings_csv", "s3prl_metaperser.corpora.ratings_csv:read", "ratings.csv: file,rater,label")


def load_corpus(name: str, root: str | Path, **options) -> Corpus:
    """Read the corpus ``name`` from ``root``.

    Raises:
        UserError: unknown name or option, missing folder, or nothing usable in it.
    """
    read = CORPORA.get(name)
    known = list(inspect.signature(read).parameters)[1:]
    for option in options:
        if option not in known:
            raise unknown_name(f"option of corpus {name!r}", option, known or ["none"])
    return read(user_path(root), **options)
