"""What is publicly known of a corpus: whose it is, what may be done with it, and how many utterances were published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Release:
    """Numbers of one published form of a corpus.

    Attributes:
        counts: class, in the corpus's own words -> utterances.
        speakers: how many, or who; none where it is not known.
        name: of the form, where there are several.
        balanced: every speaker has the same number of utterances of a class.
    """

    counts: Mapping[str, int]
    speakers: tuple[str, ...] = ()
    name: str = ""
    balanced: bool = False

    @property
    def files(self) -> int:
        """Utterances of all classes."""
        return sum(self.counts.values())


@dataclass(frozen=True)
class Card:
    """A corpus whose utterances were acted, or labelled by one emotion each.

    Attributes:
        title: its name in print.
        language: as a tag (BCP 47), e.g. ``fr-CA``.
        licence: what its publisher allows, as far as that is known.
        source: where it is to be had.
        cite: who made it, and when that was published.
        layout: where the files are in it, in a few words.
        emotions: class, in the corpus's own words -> one of :data:`.emotions.COMMON`; others have none of the five.
        releases: the numbers that were published.
        options: what its reader is given so that it reads these labels.
        quirks: what is odd about the published files.
    """

    title: str
    language: str
    licence: str
    source: str
    cite: str
    layout: str
    emotions: Mapping[str, str]
    releases: tuple[Release, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    quirks: tuple[str, ...] = ()

    @property
    def terms(self) -> str:
        """For :attr:`.Reader.terms`."""
        return f"{self.title}: {self.licence} ({self.source})"
