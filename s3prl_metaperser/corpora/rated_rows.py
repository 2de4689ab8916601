"""From rows of (file, rater, label), as a reader of any format finds them, to a corpus.

Labels go through the label set, files through :class:`.Place`, a second row for the same file and rater through the
option ``duplicates``; what is left out is counted, and an error names the file and the line.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from s3prl_metaperser.corpora import iemocap
from s3prl_metaperser.corpora.base import (
    DROPPED_LABEL,
    DROPPED_LEFT_OUT,
    DROPPED_NOTHING_LEFT,
    DROPPED_OTHER,
    DROPPED_UNRATED,
    NONE_SUGGESTED,
    Corpus,
    Ledger,
    Rating,
    Suggestions,
)
from s3prl_metaperser.corpora.label_set import Cell, LabelError, LabelSet, UnknownLabel
from s3prl_metaperser.corpora.label_sets import OWN_LABELS, sets_with
from s3prl_metaperser.corpora.people import Who
from s3prl_metaperser.corpora.rated_files import Place, note_alike, rated_utterances
from s3prl_metaperser.corpora.segments import CUT, TOLERANCE
from s3prl_metaperser.errors import UserError, unknown_name
from s3prl_metaperser.storage.paths import user_path

#: What may be done with a second row for the same file and rater.
DUPLICATES = ("error", "union", "first")

DROPPED_BLANK = "ratings: blank label"
DROPPED_LINE = "lines: not understood"
DROPPED_UNRATED_AUDIO = "files: audio without a rating, beside rated files"
DROPPED_REPEATED = "ratings: repeated, the first is used"

#: Where a row stands: its line or, in a file that is not read line by line, what names it there.
Line = int | str
_Raters = dict[str, tuple[Line, Cell]]  # rater -> (line, answer)


class NothingRated(UserError):
    """No row has a label that the label set takes."""


class RatedRows(Ledger):
    """Rows of one table on their way into a corpus.

    Args:
        path: the table, for errors.
        duplicates: ``error``, ``union`` or ``first``.
        hint: what to add to the error of a label that the set does not take.

    Attributes:
        rated: file -> what its raters answered.
        merged: as in a corpus.

    Raises:
        UserError: ``duplicates`` is none of these, or a union of answers of which there is one for each rating.
    """

    def __init__(self, path: Path, label_set: LabelSet, place: Place, *, duplicates: str = "error", hint: str = ""):
        super().__init__()
        if duplicates not in DUPLICATES:
            raise unknown_name("value of duplicates", duplicates, DUPLICATES)
        if duplicates == "union" and label_set.kind != "multi":
            what = f"Label set {label_set.name!r} takes one answer for each rating (kind {label_set.kind})"
            raise UserError(f"{what}, so repeated rows have no union. Set duplicates to 'first', or 'error'.")
        self.path, self.label_set, self.place = path, label_set, place
        self._duplicates, self._hint = duplicates, hint
        self._which = "--duplicates union or first" if label_set.kind == "multi" else "--duplicates first"
        self.rated: dict[str, _Raters] = {}
        self.merged: Counter[str] = Counter()
        self._files: dict[str, str] = {}  # as written -> as checked
        self._parsed: dict[str, Cell] = {}
        self._used: Counter[str] = Counter()  # how many ratings have this text
        self._united = 0
        self._ends: dict[tuple[str, float], Line] = {}  # (file, seconds) -> the line that says that it ends there

    def add(self, line: Line, file: str, rater: str, label: str, end: float | None = None) -> None:
        """One row.

        Args:
            line: where it stands.
            file, rater, label: as written.
            end: seconds at which what was rated ends, where the table says so: that must be the end of the file.

        Raises:
            UserError: nobody is named, the file is elsewhere, the set does not take the label, or the row is a second
                one.
        """
        if not rater.strip():
            raise UserError(f"{self.path}:{line}: the rater is blank. Name who gave this label.")
        if file not in self._files:
            self._files[file] = self.place.checked(file, self.path, line)
        if label not in self._parsed:
            self._parsed[label] = self._read(label, rater, line)
        cell = self._parsed[label]
        if not (cell.ticks or cell.others or cell.left_out or cell.unknown):
            self.dropped[DROPPED_BLANK] += 1
            return
        name = self._files[file]
        if end is not None:
            self._ends.setdefault((name, end), line)
        raters = self.rated.setdefault(name, {})
        if rater in raters:
            first, before = raters[rater]
            if self._duplicates == "error":
                raise UserError(
                    f"{self.path}:{line}: a second row for {name!r} by {rater!r}; the first is "
                    f"{f'line {first}' if isinstance(first, int) else first}. "
                    f"Remove one, or say which: {self._which} (training: datarc.duplicates)."
                )
            if self._duplicates == "first":
                self.dropped[DROPPED_REPEATED] += 1
                return
            self._united += 1
            raters[rater] = (first, Cell(self.label_set.in_order(before.ticks + cell.ticks)))
        else:
            raters[rater] = (line, cell)
        self._used[label] += 1

    def not_understood(self, path: Path, line: Line, text: str) -> None:
        """Count a line of some file that is none of its format, which is a problem."""
        self.dropped[DROPPED_LINE] += 1
        self.problem(f"{path}:{line}", f"line not understood, left out: {text[:60]!r}.")

    def corpus(
        self,
        name: str,
        *,
        suggested: Suggestions = NONE_SUGGESTED,
        described: Mapping[str, tuple[str, str]] | None = None,
        root: Path | None = None,
        traits: Mapping[str, Mapping[str, str]] | None = None,
    ) -> Corpus:
        """The corpus of all rows. An utterance's id is its path without the extension, where that tells it apart.

        Args:
            suggested: how it is split by default.
            described: file -> (speaker, session); by default as ``files.csv`` beside the audio has it.
            root: the corpus's folder; by default that in which files are looked for.
            traits: rater -> what is known of the person; of others it is left out.

        Raises:
            NothingRated: no row has a label.
            UserError: a fault in ``files.csv``.
        """
        for label, count in self._used.items():
            self._count(self._parsed[label], count)
        if self._united:
            self.note(
                self.path, f"{self._united} repeated rows were united with the first row for their file and rater."
            )
        note_alike(self.path, {rater for raters in self.rated.values() for rater in raters}, self, "rater")
        kept = {file: left for file, raters in sorted(self.rated.items()) if (left := _with_ticks(raters))}
        if not kept:
            lost = ", ".join(f"{count} x {reason}" for reason, count in self.counts().items())
            what = f"empty corpus, no row has a label of {', '.join(self.label_set.classes)}."
            raise NothingRated(f"{self.path}: {what}{f' Left out: {lost}.' if lost else ''}")
        self.dropped[DROPPED_NOTHING_LEFT] += sum(map(len, self.rated.values())) - sum(map(len, kept.values()))
        self.dropped[DROPPED_UNRATED] += len(self.rated) - len(kept)
        utterances = rated_utterances(self.place, list(kept), self, described)
        self._check_ends(dict(zip(kept, (utterance.seconds for utterance in utterances), strict=True)))
        self.dropped[DROPPED_UNRATED_AUDIO] += self.place.unrated(self.rated)
        known = traits or {}
        ids = dict(zip(kept, (utterance.id for utterance in utterances), strict=True))
        ratings = [
            Rating(ids[file], rater, cell.ticks, cell.value, cell.shares)
            for file, left in kept.items()
            for rater, cell in left
        ]
        return Corpus(
            name=name,
            root=root or self.place.folder,
            label_set=self.label_set,
            utterances=tuple(sorted(utterances, key=lambda utterance: utterance.id)),
            ratings=tuple(sorted(ratings, key=lambda rating: (rating.utterance, rating.rater))),
            dropped=self.counts(),
            problems=tuple(self.problems),
            suggested=suggested,
            merged=dict(sorted(self.merged.items())),
            traits={rater: dict(known[rater]) for rater in sorted({r.rater for r in ratings} & known.keys())},
        )

    def _check_ends(self, seconds: Mapping[str, float]) -> None:
        for (file, end), line in self._ends.items():
            if abs(seconds.get(file, math.nan) - end) > TOLERANCE:  # never of a file that cannot be read
                length = f"{seconds[file]:.3f} s long"
                raise UserError(f"{self.path}:{line}: {file!r} is {length}, and rated up to {end:.3f} s. {CUT}")

    def _read(self, label: str, rater: str, line: Line) -> Cell:
        try:
            return self.label_set.checked(label)
        except LabelError as fault:
            drop = " Or leave such labels out: --unknown-labels drop (training: datarc.unknown_labels)."
            hint = fault.hint + (drop if isinstance(fault, UnknownLabel) else "") + self._hint
            if self._hint and (having := sets_with(label)):
                hint = f"{hint} Registered sets that have it: {', '.join(having)}."
            raise UserError(f"{self.path}:{line}: {fault.what} (rater {rater[:60]!r}). {hint}") from None

    def _count(self, cell: Cell, ratings: int) -> None:
        self.dropped[DROPPED_OTHER] += ratings * cell.others
        self.dropped[DROPPED_LEFT_OUT] += ratings * len(cell.left_out)
        self.dropped[DROPPED_LABEL] += ratings * len(cell.unknown)
        for change in cell.merged:
            self.merged[change] += ratings


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How the answers in a file are read, whatever its form.

    Attributes:
        who: what is said about whose they are.
        duplicates: what to do with a second row for the same file and rater: ``error``, ``union`` or ``first``.
        outside: whether files may be outside their folder.
        unknown_labels: what happens to labels that the set does not know; by default what the set itself says.
        audio: the folder that files are relative to; by default that of the table or export.
    """

    who: Who = field(default_factory=Who)
    duplicates: str = "error"
    outside: bool = False
    unknown_labels: Literal["error", "drop"] | None = None
    audio: Path | None = None

    def rows(self, path: Path, folder: Path, label_set: LabelSet | None) -> RatedRows:
        """What takes the rows of a file, with IEMOCAP's labels where no set is known; errors then say how to name one.

        Args:
            folder: of its audio, by default.
        """
        return RatedRows(
            path,
            (label_set or iemocap.LABEL_SET).with_unknown(self.unknown_labels),
            Place(user_path(self.audio) if self.audio else folder, self.outside),
            duplicates=self.duplicates,
            hint="" if label_set else OWN_LABELS,
        )


def _with_ticks(raters: _Raters) -> list[tuple[str, Cell]]:
    return sorted((rater, cell) for rater, (_, cell) in raters.items() if cell.ticks)
