"""An export of Label Studio: JSON, JSON-MIN or CSV (https://labelstud.io/guide/export), beside the audio.

Who annotated is ``completed_by`` or ``annotator``; what, the answer of one control tag (``Choices``, ``Rating``,
``Number``, ``Labels`` of whole files). Uploads are named ``/data/upload/3/0a1b2c3d-clip.wav``: the audio is looked for
by the name behind the last stroke, with and without the eight digits that the upload put before it.
"""

from __future__ import annotations

import functools
import json
import posixpath
import re
import urllib.parse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from s3prl_metaperser.corpora import csv_rows, iemocap
from s3prl_metaperser.corpora.base import Corpus, Problem, Suggestions
from s3prl_metaperser.corpora.folders import files_below, is_audio
from s3prl_metaperser.corpora.label_sets import LABELS, OWN_LABELS, label_set_of
from s3prl_metaperser.corpora.people import DROPPED_RATER, People, Who
from s3prl_metaperser.corpora.rated_files import Place
from s3prl_metaperser.corpora.rated_rows import RatedRows
from s3prl_metaperser.corpora.rating_columns import is_harmless
from s3prl_metaperser.corpora.reader import Reader
from s3prl_metaperser.corpora.segments import segment_end
from s3prl_metaperser.errors import UserError, shown, unknown_name
from s3prl_metaperser.storage.paths import user_path

DROPPED_SKIPPED = "ratings: skipped or without an answer"
DROPPED_PREDICTIONS = "ratings: predictions of a model, and drafts"

#: What an export says of each annotation besides its answers.
_FACTS = ("annotator", "completed_by", "annotation_id", "agreement", "inner_id")
#: Values of control tags that are answers; all others (texts, regions drawn in the picture) are not.
_ANSWERS = ("choices", "rating", "number", "labels")
_UPLOAD = re.compile(r"[0-9a-f]{8}-(?=.)")


class _Answer(NamedTuple):
    """What an annotator answered to a task.

    Attributes:
        where: it stands: a line, or ``task 3, annotation 7``.
        audio: the file, as the export names it.
        who: the annotator, as written.
        control: the name of the control tag.
        cell: the answer; blank where there is none.
        end: seconds at which the region ends that was annotated, if it was one.
    """

    where: int | str
    audio: str
    who: str
    control: str
    cell: str
    end: float | None = None


def read(
    root: Path,
    *,
    answer: str | None = None,
    audio: str | None = None,
    duplicates: Literal["error", "union", "first"] = "error",
    outside: bool = False,
    labels: Mapping[str, str] | str | None = None,
    unknown_labels: Literal["error", "drop"] | None = None,
    raters: tuple[str, ...] | None = None,
    alike_raters: Literal["error", "one", "distinct"] = "error",
) -> Corpus:
    """Read an export.

    Args:
        root: the export, or a folder with one export and the audio.
        answer: which control tag (column) holds the label, where there are several.
        audio: which field of a task names the audio, where there are several.
        duplicates, outside, labels, unknown_labels: as in :func:`.ratings_csv.read`.
        raters: the annotators to read; those of others are left out and counted.
        alike_raters: as in :func:`.ratings_csv.read`.

    Raises:
        UserError: no export, one that cannot be read, several answers or fields of which none is named, two recordings
            of one name, or nothing rated.
    """
    path = _export(user_path(root))
    folder = path.parent
    label_set = label_set_of(folder, labels)
    rows = RatedRows(
        path,
        (label_set or iemocap.LABEL_SET).with_unknown(unknown_labels),
        Place(folder, outside),
        duplicates=duplicates,
        hint="" if label_set else OWN_LABELS,
    )
    found = list(_answers(path, audio, rows))
    chosen = _chosen([each.control for each in found if each.control], answer, path)
    people, files = People(path, Who(None, raters, alike_raters)), _Audio(folder, path)
    for each in found:
        if each.control not in (chosen, ""):
            continue
        if not each.cell or not each.control:
            rows.dropped[DROPPED_SKIPPED] += 1
        elif (person := people.person(each.who, each.where)) is not None:
            rows.add(each.where, files.named(each.audio, each.where), person, each.cell, each.end)
    people.check()
    rows.dropped[DROPPED_RATER] += people.left_out
    if others := sorted({each.control for each in found} - {chosen, ""}):
        rows.problems.append(Problem(str(path), f"answers not used: {', '.join(others)}.", serious=False))
    return rows.corpus("label_studio", suggested=Suggestions())


def _export(root: Path) -> Path:
    if not root.is_dir():
        if not root.is_file():
            raise UserError(f"{root} does not exist. Give the export, or a folder with one export and the audio.")
        return root
    found = [
        path for path in sorted(root.iterdir()) if path.suffix.lower() in (".json", ".csv", ".tsv") and path.is_file()
    ]
    found = [path for path in found if path.name not in ("files.csv", LABELS) and not path.name.startswith(".")]
    if len(found) != 1:
        there = ", ".join(path.name for path in found[:5]) or "none"
        raise UserError(f"{root}: expected one export (.json or .csv), found {there}. Give the file itself.")
    return found[0]


def _chosen(controls: list[str], answer: str | None, path: Path) -> str:
    """The control tag whose answers are the labels."""
    known = list(dict.fromkeys(controls))
    if answer is not None:
        if answer not in known:
            raise unknown_name("answer", answer, known or ["none"])
        return answer
    if not known:
        raise UserError(f"{path}: no annotation has an answer ({', '.join(_ANSWERS)}). Export the annotated tasks.")
    if len(known) > 1:
        how = f"--option answer={known[0]} (training: datarc.answer)"
        raise UserError(f"{path}: which answer is the label, {', '.join(known)}? Say it: {how}.")
    return known[0]


# -- the forms of an export -------------------------------------------------------------------------------------------


def _answers(path: Path, audio: str | None, rows: RatedRows) -> Iterator[_Answer]:
    if path.suffix.lower() != ".json":
        yield from _of_csv(path, audio)
        return
    try:
        tasks = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON ({error}). Export it again.") from None
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise UserError(f"{path}: no export of Label Studio, which is a list of tasks. Export as JSON or JSON-MIN.")
    for number, task in enumerate(tasks, 1):
        where = f"task {shown(task.get('id', number))}"
        yield from _of_task(task, where, audio, path, rows) if "data" in task else _of_row(task, where, audio, path)


def _of_task(task: dict, where: str, audio: str | None, path: Path, rows: RatedRows) -> Iterator[_Answer]:
    """The answers of a task of the JSON export, with a blank one for each annotation that has none."""
    data = task["data"] if isinstance(task["data"], dict) else {}
    file = _field(data, audio, f"{path}:{where}")
    guesses = [task.get("predictions"), task.get("drafts")]
    rows.dropped[DROPPED_PREDICTIONS] += sum(len(each) for each in guesses if isinstance(each, list))
    annotations = task.get("annotations", task.get("completions", []))
    for number, each in enumerate(annotations if isinstance(annotations, list) else [], 1):
        place = f"{where}, annotation {shown(each.get('id', number)) if isinstance(each, dict) else number}"
        if not isinstance(each, dict) or not isinstance(each.get("result", []), list):
            raise UserError(f"{path}:{place}: no annotation. Export it again.")
        who = _annotator(each.get("completed_by"), f"{path}:{place}")
        results = [] if each.get("was_cancelled") else each.get("result", [])
        given = [made for result in results if (made := _of_result(result, place, file, who, path))]
        yield from given or [_Answer(place, file, who, "", "")]


def _of_result(result: Any, where: str, file: str, who: str, path: Path) -> _Answer | None:
    """The answer of one control tag; None for a text, a relation and the like."""
    value = result.get("value") if isinstance(result, dict) else None
    if not isinstance(value, dict) or (kind := next((name for name in _ANSWERS if name in value), None)) is None:
        return None
    start, end = (str(value[name]) if value.get(name) is not None else "" for name in ("start", "end"))
    cell = json.dumps({"rating" if kind in ("rating", "number") else "choices": value[kind]})
    return _Answer(where, file, who, str(result.get("from_name", kind)), cell, segment_end(start, end, path, where))


def _of_row(row: dict, where: str, audio: str | None, path: Path) -> Iterator[_Answer]:
    """The answers of an annotation of the JSON-MIN export."""
    file = _field(row, audio, f"{path}:{where}")
    who = _annotator(row.get("annotator", row.get("completed_by")), f"{path}:{where}")
    place = f"{where}, annotation {shown(row['annotation_id'])}" if "annotation_id" in row else where
    fields = {name: value for name, value in row.items() if not _is_fact(name) and value != file}
    given = [_Answer(place, file, who, name, _cell(value)) for name, value in fields.items()]
    yield from given or [_Answer(place, file, who, "", "")]


def _of_csv(path: Path, audio: str | None) -> Iterator[_Answer]:
    table = csv_rows.rows(path)
    header = csv_rows.read_header(path, table, ())
    who = csv_rows.column(path, header, ("annotator", "completed_by"))
    for line, row in table:
        fields = {name: cell for name, cell in zip(header, row, strict=True) if name}
        file = _field(fields, audio, f"{path}:{line}")
        given = {name: cell for name, cell in fields.items() if not _is_fact(name) and cell != file}
        if row[who].strip() or any(cell.strip() for cell in given.values()):
            for name, cell in given.items():
                yield _Answer(line, file, row[who], name, cell.strip())
        else:
            yield _Answer(line, file, "", "", "")  # a task that nobody has annotated


def _is_fact(name: str) -> bool:
    """Whether a column says something of the annotation, the annotator or the recording, and is no answer."""
    return name in _FACTS or is_harmless(name)


def _cell(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else json.dumps(value)


def _annotator(said: Any, where: str) -> str:
    if isinstance(said, dict):
        said = said.get("email") or said.get("id")
    if said is None or isinstance(said, bool) or not isinstance(said, str | int):
        raise UserError(f"{where}: nothing says who annotated (completed_by). Export it with the annotators.")
    return str(said)


def _field(data: Mapping[str, Any], audio: str | None, where: str) -> str:
    """The file of a task: its field of that name, or the only one that names audio."""
    if audio is None:
        named = [name for name, value in data.items() if isinstance(value, str) and is_audio(_path(value))]
        audio = "audio" if "audio" in named or not named else named[0]
        if len(named) > 1 and audio != "audio":
            how = f"--option audio={named[0]} (training: datarc.audio)"
            raise UserError(f"{where}: which is the audio, {', '.join(named)}? Say it: {how}.")
    value = data.get(audio)
    if not isinstance(value, str) or not value.strip():
        raise UserError(
            f"{where}: no field {audio!r} names the audio; it has {', '.join(map(str, data)) or 'nothing'}."
        )
    return value


# -- names of files ----------------------------------------------------------------------------------------------------


def _path(url: str) -> str:
    """The path in what Label Studio calls a file: of an upload, of local storage, of a bucket or of a server."""
    parts = urllib.parse.urlsplit(url.strip())
    local = urllib.parse.parse_qs(parts.query).get("d")
    if local:
        return local[0]
    return parts.path if parts.scheme in ("http", "https", "s3", "gs", "azure-blob") else url.strip()


class _Audio:
    """The audio that is meant by the names of an export, which seldom are those of the files here."""

    def __init__(self, folder: Path, export: Path):
        self.folder, self.export = folder, export
        self._files: dict[str, list[str]] = {}
        for path in files_below(folder).audio:
            self._files.setdefault(_stored(path.name), []).append(path.relative_to(folder).as_posix())
        self._taken: dict[str, str] = {}  # file here -> what the export calls it

    def named(self, url: str, where: int | str) -> str:
        """The file relative to the folder; a name that stands for none of them is kept, to be reported as missing.

        Raises:
            UserError: several files are meant, or another recording of the export has that file.
        """
        path = _path(url)
        base = posixpath.basename(path)
        ways = (path.lstrip("/"), urllib.parse.unquote(path.lstrip("/")), base, _UPLOAD.sub("", base))
        found = next((way for way in ways if (self.folder / way).is_file()), None)
        if found is None:
            names = dict.fromkeys((_stored(urllib.parse.unquote(base)), _stored(urllib.parse.unquote(ways[-1]))))
            meant = next((files for name in names if (files := self._files.get(name))), [ways[-1]])
            if len(meant) > 1:
                raise UserError(
                    f"{self.export}:{where}: {shown(url)} may be {' or '.join(meant[:3])}. Keep one of them."
                )
            found = meant[0]
        if (other := self._taken.setdefault(found, url)) != url:
            what = f"{shown(other)} and {shown(url)} are both called {found!r} here"
            raise UserError(f"{self.export}:{where}: {what}. Keep the names that Label Studio gave the uploads.")
        return found


def _stored(name: str) -> str:
    """A name as Label Studio stores an upload: without blanks and signs."""
    return re.sub(r"[^-\w.]", "", name.replace(" ", "_"))


# Its labels are its own; there is nothing to ask about models trained on them.
READER = Reader(read, stored=functools.partial(read, outside=True))
