"""Label cells to class names: several ticks joined by ``;``, in IEMOCAP's spellings or in plain words."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from s3prl_metaperser.corpora.base import CLASSES

#: A label that raters may tick and that is no class.
OTHER = "other"

#: Keys of ``Corpus.dropped`` that all readers share.
DROPPED_OTHER = "ticks: other"
DROPPED_NOTHING_LEFT = "ratings: no class left"
DROPPED_UNRATED = "utterances: no rating left"

#: IEMOCAP's three-letter codes. Every spelling in a release begins with its code.
CODES = {
    "fru": "frustrated",
    "ang": "angry",
    "sad": "sad",
    "dis": "disgust",
    "exc": "excited",
    "fea": "fear",
    "neu": "neutral",
    "sur": "surprise",
    "hap": "happy",
    "oth": OTHER,
}

_SYNONYMS = {
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

_NAMES = {name: name for name in CLASSES} | {OTHER: OTHER} | CODES | _SYNONYMS


class Cell(NamedTuple):
    """A label cell as understood.

    Attributes:
        ticks: class names, each once, in the order of ``CLASSES``.
        others: how many ticks were "other".
        unknown: the ticks that are no known label, as written.
    """

    ticks: tuple[str, ...]
    others: int
    unknown: tuple[str, ...]


def parse(cell: str, lookup: Callable[[str], str | None]) -> Cell:
    """Take a ``;``-joined label cell apart; empty parts (IEMOCAP ends every label with ``;``) are nothing.

    Args:
        cell: the text, e.g. ``"Neutral; Anger;"``.
        lookup: ``by_code`` or ``by_name``.
    """
    labels = [label for label in map(str.strip, cell.split(";")) if label]
    found = [lookup(label) for label in labels]
    unknown = tuple(label for label, name in zip(labels, found, strict=True) if name is None)
    return Cell(in_class_order(found), found.count(OTHER), unknown)


def by_code(label: str) -> str | None:
    """Class name (or ``"other"``) by the first three letters in any case; ``None`` where they are no code.

    Of several words the whole must be a known name: ``Neutral Anger`` is two labels without their ``;``.
    """
    if len(label.split()) > 1:
        return by_name(label)
    return CODES.get(label[:3].lower())


def misspelt(cell: str) -> list[str]:
    """The labels of a cell that ``by_code`` takes for a name that they are not, e.g. ``Neutrbl``."""
    found = [label for label in map(str.strip, cell.split(";")) if label]
    return [label for label in found if by_code(label) is not None and by_name(label) != by_code(label)]


def by_name(label: str) -> str | None:
    """Class name (or ``"other"``) by the whole label in any case: names, synonyms, IEMOCAP's spellings.

    ``Other-<free text>``, as MSP-Podcast has it, is "other". ``None`` where the label is unknown.
    """
    words = " ".join(label.lower().replace("_", " ").replace("-", " ").split())
    if words not in _NAMES and label.lower().startswith("other-"):
        return OTHER
    return _NAMES.get(words)


def known_names() -> list[str]:
    """Everything that ``by_name`` knows, classes first."""
    return list(_NAMES)


def in_class_order(names: Iterable[str | None]) -> tuple[str, ...]:
    """The classes among ``names``, each once, in the order of ``CLASSES``."""
    chosen = set(names)
    return tuple(name for name in CLASSES if name in chosen)
