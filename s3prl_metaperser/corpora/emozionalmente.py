"""Emozionalmente with its evaluators: ``metadata/evaluations.csv``, who spoke in ``metadata/samples.csv``, and what is
published of the evaluators in ``metadata/users.csv``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from s3prl_metaperser.corpora import csv_rows
from s3prl_metaperser.corpora.base import Corpus
from s3prl_metaperser.corpora.label_sets import EMOZIONALMENTE
from s3prl_metaperser.corpora.rated_files import Place
from s3prl_metaperser.corpora.rated_rows import RatedRows
from s3prl_metaperser.corpora.reader import Reader
from s3prl_metaperser.errors import UserError, shown
from s3prl_metaperser.storage.paths import user_path

EVALUATIONS, SAMPLES, USERS = "evaluations.csv", "samples.csv", "users.csv"
TRAITS = ("gender", "age", "mother_tongue")
DROPPED_BAD = "ratings: the evaluator calls the audio bad"


def read(
    root: Path,
    *,
    quality: Literal["any", "good"] = "any",
    duplicates: Literal["error", "first"] = "error",
    unknown_labels: Literal["error", "drop"] | None = None,
    outside: bool = False,
) -> Corpus:
    """Read the evaluators of Emozionalmente.

    Args:
        root: the folder with ``metadata`` and ``audio``.
        quality: whether ratings are left out, and counted, whose evaluator called the audio bad.
        duplicates: what to do with a second row for the same file and evaluator: ``"error"`` or ``"first"``.
        unknown_labels: what happens to emotions that are none of the corpus's, ``"error"`` or ``"drop"``.
        outside: whether files may be outside the folder, behind links.

    Raises:
        UserError: a table is missing or damaged, a rated file is no sample, or nothing is rated.
    """
    root = user_path(root)
    metadata = root / "metadata" if (root / "metadata").is_dir() else root
    audio = root / "audio" if (root / "audio").is_dir() else root
    table = metadata / EVALUATIONS
    label_set = EMOZIONALMENTE.with_unknown(unknown_labels)
    rows = RatedRows(table, label_set, Place(audio, outside), duplicates=duplicates)
    described = {row["file_name"]: (row["actor"], "") for _, row in _rows(metadata / SAMPLES, ("file_name", "actor"))}
    for line, row in _rows(table, ("file_name", "evaluator", "emotion_recognized", "audio_quality")):
        file, evaluator, emotion, heard = row.values()
        if file not in described:
            raise UserError(f"{table}:{line}: {shown(file)} is not in {SAMPLES}. Take both tables from one release.")
        if not evaluator:
            raise UserError(f"{table}:{line}: the evaluator is blank. Take an intact copy.")
        if quality == "good" and heard.lower() != "good":
            rows.dropped[DROPPED_BAD] += 1
        else:
            rows.add(line, file, evaluator, emotion)
    traits = _traits(metadata / USERS, rows)
    return rows.corpus("emozionalmente", described=described, root=root, traits=traits)


def _traits(path: Path, rows: RatedRows) -> dict[str, dict[str, str]]:
    """What is published of the evaluators; who is not in the table is noted."""
    if not path.is_file():
        return {}
    found = {row.pop("username"): row for _, row in _rows(path, ("username", *TRAITS))}
    evaluators = {rater for raters in rows.rated.values() for rater in raters}
    if unknown := sorted(evaluators - found.keys()):
        rows.note(path, f"{len(unknown)} of {len(evaluators)} evaluators are not in it, e.g. {unknown[0]!r}.")
    return found


def _rows(path: Path, names: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    if not path.is_file():
        raise UserError(f"{path} does not exist. Give the folder of Emozionalmente, with metadata/ and audio/ in it.")
    return csv_rows.cells(path, names)


READER = Reader(
    read,
    terms="sources differ on Emozionalmente's licence (CC BY 4.0, or none said); ask its authors",
)
