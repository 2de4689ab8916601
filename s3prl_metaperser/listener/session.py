"""A listening session: labels as they come, predictions before and after, adaptation after every few labels.

One worker thread computes features, adaptation and predictions, so that the page answers at once, and publishes each
result as a whole.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import soundfile
import torch

from s3prl_metaperser.corpora.audio import RATE, load_audio
from s3prl_metaperser.corpora.folders import files_below
from s3prl_metaperser.corpora.label_set import Answer
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.listener.labels import ListenerLabels, answer_of
from s3prl_metaperser.listener.leave_out import Fit, leave_out
from s3prl_metaperser.listener.ratings_file import RatingsFile, can_be_named
from s3prl_metaperser.listener.recognizer import PersonalizedEmotionRecognizer
from s3prl_metaperser.seeding import seed_from

#: What the worker is doing while it adapts.
ADAPTING = "adapting"

_FAILURES = (UserError, RuntimeError, ValueError, AssertionError, MemoryError, OSError)


@dataclass(frozen=True)
class View:
    """What is known at one moment. It never changes: the session puts another one in its place.

    Attributes:
        answers: clip -> its label, in the order in which clips were labelled.
        average: clip -> probabilities [C] of the model that is not adapted: the average listener's.
        adapted: clip -> probabilities [C] of the model adapted to all labelled clips; empty before that.
        left_out: labelled clip -> probabilities [C] of the model adapted without it; empty where that was not done.
        foretold: labelled clip -> what the model, as adapted then, predicted before the clip had a label.
        used: clips in the last adaptation.
        fit: the last adaptation's.
        pending: labels since then.
        busy: what the worker is doing; empty where nothing.
        unreadable: clip -> why.
        problem: why the last adaptation failed; empty where it did not.
    """

    answers: dict[int, Answer]
    average: dict[int, np.ndarray] = field(default_factory=dict)
    adapted: dict[int, np.ndarray] = field(default_factory=dict)
    left_out: dict[int, np.ndarray] = field(default_factory=dict)
    foretold: dict[int, np.ndarray] = field(default_factory=dict)
    used: int = 0
    fit: Fit | None = None
    pending: int = 0
    busy: str = ""
    unreadable: dict[int, str] = field(default_factory=dict)
    problem: str = ""


class ListeningSession:
    """Clips in a folder, one listener, one ratings.csv.

    Args:
        recognizer: a model that is not adapted.
        folder: its audio files, those in its folders too, are the clips. Their order is drawn from their names, so that
            the first few are of all kinds, and stays when files are added.
        ratings: by default ``ratings.csv`` in ``folder``.
        rater: who listens.
        every: adapt after so many labels.
        rater_column, alike_raters, all_one: as :func:`.read_ratings`.
        reading: ``duplicates``, ``outside`` and ``unknown_labels`` of :func:`.read_ratings`.

    Attributes:
        clips: N paths relative to ``folder``.
        left_out: files that are no clips, since their names cannot stand in ratings.csv.
        passed_over: what is hidden or no audio by its name, counted, and folders that cannot be listed.

    Raises:
        UserError: no clips, or a ratings file that cannot be continued.
    """

    def __init__(
        self,
        recognizer: PersonalizedEmotionRecognizer,
        folder: Path,
        *,
        ratings: Path | None = None,
        rater: str | None = None,
        every: int = 4,
        rater_column: str | None = None,
        alike_raters: Literal["error", "one", "distinct"] = "error",
        all_one: bool = False,
        **reading: Any,
    ):
        if not folder.is_dir():
            raise UserError(f"--clips {folder}: no such folder.")
        below = files_below(folder)
        names = [path.relative_to(folder).as_posix() for path in below.audio]
        unlisted = [f"{path}: the folder cannot be listed ({why})" for path, why in below.unlisted]
        self.passed_over = [*unlisted, *filter(None, [below.passed_over()])]
        self.left_out = [name for name in names if not can_be_named(name)]
        usable = [name for name in names if can_be_named(name)]
        if not usable:
            raise UserError(f"--clips {folder}: the folder has no audio files.")
        self.recognizer, self.folder, self.every = recognizer, folder, every
        self.clips = sorted(usable, key=lambda name: (seed_from("listening order", name), name))
        self.file = RatingsFile(
            ratings or folder / "ratings.csv",
            folder,
            recognizer.label_set,
            rater,
            rater_column=rater_column,
            alike_raters=alike_raters,
            all_one=all_one,
            **reading,
        )
        place = {name: index for index, name in enumerate(self.clips)}
        self.elsewhere = sum(name not in place for name in self.file.answers)
        self._items: dict[int, torch.Tensor] = {}
        self._adapted: PersonalizedEmotionRecognizer | None = None
        answers = {place[name]: answer for name, answer in self.file.answers.items() if name in place}
        self._view = View(answers, pending=len(answers))
        self._due, self._stop = len(answers) >= every, False
        self._changed = threading.Condition()
        self._worker = threading.Thread(target=self._work, name="listening session", daemon=True)

    def start(self) -> None:
        """Start the worker."""
        self._worker.start()

    def stop(self) -> None:
        """End the worker after what it is doing."""
        with self._changed:
            self._stop = True
            self._changed.notify_all()
        self._worker.join()

    def view(self) -> View:
        """What is known now."""
        return self._view

    def label(self, index: int, label: str | Sequence[str]) -> None:
        """Save a label, or another one for a clip that has one; it is in ratings.csv when this returns.

        Args:
            label: as :func:`.labels.answer_of` takes it.

        Raises:
            UserError: a label that the model does not have, a clip that cannot be used, or ratings.csv cannot be
                written.
        """
        answer = answer_of(label, self.recognizer.label_set)
        self.sound(index)  # a label of a clip that cannot be read would keep `metaperser adapt` from all others
        if index in self._view.unreadable:
            raise UserError(f"This clip cannot be used: {self._view.unreadable[index]}")
        with self._changed:
            view = self._view
            if view.answers.get(index) == answer:
                return
            try:
                self.file.save(self.clips[index], answer)
            except OSError as error:
                raise UserError(f"Cannot write {self.file.path} ({error.strerror}); nothing was saved.") from None
            foretold, before = view.foretold, view.adapted.get(index, view.average.get(index))
            if index not in view.answers and before is not None:
                foretold = {**foretold, index: before}
            self._due = self._due or view.pending + 1 >= self.every
            busy = ADAPTING if self._due else view.busy
            answers = {**view.answers, index: answer}
            self._publish(answers=answers, foretold=foretold, pending=view.pending + 1, busy=busy)

    def adapt_now(self) -> None:
        """Do not wait for ``every`` labels."""
        with self._changed:
            self._due = self._due or self._view.pending > 0
            self._changed.notify_all()

    def wait(self, seconds: float) -> bool:
        """Wait until no adaptation is due, at most so long; returns whether that is so."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._due and self._view.busy != ADAPTING, seconds)

    def next_after(self, index: int) -> int | None:
        """The next clip without a label, from the beginning again at the end; None where all have one."""
        view, order = self._view, [*range(index + 1, len(self.clips)), *range(index + 1)]
        return next((i for i in order if i not in view.answers and i not in view.unreadable), None)

    @functools.lru_cache(maxsize=16)  # noqa: B019 - one session a process
    def sound(self, index: int) -> bytes:
        """One clip as the model hears it, 16 kHz and mono, as a WAV file that every browser plays.

        Raises:
            UserError: the clip cannot be read.
        """
        samples, file = load_audio(self.folder / self.clips[index]), io.BytesIO()
        soundfile.write(file, samples, RATE, format="WAV", subtype="PCM_16")
        return file.getvalue()

    # -- the worker ----------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while (task := self._next_task()) is not None:
            task()

    def _next_task(self) -> Callable[[], None] | None:
        """Wait for something to do; None at the end."""
        with self._changed:
            while not self._stop:
                view = self._view
                if self._due:
                    self._due = False
                    self._publish(busy=ADAPTING)
                    return self._adapt
                order = [*view.answers, *range(len(self.clips))]
                todo = next((i for i in order if i not in view.average and i not in view.unreadable), None)
                self._publish(busy="" if todo is None else "reading clips")
                if todo is not None:
                    return functools.partial(self._make, todo)
                self._changed.wait()
        return None

    def _publish(self, **changes: Any) -> None:
        """Put another view in place of the one that is shown; what was shown stays as it was."""
        with self._changed:
            self._view = dataclasses.replace(self._view, **changes)
            self._changed.notify_all()

    def _make(self, index: int) -> None:
        """The inputs and predictions of one clip."""
        try:
            (item,) = self.recognizer.items([self.folder / self.clips[index]])
            average = self.recognizer.predict_items([item])[0]
            after = {} if self._adapted is None else {index: self._adapted.predict_items([item])[0]}
        except _FAILURES as error:
            self._publish(unreadable={**self._view.unreadable, index: _one_line(error) or type(error).__name__})
            return
        self._items[index] = item
        self._publish(average={**self._view.average, index: average}, adapted={**self._view.adapted, **after})

    def _adapt(self) -> None:
        """Adapt to all labels, from the model's initialisation."""
        answers, pending = self._view.answers, self._view.pending
        for index in answers:
            if index not in self._items and index not in self._view.unreadable:
                self._make(index)
        used = [index for index in answers if index in self._items]
        if not used:
            return
        items = [self._items[index] for index in used]
        labels = ListenerLabels(self.recognizer.label_set, tuple(answers[index] for index in used))
        try:
            fit = None if self.recognizer.model.finetuned else leave_out(self.recognizer.model, items, labels)
            adapted = self.recognizer.adapt_items(items, labels)
            after = adapted.predict_items(list(self._items.values()))
        except _FAILURES as error:
            with self._changed:
                self._publish(problem=_one_line(error), pending=self._view.pending - pending)
            return
        self._adapted = adapted
        with self._changed:
            self._publish(
                adapted=dict(zip(self._items, after, strict=True)),
                left_out={} if fit is None else dict(zip(used, fit.probabilities, strict=True)),
                fit=fit,
                used=len(used),
                problem="",
                pending=self._view.pending - pending,
            )


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
