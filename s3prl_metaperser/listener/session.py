"""A listening session: what a listener does, saved as it comes; a :class:`.Worker` adapts to it after every few."""

from __future__ import annotations

import functools
import io
import itertools
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import soundfile
import torch

from s3prl_metaperser.corpora.agreement import krippendorff_alpha
from s3prl_metaperser.corpora.answer_facts import AGAIN, SKIPPED, STATUS
from s3prl_metaperser.corpora.audio import RATE, load_audio
from s3prl_metaperser.corpora.folders import files_below
from s3prl_metaperser.corpora.label_set import Answer
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.listener import consent
from s3prl_metaperser.listener.diary import Diary
from s3prl_metaperser.listener.folder import check_new
from s3prl_metaperser.listener.labels import ListenerLabels, answer_of, answer_text
from s3prl_metaperser.listener.next_clip import most_informative
from s3prl_metaperser.listener.question import ENGLISH, Asked, read_question
from s3prl_metaperser.listener.ratings import NAMELESS
from s3prl_metaperser.listener.ratings_file import RatingsFile, can_be_named
from s3prl_metaperser.listener.recognizer import PersonalizedEmotionRecognizer
from s3prl_metaperser.listener.view import ADAPTING, View
from s3prl_metaperser.listener.worker import Worker
from s3prl_metaperser.methods.choice import FEWEST
from s3prl_metaperser.run.shown_commands import metaperser
from s3prl_metaperser.seeding import seed_from

#: A clip comes again once so many others have a label since.
_APART = 4

_FOLDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class ListeningSession:
    """Clips in a folder, one listener, one ratings.csv.

    Args:
        recognizer: a model that is not adapted.
        folder: its audio files, those in its folders too, are the clips. Their order is drawn from their names and the
            listener's, so that the first few are of all kinds, and stays when files are added.
        ratings: by default ``ratings.csv`` in ``folder``.
        rater: who listens.
        every: adapt after so many labels.
        asked: the question; by default the English one.
        shared: inputs of clips by their files, for several sessions on the same clips.
        weights: what ``metaperser predict`` needs besides the listener's folder.
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
        asked: Asked | None = None,
        shared: dict[Path, torch.Tensor] | None = None,
        weights: Sequence[str] = (),
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
        self.asked = asked or read_question(ENGLISH, recognizer.label_set)
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
        self.clips = sorted(usable, key=lambda name: (seed_from("listening order", self.file.rater, name), name))
        place = {name: index for index, name in enumerate(self.clips)}
        self.elsewhere = sum(name not in place for name in self.file.answers)
        self._weights = weights
        answers = {place[name]: answer for name, answer in self.file.answers.items() if name in place}
        question = self.asked.question
        self.diary, self.trail = Diary(), list(answers)
        self.practised = bool(answers) or not (question.introduction or question.training)
        skipped, again = self._resumed(answers)
        known = View(answers, pending=len(answers), skipped=skipped, again=again)
        files = [folder / name for name in self.clips]
        self.worker = Worker(recognizer, files, known, every, {} if shared is None else shared)

    def view(self) -> View:
        """What is known now."""
        return self.worker.view

    # -- what the listener does ------------------------------------------------------------------------------------

    @property
    def agreed(self) -> bool:
        """Whether the listener may begin: has agreed to what is asked, if anything is."""
        text = self.asked.question.consent
        return not text or consent.has_agreed(self.file.path, self.file.rater, text)

    def agree(self) -> None:
        """The listener agrees to take part."""
        if not self.agreed:
            consent.agree(self.file.path, self.file.rater, self.asked.question.consent)

    def label(self, index: int, label: str | Sequence[str]) -> None:
        """Save a label, or another one for a clip that has one; it is in ratings.csv when this returns.

        Args:
            label: as :func:`.labels.answer_of` takes it.

        Raises:
            UserError: a label that the model does not have, a clip that cannot be used or, where that is asked, was not
                heard to its end; or ratings.csv cannot be written.
        """
        answer = self._answer(f"clip/{index}", label)
        self._check_usable(index)
        with self.worker.changed:
            view = self.worker.view
            self.trail.append(index)
            if view.answers.get(index) == answer:
                return
            self._save(index, answer, {STATUS: "", **self.diary.facts(f"clip/{index}")})
            foretold, before = view.foretold, view.adapted.get(index, view.average.get(index))
            if index not in view.answers and before is not None:
                foretold = {**foretold, index: before}
            busy = ADAPTING if self.worker.adapt_after(view.pending + 1) else view.busy
            answers, skipped = {**view.answers, index: answer}, view.skipped - {index}
            self.worker.publish(
                answers=answers, foretold=foretold, pending=view.pending + 1, busy=busy, skipped=skipped
            )

    def skip(self, index: int) -> None:
        """Leave a clip without a label; it can have one later.

        Raises:
            UserError: ratings.csv cannot be written.
        """
        with self.worker.changed:
            self.trail.append(index)
            if index not in self.worker.view.answers:
                self._save(index, None, {**self.diary.facts(f"clip/{index}"), STATUS: SKIPPED})
                self.worker.publish(skipped=self.worker.view.skipped | {index})

    def label_again(self, index: int, label: str | Sequence[str]) -> None:
        """Save the answer to a clip that came again; nothing is adapted to it.

        Raises:
            UserError: as :meth:`label`.
        """
        answer, where = self._answer(f"again/{index}", label), f"again/{index}"
        told = {f"{AGAIN[0]}_{name}": said for name, said in self.diary.facts(where).items()}
        facts = {AGAIN[0]: answer_text(answer)} | {name: said for name, said in told.items() if name in AGAIN}
        with self.worker.changed:
            self._save(index, None, facts)
            self.worker.publish(again={**self.worker.view.again, index: answer})

    def check_heard(self, where: str) -> None:
        """Raise a UserError if a clip was not heard to its end, where that is asked.

        Args:
            where: its address on the page, such as ``clip/3``.
        """
        if self.asked.question.whole and not self.diary[where].whole:
            raise UserError(self.asked.say("unheard"))

    def _answer(self, where: str, label: str | Sequence[str]) -> Answer:
        answer = answer_of(label, self.recognizer.label_set)
        self.check_heard(where)
        return answer

    def _check_usable(self, index: int) -> None:
        self.sound(index)  # a label of a clip that cannot be read would keep `metaperser adapt` from all others
        if index in self.worker.view.unreadable:
            raise UserError(self.asked.say("unusable", why=self.worker.view.unreadable[index]))

    def _save(self, index: int, answer: Answer | None, facts: dict[str, str]) -> None:
        try:
            self.file.save(self.clips[index], answer, facts)
        except OSError as error:
            raise UserError(f"Cannot write {self.file.path} ({error.strerror}); nothing was saved.") from None

    def _resumed(self, answers: dict[int, Answer]) -> tuple[frozenset[int], dict[int, Answer]]:
        """The clips that were skipped, and the answers to those that came again, as the file has them."""
        facts, skipped, again = self.file.facts(), set[int](), dict[int, Answer]()
        for index, name in enumerate(self.clips):
            said = facts.get(unicodedata.normalize("NFC", name), {})
            self.diary.resume(f"clip/{index}", said)
            if index not in answers and said.get(STATUS) == SKIPPED:
                skipped.add(index)
            if index in answers and (second := said.get(AGAIN[0], "").strip()):
                again[index] = answer_of(second, self.recognizer.label_set)
        return frozenset(skipped), again

    @property
    def fewest(self) -> int:
        """With fewer labels, or with fewer than the model was trained for, a listener is not saved."""
        return min(FEWEST, self.recognizer.model.card.adaptation.shots)

    @property
    def can_be_saved(self) -> bool:
        """Whether there are labels enough to save the listener."""
        return len(self.worker.view.answers) >= self.fewest

    @property
    def listener_name(self) -> str:
        """A name for the listener's folder that nothing beside the labels has."""
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", self.file.rater).strip("-._")[:48] or NAMELESS
        names = (plain if number == 1 else f"{plain}-{number}" for number in itertools.count(1))
        return next(name for name in names if not (self.file.path.parent / name).exists())

    @property
    def predict_command(self) -> str:
        """What to type to use the listener that was saved last."""
        saved = self.worker.view.saved
        return metaperser("predict", *([saved.path] if saved else []), *self._weights, "more_clips/", "--csv")

    def save_listener(self, name: str) -> None:
        """Have the worker adapt to all labels, as ``metaperser adapt`` does, and save that beside the labels.

        Args:
            name: of a new folder.

        Raises:
            UserError: too few labels, or no name of a new folder.
        """
        if not _FOLDER_NAME.fullmatch(name):
            raise UserError(f"{name[:80]!r} cannot be the name of a folder. Use letters, digits, '-', '_' and '.'.")
        if not self.can_be_saved:
            raise UserError(self.asked.say("save_from", fewest=self.fewest, labels=len(self.worker.view.answers)))
        check_new(self.file.path.parent / name)
        self.worker.save_as(self.file.path.parent / name, self.file.rater)

    def adapt_now(self) -> None:
        """Do not wait for ``every`` labels."""
        self.worker.adapt_after(self.worker.view.pending, 1)

    def next_after(self, index: int) -> int | None:
        """The next clip without a label, from the beginning again at the end; None where all have one or are skipped.

        Where the question says so, it is the one whose label tells the model most, as far as it has read the clips.
        """
        view, order = self.worker.view, [*range(index + 1, len(self.clips)), *range(index + 1)]
        left = [i for i in order if i not in view.answers and i not in view.unreadable and i not in view.skipped]
        if self.asked.question.next == "informative":
            items = dict(self.worker.items)
            known = [i for i in left if i in items and i in view.average]
            if known and any(i in items for i in view.answers):
                labelled = [i for i in view.answers if i in items]
                return most_informative(items, view.average, known, labelled)
        return left[0] if left else None

    def before(self, index: int) -> int:
        """The clip that the listener was at before this one."""
        if index in self.trail:
            place = len(self.trail) - 1 - self.trail[::-1].index(index)
            return self.trail[place - 1] if place else (index - 1) % len(self.clips)
        return self.trail[-1] if self.trail else (index - 1) % len(self.clips)

    def due_again(self) -> int | None:
        """A clip that is to come again now: one is due after every few labels, and was labelled a while ago."""
        view, every = self.worker.view, self.asked.question.repeat_every
        if not every or len(view.answers) // every <= len(view.again):
            return None
        early = [index for index in list(view.answers)[:-_APART] if index not in view.again]
        drawn = sorted(early, key=lambda index: seed_from("again", self.file.rater, self.clips[index]))
        return drawn[0] if drawn else None

    def agreement(self) -> tuple[int, int, float | None] | None:
        """Answers to clips that came again: how many, how many alike, and Krippendorff's alpha; None without any.

        Alpha is None of one clip, and where all answers are one and the same: it has no value then.
        """
        view = self.worker.view
        if not view.again:
            return None
        pairs = [(view.answers[index], second) for index, second in view.again.items()]
        values = ListenerLabels(self.recognizer.label_set, tuple(answer for pair in pairs for answer in pair)).counts
        if len(levels := self.recognizer.label_set.levels):
            values = values @ np.array(levels)[:, None]
        alike = sum(answer_text(first) == answer_text(second) for first, second in pairs)
        alpha = krippendorff_alpha(np.repeat(np.arange(len(pairs)), 2), values)
        return len(pairs), alike, alpha if len(pairs) > 1 and np.isfinite(alpha) else None

    def due_break(self) -> bool:
        """Whether a break is to be offered after the label that was just saved."""
        every = self.asked.question.break_every
        return bool(every) and len(self.worker.view.answers) % every == 0

    def sound(self, index: int) -> bytes:
        """One clip as the model hears it, 16 kHz and mono, as a WAV file that every browser plays.

        Raises:
            UserError: the clip cannot be read.
        """
        return _wav(self.folder / self.clips[index])

    def practice_sound(self, number: int) -> bytes:
        """A practice clip in the same form; errors are the same."""
        return _wav(self.asked.training[number][0])


@functools.lru_cache(maxsize=16)
def _wav(path: Path) -> bytes:
    samples, file = load_audio(path), io.BytesIO()
    soundfile.write(file, samples, RATE, format="WAV", subtype="PCM_16")
    return file.getvalue()
