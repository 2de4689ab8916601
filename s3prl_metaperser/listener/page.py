"""The listening page: what the templates show, as plain data. Jinja2 escapes every word that comes from outside.

A clip's name and predictions are shown only after it has a label: both could tell a listener what to hear.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jinja2
import numpy as np

from s3prl_metaperser.listener.session import ADAPTING, ListeningSession, View

_TEMPLATES = Path(__file__).parent / "templates"


class Row(NamedTuple):
    """One class in a table of predictions.

    Attributes:
        mine: whether the listener's label has it.
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
        return _points(self.average, self.average if self.you is None else self.you)


class Compared(NamedTuple):
    """Mean predictions on clips that adaptation has not seen, where there are any."""

    where: str
    more: list[tuple[str, int]]
    less: list[tuple[str, int]]
    rows: list[Row]


class ClipPredictions(NamedTuple):
    """One labelled clip: classes above 1/C with their shares, for the average listener and for this one."""

    number: int
    average: list[tuple[str, float]]
    you: list[tuple[str, float]] | None
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
    total = len(session.clips)
    usable = total - sum(number not in view.ticks for number in view.unreadable)
    more = {"index": index, "message": message, "total": total, "usable": usable, "done": len(view.ticks)}
    return _render(
        "page.html", session, view, last, token, **more, before=(index - 1) % total, after=(index + 1) % total
    )


def news(session: ListeningSession, view: View, last: int | None, token: str) -> str:
    """What the model predicts before and after adaptation, as a part of the page."""
    return _render("news.html", session, view, last, token)


def busy_words(view: View) -> str:
    """What the worker is doing, for the page's head."""
    return {"": "", ADAPTING: "Adapting to you ..."}.get(view.busy, "Reading the clips ...")


def version(view: View) -> str:
    """Changes whenever the news do."""
    sizes = (view.used, len(view.ticks), len(view.adapted), view.pending, len(view.unreadable), int(bool(view.problem)))
    return "-".join(map(str, sizes))


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
    shown = last is not None and last in view.ticks and last in view.average
    return (
        _environment()
        .get_template(template)
        .render(
            session=session,
            view=view,
            token=token,
            last=last,
            classes=session.recognizer.classes,
            busy=busy_words(view),
            version=version(view),
            unreadable=[session.clips[index] for index in view.unreadable],
            left=max(session.every - len(view.ticks), 0),
            compared=_compared(session, view) if view.adapted else None,
            clip=_predictions(session, view, last) if shown and last is not None else None,
            examples=_examples(session, view),
            **more,
        )
    )


def _compared(session: ListeningSession, view: View) -> Compared:
    fresh = [index for index in view.adapted if index not in view.ticks]
    chosen = fresh or list(view.adapted)
    where = f"{len(chosen)} unlabelled clips" if fresh else f"the {len(chosen)} clips, all of which you labelled"
    average = np.mean([view.average[index] for index in chosen], axis=0)
    adapted = np.mean([view.adapted[index] for index in chosen], axis=0)
    rows = _rows(session, average, adapted)
    changes = sorted((row.change, row.name) for row in rows)
    more = [(name, change) for change, name in reversed(changes) if change > 1][:3]
    less = [(name, change) for change, name in changes if change < -1][:3]
    return Compared(where, more, less, rows)


def _predictions(session: ListeningSession, view: View, index: int) -> ClipPredictions:
    """For this listener: without the clip itself where that was made, else as predicted before it had a label."""
    average, left_out = view.average[index], index in view.left_out
    you = view.left_out[index] if left_out else view.foretold.get(index) if view.used else None
    return ClipPredictions(
        index,
        _named(session, average),
        None if you is None else _named(session, you),
        left_out,
        _rows(session, average, you, view.ticks[index]),
    )


def _examples(session: ListeningSession, view: View) -> list[ClipPredictions]:
    """Labelled clips on which the prediction for this listener (without the clip) differs most from the average's."""
    known = [index for index in view.left_out if index in view.ticks]
    apart = {index: float(np.abs(view.left_out[index] - view.average[index]).sum()) for index in known}
    return [_predictions(session, view, index) for index in sorted(known, key=lambda index: -apart[index])[:5]]


def _rows(
    session: ListeningSession, average: np.ndarray, you: np.ndarray | None, mine: Sequence[str] = ()
) -> list[Row]:
    """A row a class; bars are cut at quarters, so that tables can be compared at a glance."""
    highest = float(np.max(average if you is None else np.maximum(average, you)))
    top = min(1.0, float(np.ceil(4 * highest)) / 4)
    return [
        Row(name, name in mine, float(average[place]), None if you is None else float(you[place]), top)
        for place, name in enumerate(session.recognizer.classes)
    ]


def _named(session: ListeningSession, probabilities: np.ndarray) -> list[tuple[str, float]]:
    """The ticked classes with their shares, the most probable first."""
    (names,) = session.recognizer.ticked(probabilities[None])
    shares = dict(zip(session.recognizer.classes, probabilities.tolist(), strict=True))
    return [(name, shares[name]) for name in names]


def _points(average: float, you: float) -> int:
    return round(100 * you) - round(100 * average)
