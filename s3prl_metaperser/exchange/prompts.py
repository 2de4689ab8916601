"""Instructions in words: as many paraphrases as a task needs, dealt out by a seed."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from s3prl_metaperser.config import validator
from s3prl_metaperser.config.validator import filled
from s3prl_metaperser.corpora.label_set import Answer, LabelSet
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.listener.labels import answer_text
from s3prl_metaperser.seeding import numpy_generator

#: Between the classes of one label.
AND = " and "
INSTRUCTIONS = Path(__file__).with_name("instructions.yaml")
#: Dynamic-SUPERB asks for so many different instructions, or one for every 20 rows where that is more.
FEWEST, ROWS_EACH = 10, 20
_Lines = Annotated[tuple[str, ...], filled]
#: What lines may hold in braces.
_FIELDS = dict.fromkeys(("clips", "examples", "query", "about", "choices", "sample", "low", "high"), "")


@dataclass(frozen=True)
class Answers:
    """How to answer, by the kind of the label set."""

    single: _Lines
    multi: _Lines
    soft: _Lines
    ordinal: _Lines


@dataclass(frozen=True)
class Wording:
    """The parts of instructions; ``instructions.yaml`` says what each is for.

    Raises:
        UserError: a line with something in braces that is none of its fields.
    """

    examples: _Lines
    question: _Lines
    alone: _Lines
    turns: _Lines
    answer: Answers

    def __post_init__(self) -> None:
        lines = (*self.examples, *self.question, *self.alone, *self.turns)
        for line in (*lines, *(each for kind in vars(self.answer).values() for each in kind)):
            try:
                line.format_map(_FIELDS)
            except (KeyError, ValueError, IndexError) as error:
                raise UserError(f"{line!r}: {error} in braces. Known: {', '.join(_FIELDS)}.") from None

    @classmethod
    @functools.cache
    def read(cls, path: Path = INSTRUCTIONS) -> Wording:
        """The parts in a YAML file.

        Raises:
            UserError: not readable, or not of this form, with file and line.
        """
        return validator.read(cls, path)


def distinct_wanted(rows: int) -> int:
    """How many different instructions so many rows need."""
    return max(FEWEST, rows // ROWS_EACH)


@dataclass(frozen=True)
class Paraphrase:
    """Which line of each part, and in which order the classes are named."""

    part: int
    answer: int
    order: tuple[int, ...]


class Phrasing:
    """Instructions for the rows of one label set.

    Rows take turns with :func:`distinct_wanted` different paraphrases, or as many as there are on a scale, in an order
    that the seed draws. Each names the classes in an order of its own, so that no class gains by its place.

    Args:
        about: what is labelled, such as "the emotion".
        kind: how answers are asked for, where it is not as the label set says.

    Examples:
        >>> mood = LabelSet("mood", "single", ("happy", "sad"))
        >>> phrasing = Phrasing(mood, rows=40, seed=0, about="the mood")
        >>> len({phrasing.alone(row) for row in range(40)})
        10
        >>> phrasing.with_examples(0, ["sad", "happy"], examples=(2, 3), query=1)
        'One person listened to clips 2 to 3 and wrote: clip 2: sad, clip 3: happy. Give the label of the mood in clip \
1 that this person would give. Reply with one of happy or sad.'
    """

    def __init__(
        self,
        label_set: LabelSet,
        *,
        rows: int,
        seed: int,
        about: str = "",
        wording: Wording | None = None,
        kind: str | None = None,
    ):
        self.label_set, self.wording = label_set, wording or Wording.read()
        self.kind = kind or label_set.kind
        self.lines: Sequence[str] = getattr(self.wording.answer, self.kind)
        self.about = about or (f"the {label_set.name}" if label_set.kind == "ordinal" else "the emotion")
        self.paraphrases = self._drawn(distinct_wanted(rows), seed)

    def _drawn(self, wanted: int, seed: int) -> list[Paraphrase]:
        draw = numpy_generator("paraphrases", seed, self.label_set.name, wanted)
        size = len(self.label_set.classes)
        orders = 1 if self.kind == "ordinal" else math.factorial(min(size, 10))
        wanted = min(wanted, len(self.wording.alone) * len(self.lines) * orders)
        found: dict[Paraphrase, None] = {}
        while len(found) < wanted:
            part, answer = (int(draw.integers(len(lines))) for lines in (self.wording.alone, self.lines))
            order = [0] if orders == 1 else draw.permutation(size).tolist()
            first = order.index(len(found) % len(order))  # every class is named first equally often
            found[Paraphrase(part, answer, (*order[first:], *order[:first]))] = None
        return list(found)

    def _of(self, row: int) -> Paraphrase:
        return self.paraphrases[row % len(self.paraphrases)]

    def choices(self, row: int) -> tuple[str, ...]:
        """The classes in the order in which a row names them; none where the answer is a number."""
        return () if self.kind == "ordinal" else tuple(self.label_set.classes[at] for at in self._of(row).order)

    def alone(self, row: int) -> str:
        """The instruction without a labelled clip."""
        return self._filled(row, self._line(row, self.wording.alone))

    def with_examples(self, row: int, labels: Sequence[str], examples: tuple[int, int], query: int) -> str:
        """The instruction with labelled clips.

        Args:
            labels: of these clips, in words.
            examples: the numbers of the first and the last of them.
        """
        first, last = examples
        said = ", ".join(f"clip {first + at}: {label}" for at, label in enumerate(labels))
        clips = f"clip {first}" if first == last else f"clips {first} to {last}"
        parts = (self._line(row, self.wording.examples), self._line(row, self.wording.question))
        return self._filled(row, *parts, clips=clips, examples=said, query=query)

    def turns(self, row: int) -> str:
        """What is said before the first of several turns."""
        return self._filled(row, self._line(row, self.wording.turns))

    def _line(self, row: int, lines: Sequence[str]) -> str:
        return lines[self._of(row).part % len(lines)]

    def _filled(self, row: int, *lines: str, **fields: Any) -> str:
        given = {"about": self.about, **fields, **self._answer_fields(row)}
        return " ".join(line.format_map(given) for line in (*lines, self.lines[self._of(row).answer]))

    def _answer_fields(self, row: int) -> dict[str, str]:
        if self.kind == "ordinal":
            return {"low": f"{self.label_set.levels[0]:g}", "high": f"{self.label_set.levels[-1]:g}"}
        *most, last = self.choices(row)
        return {"choices": f"{', '.join(most)} or {last}", "sample": f"{most[0]}:0.7;{last}:0.3"}


def spoken(answer: Answer) -> str:
    """A label as prompts have it: ``sad and happy``, ``sad:0.7;happy:0.3`` or ``3.5``."""
    return answer_text(answer, AND if isinstance(answer, Sequence) else ";")
