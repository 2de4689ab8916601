"""A corpus of acted labels beside the numbers that were published of it."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator
from typing import Any

from s3prl_metaperser.corpora import CORPORA, reader_of
from s3prl_metaperser.corpora.base import Corpus
from s3prl_metaperser.corpora.card import Card, Release
from s3prl_metaperser.corpora.emotions import COMMON
from s3prl_metaperser.errors import printable

#: So many lines about what is missing are printed.
LISTED = 20
_plain = functools.partial(printable, keep="")


def compared(corpus: Corpus, card: Card) -> dict[str, Any]:
    """What was published of a corpus, and what is there; of several forms the nearest.

    Args:
        corpus: with one label an utterance, in its own classes.

    Returns:
        Plain data, ready for JSON: ``title``, ``licence``, ``source``, ``cite``, ``language``, ``form`` (which of
        several published ones), ``classes``, ``emotions`` (the five), ``five`` and ``files`` (all) with
        ``[found, published]`` each, and ``missing``: sentences.
    """
    found = Counter(rating.ticks[0] for rating in corpus.ratings)
    release = min(card.releases, key=lambda each: sum(abs(found[name] - count) for name, count in each.counts.items()))
    emotions = {emotion: [0, 0] for emotion in COMMON}
    for name, emotion in card.emotions.items():
        emotions[emotion][0] += found[name]
        emotions[emotion][1] += release.counts[name]
    return {
        "title": card.title,
        "licence": card.licence,
        "source": card.source,
        "cite": card.cite,
        "language": card.language,
        "form": release.name,
        "classes": {name: [found[name], release.counts[name]] for name in corpus.classes},
        "emotions": emotions,
        "five": [sum(pair[side] for pair in emotions.values()) for side in (0, 1)],
        "files": [len(corpus.utterances), release.files],
        "missing": list(_missing(corpus, release)),
    }


def domains_compared(corpus: Corpus) -> dict[str, list[int]]:
    """Corpus -> ``[found, published]`` utterances of the five emotions, of several corpora as one."""
    found = {}
    for name, entry in corpus.rater_summary().items():
        card = reader_of(name).card if CORPORA.knows(name) else None
        if card is not None:
            there = entry["utterances"]
            found[name] = [there, min(five_published(card), key=lambda count: abs(count - there))]
    return found


def five_published(card: Card) -> list[int]:
    """How many utterances of the five emotions each published form has."""
    return [sum(release.counts[name] for name in card.emotions) for release in card.releases]


def format_published(published: dict[str, Any]) -> str:
    """:func:`compared` as text for a terminal."""
    form = f" ({published['form']})" if published["form"] else ""
    rows = [
        *published["classes"].items(),
        ("all", published["files"]),
        *((f"of the five: {name}", pair) for name, pair in published["emotions"].items()),
        ("the five emotions", published["five"]),
    ]
    width = max(len(name) for name, _ in rows)
    missing = published["missing"]
    return "\n".join(
        [
            f"{published['title']}, {published['cite']}, {published['source']}",
            f"licence: {published['licence']}",
            f"{'utterances':<{width}} {'found':>6} {'published':>9}{form}",
            *(f"{_plain(name):<{width}} {pair[0]:>6} {pair[1]:>9}" for name, pair in rows),
            *(f"  {_plain(line)}" for line in missing[:LISTED]),
            *([f"  ... and {len(missing) - LISTED} more"] if len(missing) > LISTED else []),
            "All that was published is there." if not missing else "Not what was published.",
        ]
    )


def _missing(corpus: Corpus, release: Release) -> Iterator[str]:
    """Sentences: which speakers, and of which class how many, are not there, or are and were not published."""
    speakers = {utterance.id: utterance.speaker for utterance in corpus.utterances}
    found = Counter((speakers[rating.utterance], rating.ticks[0]) for rating in corpus.ratings)
    present = set(speakers.values())
    if release.speakers and (lost := [name for name in release.speakers if name not in present]):
        yield f"no utterance of speaker {', '.join(lost)}"
    if release.speakers and (strange := sorted(present - set(release.speakers))):
        yield f"speakers that were not published: {', '.join(strange)}"
    if release.balanced:
        each = {name: count // len(release.speakers) for name, count in release.counts.items()}
        for speaker in release.speakers:
            pairs = [(name, found[speaker, name], count) for name, count in each.items()]
            other = [f"{name} {there} of {count}" for name, there, count in pairs if there != count]
            if other and speaker in present:
                yield f"speaker {speaker}: {', '.join(other)}"
        return
    classes = Counter(rating.ticks[0] for rating in corpus.ratings)
    for name, count in release.counts.items():
        if classes[name] != count:
            yield f"{name}: {classes[name]} of {count}"
