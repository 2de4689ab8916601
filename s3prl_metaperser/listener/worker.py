"""The thread behind a listening session, so that the page answers at once.

It computes features, adaptation and predictions, and publishes each result as a whole.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from s3prl_metaperser.corpora.label_set import Answer
from s3prl_metaperser.errors import UserError, one_line
from s3prl_metaperser.listener.curve import Point, gained, movement
from s3prl_metaperser.listener.enrolment import enrol
from s3prl_metaperser.listener.labels import ListenerLabels
from s3prl_metaperser.listener.leave_out import Fit, leave_out
from s3prl_metaperser.listener.recognizer import PersonalizedEmotionRecognizer
from s3prl_metaperser.listener.view import ADAPTING, READING, SAVING, Saved, View

_FAILURES = (UserError, RuntimeError, ValueError, AssertionError, MemoryError, OSError)


class Worker:
    """Works for one listener.

    Args:
        recognizer: a model that is not adapted.
        clips: N files.
        view: what is known at the start.
        every: it adapts after so many labels.
        shared: inputs of clips, for several listeners of the same ones.

    Attributes:
        changed: held by who publishes something that goes by the view before.
        view: what is known now.
        items: clip -> the model's input, of those that were read.
    """

    def __init__(
        self,
        recognizer: PersonalizedEmotionRecognizer,
        clips: Sequence[Path],
        view: View,
        every: int,
        shared: dict[Path, torch.Tensor],
    ):
        self.recognizer, self.clips, self.view, self.every = recognizer, clips, view, every
        self.items: dict[int, torch.Tensor] = {}
        self.changed = threading.Condition()
        self._shared = shared
        self._adapted: PersonalizedEmotionRecognizer | None = None
        self._before: dict[int, np.ndarray] = {}  # predictions at the last point of the curve
        self._due, self._stop, self._to_save = view.pending >= every, False, list[tuple[Path, str]]()
        self._thread = threading.Thread(target=self._work, name="listening session", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread after what it is doing."""
        with self.changed:
            self._stop = True
            self.changed.notify_all()
        self._thread.join()

    def publish(self, **changes: Any) -> None:
        """Put another view in place of the one that is shown; what was shown stays as it was."""
        with self.changed:
            self.view = dataclasses.replace(self.view, **changes)
            self.changed.notify_all()

    def adapt_after(self, pending: int, every: int | None = None) -> bool:
        """Whether adaptation is due, with so many labels since the last; ``every`` may be another number for once."""
        with self.changed:
            self._due = self._due or pending >= (every or self.every)
            self.changed.notify_all()
            return self._due

    def save_as(self, path: Path, rater: str) -> None:
        """Adapt to all labels, as ``metaperser adapt`` does, and save that as a folder."""
        with self.changed:
            self._to_save = [(path, rater)]
            self.publish(busy=SAVING)

    def wait(self, seconds: float) -> bool:
        """Wait until no adaptation is due, at most so long; returns whether that is so."""
        with self.changed:
            return self.changed.wait_for(self._is_idle, seconds)

    def _is_idle(self) -> bool:
        return not self._due and not self._to_save and self.view.busy not in (ADAPTING, SAVING)

    def _work(self) -> None:
        while (task := self._next_task()) is not None:
            task()

    def _next_task(self) -> Callable[[], None] | None:
        """Wait for something to do; None at the end."""
        with self.changed:
            while not self._stop:
                view = self.view
                if self._due:
                    self._due = False
                    self.publish(busy=ADAPTING)
                    return self._adapt
                if self._to_save:
                    self.publish(busy=SAVING)
                    return self._keep
                order = [*view.answers, *range(len(self.clips))]
                todo = next((i for i in order if i not in view.average and i not in view.unreadable), None)
                self.publish(busy="" if todo is None else READING)
                if todo is not None:
                    return functools.partial(self._make, todo)
                self.changed.wait()
        return None

    def _make(self, index: int) -> None:
        """The inputs and predictions of one clip."""
        clip = self.clips[index]
        try:
            if (item := self._shared.get(clip)) is None:
                (item,) = self.recognizer.items([clip])
            average = self.recognizer.predict_items([item])[0]
            after = {} if self._adapted is None else {index: self._adapted.predict_items([item])[0]}
        except _FAILURES as error:
            self.publish(unreadable={**self.view.unreadable, index: one_line(error) or type(error).__name__})
            return
        self.items[index] = self._shared[clip] = item
        unlike = self.view.unlike | ({index} if self.recognizer.model.unlike([item])[0] else set())
        known = {**self.view.average, index: average}
        self.publish(average=known, adapted={**self.view.adapted, **after}, unlike=unlike)

    def _adapt(self) -> None:
        """Adapt to all labels, from the model's initialisation."""
        answers, pending = self.view.answers, self.view.pending
        for index in answers:
            if index not in self.items and index not in self.view.unreadable:
                self._make(index)
        used = [index for index in answers if index in self.items]
        if not used:
            return
        labels = tuple(answers[index] for index in used)
        try:
            points, fit = self._points(used, labels)
        except _FAILURES as error:
            with self.changed:
                self.publish(problem=one_line(error), pending=self.view.pending - pending)
            return
        with self.changed:
            self.publish(
                adapted=self._before,
                left_out={} if fit is None else dict(zip(used, fit.probabilities, strict=True)),
                fit=fit,
                used=len(used),
                problem="",
                pending=self.view.pending - pending,
                curve=(*(point for point in self.view.curve if point.labels < points[0].labels), *points),
            )

    def _points(self, used: Sequence[int], labels: tuple[Answer, ...]) -> tuple[list[Point], Fit | None]:
        """The points of the curve up to all labels, and the last one's fit; all but that are made once.

        With a fine-tuned upstream, where adaptation takes long, there is no fit, and no point but the last.
        """
        model, average, points, fit = self.recognizer.model, self.view.average, list[Point](), None
        known = max((point.labels for point in self.view.curve if point.labels < len(used)), default=0)
        sizes = [] if model.finetuned else [n for n in range(self.every, len(used), self.every) if n > known]
        for n in (*sizes, len(used)):
            items, part = [self.items[i] for i in used[:n]], ListenerLabels(self.recognizer.label_set, labels[:n])
            fit = None if model.finetuned else leave_out(model, items, part)
            self._adapted = self.recognizer.adapt_items(items, part)
            every = dict(self.items)
            after = dict(zip(every, self._adapted.predict_items(list(every.values())), strict=True))
            looks = -(-model.card.adaptation.shots // self.every)  # up to as many labels as it was trained for
            gain = gained(part, fit.probabilities, np.stack([average[i] for i in used[:n]]), looks) if fit else None
            points.append(Point(n, gain, moved=movement(self._before, after, self.view.answers)))
            self._before = after
        return points, fit

    def _keep(self) -> None:
        """Save the listener."""
        answers, (path, rater) = self.view.answers, self._to_save[0]
        # in the order in which `metaperser adapt` reads them
        used = sorted((i for i in answers if i in self.items), key=lambda i: os.path.splitext(self.clips[i])[0])
        problem = ""
        try:
            labels = ListenerLabels(self.recognizer.label_set, tuple(answers[index] for index in used))
            enrol(self.recognizer, [self.items[index] for index in used], labels).save(path, rater)
        except _FAILURES as error:
            problem = one_line(error)
        with self.changed:
            self._to_save = []
            self.publish(saved=Saved(path, problem), busy="")
