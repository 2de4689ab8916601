"""The listening page: what the templates show, as plain data. Jinja2 escapes every word that comes from outside.

A clip's name and predictions are shown only after it has a label: both could tell a listener what to hear.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from markupsafe import Markup, escape

from s3prl_metaperser.corpora.label_set import Answer, LabelSet
from s3prl_metaperser.listener.curve import enough
from s3prl_metaperser.listener.labels import answer_of
from s3prl_metaperser.listener.plot import MINUS, Plot, plot
from s3prl_metaperser.listener.question import Asked
from s3prl_metaperser.listener.session import ListeningSession
from s3prl_metaperser.listener.view import ADAPTING, READING, SAVING, View
from s3prl_metaperser.storage.html_text import templates

if TYPE_CHECKING:
    from jinja2 import Environment

_TEMPLATES = Path(__file__).parent / "templates"

#: What an empty form is answered with, by kind of label set.
_MISSING = {
    "multi": "missing_several",
    "soft": "missing_several",
    "single": "missing_one",
    "ordinal": "missing_number",
}
_BUSY = {ADAPTING: "adapting", READING: "reading", SAVING: "saving"}


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


class Progress(NamedTuple):
    """How far a listener is.

    Attributes:
        why: as :func:`.curve.enough` has it.
        fit: the name of the word that says how the fit is, and what it is filled in with; None without a fit.
        moved: the last movement in points; None without one.
        gains, movements: the two charts; None of fewer than two points.
    """

    why: str
    fit: tuple[str, dict[str, str]] | None
    moved: float | None
    gains: Plot | None
    movements: Plot | None


def clip_page(
    session: ListeningSession,
    view: View,
    index: int,
    token: str,
    last: int | None,
    message: str = "",
    *,
    again: bool = False,
) -> str:
    """The page of one clip.

    Args:
        token: to be sent back with every form.
        last: the clip that was labelled last, whose predictions are shown.
        message: what was wrong with the last form.
        again: the clip came again: its first answer is not shown, nor which one it is.
    """
    asked, total = session.asked, len(session.clips)
    where, answer = f"{'again' if again else 'clip'}/{index}", None if again else view.answers.get(index)
    following = session.next_after(index)
    known = index in view.answers and not again
    title = asked.say("once_more") if again else asked.say("clip", number=index + 1, total=total)
    more = {
        **_form(session, where, answer, message),
        "title": title,
        "file": session.clips[index] if known else "",
        "audio": f"/audio/{index}",
        "unusable": view.unreadable.get(index, ""),
        "back": f"/clip/{session.before(index)}",
        "skip": "" if again else f"/skip/{index}",
        "onward": "/end" if following is None else f"/clip/{following}",
        "here": None if again else index,
        "marks": _marks(session, view),
    }
    return _render("page.html", session, view, last, token, **more)


def training_page(session: ListeningSession, number: int, token: str, message: str = "") -> str:
    """The page of a practice clip; as :func:`clip_page`, without what is about the model."""
    count = len(session.asked.training)
    more = {
        **_form(session, f"training/{number}", None, message),
        "title": session.asked.say("training", number=number + 1, total=count),
        "audio": f"/training-audio/{number}",
        **{"file": "", "unusable": "", "back": "", "skip": "", "onward": "", "here": None, "marks": []},
    }
    return _render("page.html", session, session.view(), None, token, **more)


def card(
    session: ListeningSession,
    kind: Literal["consent", "introduction", "practice", "break", "end"],
    token: str,
    *,
    then: str = "",
    trial: int = 0,
    answer: str = "",
) -> str:
    """A page without a clip: what comes before the first one, after a practice clip, in a break, and at the end.

    Args:
        then: the page that its button leads to; empty where the button sends a form.
        trial, answer: the practice clip, and the listener's answer to it.
    """

    def spoken(text: str) -> str:
        return _words(session, answer_of(text, session.recognizer.label_set)) if text else ""

    more = {"kind": kind, "then": then, "trial": trial, "answer": answer, "spoken": spoken}
    return _render("card.html", session, session.view(), None, token, **more)


def news(session: ListeningSession, view: View, last: int | None, token: str) -> str:
    """What the model predicts before and after adaptation, as a part of the page."""
    return _render("news.html", session, view, last, token)


def missing(session: ListeningSession) -> str:
    """What is said to a form without a label."""
    return session.asked.say(_MISSING[session.recognizer.label_set.kind])


def busy_words(session: ListeningSession, view: View) -> str:
    """What the worker is doing, for the page's head."""
    return session.asked.say(_BUSY[view.busy]) if view.busy else ""


def version(view: View) -> str:
    """Changes whenever the news do."""
    counts = [len(view.answers), len(view.adapted), len(view.unreadable), len(view.unlike), len(view.again)]
    parts = (view.used, view.pending, bool(view.problem), *counts, hash(view.saved) % 1000)
    return "-".join(str(int(part)) for part in parts)


@functools.cache
def asset(name: str) -> bytes:
    """A file of the page, as it is: ``page.css`` or ``page.js``."""
    return (_TEMPLATES / name).read_bytes()


@functools.cache
def _environment() -> Environment:
    return templates(_TEMPLATES)


def _render(template: str, session: ListeningSession, view: View, last: int | None, token: str, **more: object) -> str:
    shown = last if last in view.answers and last in view.average else None
    asked, label_set = session.asked, session.recognizer.label_set
    total = len(session.clips)
    return (
        _environment()
        .get_template(template)
        .render(
            session=session,
            view=view,
            token=token,
            last=last,
            asked=asked,
            say=functools.partial(_said_word, asked),
            labels=len(view.answers),
            shots=session.recognizer.model.card.adaptation.shots,
            usable=total - sum(number not in view.answers for number in view.unreadable),
            label_set=label_set,
            busy=busy_words(session, view),
            version=version(view),
            unreadable=[session.clips[index] for index in view.unreadable],
            left=max(session.every - len(view.answers), 0),
            progress=_progress(session, view),
            compared=_compared(session, view) if view.adapted else None,
            clip=None if shown is None else _predictions(session, view, shown),
            examples=_examples(session, view),
            again=session.agreement(),
            **more,
        )
    )


def _said_word(asked: Asked, word: str, /, **values: object) -> Markup:
    """A word of the page as HTML: what it is filled in with is escaped, too, unless it is HTML already."""
    return Markup.format(escape(asked.words[word]), **values)


def _form(session: ListeningSession, where: str, answer: Answer | None, message: str) -> dict[str, object]:
    """What the form of a clip is drawn from."""
    label_set, entry = session.recognizer.label_set, session.diary[where]
    return {
        "where": where,
        "message": message,
        "heard": entry.whole,
        "missing": missing(session),
        "step": min(np.diff(label_set.levels), default=1.0),
        "named_levels": _named_levels(session),
        "given": () if answer is None or isinstance(answer, int | float) else tuple(answer),
        "number": f"{answer:.9g}" if isinstance(answer, int | float) else "",
    }


def _named_levels(session: ListeningSession) -> list[str]:
    """``1 bad``, ``2 poor``, ... where a scale has names besides its numbers."""
    label_set = session.recognizer.label_set
    pairs = [
        (f"{level:g}", session.asked.shown[name])
        for name, level in zip(label_set.classes, label_set.levels, strict=False)
    ]
    return [f"{level} {name}" for level, name in pairs] if any(level != name for level, name in pairs) else []


def _marks(session: ListeningSession, view: View) -> list[tuple[str, str]]:
    """Of each clip what happened to it, as a word's name without ``mark_``, and its mark."""
    found = []
    for index in range(len(session.clips)):
        heard = session.diary[f"clip/{index}"].whole
        kinds = (
            ("labelled", "✓", index in view.answers),
            ("skipped", "»", index in view.skipped),
            ("heard", "◐", heard),
        )
        found.append(next(((name, mark) for name, mark, so in kinds if so), ("nothing", "")))
    return found


def _progress(session: ListeningSession, view: View) -> Progress:
    curve, shots = view.curve, session.recognizer.model.card.adaptation.shots
    spans = [(point.labels, point.gain) for point in curve if point.gain is not None]
    moves = [(point.labels, point.moved) for point in curve if point.moved is not None]
    fit = None
    if spans:
        clips, gain = spans[-1]
        verdict = "better" if gain.low > 0 else "worse" if gain.high < 0 else "same"
        numbers = {"points": gain.mean, "low": gain.low, "high": gain.high}
        signed = {name: f"{number:+.1f}".replace("-", MINUS) for name, number in numbers.items()}
        fit = f"fit_{verdict}", {"clips": str(clips), **signed}
    return Progress(
        enough(curve, len(view.answers), shots),
        fit,
        moves[-1][1] if moves else None,
        plot([n for n, _ in spans], [gain.mean for _, gain in spans], [(gain.low, gain.high) for _, gain in spans]),
        plot([n for n, _ in moves], [moved for _, moved in moves]),
    )


def _compared(session: ListeningSession, view: View) -> Compared:
    fresh = [index for index in view.adapted if index not in view.answers]
    chosen = fresh or list(view.adapted)
    where = session.asked.say("where_new" if fresh else "where_all", count=len(chosen))
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
        _words(session, answer),
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
        Row(
            session.asked.shown[name],
            name in mine,
            float(average[place]),
            None if you is None else float(you[place]),
            top,
        )
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
    return Said([(session.asked.shown[name], shares[name]) for name in answer])


def _words(session: ListeningSession, answer: Answer) -> str:
    if isinstance(answer, int | float):
        return f"{answer:.9g}"
    shown, comma = session.asked.shown, session.asked.say("comma")
    if isinstance(answer, Mapping):
        return comma.join(f"{shown[name]} {100 * share:.0f} %" for name, share in answer.items())
    return comma.join(shown[name] for name in answer)
