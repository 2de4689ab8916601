"""What every corpus reader returns: utterances, and each rater's answers on them. Annotators are first-class."""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from s3prl_metaperser.corpora.label_set import Answer, LabelSet
from s3prl_metaperser.storage.html_text import html_table
from s3prl_metaperser.storage.provenance import digest

if TYPE_CHECKING:
    from s3prl_metaperser.corpora.alike import Answers

#: Keys of ``Corpus.dropped`` that readers share.
DROPPED_OTHER = "ticks: other"
DROPPED_LABEL = "ticks: unknown label"
DROPPED_LEFT_OUT = "ticks: left out by the label set"
DROPPED_NOTHING_LEFT = "ratings: no class left"
DROPPED_UNRATED = "utterances: no rating left"

#: One to test, one to validate, one to train.
FEWEST_RATERS = 3
#: Who speaks where nothing says it.
UNKNOWN_SPEAKER = "unknown"


@dataclass(frozen=True, slots=True)
class Utterance:
    """One recording.

    Attributes:
        id: unique in the corpus.
        path: the audio file.
        speaker: who speaks, e.g. ``Ses01F``.
        session: the recording session, e.g. ``Ses01``; empty where the corpus has none.
        seconds: duration by the file's header; NaN where the header cannot be read.
        language: as a tag (BCP 47), e.g. ``fr-CA``; empty where nothing says it, as all that follow.
        sex: of the speaker, ``f`` or ``m``.
        level: how strongly the emotion was acted.
        sentence: which text is read; equal for equal texts of one corpus.
    """

    id: str
    path: Path
    speaker: str
    session: str
    seconds: float
    language: str = ""
    sex: str = ""
    level: str = ""
    sentence: str = ""


@dataclass(frozen=True, slots=True)
class Rating:
    """What one rater answered for one utterance.

    Attributes:
        ticks: class names, without "other", never empty; of a number the nearest level's.
        value: the number, where the label set is a scale.
        shares: of each of ``ticks``, where the label set takes shares; they sum to 1.
    """

    utterance: str
    rater: str
    ticks: tuple[str, ...]
    value: float | None = None
    shares: tuple[float, ...] | None = None

    @property
    def answer(self) -> Answer:
        """For :meth:`.LabelSet.counts`."""
        if self.value is not None:
            return self.value
        return self.ticks if self.shares is None else dict(zip(self.ticks, self.shares, strict=True))

    @property
    def content(self) -> list:
        """The answer as plain JSON values, for hashes."""
        further = [value for value in (self.value, self.shares) if value is not None]
        return [self.utterance, list(self.ticks), *further]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with a corpus on disk.

    Attributes:
        path: the file (with ``:line`` where a line is at fault).
        what: what is wrong and what to do.
        serious: whether it would change results; training refuses a corpus with a serious problem.
    """

    path: str
    what: str
    serious: bool = True


@dataclass(kw_only=True)
class Ledger:
    """What a reader leaves out and what it finds wrong on its way to a corpus.

    Attributes:
        dropped, problems: as in a corpus.
    """

    dropped: Counter[str] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)

    def problem(self, where: str | Path, what: str) -> None:
        """What would change results."""
        self.problems.append(Problem(str(where), what))

    def note(self, where: str | Path, what: str) -> None:
        """What is odd and changes nothing."""
        self.problems.append(Problem(str(where), what, serious=False))

    def counts(self) -> dict[str, int]:
        """What was left out, by reason, for a corpus."""
        return {reason: count for reason, count in sorted(self.dropped.items()) if count}

    def seconds(self, path: Path) -> float:
        """The duration of an audio file by its header; NaN where it cannot be read, which is a problem."""
        from s3prl_metaperser.corpora.audio import BadAudio, audio_seconds  # what asks for labels alone starts sooner

        try:
            return audio_seconds(path)
        except BadAudio as fault:
            self.problem(fault.path, fault.what)
            return math.nan


@dataclass(frozen=True)
class Suggestions:
    """How a corpus's own literature splits it; options stand above it, and a corpus without its raters does without.

    Attributes:
        test_raters: fold1 and on, in this order.
        excluded_raters: raters that take no part.
        test_sessions: what the unseen scenario tests on.
    """

    test_raters: tuple[str, ...] = ()
    excluded_raters: tuple[str, ...] = ()
    test_sessions: tuple[str, ...] = ()


#: What most readers suggest.
NONE_SUGGESTED = Suggestions()


@dataclass(frozen=True, repr=False)
class Corpus:
    """A corpus as read.

    Attributes:
        name: the reader's registered name.
        root: the folder that was read.
        label_set: what raters may answer.
        utterances: sorted by id.
        ratings: sorted by (utterance, rater); one per pair.
        dropped: reason -> how many ratings, ticks or files were left out for it. Nothing is dropped uncounted.
        problems: what is wrong with the files.
        suggested: how it is split by default.
        merged: ``"label -> class"`` -> how many ticks the label set's ``merges`` changed so.
        traits: rater -> what is published of the person, e.g. ``{"gender": "female", "age": "34"}``.
        drawn: whether a program drew each rater's answers alone, so that raters who answer alike are no copies.
    """

    name: str
    root: Path
    label_set: LabelSet
    utterances: tuple[Utterance, ...]
    ratings: tuple[Rating, ...]
    dropped: Mapping[str, int] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    suggested: Suggestions = NONE_SUGGESTED
    merged: Mapping[str, int] = field(default_factory=dict)
    traits: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    drawn: bool = False

    def __repr__(self) -> str:
        counts = f"{len(self.utterances)} utterances, {len(self.ratings)} ratings by {len(self.raters())} raters"
        return f"<Corpus {self.name}: {counts}, {len(self.problems)} problems, {self.root}>"

    def _repr_html_(self) -> str:
        summary = self.rater_summary()
        most = sorted(summary, key=lambda rater: -summary[rater]["utterances"])[:12]
        rows = []
        for rater in most:
            ticks = sorted(summary[rater]["ticks"].items(), key=lambda tick: -tick[1])[:3]
            rows.append((rater, summary[rater]["utterances"], ", ".join(f"{name} {count}" for name, count in ticks)))
        rows += [(f"and {len(summary) - len(most)} more raters", "", "")] * (len(summary) > len(most))
        return html_table(repr(self).strip("<>"), rows, ("rater", "utterances", "most frequent answers"))

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names; their order is the order of every array with a class axis."""
        return self.label_set.classes

    def raters(self) -> list[str]:
        """Ids of all raters with at least one rating, sorted."""
        return list(self._by_rater)

    def ratings_of(self, rater: str) -> dict[str, tuple[str, ...]]:
        """Utterance id -> ticks, for one rater."""
        return {r.utterance: r.ticks for r in self.all_of(rater)}

    def all_of(self, rater: str) -> tuple[Rating, ...]:
        """The ratings of one rater, in their order; none of somebody who is no rater."""
        return self._by_rater.get(rater, ())

    def utterance(self, utterance_id: str) -> Utterance:
        """The utterance with this id (``KeyError`` where there is none)."""
        return self._by_id[utterance_id]

    @functools.cached_property
    def _by_id(self) -> dict[str, Utterance]:
        return {u.id: u for u in self.utterances}

    @functools.cached_property
    def _by_rater(self) -> dict[str, tuple[Rating, ...]]:
        return by_rater(self.ratings)

    @functools.cached_property
    def answers(self) -> Answers:
        """The ratings as arrays, made once."""
        from s3prl_metaperser.corpora.alike import Answers

        return Answers.of(self.ratings, self.label_set)

    def fingerprint(self) -> str:
        """SHA-256 over label set, utterances (id, speaker, session) and ratings; not over where the files are.

        Audio content is not part of it: :mod:`.contents` digests every audio file on its own.
        """
        return self._fingerprint

    @functools.cached_property
    def _fingerprint(self) -> str:
        content = {
            "classes": list(self.classes),
            "utterances": [[u.id, u.speaker, u.session] for u in self.utterances],
            "ratings": [[utterance, r.rater, *answer] for r in self.ratings for utterance, *answer in [r.content]],
        }
        if self.label_set.identity:
            content["label set"] = self.label_set.identity
        return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()

    def rater_summary(self) -> dict[str, dict]:
        """Rater id -> ``{"utterances": n, "ticks": {class: n}}``."""
        summary: dict[str, dict] = {
            rater: {"utterances": 0, "ticks": dict.fromkeys(self.classes, 0)} for rater in self.raters()
        }
        for rating in self.ratings:  # once over all, since a crowd has thousands of raters
            entry = summary[rating.rater]
            entry["utterances"] += 1
            for tick in rating.ticks:
                entry["ticks"][tick] += 1
        return summary


def by_rater(ratings: Iterable[Rating]) -> dict[str, tuple[Rating, ...]]:
    """Rater -> own ratings in their order, raters sorted: one pass, however many raters there are."""
    found: dict[str, list[Rating]] = {}
    for rating in ratings:
        found.setdefault(rating.rater, []).append(rating)
    return {rater: tuple(found[rater]) for rater in sorted(found)}


def by_utterance(ratings: Iterable[Rating]) -> dict[str, list[Rating]]:
    """Utterance -> its ratings, in their order."""
    found: dict[str, list[Rating]] = {}
    for rating in ratings:
        found.setdefault(rating.utterance, []).append(rating)
    return found


def label_hashes(ratings: Iterable[Rating]) -> dict[str, str]:
    """Rater -> hash of everything that this rater answered."""
    answered: dict[str, list] = {}
    for rating in ratings:
        answered.setdefault(rating.rater, []).append(rating.content)
    return {rater: digest(sorted(answers))[:16] for rater, answers in answered.items()}
