"""Which column of a table of ratings is the file, which the label, and who rated: for corpora and listeners alike.

A column is known by its name, whatever its case and whatever stands between its words. Where a name leaves open whose
labels they are, the table is refused with that question and never read in one of the ways that it could be meant.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from s3prl_metaperser.corpora.csv_rows import missing
from s3prl_metaperser.corpora.people import Who, fold, is_fact, is_no_person
from s3prl_metaperser.errors import UserError, unknown_name

FILE, RATER, LABEL, VALUE = "file", "rater", "label", "value"
TIMES = ("start", "end")
#: crowd-kit's names of a file, and last since they can be something else beside one.
_LAST_FILES = ("task", "name")


def _names(pattern: str) -> re.Pattern:
    """Folded names, with or without what crowd-sourcing sites put before them."""
    return re.compile(f"(?:assignment|input|output|answer|data|meta)?(?:{pattern})")


_FILES = _names("(?:(?:audio|sound|wav|clip|recording)(?:file)?|file)(?:name|path|url)?|path|stimulus")
_RATERS = _names(
    "(?:id|code)?(?:rater|worker|crowdworker|performer|annotator|user|listener|participant|evaluator|judge|coder|labell?er"
    "|assessor|reviewer|turker|turk|respondent|responder|prolific|observer|perceiver|grader|scorer|juror|tagger|expert)s?"
    "(?:id|name|no|num|number|index|code|uid|uuid|pid|key|email|hash|login|account|username)?"
    "|(?:rated|labell?ed|annotated|completed|created|judged|coded|evaluated)by(?:id|email|name|username)?|localid"
)
_LABELS = _names(
    "(?:(?:emo|emotion|label|class|category|answer|response|choice|selected|chosen|annotation|rating|score|tick|tag|result)"
    "(?:s|es)?){1,2}|emotional(?:class|category|label)|categories"
)
_HARMLESS = _names(
    "duration|seconds|length|.*confidence|certainty|comments?|notes?|remarks?|leadtime|time|date|datetime|timestamp"
    "|(?:created|updated|completed|submitted|started|finished|accepted)(?:at|on|time|date)?|(?:reaction|response)time|rt|ttr"
    "|(?:annotation|task|hit|assignment|rating|response|item|project|batch|trial)?(?:id|status)|index|idx|row|unnamed0"
    "|trial|order|position|plays|playcount|replays|batch|project|dataset|corpus|link|device|browser|samplerate|channels"
    "|wascancelled|labell?edat|again(?:plays|responsetime|labelledat)?"
)


@dataclass(frozen=True)
class Columns:
    """What the columns of a table are.

    Attributes:
        file: index of the file's.
        people: (index, name) of each rater's column of a wide table; empty for a long one.
        rater: index of the column that names the rater; None where it is wide, or where all labels are one listener's.
        label: index of the label's column; None where the table is wide.
        listener: whose labels they are, where no column says so.
        times: ``start`` and ``end`` -> index, where there are such columns.
        unused: names of the columns that nothing is read from.
        unnamed: indices of a wide table's columns without a name, which must be empty.
    """

    file: int
    people: tuple[tuple[int, str], ...] = ()
    rater: int | None = None
    label: int | None = None
    listener: str | None = None
    times: Mapping[str, int] = field(default_factory=dict)
    unused: tuple[str, ...] = ()
    unnamed: tuple[int, ...] = ()

    @property
    def note(self) -> str | None:
        """What to say of the columns that are not used."""
        return f"columns not used: {', '.join(self.unused)}." if self.unused else None


def columns_of(path: Path, header: Sequence[str], who: Who, *, scale: bool = False) -> Columns:
    """What the columns of a table of ratings are.

    Args:
        scale: whether labels are numbers, which may stand in a column ``value``.

    Raises:
        UserError: a column is missing, or it is not clear which one is the file, the label or the rater.
    """
    return _Header(path, [name.strip() for name in header], who, scale).columns()


def is_known(name: str) -> bool:
    """Whether a column's name says what it is: it tells which separator a header is written with."""
    kinds = (_FILES, _RATERS, _LABELS)
    return (folded := fold(name)) in (*_LAST_FILES, *TIMES, VALUE) or any(kind.fullmatch(folded) for kind in kinds)


def says_who(name: str) -> bool:
    """Whether a column's name is one under which the rater is written."""
    return _RATERS.fullmatch(fold(name)) is not None


def is_harmless(name: str) -> bool:
    """Whether a column's name says that nothing in it is anybody's label: a time, a comment, who speaks."""
    return _HARMLESS.fullmatch(fold(name)) is not None or is_fact(name)


class _Header:
    def __init__(self, path: Path, names: list[str], who: Who, scale: bool):
        self.path, self.names, self.who, self.scale = path, names, who, scale
        self.folded = [fold(name) for name in names]
        self.file = self._file()
        self.times = {name: n for n, name in enumerate(self.folded) if name in TIMES}
        self.free = [n for n in range(len(names)) if n not in (self.file, *self.times.values())]

    def columns(self) -> Columns:
        wanted = list(dict.fromkeys(name.strip() for name in self.who.raters or ()))
        if wanted and self.who.rater_column is None and all(name in self.names for name in wanted):
            places = [self.names.index(name) for name in wanted]
            if not any(says_who(self.names[n]) for n in self.free if n not in places):
                return self._made(people=tuple(zip(places, wanted, strict=True)))
        rater = None if self.who.all_one else self._rater()
        if rater is None and not self.who.all_one:
            return self._without_rater()
        label = self._label([n for n in self.free if n != rater])
        if label is None:
            raise missing(self.path, LABEL, self.names)
        return self._made(rater=rater, label=label, listener=self.who.listener if rater is None else None)

    def _without_rater(self) -> Columns:
        """One listener's labels, or a column for each rater."""
        label = self._label(self.free, refuse=False)
        others = [n for n in self.free if n != label and not self._harmless(n) and not is_fact(self.names[n])]
        if label is not None and (self.folded[label] in (LABEL, VALUE) or not others):
            if self.who.listener is None or others:
                raise self._whose()
            return self._made(label=label, listener=self.who.listener)
        if not self.scale and VALUE in self.folded:
            raise self._no_scale()
        return self._wide()

    def _wide(self) -> Columns:
        columns = [n for n in self.free if not self._harmless(n)]
        if missing := [name for name in self.who.raters or () if name.strip() not in self.names]:
            raise unknown_name("rater", missing[0], (self.names[n] for n in columns))
        wrong = [n for n in columns if is_no_person(self.names[n]) and self.names[n] not in self.who.excluded]
        if wrong:
            people = [self.names[n] for n in columns if n not in wrong] or ["A", "B", "C"]
            names = " and ".join(repr(self.names[n]) for n in wrong[:5])
            raise UserError(
                f"{self.path}:1: whose labels are these? No column says who rated, so that every column would be a "
                f"rater's, and {names} {'are no people' if len(wrong) > 1 else 'is no person'}: labels that are made "
                "from those of others would tell of test raters. Name whose columns to read, "
                f"{self.who.to_name(people)}, or the column that says who rated, {self.who.to_name_column}."
                f"{self._one()}"
            )
        if not columns:
            raise UserError(
                f"{self.path}:1: no ratings, only {', '.join(self.names)}. "
                "Expected the columns file,rater,label, or file and one for each rater."
            )
        unnamed = tuple(n for n in self.free if not self.names[n])
        return replace(self._made(people=tuple((n, self.names[n]) for n in columns)), unnamed=unnamed)

    def _made(
        self,
        people: tuple[tuple[int, str], ...] = (),
        rater: int | None = None,
        label: int | None = None,
        listener: str | None = None,
    ) -> Columns:
        used = {rater, label, *(n for n, _ in people)}
        unused = tuple(self.names[n] for n in self.free if n not in used and self.names[n])
        return Columns(self.file, people, rater, label, listener, self.times, unused)

    # ------------------------------------------------------------------ roles

    def _file(self) -> int:
        everywhere = range(len(self.names))
        kinds = ([n for n in everywhere if self.folded[n] == FILE], [n for n in everywhere if self._is(_FILES, n)])
        last = ([n for n in everywhere if self.folded[n] == name] for name in _LAST_FILES)
        found = next(filter(None, (*kinds, *last)), None)
        if found is None:
            raise missing(self.path, FILE, self.names)
        if len(found) > 1:
            raise self._either("name the file", found, f"Call the right one {FILE!r}.")
        return found[0]

    def _rater(self) -> int | None:
        asked = self.who.rater_column
        if asked is not None:
            exact = [n for n in self.free if self.names[n] == asked.strip()]
            found = exact or [n for n in self.free if self.folded[n] and self.folded[n] == fold(asked)]
            if len(found) != 1:
                fault = unknown_name("column", asked, (self.names[n] for n in self.free if self.names[n]))
                raise UserError(f"{self.path}:1: {fault}")
            return found[0]
        found = [n for n in self.free if says_who(self.names[n])]
        if len(found) > 1:
            raise self._either(
                "say who rated", found, f"Whose labels are these? Say which it is: {self.who.to_name_column}."
            )
        return found[0] if found else None

    def _label(self, among: Sequence[int], refuse: bool = True) -> int | None:
        for name in (VALUE, LABEL) if self.scale else (LABEL,):
            if len(exact := [n for n in among if self.folded[n] == name]) == 1:
                return exact[0]
        if refuse and not self.scale and any(self.folded[n] == VALUE for n in among):
            raise self._no_scale()
        found = [n for n in among if self._is(_LABELS, n)]
        if refuse and len(found) > 1:
            raise self._either("hold the labels", found, f"Call the right one {LABEL!r}.")
        return found[0] if len(found) == 1 else None

    def _harmless(self, n: int) -> bool:
        """Whether a column is known to hold nothing about whose labels they are."""
        return not self.names[n] or self._is(_HARMLESS, n) or self._is(_FILES, n)

    def _is(self, kind: re.Pattern, n: int) -> bool:
        return kind.fullmatch(self.folded[n]) is not None

    # ------------------------------------------------------------------ errors

    def _whose(self) -> UserError:
        there = ", ".join(filter(None, self.names))
        return UserError(
            f"{self.path}:1: whose labels are these? The column {RATER!r} is missing; it has {there}. Name the column "
            f"that says who rated: {self.who.to_name_column}.{self._one()} "
            f"Has each rater a column? {self.who.to_name()}."
        )

    def _one(self) -> str:
        one = self.who.listener is not None and self._label(self.free, refuse=False) is not None
        return " Are all of them one listener's? --all-one." if one else ""

    def _either(self, what: str, found: Sequence[int], how: str) -> UserError:
        names = " and ".join(repr(self.names[n]) for n in found)
        return UserError(f"{self.path}:1: {len(found)} columns could {what}: {names}. {how}")

    def _no_scale(self) -> UserError:
        if self.who.listener is not None:
            what = "holds numbers of a scale, and this model's listeners answer classes: numbers cannot adapt it"
            how = f"Give classes in a column {LABEL!r}, or a model that was trained on a scale"
            return UserError(f"{self.path}:1: a column {VALUE!r} {what}. {how}.")
        return UserError(
            f"{self.path}:1: a column {VALUE!r} holds numbers of a scale, and this label set has none. "
            f"Name the column {LABEL!r}, or give a label set of kind ordinal."
        )
