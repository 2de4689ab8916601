"""The report of one listener: what this person hears unlike the average listener, with clips to hear."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from s3prl_metaperser.listener.enrolment import Enrolled
from s3prl_metaperser.listener.labels import ListenerLabels, answer_text
from s3prl_metaperser.listener.leave_out import Fit
from s3prl_metaperser.listener.ratings import NAMELESS
from s3prl_metaperser.listener.recognizer import PersonalizedEmotionRecognizer
from s3prl_metaperser.report.page import Section, page
from s3prl_metaperser.report.sounds import Sound, Sounds, sound_of
from s3prl_metaperser.report.tables import Cell, Column, Table

#: Clips to hear.
SHOWN = 8


def listener_page(
    base: PersonalizedEmotionRecognizer,
    enrolled: Enrolled,
    rater: str,
    clips: Sequence[Path],
    labels: ListenerLabels,
    before: np.ndarray,
) -> str:
    """The report as one HTML page.

    Args:
        base: the model that is not adapted.
        enrolled: the listener.
        clips: K recordings.
        labels: the answer to each.
        before: probabilities [K, C] of each clip by the model that is not adapted: the average listener.
    """
    facts = [("Labels", str(len(clips))), ("Way to adapt", enrolled.way), ("Model", base.card["system"])]
    fit = enrolled.fit
    sections = [
        _classes(base, labels, before, fit),
        Section("hear", "Clips to hear", lead=[_which(fit)], content=[_sounds(base, clips, labels, before, fit)]),
        _fit(enrolled),
    ]
    return page(_headline(base, rater, labels, before), facts, sections)


def _shares(labels: ListenerLabels) -> np.ndarray:
    return labels.counts / labels.counts.sum(1, keepdims=True)


def _headline(base: PersonalizedEmotionRecognizer, rater: str, labels: ListenerLabels, before: np.ndarray) -> str:
    """What the answers have more and less of than the average listener's prediction, where two points apart."""
    who = "This listener" if rater == NAMELESS else rater
    if len(labels.label_set.levels):
        apart = float(np.mean(_shares(labels) @ np.array(labels.label_set.levels) - _values(base, before)))
        word = "higher" if apart > 0 else "lower"
        return f"{who} rates {abs(apart):.1f} {word} than the average listener, on these clips"
    apart = 100 * (_shares(labels) - before).mean(0)
    order = np.argsort(-apart, kind="stable")
    more = [f"{base.classes[i]} ({apart[i]:+.0f})" for i in order[:3] if apart[i] >= 2]
    less = [f"{base.classes[i]} ({apart[i]:+.0f})" for i in order[::-1][:3] if apart[i] <= -2]
    parts = [f"more {', '.join(more)}"] * bool(more) + [f"less {', '.join(less)}"] * bool(less)
    said = " and ".join(parts) or "what the average listener does"
    return f"{who} hears {said}, in points, on these clips"


def _values(base: PersonalizedEmotionRecognizer, probabilities: np.ndarray) -> np.ndarray:
    """Predictions on a scale as answers are, without the smoothing of training."""
    return np.array(base.answers(probabilities), dtype=float)


def _classes(
    base: PersonalizedEmotionRecognizer, labels: ListenerLabels, before: np.ndarray, fit: Fit | None
) -> Section:
    """Mean shares by class: answered, predicted for the average listener, and predicted for this one."""
    columns = [Column("rating" if len(base.label_set.levels) else "class"), Column("answered, %")]
    columns += [Column("average listener, %"), *([Column("predicted for this listener, %")] if fit else [])]
    answered = 100 * _shares(labels).mean(0)
    rows: list[list[Cell]] = []
    for place, name in enumerate(base.classes):
        numbers = [answered[place], 100 * before[:, place].mean()]
        numbers += [100 * fit.probabilities[:, place].mean()] if fit else []
        rows.append([name, *(f"{number:.1f}" for number in numbers)])
    caption = "Means over the labelled clips. The average listener is the model before it adapts" + (
        "; this listener's prediction is by the model adapted to the other clips." if fit else "."
    )
    table = Table("classes", "What is heard", caption, tuple(columns), tuple(tuple(row) for row in rows))
    return Section("classes", "What is heard", content=[table])


def _which(fit: Fit | None) -> str:
    if fit is None:
        return "The clips on which the answer is least what the average listener was predicted to say, first."
    return "The clips on which the adapted model says something else than the average listener's, farthest apart first."


def _sounds(
    base: PersonalizedEmotionRecognizer,
    clips: Sequence[Path],
    labels: ListenerLabels,
    before: np.ndarray,
    fit: Fit | None,
) -> Sounds:
    after = _shares(labels) if fit is None else fit.probabilities
    apart = np.abs(after - before).sum(1)
    if len(levels := base.label_set.levels):
        said = after @ np.array(levels) if fit is None else _values(base, after)
        apart = np.abs(said - _values(base, before))
    found = []
    for place in np.argsort(-apart, kind="stable")[:SHOWN]:
        if (address := sound_of(clips[place])) is None:
            continue
        facts = [("Your answer", answer_text(labels.answers[place], ", "))]
        facts.append(("Average listener", _said(base, before[place])))
        facts += [("Predicted for you, without this clip", _said(base, fit.probabilities[place]))] if fit else []
        found.append(Sound(clips[place].name, facts, address))
    return Sounds(found)


def _said(base: PersonalizedEmotionRecognizer, probabilities: np.ndarray) -> str:
    (answer,) = base.answers(probabilities[None])
    if isinstance(answer, int | float):
        return f"{answer:.1f}"
    shares = dict(zip(base.classes, probabilities.tolist(), strict=True))
    return ", ".join(f"{name} {100 * shares[name]:.0f} %" for name in answer) or "nothing in particular"


def _fit(enrolled: Enrolled) -> Section:
    """How the way to adapt was chosen, and how well it does."""
    title, lead = "How well it fits", [enrolled.chosen.reason()] if enrolled.chosen else []
    lead += enrolled.warnings
    if enrolled.fit is None:
        return Section("fit", title, lead=lead)
    names = ("measure", "average listener", "this listener", "difference, 95 % interval")
    note = "Each clip is predicted after adapting to the others; intervals are for clips like these."
    rows = tuple(tuple(row) for row in enrolled.fit.rows())
    return Section("fit", title, lead=lead, content=[Table("fit", title, note, tuple(map(Column, names)), rows)])
