"""MSP-Podcast with its workers: the same ratings in up to three encodings in the release's folder of labels.

``labels.txt`` has blocks, a file's line and then a line for each worker::

    MSP-PODCAST_0001_0139.wav; N; A:2.400000; V:4.000000; D:2.800000;
    WORKER00000001; Other-confused; Concerned,Confused; A:3.000000; V:3.000000; D:4.000000;

``labels_detailed.csv`` holds a worker's line in a column ``EmoDetail``, or its parts in ``EmoClass_Major`` and others;
``labels_detailed.json`` is ``{file: {worker: {...}}}``. Speakers are those of ``labels_consensus.csv``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from s3prl_metaperser.corpora import csv_rows
from s3prl_metaperser.corpora.base import Corpus
from s3prl_metaperser.corpora.label_cells import is_blank
from s3prl_metaperser.corpora.label_sets import AROUSAL, DOMINANCE, MSP_PODCAST, MSP_PODCAST_SECONDARY, VALENCE
from s3prl_metaperser.corpora.rated_files import UNKNOWN_SPEAKER, Place
from s3prl_metaperser.corpora.rated_rows import DROPPED_REPEATED, RatedRows
from s3prl_metaperser.corpora.reader import Reader
from s3prl_metaperser.errors import UserError, shown
from s3prl_metaperser.storage.paths import user_path

#: What a worker answered, by the release's name of it and the label set that it goes by.
ANSWERS = {
    "primary": ("EmoClass_Major", MSP_PODCAST),
    "secondary": ("EmoClass_Second", MSP_PODCAST_SECONDARY),
    "arousal": ("EmoAct", AROUSAL),
    "valence": ("EmoVal", VALENCE),
    "dominance": ("EmoDom", DOMINANCE),
}
_PARTS = tuple(part for part, _ in ANSWERS.values())

_NUMBER = r"(\d+(?:\.\d*)?|NaN)"
_FILE = re.compile(r"(?P<file>[^;]+\.wav)\s*;.*", re.IGNORECASE)
_WORKER = re.compile(
    rf"(?P<worker>[^;:]+?)\s*;\s*(?P<major>[^;]+?)\s*;\s*(?P<second>[^;]*?)\s*;"
    rf"\s*A:{_NUMBER}\s*;\s*V:{_NUMBER}\s*;\s*D:{_NUMBER}\s*;?"
)


class _Answer(NamedTuple):
    """A worker's answers to one file, and where they stand."""

    line: int | str
    file: str
    worker: str
    parts: Mapping[str, str]


def release_reader(name: str, terms: str, within: str = ".") -> Reader:
    """The reader of a release in this form, none of which anybody may pass on.

    Args:
        name: its registered name.
        terms: as :class:`.Reader` has them.
        within: the folder below the root in which labels may be, too.
    """

    def read(
        root: Path,
        *,
        answer: Literal["primary", "secondary", "arousal", "valence", "dominance"] = "primary",
        unknown_labels: Literal["error", "drop"] | None = None,
        outside: bool = False,
    ) -> Corpus:
        """Read the workers of a release.

        Where a worker stands twice for a file the first answer is used, and the others are counted.

        Args:
            root: the release's folder, that of its labels, or one of the files of workers' answers.
            answer: the primary emotion (one, with "Other-..." left out and counted), the secondary ones (several), or
                an attribute on its scale from 1 to 7.
            unknown_labels: what happens to labels that are none of the release's.
            outside: whether files may be outside the folder, behind links.

        Raises:
            UserError: no file of workers' answers, one that cannot be read, or nothing rated.
        """
        root = user_path(root)
        tables = [root] if root.is_file() else _tables(root) or _tables(root / within)
        if not tables:
            names = ", ".join(_ENCODINGS)
            raise UserError(f"{root} has none of {names}. Give the release's folder, or the file itself.")
        folder = root if root.is_dir() else _release(root)
        label_set = ANSWERS[answer][1].with_unknown(unknown_labels)
        rows = RatedRows(tables[0], label_set, Place(_audio(folder), outside))
        answers = _answers(tables[0], rows)
        _add(answers, answer, rows)
        for other in tables[1:]:
            _compare(answers, tables[0], _answers(other, rows), other, rows)
        described = _speakers(tables[0].parent, rows)
        return rows.corpus(name, described=described, root=folder)

    return Reader(read, terms=terms, redistributable=False)


def _add(answers: list[_Answer], answer: str, rows: RatedRows) -> None:
    """Rate files by the first answer of each worker."""
    seen = set()
    for each in answers:
        if (each.file, each.worker) in seen:
            rows.dropped[DROPPED_REPEATED] += 1
            continue
        seen.add((each.file, each.worker))
        cell = each.parts[ANSWERS[answer][0]]
        rows.add(each.line, each.file, each.worker, ";".join(cell.split(",")) if answer == "secondary" else cell)


def _answers(table: Path, rows: RatedRows) -> list[_Answer]:
    """The answers of one encoding; lines that are none go into the ledger of ``rows``."""
    encoding = {".csv": _of_csv, ".json": _of_json}.get(table.suffix.lower(), _of_text)
    return list(encoding(table, rows))


def _of_text(table: Path, rows: RatedRows) -> Iterator[_Answer]:
    file = None
    for number, line in enumerate(text_of(table).splitlines(), 1):
        line = line.strip()
        if found := _FILE.fullmatch(line):
            file = found["file"].strip()
        elif line and file is not None and (made := _of_line(number, file, line)) is not None:
            yield made
        elif line:
            rows.not_understood(table, number, line)


def _of_line(line: int | str, file: str, text: str) -> _Answer | None:
    found = _WORKER.fullmatch(text.strip())
    if found is None:
        return None
    _, major, second, *numbers = found.groups()
    return _Answer(line, file, found["worker"], dict(zip(_PARTS, (major, second, *numbers), strict=True)))


def _of_csv(table: Path, rows: RatedRows) -> Iterator[_Answer]:
    content = csv_rows.rows(table)
    header = csv_rows.read_header(table, content, ())
    file = csv_rows.column(table, header, ("FileName",))
    detail = csv_rows.find_column(header, ("EmoDetail",))
    if detail is not None:
        for line, row in content:
            if (made := _of_line(line, row[file].strip(), row[detail])) is not None:
                yield made
            else:
                rows.not_understood(table, line, row[detail])
        return
    worker = csv_rows.column(table, header, ("WorkerID", "Workers", "Worker"))
    places = {part: csv_rows.column(table, header, (part,)) for part in _PARTS}
    for line, row in content:
        if is_blank(row[worker]):
            rows.not_understood(table, line, f"{row[file]}, no worker")
        else:
            parts = {part: row[n].strip() for part, n in places.items()}
            yield _Answer(line, row[file].strip(), row[worker].strip(), parts)


def _of_json(table: Path, rows: RatedRows) -> Iterator[_Answer]:
    try:
        content = json.loads(text_of(table))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{table}: not valid JSON ({error}). Unpack it again.") from None
    for file, workers in content.items() if isinstance(content, dict) else ():
        for worker, parts in workers.items() if isinstance(workers, dict) else ():
            if not isinstance(parts, dict) or not set(_PARTS) <= parts.keys():
                rows.not_understood(table, f"{file}, {worker}", shown(parts))
            else:
                yield _Answer(f"{file}, {worker}", file, worker, {part: str(parts[part]) for part in _PARTS})


def text_of(table: Path) -> str:
    """The text of a file as it was published.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return table.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeError) as error:
        raise UserError(f"{table}: cannot be read ({error}). Unpack it again.") from None


def _compare(answers: list[_Answer], table: Path, others: list[_Answer], other: Path, rows: RatedRows) -> None:
    """A serious problem where two encodings of the same ratings do not say the same."""
    first, second = _by_pair(answers), _by_pair(others)
    if bad := sorted(pair for pair in first.keys() | second.keys() if first.get(pair) != second.get(pair)):
        file, worker = bad[0]
        few = f"{len(bad)} answers differ from those in {table.name}, e.g. {worker} for {file}"
        rows.problem(other, f"{few}. Unpack both again.")


def _by_pair(answers: list[_Answer]) -> dict[tuple[str, str], tuple]:
    found: dict[tuple[str, str], tuple] = {}
    for each in answers:
        found.setdefault((each.file, each.worker), tuple(map(_value, each.parts.values())))
    return found


def _value(cell: str) -> str | float:
    """A cell as encodings share it: numbers are written with different numbers of digits."""
    try:
        return -1.0 if is_blank(cell) else float(cell)
    except ValueError:
        return ",".join(map(str.strip, cell.split(",")))


#: Of several the first is read, and the others are held against it.
_ENCODINGS = ("labels_detailed.csv", "labels_detailed.json", "labels.txt")


def _tables(root: Path) -> list[Path]:
    """The encodings that are there, in any case, in the folder itself or in one called labels."""
    if not root.is_dir():
        return []
    folders = [root, *(path for path in sorted(root.iterdir()) if path.name.lower() in ("label", "labels"))]
    files = [path for folder in folders if folder.is_dir() for path in sorted(folder.iterdir()) if path.is_file()]
    by_name: dict[str, Path] = {}
    for path in files:
        by_name.setdefault(path.name.lower(), path)
    return [by_name[name] for name in _ENCODINGS if name in by_name]


def _release(table: Path) -> Path:
    return table.parent.parent if table.parent.name.lower() in ("label", "labels") else table.parent


def _audio(folder: Path) -> Path:
    found = (
        path for path in sorted(folder.iterdir()) if path.is_dir() and path.name.lower() in ("audio", "audios", "wavs")
    )
    return next(found, folder)


def _speakers(folder: Path, rows: RatedRows) -> dict[str, tuple[str, str]]:
    """File -> (speaker, no session) by the table of consensus labels, which earlier releases spell otherwise."""
    table = next(
        (path for name in ("consensus", "concensus") if (path := folder / f"labels_{name}.csv").is_file()), None
    )
    if table is None:
        rows.note(folder, "no labels_consensus.csv: who speaks is unknown, so that speakers cannot be kept apart.")
        return {}
    content = csv_rows.rows(table)
    header = csv_rows.read_header(table, content, ())
    file = csv_rows.column(table, header, ("FileName",))
    if (speaker := csv_rows.find_column(header, ("SpkrID",))) is None:
        rows.note(table, "no column SpkrID: who speaks is unknown, so that speakers cannot be kept apart.")
        return {}
    found = {row[file].strip(): row[speaker].strip() for _, row in content}
    described = {
        name: (UNKNOWN_SPEAKER if who.lower() in ("", UNKNOWN_SPEAKER) else who, "") for name, who in found.items()
    }
    unknown = sum(described.get(name, (UNKNOWN_SPEAKER, ""))[0] == UNKNOWN_SPEAKER for name in rows.rated)
    if unknown:
        few = f"{unknown} of {len(rows.rated)} rated files"
        rows.note(table, f"{few} have no known speaker; they may share one with others.")
    return described


READER = release_reader(
    "msp_podcast",
    "MSP-Podcast is given out under an agreement with UT Dallas; ask there whether models trained on it may be shared",
)
