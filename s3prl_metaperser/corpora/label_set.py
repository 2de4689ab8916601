"""Label sets: what the raters of a corpus may answer, how it is written, and how an answer becomes a training target.

Whatever the kind of judgement, an answer becomes a distribution over C classes or levels, so that one head and one loss
serve all of them. What differs is how a cell is read (:meth:`LabelSet.parse`), how an answer is counted
(:meth:`LabelSet.counts`) and how a predicted distribution becomes an answer (:meth:`LabelSet.decide`,
:meth:`LabelSet.value`).
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from s3prl_metaperser.config import validator
from s3prl_metaperser.corpora.label_cells import is_blank, plain_cell
from s3prl_metaperser.errors import UserError, did_you_mean, shown

Kind = Literal["multi", "single", "soft", "ordinal"]
KINDS: tuple[Kind, ...] = ("multi", "single", "soft", "ordinal")

#: What a spelling may stand for besides a class: the label "other", and one that is left out.
OTHER, LEFT_OUT = "other", "-"
#: float32's rounding of ``1 / C`` must not answer every class of a uniform prediction.
THRESHOLD_MARGIN = 1e-8
#: How far the shares of a soft label may sum from 1: three thirds are written 0.33.
SHARES_TOLERANCE = 0.015

#: A number as it is written where the comma is the decimal mark; it may as well be two answers, so it is not read.
_COMMA = re.compile(r"\d+,\d+")

#: One answer: the classes ticked, a share for each class, or a number on the scale.
Answer = Sequence[str] | Mapping[str, float] | float


class LabelError(UserError):
    """A label that the set does not take.

    Attributes:
        what: the fault, without the place where it stands; ``hint`` says what to do.
    """

    def __init__(self, what: str, hint: str):
        super().__init__(f"{what}. {hint}")
        self.what, self.hint = what, hint


class UnknownLabel(LabelError):
    """A label that the set does not know, where that is an error."""


class Cell(NamedTuple):
    """A label as understood.

    Attributes:
        ticks: the classes answered, each once, in the set's order; of a number the nearest level.
        shares: ``soft``: the share of each of ``ticks``; else None.
        value: ``ordinal``: the number; else None.
        others: how many labels were "other" and are left out for it.
        left_out: the labels that the set leaves out ("-"), as written.
        merged: ``"label -> class"`` of each label that another class takes in.
        unknown: the labels that the set does not know, as written.
    """

    ticks: tuple[str, ...]
    shares: tuple[float, ...] | None = None
    value: float | None = None
    others: int = 0
    left_out: tuple[str, ...] = ()
    merged: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True)
class LabelSet:
    """What raters may answer.

    Attributes:
        name: stands in results, model cards and exported models.
        kind: ``multi`` (one class or more), ``single`` (one class), ``soft`` (a share for each class) or ``ordinal`` (a
            number on a scale).
        classes: in the order of every array with a class axis; of a scale the names of its levels, ascending, by
            default the numbers.
        spellings: a label as written (any case; ``_`` and ``-`` are blanks) -> a class, ``other``, or ``-``: left out
            and counted.
        merges: label -> the class that takes it in, after ``spellings``; counted.
        other: the label "other" is left out and counted (``drop``), one of ``classes`` (``class``), or an ``error``.
        unknown: what happens to a label that the set does not know: an ``error``, or left out and counted (``drop``).
        levels: ``ordinal``: the number of each class, ascending.

    Raises:
        UserError: the parts do not fit each other.

    Examples:
        >>> mood = LabelSet("mood", "single", ("happy", "sad"), {"joy": "happy"}, {"excited": "happy"})
        >>> mood.lookup("JOY"), mood.lookup("excited"), mood.lookup("bored")
        ('happy', 'happy', None)
        >>> mood.decide(np.array([[0.4, 0.6]])).tolist()
        [[False, True]]
        >>> fluency = LabelSet("fluency", "ordinal", levels=(0.0, 1.0, 2.0))
        >>> fluency.counts(1.25).tolist()
        [0.0, 0.75, 0.25]
        >>> float(fluency.value(np.array([0.0, 0.75, 0.25])))
        1.25
    """

    name: str
    kind: Kind
    classes: tuple[str, ...] = ()
    spellings: Mapping[str, str] = field(default_factory=dict, hash=False)
    merges: Mapping[str, str] = field(default_factory=dict, hash=False)
    other: Literal["drop", "class", "error"] = "drop"
    unknown: Literal["error", "drop"] = "error"
    levels: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.kind == "ordinal" and not self.classes:
            object.__setattr__(self, "classes", tuple(f"{level:.12g}" for level in self.levels))
        if faults := list(self._faults()):
            raise UserError(f"Label set {shown(self.name)}: {' '.join(faults)}")

    def _faults(self) -> Iterable[str]:
        classes = set(self.classes)
        if self.kind not in KINDS:
            yield f"kind {shown(self.kind)}, expected one of {', '.join(KINDS)}."
        ascending = list(self.levels) == sorted(set(self.levels)) and all(map(math.isfinite, self.levels))
        if self.kind == "ordinal" and not (ascending and len(self.levels) == len(self.classes) >= 2):
            yield "kind ordinal needs levels: a number for each class, at least two, ascending."
        elif len(classes) < len(self.classes):
            twice = next(name for name in self.classes if self.classes.count(name) > 1)
            yield f"the class {shown(twice)} appears twice. Remove one."
        elif len(classes) < 2:
            yield "classes must be at least two names."
        if self.kind != "ordinal" and self.levels:
            yield "levels belong to kind ordinal alone."
        reserved = ";:" if self.kind == "soft" else ";"
        if bad := [name for name in self.classes if not _plain(name) or any(mark in name for mark in reserved)]:
            yield f"{shown(bad[0])} cannot be the name of a class."
        if (self.other == "class") != (OTHER in classes):
            yield f"a class named {OTHER!r} and other: class go together."
        known = classes | {OTHER, LEFT_OUT}
        if bad := sorted(set(self.merges.values()) - known):
            yield f"merges: {shown(bad[0])} is not a class.{did_you_mean(bad[0], self.classes)}"
        if bad := sorted(set(self.spellings.values()) - known - set(self.merges)):
            yield f"spellings: {shown(bad[0])} is not a class.{did_you_mean(bad[0], self.classes)}"
        if both := sorted(classes & set(self.merges)):
            yield f"merges: {shown(both[0])} is taken in by another class, so take it out of classes."
        elif fault := self._ambiguous():
            yield fault

    def _ambiguous(self) -> str:
        """Labels that are read alike and mean different classes, of which one could then never be answered."""
        meant: dict[str, str] = {}
        own = ((name, name) for name in dict.fromkeys((*self.classes, *self.merges, OTHER)))
        for label, name in (*own, *self.spellings.items()):
            number = self.kind == "ordinal" and _number(label) is not None  # is read as a number
            if not number and meant.setdefault(_plain(label), name) != name:
                both = f"{shown(meant[_plain(label)])} and {shown(name)}"
                return f"the label {shown(label)} (any case; _ and - are blanks) means {both}. Rename one."
        return ""

    # -- reading --------------------------------------------------------------------------------------------------

    @cached_property
    def _names(self) -> dict[str, str]:
        """Label in plain form -> class, merged label, ``other`` or ``-``."""
        own = {name: name for name in (*self.classes, *self.merges, OTHER)}
        return {_plain(label): name for label, name in (own | dict(self.spellings)).items()}

    @cached_property
    def _index(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self.classes)}

    def lookup(self, label: str) -> str | None:
        """The class of a label, merges applied, or ``other``, or ``-``; None where the set does not know it.

        ``Other-<free text>``, as MSP-Podcast has it, is "other".
        """
        found = self._unmerged(label)
        return None if found is None else self.merges.get(found, found)

    def _unmerged(self, label: str) -> str | None:
        found = self._names.get(_plain(label))
        return OTHER if found is None and label.lower().startswith("other-") else found

    def knows(self, label: str) -> bool:
        """Whether a label means something here: a class, "other", what is left out, or a number where it is a scale."""
        return self.lookup(label) is not None or (self.kind == "ordinal" and _number(label) is not None)

    def known_names(self) -> list[str]:
        """Every label that :meth:`lookup` knows, classes first."""
        return list(self._names)

    def in_order(self, names: Iterable[str | None]) -> tuple[str, ...]:
        """The classes among ``names``, each once, in the set's order."""
        chosen = set(names)
        return tuple(name for name in self.classes if name in chosen)

    def parse(self, text: str, lookup: Callable[[str], str | None] | None = None) -> Cell:
        """Take a label cell apart; labels that the set does not know are reported in the result.

        ``multi``: labels joined by ``;``; empty parts are nothing, as IEMOCAP ends every label with ``;``. ``single``:
        one label. ``soft``: ``happy:0.7;neutral:0.3``, shares that sum to 1; a label without a number has all of it.
        ``ordinal``: a number on the scale, or the name or spelling of a level. A blank cell has no ticks.

        Args:
            lookup: in place of :meth:`lookup`.

        Raises:
            LabelError: a cell that is no label of this kind.
        """
        parts = [part for part in map(str.strip, text.split(";")) if part]
        if self.kind == "ordinal" and parts and parts[0] not in self.spellings:
            value = _number(parts[0]) if len(parts) == 1 else math.nan
            if value is not None:
                return self._on_scale(value, text)
        if self.kind == "single" and len(parts) > 1:
            raise LabelError(f"{len(parts)} labels in {shown(text)}", "This label set takes one label for each rating.")
        labels, shares = _shares(parts, text) if self.kind == "soft" else (parts, [1.0] * len(parts))
        found = [(lookup or self.lookup)(label) for label in labels]
        given = list(zip(labels, found, shares, strict=True))
        ticks = self.in_order(name for _, name, share in given if share)
        kept = [sum(share for _, name, share in given if name == tick) for tick in ticks]
        return Cell(
            ticks,
            shares=tuple(share / sum(kept) for share in kept) if self.kind == "soft" else None,
            value=self.levels[self._index[ticks[0]]] if self.kind == "ordinal" and ticks else None,
            others=0 if OTHER in self._index else found.count(OTHER),
            left_out=tuple(label for label, name, _ in given if name == LEFT_OUT),
            merged=tuple(
                f"{old} -> {name}" for label, name, _ in given if (old := self._unmerged(label)) in self.merges
            ),
            unknown=tuple(label for label, name, _ in given if name is None),
        )

    def checked(self, text: str) -> Cell:
        """:meth:`parse`, where a label that the set calls an error is one.

        JSON cells are understood (:func:`.plain_cell`), and ``nan``, ``N/A``, ``None`` and the like are blank, unless
        the set has such a class.

        Raises:
            LabelError: as :meth:`parse`; or an unknown label or "other", where the set does not leave it out.
        """
        text = self._plain_cell(text)
        cell = self.parse(text)
        if cell.unknown and self.unknown == "error":
            if self.kind == "ordinal":
                return self._on_scale(math.nan, text)
            label = cell.unknown[0][:60]
            wanted = label.lower()  # a class before its abbreviations and other words
            near = did_you_mean(wanted, self.classes) or did_you_mean(wanted, self.known_names())
            near = "" if is_blank(label) else near.strip()
            several = "; several are joined by ';'" if self.kind == "multi" else ""
            names = ", ".join(dict.fromkeys((*self.classes, *([] if self.other == "error" else [OTHER]))))
            raise UnknownLabel(f"unknown label {label!r}", f"{near} Available: {names}{several}.".strip())
        if cell.others and self.other == "error":
            raise LabelError(
                f"the label {OTHER!r}", f"This label set does not take it. Available: {', '.join(self.classes)}."
            )
        return cell

    def parts(self, text: str) -> tuple[str, ...]:
        """A cell in the set's own words, taken apart: ticks, ``class:share`` of shares, one class, or one number.

        Raises:
            LabelError: as :meth:`checked`.

        Examples:
            >>> LabelSet("mood", "multi", ("happy", "sad"), {"joy": "happy"}).parts("sad; joy")
            ('happy', 'sad')
        """
        cell = self.checked(text)
        if cell.value is not None:
            return (f"{cell.value:.9g}",)
        if cell.shares is not None:
            return tuple(f"{name}:{share:.9g}" for name, share in zip(cell.ticks, cell.shares, strict=True))
        return cell.ticks

    def _plain_cell(self, text: str) -> str:
        if self.lookup(text) is not None:
            return text
        if (plain := plain_cell(text)) is None:
            what = 'Expected a label, ["a", "b"], {"choices": ["a", "b"]} or {"rating": 4}.'
            raise LabelError(f"{shown(text)} is no label", what)
        return "" if is_blank(plain) and self.lookup(plain) is None else plain

    def _on_scale(self, value: float, text: str) -> Cell:
        low, high = self.levels[0], self.levels[-1]
        if not low <= value <= high:
            point = f" Write {text.strip().replace(',', '.')} with a point." if _COMMA.fullmatch(text.strip()) else ""
            what = f"Expected one number from {low:g} to {high:g}.{point}"
            raise LabelError(f"{shown(text)} is not on the scale", what)
        nearest = int(np.abs(np.asarray(self.levels) - value).argmin())
        return Cell((self.classes[nearest],), value=value)

    # -- changes --------------------------------------------------------------------------------------------------

    def with_unknown(self, unknown: Literal["error", "drop"] | None) -> LabelSet:
        """The set with another way with labels that it does not know; None: its own."""
        return self if unknown is None else dataclasses.replace(self, unknown=unknown)

    def with_merges(self, changes: Mapping[str, str]) -> LabelSet:
        """The set in which single labels are taken in by a class, by ``other``, or left out (``-``), and counted.

        Raises:
            UserError: a change to something that is no class.

        Examples:
            >>> mood = LabelSet("mood", "single", ("happy", "sad", "tense"), {"joy": "happy"})
            >>> mood.with_merges({"contempt": "other", "tense": "sad"}).classes
            ('happy', 'sad')
        """
        if self.kind == "ordinal":
            raise UserError(f"Label set {self.name!r} is a scale: single labels of it cannot be changed. Give a file.")
        gone = {_plain(label) for label in changes}
        own = {_plain(name): name for name in self.classes}
        changes = {own.get(_plain(label), label): goal for label, goal in changes.items()}
        goals = {label: goal if goal == LEFT_OUT else self.lookup(goal) or goal for label, goal in changes.items()}
        moved = {label: goal for label, goal in goals.items() if label in self.classes}
        return dataclasses.replace(
            self,
            name=f"{self.name}, changed",
            classes=tuple(name for name in self.classes if _plain(name) not in gone),
            spellings={label: name for label, name in self.spellings.items() if _plain(label) not in gone},
            merges={label: moved.get(goal, goal) for label, goal in self.merges.items() if _plain(label) not in gone}
            | goals,
        )

    # -- answers to targets ---------------------------------------------------------------------------------------

    def counts(self, answer: Answer) -> np.ndarray:
        """One answer, float64 [C], not normalised: ticks, shares, or the two levels beside a number, whose mean it is.

        Raises:
            KeyError: a class that the set does not have; a fault of the caller.
            LabelError: a number outside the scale.
        """
        found = np.zeros(len(self.classes))
        if isinstance(answer, int | float):
            levels = np.asarray(self.levels)
            if self.kind != "ordinal" or not levels[0] <= answer <= levels[-1]:
                raise LabelError(f"{answer!r} is not on the scale of {self.name}", "Give a number on its scale.")
            high = int(np.clip(np.searchsorted(levels, answer), 1, len(levels) - 1))
            share = (answer - levels[high - 1]) / (levels[high] - levels[high - 1])
            found[high - 1], found[high] = 1.0 - share, share
        elif isinstance(answer, Mapping):
            for name, share in answer.items():
                found[self._index[name]] += share
        else:
            for name in answer:
                found[self._index[name]] += 1.0
        return found

    def target(self, counts: np.ndarray, smoothing: float) -> np.ndarray:
        """Smoothed distributions of counts, float64 [..., C] -> [..., C].

        Raises:
            UserError: a row without an answer, or bad smoothing: from ``1 - 1 / C`` on nothing of an answer is left.
        """
        if smoothing >= (most := 1 - 1 / len(self.classes)):
            raise UserError(
                f"Bad value {smoothing!r} for smoothing, expected below {most:.3g} with {self.name}'s classes."
            )
        totals = np.asarray(counts).sum(-1, keepdims=True)
        if not (totals > 0).all():
            raise UserError("A label needs at least one tick, got none.")
        return smooth(counts / totals, smoothing)

    # -- distributions to answers ---------------------------------------------------------------------------------

    def decide(self, probabilities: np.ndarray, smoothing: float = 0.0) -> np.ndarray:
        """The answered classes of distributions [..., C], bool [..., C].

        ``multi`` and ``soft``: above ``1 / C`` (Meta-PerSER, section 3.3). ``single``: the most probable, of equal ones
        the first. ``ordinal``: the level nearest to :meth:`value`.
        """
        p = np.asarray(probabilities, dtype=np.float64)
        if self.kind in ("multi", "soft"):
            return p > 1.0 / p.shape[-1] + THRESHOLD_MARGIN
        if self.kind == "single":
            chosen = p.argmax(-1)
        else:
            chosen = np.abs(self.value(p, smoothing)[..., None] - np.asarray(self.levels)).argmin(-1)
        return np.arange(p.shape[-1]) == chosen[..., None]

    def answered(self, counts: np.ndarray) -> np.ndarray:
        """:meth:`decide` of what raters answered: counts [..., C] to bool [..., C]."""
        counts = np.asarray(counts, dtype=np.float64)
        return self.decide(counts / counts.sum(-1, keepdims=True))

    def value(self, probabilities: np.ndarray, smoothing: float = 0.0) -> np.ndarray:
        """``ordinal``: the number that a distribution stands for, [..., C] -> [...]: its mean.

        Args:
            smoothing: of the targets that the distribution was trained on; its shift of the mean is taken back.
        """
        levels, others = np.asarray(self.levels), len(self.levels) - 1
        kept, added = 1.0 - smoothing - smoothing / others, smoothing / others * levels.sum()
        mean = np.asarray(probabilities, dtype=np.float64) @ levels
        return np.clip((mean - added) / kept, levels[0], levels[-1])

    # -- storage --------------------------------------------------------------------------------------------------

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values, for results, cards and checkpoints; :meth:`from_dict` reads them."""
        return {
            name: list(value) if isinstance(value, tuple) else dict(value) if isinstance(value, Mapping) else value
            for name, value in ((f.name, getattr(self, f.name)) for f in dataclasses.fields(self))
        }

    @classmethod
    def from_yaml(cls, path: str | Path) -> LabelSet:
        """Read ``labels.yaml``, whose keys are the attributes; docs/label_sets.md has examples of all of them.

        Raises:
            UserError: not readable, or something in it that is no label set, with file and line.
        """
        return validator.read(cls, path)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> LabelSet:
        """The inverse of :meth:`as_dict`."""
        return validator.build(cls, content, "label_set", strict=True)

    def __str__(self) -> str:
        kinds = {
            "multi": "several classes may be ticked",
            "single": "one class for each rating",
            "soft": "a share for each class",
            "ordinal": "a number on a scale",
        }
        return f"{self.name} ({self.kind}: {kinds[self.kind]}): {', '.join(self.classes)}"

    @property
    def identity(self) -> dict[str, Any]:
        """What numbers depend on besides the classes; empty for a plain ``multi`` set, whose classes say it all."""
        found = {
            "kind": self.kind if self.kind != "multi" else None,
            "levels": list(self.levels),
            "merges": dict(sorted(self.merges.items())),
        }
        return {name: value for name, value in found.items() if value}


def smooth(distribution: np.ndarray, smoothing: float) -> np.ndarray:
    """Label smoothing, ``y = (1 - e) p + e (1 - p) / (C - 1)``: float64 [..., C] -> [..., C]; rows still sum to one.

    ``1 / C`` is a fixed point, so that the threshold ``> 1 / C`` means the same before and after.

    Raises:
        UserError: ``smoothing`` is not in [0, 1).
    """
    if not 0.0 <= smoothing < 1.0:
        raise UserError(f"Bad value {smoothing!r} for smoothing, expected 0 <= smoothing < 1.")
    others = distribution.shape[-1] - 1
    return (1.0 - smoothing) * distribution + smoothing * (1.0 - distribution) / others


def plain_counts(counts: np.ndarray) -> list[list[int | float]]:
    """Counts [n, C] as JSON values: whole numbers, as ticks are, without a decimal point."""
    return [[int(count) if float(count).is_integer() else float(count) for count in row] for row in counts]


def _plain(label: str) -> str:
    return " ".join(label.lower().replace("_", " ").replace("-", " ").split())


def _number(text: str) -> float | None:
    try:
        return None if "_" in text else float(text)  # Python reads 1_0 as ten
    except ValueError:
        return None


def _shares(parts: list[str], text: str) -> tuple[list[str], list[float]]:
    """Labels and shares of a soft cell, ``label:share`` joined by ``;``."""
    labels, shares = [], []
    for part in parts:
        label, colon, number = part.rpartition(":")
        share = _number(number) if colon else 1.0
        if share is None or not 0.0 <= share <= 1.0:
            raise LabelError(f"bad share in {shown(part)}", "Write happy:0.7;neutral:0.3, shares from 0 to 1.")
        labels.append((label if colon else part).strip())
        shares.append(share)
    if shares and abs(sum(shares) - 1.0) > SHARES_TOLERANCE:
        raise LabelError(f"the shares in {shown(text)} sum to {sum(shares):g}", "They must sum to 1.")
    return labels, shares
