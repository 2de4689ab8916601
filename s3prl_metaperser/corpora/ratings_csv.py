"""Any own corpus as a folder with ``ratings.csv``, one row per recording and rater::

    file,rater,label
    audio/utt01.wav,anna,happy
    audio/utt01.wav,ben,neutral;happy

Columns may come in any order; others are ignored. ``task,worker,label`` (crowd-kit) and
``name,rater,label`` will do too. A file with neither a ``rater`` nor a ``label`` column is wide (audformat):
every column but ``file``, ``start`` and ``end`` is a rater, and an empty cell means "not rated". An optional
``files.csv`` beside it says ``file,speaker`` and, where there are recording sessions, ``session``. Labels are IEMOCAP's
unless ``labels.yaml`` beside it, or the option ``labels``, says what raters may answer (docs/label_sets.md); numbers of
a scale may stand in a column ``value``.

Files are looked for in one folder, the CSV's own: an absolute path, one with ``..`` that leads out of it, and a
symbolic link that does are errors unless ``outside`` is set, since a corpus that came from elsewhere could name any
file of this machine.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from s3prl_metaperser.corpora import csv_rows, iemocap
from s3prl_metaperser.corpora.base import Corpus, Suggestions
from s3prl_metaperser.corpora.label_set import LabelSet
from s3prl_metaperser.corpora.label_sets import LABEL_SETS
from s3prl_metaperser.corpora.rated_files import FILE, Place
from s3prl_metaperser.corpora.rated_rows import RatedRows
from s3prl_metaperser.corpora.reader import Reader
from s3prl_metaperser.errors import UserError, unknown_name
from s3prl_metaperser.storage.paths import user_path

#: A label set of its own, beside ratings.csv.
LABELS = "labels.yaml"
#: What to do where IEMOCAP's labels do not fit.
OWN_LABELS = (
    " Other labels than IEMOCAP's? Name a registered set (datarc.labels; `metaperser list labels`), or put labels.yaml "
    "beside ratings.csv: {name: mine, kind: single, classes: [calm, tense]}."
)

_RATER, _LABEL = ("rater", "worker", "performer"), ("label",)
_NUMBER = ("value", "label")  # of a scale
_TIMES = ("start", "end")
_COLUMNS = {*FILE, *_RATER, *_NUMBER, *_TIMES}
_WHOLE_FILE = {"", "0", "0.0", "nat", "nan", "0 days", "0 days 00:00:00"}


def read(
    root: Path,
    *,
    duplicates: Literal["error", "union", "first"] = "error",
    outside: bool = False,
    labels: str | None = None,
) -> Corpus:
    """Read ``ratings.csv``.

    Args:
        root: the folder, or the CSV file itself.
        duplicates: what to do with a second row for the same file and rater: ``"error"``, ``"union"`` of the
            labels (where several may be ticked), or ``"first"``, which leaves later rows out and counts them.
        outside: whether files may be outside that folder.
        labels: the name of a registered label set, or a file like ``labels.yaml``; by default ``labels.yaml`` beside
            the CSV file, else IEMOCAP's labels.

    Returns:
        The files that have a rating with at least one class left, and these ratings.

    Raises:
        UserError: as :func:`read_table`; or no such label set.
    """
    path = _table_at(root)
    return read_table(path, label_set_of(path.parent, labels), duplicates=duplicates, outside=outside)


def label_set_of(folder: Path, labels: str | None = None) -> LabelSet | None:
    """The label set that ``labels`` names (a registered set, or a file, also relative to ``folder``).

    Without ``labels`` the one in ``labels.yaml``; None where there is no such file.

    Raises:
        UserError: no such set or file, or a file that is no label set.
    """
    if labels is None:
        own = folder / LABELS
        return LabelSet.from_yaml(own) if os.path.lexists(own) else None
    if labels in LABEL_SETS.names():
        return LABEL_SETS.get(labels)
    for path in (user_path(labels), folder / labels):
        if path.is_file():
            return LabelSet.from_yaml(path)
    raise UserError(f"{unknown_name('label set', labels, LABEL_SETS.names())} No such file either.")


def _table_at(root: Path) -> Path:
    root = user_path(root)
    path = root / "ratings.csv" if root.is_dir() else root
    if not path.is_file():
        raise UserError(f"{path} does not exist. Give a folder with ratings.csv, or the CSV file itself.")
    return path


def read_table(
    root: Path,
    label_set: LabelSet | None = None,
    *,
    duplicates: str = "error",
    audio: Path | None = None,
    only_rater: str | None = None,
    outside: bool = False,
) -> Corpus:
    """Read ``ratings.csv`` with the labels of a given set.

    An utterance's id is its path without the extension; where two files differ in nothing but that, they keep it.

    Args:
        root: as in :func:`read`, and so are ``duplicates`` and ``outside``.
        label_set: None for IEMOCAP's; then an unknown label's error explains ``labels.yaml``.
        audio: the folder that files are relative to; by default that of the CSV file.
        only_rater: whose labels they are where the file has a label and no ``rater`` column; without it such a
            file is an error.

    Raises:
        UserError: no such file, not UTF-8, a row or a label that cannot be read, a number out of scale, a path that
            leads out of the folder (all with file and line), or nothing rated.
    """
    path = _table_at(root)
    folder = path.parent if audio is None else user_path(audio)
    rows = RatedRows(
        path,
        iemocap.LABEL_SET if label_set is None else label_set,
        Place(folder, outside),
        duplicates=duplicates,
        hint=OWN_LABELS if label_set is None else "",
    )
    for line, file, rater, label in _cells(path, only_rater, rows.label_set.kind == "ordinal"):
        rows.add(line, file, rater, label)
    return rows.corpus("ratings_csv", suggested=Suggestions() if label_set else iemocap.SUGGESTED)


def _cells(path: Path, only_rater: str | None, scale: bool) -> Iterator[tuple[int, str, str, str]]:
    """(line, file, rater, label) of every row or, in the wide form, of every row and rater."""
    rows = csv_rows.rows(path, _COLUMNS)
    header = csv_rows.read_header(path, rows, _COLUMNS)
    file = csv_rows.column(path, header, FILE)
    times = [header.index(name) for name in _TIMES if name in header]
    answers = _NUMBER if scale else _LABEL
    wide = csv_rows.find_column(header, _RATER + answers) is None
    if not scale and csv_rows.find_column(header, answers) is None and _NUMBER[0] in header:
        raise UserError(
            f"{path}:1: a column {_NUMBER[0]!r} holds numbers of a scale, and this label set has none. "
            f"Name the column {_LABEL[0]!r}, or give a label set of kind ordinal."
        )
    if wide:
        raters = [n for n in range(len(header)) if n != file and n not in times]
        _check_wide(path, header, raters)
    else:
        label = csv_rows.column(path, header, answers)
        unnamed = only_rater is not None and csv_rows.find_column(header, _RATER) is None
        rater_column = None if unnamed else csv_rows.column(path, header, _RATER)
    for line, row in rows:
        if times and any(row[n].strip().lower() not in _WHOLE_FILE for n in times):
            raise UserError(f"{path}:{line}: start and end are not supported. Cut the segments into files.")
        if wide:
            for n in raters:
                if header[n]:
                    yield line, row[file], header[n], row[n]
                elif row[n].strip():
                    what = f"column {n + 1} has no name. Name its rater, or remove it"
                    raise UserError(f"{path}:{line}: {row[n][:60]!r} stands here, but {what}.")
        else:
            rater = only_rater if rater_column is None else row[rater_column].strip()
            if not rater or "\0" in rater:
                fault = "contains a NUL character" if rater else "is blank"
                raise UserError(f"{path}:{line}: the rater {fault}. Name who gave this label.")
            yield line, row[file], rater, row[label]


def _check_wide(path: Path, header: list[str], raters: list[int]) -> None:
    if not any(header[n] for n in raters):
        raise UserError(
            f"{path}:1: no ratings, only {', '.join(header)}. "
            "Expected the columns file,rater,label, or file and one for each rater."
        )


# What is already on disk has been allowed to be where it is.
READER = Reader(read, stored=functools.partial(read, outside=True))
