"""The listening page: what the templates show, as plain data. Jinja2 escapes every word that comes from outside.

A clip's name and predictions are shown only after it has a label: both could tell a listener what to hear.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import jinja2
import numpy as np

from s3prl_metaperser.corpora.label_set import Answer, LabelSet
from s3prl_metaperser.listener.session import ADAPTING, ListeningSession, View

_TEMPLATES = Path(__file__).parent / "templates"

#: What an empty form is answered with, by kind of label set.
_MISSING = {
    "multi": "Tick at least one class, or skip the clip.",
    "soft": "Tick at least one class, or skip the clip.",
    "single": "Choose a class, or skip the clip.",
    "ordinal": "Give a number, or skip the clip.",
}


class Row(NamedTuple):
    """One class, or level of a scale, in a table of predictions.

    Attributes:
        mine: whether it is the listener's label, or part of it.
        average: predicted share for the average listener.
        you: predicted share for this listener; None where there is none.
        top: the share that the longest bar of the table stands for.
    """

    name: str
    mine: bool
    average: float
    you: float | None
    top: float

    @property
    def change(self) -> int:
        """In points, of the percentages as they are shown."""
        return 0 if self.you is None else round(100 * self.you) - round(100 * self.average)


class Said(NamedTuple):
    """A prediction as an answer: the classes that are decided for with their shares, or a number on the scale."""

    classes: list[tuple[str, float]]
    value: float | None = None


class Compared(NamedTuple):
    """Mean predictions on clips that adaptation has not seen, where there are any; of a scale its mean numbers."""

    where: str
    more: list[tuple[str, int]]
    less: list[tuple[str, int]]
    average: float
    you: float
    rows: list[Row]


class ClipPredictions(NamedTuple):
    """One labelled clip: predictions for the average listener and for this one.

    Attributes:
        left_out: whether this listener's was made by the model adapted without the clip.
    """

    number: int
    answer: str
    average: Said
    you: Said | None
    left_out: bool
    rows: list[Row]


def clip_page(
    session: ListeningSession, view: View, index: int, token: str, last: int | None, message: str = ""
) -> str:
    """The page of one clip.

    Args:
        token: to be sent back with every form.
        last: the clip that was labelled last, whose predictions are shown.
        message: what was wrong with the last form.
    """
    total, answer, label_set = len(session.clips), view.answers.get(index), session.recognizer.label_set
    more = {
        "index": index,
        "message": message,
        "total": total,
        "usable": total - sum(number not in view.answers for number in view.unreadable),
        "before": (index - 1) % total,
        "after": (index + 1) % total,
        "missing": missing(label_set),
        "step": min(np.diff(label_set.levels), default=1.0),
        "named_levels": _named_levels(label_set),
        "given": () if answer is None or isinstance(answer, int | float) else tuple(answer),
        "number": f"{answer:.9g}" if isinstance(answer, int | float) else "",
    }
    return _render("page.html", session, view, last, token, **more)


def news(session: ListeningSession, view: View, last: int | None, token: str) -> str:
    """What the model predicts before and after adaptation, as a part of the page."""
    return _render("news.html", session, view, last, token)


def missing(label_set: LabelSet) -> str:
    """What is said to a form without a label."""
    return _MISSING[label_set.kind]


def busy_words(view: View) -> str:
    """What the worker is doing, for the page's head."""
    return {"": "", ADAPTING: "Adapting to you ..."}.get(view.busy, "Reading the clips ...")


def version(view: View) -> str:
    """Changes whenever the news do."""
    parts = (view.used, len(view.answers), len(view.adapted), view.pending, len(view.unreadable), bool(view.problem))
    return "-".join(str(int(part)) for part in parts)


@functools.cache
def asset(name: str) -> bytes:
    """A file of the page, as it is: ``page.css`` or ``page.js``."""
    return (_TEMPLATES / name).read_bytes()


@functools.cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _render(template: str, session: ListeningSession, view: View, last: int | None, token: str, **more: object) -> str:
    shown = last if last in view.answers and last in view.average else None
    return (
        _environment()
        .get_template(template)
        .render(
            session=session,
            view=view,
            token=token,
            last=last,
            label_set=session.recognizer.label_set,
            busy=busy_words(view),
            version=version(view),
            unreadable=[session.clips[index] for index in view.unreadable],
            left=max(session.every - len(view.answers), 0),
            compared=_compared(session, view) if view.adapted else None,
            clip=None if shown is None else _predictions(session, view, shown),
            examples=_examples(session, view),
            **more,
        )
    )


def _named_levels(label_set: LabelSet) -> list[str]:
    """``1 bad``, ``2 poor``, ... where a scale has names besides its numbers."""
    pairs = [(f"{level:g}", name) for name, level in zip(label_set.classes, label_set.levels, strict=False)]
    return [f"{level} {name}" for level, name in pairs] if any(level != name for level, name in pairs) else []


def _compared(session: ListeningSession, view: View) -> Compared:
    fresh = [index for index in view.adapted if index not in view.answers]
    chosen = fresh or list(view.adapted)
    where = f"{len(chosen)} unlabelled clips" if fresh else f"the {len(chosen)} clips, all of which you labelled"
    both = [np.mean([found[index] for index in chosen], axis=0) for found in (view.average, view.adapted)]
    rows = _rows(session, *both)
    changes = sorted((row.change, row.name) for row in rows)
    more = [(name, change) for change, name in reversed(changes) if change > 1][:3]
    less = [(name, change) for change, name in changes if change < -1][:3]
    average, you = (_said(session, found).value or 0.0 for found in both)
    return Compared(where, more, less, average, you, rows)


def _predictions(session: ListeningSession, view: View, index: int) -> ClipPredictions:
    """For this listener: without the clip itself where that was made, else as predicted before it had a label."""
    average, left_out, answer = view.average[index], index in view.left_out, view.answers[index]
    you = view.left_out[index] if left_out else view.foretold.get(index) if view.used else None
    return ClipPredictions(
        index,
        _words(answer),
        _said(session, average),
        None if you is None else _said(session, you),
        left_out,
        _rows(session, average, you, answer),
    )


def _examples(session: ListeningSession, view: View) -> list[ClipPredictions]:
    """Labelled clips on which the prediction for this listener (without the clip) differs most from the average's."""
    known = [index for index in view.left_out if index in view.answers]
    apart = {index: _distance(session, view.left_out[index], view.average[index]) for index in known}
    return [_predictions(session, view, index) for index in sorted(known, key=lambda index: -apart[index])[:5]]


def _distance(session: ListeningSession, you: np.ndarray, average: np.ndarray) -> float:
    one, other = _said(session, you).value, _said(session, average).value
    return float(np.abs(you - average).sum()) if one is None or other is None else abs(one - other)


def _rows(
    session: ListeningSession, average: np.ndarray, you: np.ndarray | None, answer: Answer | None = None
) -> list[Row]:
    """A row a class; bars are cut at quarters, so that tables can be compared at a glance."""
    highest = float(np.max(average if you is None else np.maximum(average, you)))
    top = min(1.0, float(np.ceil(4 * highest)) / 4)
    mine = _marked(session.recognizer.label_set, answer)
    return [
        Row(name, name in mine, float(average[place]), None if you is None else float(you[place]), top)
        for place, name in enumerate(session.recognizer.classes)
    ]


def _marked(label_set: LabelSet, answer: Answer | None) -> set[str]:
    """The classes of an answer; of a number the nearest level."""
    if answer is None or not isinstance(answer, int | float):
        return set(answer or ())
    nearest = label_set.answered(label_set.counts(answer))
    return {name for name, near in zip(label_set.classes, nearest, strict=True) if near}


def _said(session: ListeningSession, probabilities: np.ndarray) -> Said:
    (answer,) = session.recognizer.answers(probabilities[None])
    if isinstance(answer, int | float):
        return Said([], answer)
    shares = dict(zip(session.recognizer.classes, probabilities.tolist(), strict=True))
    return Said([(name, shares[name]) for name in answer])


def _words(answer: Answer) -> str:
    if isinstance(answer, int | float):
        return f"{answer:.9g}"
    if isinstance(answer, Mapping):
        return ", ".join(f"{name} {100 * share:.0f} %" for name, share in answer.items())
    return ", ".join(answer)
