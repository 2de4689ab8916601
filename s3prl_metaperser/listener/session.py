"""One listener at the clips: what was ticked, what the model predicts before and after, adaptation after every few.

Features, adaptation and predictions are made by one worker thread, so that the page answers at once; what it has made
is published as a whole.
"""

from __future__ import annotations

import functools
import io
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile
import torch

from s3prl_metaperser.corpora.audio import RATE, load_audio
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.listener.files import audio_below
from s3prl_metaperser.listener.leave_out import Fit, leave_out
from s3prl_metaperser.listener.ratings_file import RatingsFile, can_be_named
from s3prl_metaperser.listener.recognizer import PersonalizedEmotionRecognizer
from s3prl_metaperser.seeding import seed_from

_FAILURES = (UserError, RuntimeError, ValueError, AssertionError, MemoryError, OSError)


@dataclass(frozen=True)
class View:
    """What is known at one moment; nothing in it changes.

    Attributes:
        ticks: clip -> the classes ticked, in the order of ticking.
        average: clip -> probabilities [C] of the model that is not adapted: the average listener's.
        adapted: clip -> probabilities [C] of the model adapted to all ticked clips; empty before it is.
        left_out: ticked clip -> probabilities [C] of the model adapted without it; empty where that was not made.
        foretold: ticked clip -> what the model, as adapted then, predicted before the clip was ticked.
        used: clips in the last adaptation.
        fit: of the last adaptation.
        pending: labels that came after it.
        busy: what the worker is doing, in words; empty where nothing.
        unreadable: clip -> why.
        problem: why the last adaptation failed; empty where it did not.
    """

    ticks: dict[int, tuple[str, ...]]
    average: dict[int, np.ndarray]
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

    Attributes:
        clips: N paths relative to ``folder``.
        left_out: files that are no clips, since their names cannot stand in ratings.csv.

    Raises:
        UserError: no clips, or a ratings file that cannot be gone on with.
    """

    def __init__(
        self,
        recognizer: PersonalizedEmotionRecognizer,
        folder: Path,
        *,
        ratings: Path | None = None,
        rater: str | None = None,
        every: int = 4,
    ):
        if not folder.is_dir():
            raise UserError(f"--clips {folder}: there is no such folder.")
        names = [path.relative_to(folder).as_posix() for path in audio_below(folder)]
        self.left_out = [name for name in names if not can_be_named(name)]
        usable = [name for name in names if can_be_named(name)]
        if not usable:
            raise UserError(f"--clips {folder}: the folder has no audio files.")
        self.recognizer, self.folder, self.every = recognizer, folder, every
        self.clips = sorted(usable, key=lambda name: (seed_from("listening order", name), name))
        self.file = RatingsFile(ratings or folder / "ratings.csv", folder, rater)
        place = {name: index for index, name in enumerate(self.clips)}
        self.elsewhere = sum(name not in place for name in self.file.ticks)
        self._ticks = {place[name]: ticks for name, ticks in self.file.ticks.items() if name in place}
        self._items: dict[int, torch.Tensor] = {}
        self._unreadable: dict[int, str] = {}
        self._average: dict[int, np.ndarray] = {}
        self._adapted: PersonalizedEmotionRecognizer | None = None
        self._after: dict[int, np.ndarray] = {}
        self._left_out: dict[int, np.ndarray] = {}
        self._foretold: dict[int, np.ndarray] = {}
        self._fit: Fit | None = None
        self._used, self._pending, self._busy, self._problem = 0, len(self._ticks), "", ""
        self._wanted, self._stop = self._pending >= every, False
        self._changed = threading.Condition()
        self._worker = threading.Thread(target=self._work, name="listening session", daemon=True)

    def start(self) -> None:
        """Let the worker begin."""
        self._worker.start()

    def stop(self) -> None:
        """Let the worker end after what it is doing."""
        with self._changed:
            self._stop = True
            self._changed.notify_all()
        self._worker.join()

    def view(self) -> View:
        """What is known now."""
        with self._changed:
            return View(
                ticks=dict(self._ticks),
                average=dict(self._average),
                adapted=dict(self._after),
                left_out=dict(self._left_out),
                foretold=dict(self._foretold),
                used=self._used,
                fit=self._fit,
                pending=self._pending,
                busy=self._busy,
                unreadable=dict(self._unreadable),
                problem=self._problem,
            )

    def tick(self, index: int, names: Sequence[str]) -> None:
        """Take a label, or another one for a clip that has one; it is in ratings.csv when this returns.

        Raises:
            UserError: no class, an unknown one, a clip that cannot be used, or ratings.csv cannot be written.
        """
        known = self.recognizer.classes
        if not names or any(name not in known for name in names):
            raise UserError(f"Bad label {';'.join(names)!r}, expected one or more of {', '.join(known)}.")
        ticks = tuple(name for name in known if name in names)
        self.sound(index)  # a label of a clip that cannot be read would keep `metaperser adapt` from all others
        if index in self._unreadable:
            raise UserError(f"This clip cannot be used: {self._unreadable[index]}")
        with self._changed:
            if self._ticks.get(index) == ticks:
                return
            try:
                self.file.save(self.clips[index], ticks)
            except OSError as error:
                raise UserError(f"{self.file.path} cannot be written ({error.strerror}); nothing was saved.") from None
            if index not in self._ticks:
                before = self._after.get(index, self._average.get(index))
                if before is not None:
                    self._foretold[index] = before
            self._ticks[index] = ticks
            self._pending += 1
            if self._pending >= self.every:
                self._wanted = True
                self._busy = "adapting"
            self._changed.notify_all()

    def adapt_now(self) -> None:
        """Do not wait for ``every`` labels."""
        with self._changed:
            self._wanted = self._pending > 0 or self._wanted
            self._changed.notify_all()

    def wait(self, seconds: float) -> bool:
        """Wait until no adaptation is due, at most so long; returns whether that is so."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while self._wanted or self._busy == "adapting":
                if not self._changed.wait(max(0.0, deadline - time.monotonic())) and time.monotonic() >= deadline:
                    return False
            return True

    def next_after(self, index: int) -> int | None:
        """The next clip without a label, from the beginning again at the end; None where all have one."""
        with self._changed:
            order = [*range(index + 1, len(self.clips)), *range(index + 1)]
            return next((i for i in order if i not in self._ticks and i not in self._unreadable), None)

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
        while True:
            with self._changed:
                while not (self._stop or self._wanted or (todo := self._todo()) is not None):
                    self._busy = ""
                    self._changed.notify_all()
                    self._changed.wait()
                if self._stop:
                    return
                adapt, self._wanted = self._wanted, False
                self._busy = "adapting" if adapt else "listening to the clips"
                self._changed.notify_all()
            if adapt:
                self._adapt()
            else:
                self._make(todo)
            with self._changed:
                self._busy = ""
                self._changed.notify_all()

    def _todo(self) -> int | None:
        order = [*self._ticks, *range(len(self.clips))]
        return next((i for i in order if i not in self._average and i not in self._unreadable), None)

    def _make(self, index: int) -> None:
        """The inputs and predictions of one clip."""
        try:
            (item,) = self.recognizer.items([self.folder / self.clips[index]])
            average = self.recognizer.predict_items([item])[0]
            after = None if self._adapted is None else self._adapted.predict_items([item])[0]
        except _FAILURES as error:
            with self._changed:
                self._unreadable[index] = " ".join(str(error).split())[:300] or type(error).__name__
            return
        with self._changed:
            self._items[index], self._average[index] = item, average
            if after is not None:
                self._after[index] = after

    def _adapt(self) -> None:
        """Adapt to all that is ticked, from the model's initialisation."""
        with self._changed:
            ticks, pending = dict(self._ticks), self._pending
        for index in ticks:
            if index not in self._items and index not in self._unreadable:
                self._make(index)
        used = [index for index in ticks if index in self._items]
        if not used:
            return
        items, labels = [self._items[index] for index in used], [ticks[index] for index in used]
        try:
            fit = None if self.recognizer.model.finetuned else leave_out(self.recognizer.model, items, labels)
            adapted = self.recognizer.adapt_items(items, labels)
            known = list(self._items)
            after = dict(zip(known, adapted.predict_items([self._items[i] for i in known]), strict=True))
        except _FAILURES as error:
            with self._changed:
                self._problem, self._pending = " ".join(str(error).split())[:300], self._pending - pending
            return
        with self._changed:
            self._adapted, self._after, self._fit = adapted, after, fit
            self._left_out = {} if fit is None else dict(zip(used, fit.probabilities, strict=True))
            self._used, self._problem, self._pending = len(used), "", self._pending - pending
