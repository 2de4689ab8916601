"""A listener's answers to clips, under the label set of a model: read, counted, written out, and judged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from s3prl_metaperser.corpora.label_set import Answer, LabelSet
from s3prl_metaperser.errors import UserError, shown
from s3prl_metaperser.methods.choice import FEWEST

#: What predictions call the answer that they decide for, by kind of label set.
ANSWER_COLUMNS = {"multi": "ticked", "single": "label", "soft": "label", "ordinal": "value"}


def for_listeners(label_set: LabelSet) -> LabelSet:
    """A model's label set for labels that one listener gives: an unknown label is an error, never left out."""
    return replace(label_set, unknown="error")


def answer_of(label: str | float | Iterable[str] | Mapping[str, float], label_set: LabelSet) -> Answer:
    """One label as people give it: text as in ratings.csv, a number, several names, shares by name, or Label Studio's
    ``{"choices": [...]}`` and ``{"rating": 4}``.

    Several names under a label set of shares have equal shares.

    Raises:
        LabelError: a label that the set does not take.
        UserError: something that is no label, or a label with no class in it.
    """
    if isinstance(label, bool | bytes) or not isinstance(label, str | int | float | Iterable):
        raise UserError(f"{shown(label)} is not a label. Expected {expected(label_set)}.")
    if isinstance(label, Mapping) and len(label) == 1 and (form := next(iter(label))) in ("choices", "rating"):
        return answer_of(label[form], label_set)
    if isinstance(label, Mapping):
        text = ";".join(f"{name}:{share}" for name, share in label.items())
    elif isinstance(label, str | int | float):
        text = str(label)
    else:
        names = list(map(str, label))
        share = f":{1 / len(names)}" if label_set.kind == "soft" and names else ""
        text = ";".join(f"{name}{share}" for name in names)
    cell = for_listeners(label_set).checked(text)
    if not cell.ticks:
        raise UserError(f"{shown(label)} names no class. Expected {expected(label_set)}, or leave the clip out.")
    if cell.value is not None:
        return cell.value
    return cell.ticks if cell.shares is None else dict(zip(cell.ticks, cell.shares, strict=True))


def expected(label_set: LabelSet) -> str:
    """What a label may be, for messages."""
    if label_set.kind == "ordinal":
        return f"a number from {label_set.levels[0]:g} to {label_set.levels[-1]:g}"
    several = {"multi": "one or more of", "soft": "shares of"}.get(label_set.kind, "one of")
    return f"{several} {', '.join(label_set.classes)}"


def answer_text(answer: Answer, joined: str = ";") -> str:
    """An answer as ratings.csv holds it: ``sad;happy``, ``sad:0.5;happy:0.5`` or ``3.5``."""
    if isinstance(answer, int | float):
        return f"{answer:.9g}"
    if isinstance(answer, Mapping):
        return joined.join(f"{name}:{share:.9g}" for name, share in answer.items())
    return joined.join(answer)


def decided(label_set: LabelSet, probabilities: np.ndarray, smoothing: float) -> list[Answer]:
    """The answer that each row of probabilities [N, C] stands for.

    Returns:
        ``multi`` and ``soft``: the classes above 1/C, the most probable first; ``single``: the most probable class;
        ``ordinal``: the number, with the smoothing of the targets taken back.
    """
    if label_set.kind == "ordinal":
        return [float(value) for value in label_set.value(probabilities, smoothing)]
    chosen, found = label_set.decide(probabilities), []
    for row, picked in zip(probabilities, chosen, strict=True):
        found.append(tuple(label_set.classes[i] for i in np.argsort(-row, kind="stable") if picked[i]))
    return list(found)


@dataclass(frozen=True)
class ListenerLabels:
    """One listener's answers to K clips.

    Attributes:
        label_set: the model's.
        answers: K of them.

    Examples:
        >>> mood = LabelSet("mood", "multi", ("happy", "sad", "neutral"), {"joy": "happy"})
        >>> labels = ListenerLabels.read(["joy", "neutral;sad", ["sad"]], mood)
        >>> labels.answers
        (('happy',), ('sad', 'neutral'), ('sad',))
        >>> labels.counts.tolist()
        [[1.0, 0.0, 0.0], [0.0, 1.0, 1.0], [0.0, 1.0, 0.0]]
        >>> labels.totals()
        {'happy': 1, 'sad': 2, 'neutral': 1}
    """

    label_set: LabelSet
    answers: tuple[Answer, ...]

    @classmethod
    def read(
        cls, labels: Sequence[str | float | Sequence[str] | Mapping[str, float]], label_set: LabelSet
    ) -> ListenerLabels:
        """From labels as people give them, one a clip (see :func:`answer_of`).

        Raises:
            UserError: not a sequence, or a label that the set does not take; the message names its place.
        """
        if isinstance(labels, str | Mapping) or not isinstance(labels, Iterable):
            what = "one text" if isinstance(labels, str) else shown(labels)
            raise UserError(f"labels must be a sequence with one entry a clip, got {what}.")
        found = []
        for number, label in enumerate(labels):
            try:
                found.append(answer_of(label, label_set))
            except UserError as fault:
                raise UserError(f"labels[{number}]: {fault}") from None
        return cls(label_set, tuple(found))

    def __len__(self) -> int:
        return len(self.answers)

    @property
    def counts(self) -> np.ndarray:
        """The answers as :meth:`.LabelSet.counts` has them, float64 [K, C]."""
        return np.array([self.label_set.counts(answer) for answer in self.answers]).reshape(len(self), -1)

    def totals(self) -> dict[str, float]:
        """How often each class was answered, in ticks or shares; of a scale how many answers are nearest to a level."""
        scale = self.label_set.kind == "ordinal"
        sums = (self.label_set.answered(self.counts) if scale else self.counts).sum(0).tolist()
        whole = [int(total) if float(total).is_integer() else total for total in sums]
        return dict(zip(self.label_set.classes, whole, strict=True))

    def warnings(self, shots: int, copies: int = 0) -> list[str]:
        """What the labels are too few or too much alike for.

        Args:
            shots: K of the model's training.
            copies: how many clips have the content of an earlier one.
        """
        clips, found = len(self), []
        if clips < FEWEST:
            found.append(
                f"{clips} clip(s) are too few to learn a listener from: with fewer than {FEWEST} the adapted model "
                f"may be worse than the one that is not adapted. It was trained to adapt to {shots}; label more."
            )
        elif clips < shots:
            found.append(f"{clips} clips are fewer than the {shots} that the model was trained to adapt to.")
        if copies:
            found.append(
                f"{copies} of the {clips} clips {'are copies' if copies > 1 else 'is a copy'} of another one: such a "
                "clip counts twice, and cross-validation predicts it after it has seen its copy, so that its figures "
                "flatter or, where the two labels differ, mislead."
            )
        never = [name for name, total in self.totals().items() if not total]
        if self.label_set.kind != "ordinal" and 0 < len(never) < len(self.label_set.classes):
            word = "ticked" if self.label_set.kind == "multi" else "chosen"
            found.append(
                f"Never {word}: {', '.join(never)}. All that the model learns of such a class is that this listener "
                "did not choose it; it will be predicted less often, rightly or not."
            )
        if clips > 1 and len(Counter(map(answer_text, self.answers))) == 1:
            found.append("All clips have the same label: the model can only learn to give that one always.")
        return found
