"""Audio files by name, folder or pattern, and what is predicted for them."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from s3prl_metaperser.corpora.folders import files_below, on_disk
from s3prl_metaperser.corpora.label_set import Answer, LabelSet
from s3prl_metaperser.errors import UserError, printable, printable_json
from s3prl_metaperser.listener.labels import ANSWER_COLUMNS, answer_text
from s3prl_metaperser.listener.prepare import prepare
from s3prl_metaperser.listener.recognizer import PersonalizedEmotionRecognizer
from s3prl_metaperser.progress import tqdm
from s3prl_metaperser.storage.csv_text import csv_text
from s3prl_metaperser.storage.paths import user_path


@dataclass(frozen=True)
class Predictions:
    """What was predicted.

    Attributes:
        label_set: the model's.
        files: N that could be read, in the order asked for.
        probabilities: float32 [N, C].
        answers: what each row stands for, see :meth:`.PersonalizedEmotionRecognizer.answers`.
        unreadable: (file, why), of the others.
        passed_over: (folder, what in it is hidden or no audio by its name, counted).
        unlike: whether each is unlike the speech that the model was trained on, see :meth:`.LoadedModel.unlike`.
    """

    label_set: LabelSet
    files: tuple[str, ...]
    probabilities: np.ndarray
    answers: tuple[Answer, ...]
    unreadable: tuple[tuple[str, str], ...]
    passed_over: tuple[tuple[str, str], ...]
    unlike: tuple[bool, ...]

    @property
    def column(self) -> str:
        """What the answer is called: ``ticked``, ``label`` or ``value``."""
        return ANSWER_COLUMNS[self.label_set.kind]

    def as_csv(self) -> str:
        """``file``, a column for each class, and the answer; numbers with all digits of float32."""
        rows = [["file", *self.label_set.classes, self.column]]
        for file, row, answer in zip(self.files, self.probabilities, self.answers, strict=True):
            rows.append([file, *(f"{value:.9g}" for value in row), answer_text(answer)])
        return csv_text([[printable(cell) for cell in row] for row in rows])

    def as_json(self) -> str:
        """One object: ``classes``, ``predictions`` and ``unreadable``."""
        classes, several = self.label_set.classes, self.label_set.kind in ("multi", "soft")
        predictions = []
        for file, row, answer, unlike in zip(
            self.files, self.probabilities.tolist(), self.answers, self.unlike, strict=True
        ):
            shown = answer if isinstance(answer, float) else list(answer) if several else answer_text(answer)
            named = dict(zip(classes, row, strict=True))
            predictions.append({"file": file, "probabilities": named, self.column: shown, "unlike_training": unlike})
        unreadable = [{"file": file, "error": why} for file, why in self.unreadable]
        content = {"classes": list(classes), "predictions": predictions, "unreadable": unreadable}
        return printable_json(content) + "\n"

    def as_text(self) -> str:
        """A line a file: the answer's classes with their probabilities, or its number."""
        names = [printable(file, keep="") for file in self.files]
        width = max(map(len, names), default=0)
        lines = []
        for file, row, answer in zip(names, self.probabilities, self.answers, strict=True):
            named = dict(zip(self.label_set.classes, row.tolist(), strict=True))
            if isinstance(answer, int | float):
                shown = f"{answer:.2f}"
            else:
                shown = ", ".join(f"{name} {named[name]:.2f}" for name in answer)
            lines.append(f"{file:<{width}}  {shown}\n")
        return "".join(lines)


class Found(NamedTuple):
    """Files that were asked for.

    Attributes:
        files: each once, in the order asked for.
        nothing: (name, why) for what stands for no file at all, and for folders that cannot be listed.
        passed_over: (folder, what in it is hidden or no audio by its name, counted).
    """

    files: list[str]
    nothing: list[tuple[str, str]]
    passed_over: list[tuple[str, str]]


def find_files(names: Sequence[str]) -> Found:
    """Files by name; folders, whose audio is taken recursively; and patterns such as ``clips/**/*.wav``."""
    found: dict[str, None] = {}
    nothing: list[tuple[str, str]] = []
    passed_over: list[tuple[str, str]] = []
    for name in names:
        path = on_disk(user_path(name))
        if path.is_dir():
            below = files_below(path)
            inside, why = [str(file) for file in below.audio], "the folder has no audio files"
            nothing += [(str(folder), f"the folder cannot be listed ({fault})") for folder, fault in below.unlisted]
            if what := below.passed_over():
                passed_over.append((name, what))
        elif path.is_file() or not glob.has_magic(name):
            inside, why = [str(path)], ""
        else:
            every = sorted(glob.glob(str(path), recursive=True))
            inside = [file for file in every if os.path.isfile(file)]
            why = "no file matches"
        if not inside:
            nothing.append((name, why))
        found.update(dict.fromkeys(inside))
    return Found(list(found), nothing, passed_over)


def predict_files(
    recognizer: PersonalizedEmotionRecognizer, names: Sequence[str], *, batch_size: int = 1, progress: bool = True
) -> Predictions:
    """Predict audio files; one that cannot be read does not stop the others.

    Args:
        names: see :func:`find_files`.
        batch_size: see :meth:`.PersonalizedEmotionRecognizer.predict_proba`.
        progress: show a bar.

    Raises:
        UserError: no file at all.
    """
    files, unreadable, passed_over = find_files(names)
    if not files:
        shown = "; ".join(f"{name}: {why}" for name, why in unreadable) or "none is given"
        raise UserError(f"No audio files ({shown}).")
    done: list[str] = []
    unlike: list[bool] = []
    rows: list[np.ndarray] = [np.empty((0, len(recognizer.classes)), dtype=np.float32)]
    with tqdm(total=len(files), desc="predicting", disable=not progress, unit="file", dynamic_ncols=True) as bar:
        for part in recognizer.chunks(files):
            faults: dict[int, str] = {}
            made = prepare(recognizer.model, part, bar, batch_size=batch_size, faults=faults)
            found = recognizer.predict_items(list(made.values())) if made else rows[0]
            finite = np.isfinite(found).all(1)
            faults |= {place: "its prediction is NaN" for place, fine in zip(made, finite, strict=True) if not fine}
            done += [part[place] for place in made if place not in faults]
            unreadable += [(part[place], why) for place, why in faults.items()]
            rows.append(found[finite])
            unlike += recognizer.model.unlike(list(made.values()))[finite].tolist() if made else []
    probabilities = np.concatenate(rows)
    answers = tuple(recognizer.answers(probabilities))
    nothing = tuple(unreadable), tuple(passed_over)
    return Predictions(recognizer.label_set, tuple(done), probabilities, answers, *nothing, tuple(unlike))
