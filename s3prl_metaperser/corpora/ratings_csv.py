"""Any own corpus as a folder with ``ratings.csv``, one row per recording and rater::

    file,rater,label
    audio/utt01.wav,anna,happy
    audio/utt01.wav,ben,neutral;happy

Columns may come in any order, under the names that labelling tools give them (``task,worker,label``, ``audio,annotator,
choice``, ...; see :mod:`.rating_columns`); others are named in a note. A file in which no column says who rated is wide
(audformat): every column but ``file``, ``start`` and ``end`` is a rater's, and an empty cell means "not rated"; where a
column's name is no person's (``majority``, ``gold``), the raters must be named. An optional
``files.csv`` beside it says ``file,speaker`` and, where there are recording sessions, ``session``. Labels are IEMOCAP's
unless ``labels.yaml`` beside it, or the option ``labels``, says what raters may answer (docs/label_sets.md); numbers of
a scale may stand in a column ``value``.

Files are looked for in one folder, the CSV's own: an absolute path, one with ``..`` that leads out of it, and a
symbolic link that does are errors unless ``outside`` is set, since a corpus that came from elsewhere could name any
file of this machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

from s3prl_metaperser.corpora import csv_rows, iemocap
from s3prl_metaperser.corpora.answer_facts import FACTS
from s3prl_metaperser.corpora.base import Corpus, Suggestions
from s3prl_metaperser.corpora.exports import Answer, Export, Labels
from s3prl_metaperser.corpora.label_set import LabelSet
from s3prl_metaperser.corpora.label_sets import label_set_of
from s3prl_metaperser.corpora.people import DROPPED_RATER, People, Who
from s3prl_metaperser.corpora.rated_rows import Reading
from s3prl_metaperser.corpora.rating_columns import LABEL, TIMES, VALUE, Columns, columns_of, is_known
from s3prl_metaperser.corpora.reader import Reader
from s3prl_metaperser.corpora.segments import segment_end
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.storage.atomic import write_text
from s3prl_metaperser.storage.csv_text import csv_text
from s3prl_metaperser.storage.paths import user_path


def read(
    root: Path,
    *,
    duplicates: Literal["error", "union", "first"] = "error",
    outside: bool = False,
    labels: Mapping[str, str] | str | None = None,
    unknown_labels: Literal["error", "drop"] | None = None,
    rater_column: str | None = None,
    raters: tuple[str, ...] | None = None,
    alike_raters: Literal["error", "one", "distinct"] = "error",
    exclude_raters: tuple[str, ...] | None = None,
) -> Corpus:
    """Read ``ratings.csv``.

    Args:
        root: the folder, or the CSV file itself.
        duplicates: what to do with a second row for the same file and rater: ``"error"``, ``"union"`` of the
            labels (where several may be ticked), or ``"first"``, which leaves later rows out and counts them.
        outside: whether files may be outside that folder.
        labels: the name of a registered label set, a file like ``labels.yaml``, or what becomes of single labels,
            ``{contempt: other}``; by default ``labels.yaml`` beside the CSV file, else IEMOCAP's labels.
        unknown_labels: what happens to labels that the set does not know, ``"error"`` or ``"drop"`` (left out and
            counted); by default what the set itself says.
        rater_column: the column that says who rated, where it has none of the known names.
        raters: the raters to read, whatever they are called; the labels of others are left out and counted.
        alike_raters: what raters are whose names differ only by case, Unicode form or leading zeros; see :class:`.Who`.
        exclude_raters: raters that take no part: nothing is asked about their names.

    Returns:
        The files that have a rating with at least one class left, and these ratings.

    Raises:
        UserError: as :func:`read_table`; or no such label set.
    """
    path = _table_at(root)
    who = Who(rater_column, raters, alike_raters, tuple(exclude_raters or ()))
    reading = Reading(who=who, duplicates=duplicates, outside=outside, unknown_labels=unknown_labels)
    return read_table(path, reading, label_set_of(path.parent, labels))


def _table_at(root: Path) -> Path:
    root = user_path(root)
    path = root / "ratings.csv" if root.is_dir() else root
    if not path.is_file():
        raise UserError(f"{path} does not exist. Give a folder with ratings.csv, or the CSV file itself.")
    return path


def read_table(root: Path, reading: Reading, label_set: LabelSet | None = None) -> Corpus:
    """Read ``ratings.csv`` with the labels of a given set.

    An utterance's id is its path without the extension; where two files differ in nothing but that, they keep it.

    Args:
        root: as in :func:`read`.
        label_set: None for IEMOCAP's; then an unknown label's error explains ``labels.yaml``.

    Raises:
        UserError: it is not clear who rated; no such file, not UTF-8, a row or a label that cannot be read, a number
            out of scale, a path that leads out of the folder (all with file and line), or nothing rated.
    """
    path = _table_at(root)
    rows, who = reading.rows(path, path.parent, label_set), reading.who
    people = People(path, who)
    table = csv_rows.rows(path, is_known)
    columns = columns_of(path, csv_rows.read_header(path, table, ()), who, scale=rows.label_set.kind == "ordinal")
    for line, file, rater, label, end in _cells(path, table, columns):
        if (person := people.person(rater, line)) is not None:
            rows.add(line, file, person, label, end)
    people.check()
    rows.dropped[DROPPED_RATER] += people.left_out
    if columns.note:
        rows.note(path, columns.note)
    return rows.corpus("ratings_csv", suggested=Suggestions() if label_set else iemocap.SUGGESTED)


def _cells(path: Path, table: csv_rows.Rows, columns: Columns) -> Iterator[tuple[int, str, str, str, float | None]]:
    """(line, file, rater, label, end) of every row or, in the wide form, of every row and rater."""
    for number, (line, row) in enumerate(table):
        end = None
        if columns.times:
            start, stop = (row[n] if (n := columns.times.get(name)) is not None else "" for name in TIMES)
            end = segment_end(start, stop, path, line)
        for n in columns.unnamed:
            if row[n].strip() not in ("", str(number), str(number + 1)):  # a data frame's index is nobody's
                what = f"column {n + 1} has no name. Name its rater, or remove it"
                raise UserError(f"{path}:{line}: {row[n][:60]!r} stands here, but {what}.")
        if columns.label is None:
            for n, rater in columns.people:
                yield line, row[columns.file], rater, row[n], end
        else:
            rater = columns.listener or "" if columns.rater is None else row[columns.rater]
            yield line, row[columns.file], rater, row[columns.label], end


def find(root: Path, who: Who | None = None) -> Export:
    """What a table holds, with how each answer was given where it says so.

    Raises:
        UserError: as :func:`read_table`.
    """
    path, who = _table_at(root), who or Who()
    export, people = Export(path, path.parent), People(path, who)
    table = csv_rows.rows(path, is_known)
    header = csv_rows.read_header(path, table, ())
    columns = columns_of(path, header, who, scale=VALUE in map(str.lower, header))
    known = [(name, header.index(name)) for name in FACTS if name in header]
    rows = list(table)
    for (line, row), each in zip(rows, _cells(path, iter(rows), columns), strict=columns.label is not None):
        if (person := people.person(each[2], line)) is not None:
            facts = {name: row[place] for name, place in known if row[place].strip()}
            export.answers.append(Answer(line, each[1], person, LABEL, each[3].strip(), end=each[4], facts=facts))
    people.check()
    return export


def write(out: Path, labels: Labels) -> None:
    """Labels as a table, with a column for every fact that is known of any answer."""
    names = [name for name in FACTS if any(each.facts.get(name) for each in labels.given)]
    rows = [
        [each.file, each.who, ";".join(each.parts), *(each.facts.get(n, "") for n in names)] for each in labels.given
    ]
    write_text(out, csv_text([["file", "rater", "label", *names], *rows]))


READER = Reader(read, find=find, write=write, writes=".csv")
