"""An export of Label Studio: JSON, JSON-MIN or CSV (https://labelstud.io/guide/export), beside the audio.

Who annotated is ``completed_by`` or ``annotator``; what, the answer of one control tag (``Choices``, ``Rating``,
``Number``, ``Labels`` of whole files). Uploads are named ``/data/upload/3/0a1b2c3d-clip.wav``: the audio is looked for
by the name behind the last stroke, with and without the eight digits that the upload put before it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from s3prl_metaperser.corpora import csv_rows
from s3prl_metaperser.corpora.answer_facts import AT, EXTRA, SECONDS, SKIPPED, STATUS, extra_of, facts_of
from s3prl_metaperser.corpora.exported_audio import audio_field
from s3prl_metaperser.corpora.exports import (
    DROPPED_MACHINE,
    Answer,
    Export,
    Given,
    Labels,
    export_in,
    first_object,
    json_of,
    tool_reader,
)
from s3prl_metaperser.corpora.rating_columns import is_harmless
from s3prl_metaperser.corpora.segments import segment_end
from s3prl_metaperser.errors import UserError, shown
from s3prl_metaperser.storage.atomic import write_json

#: What an export says of each annotation besides its answers.
_FACTS = ("annotator", "completed_by", "annotation_id", "agreement", "inner_id")
#: Values of control tags that are answers; all others (texts, regions drawn in the picture) are not.
_ANSWERS = ("choices", "rating", "number", "labels")


def find(root: Path, audio: str | None = None) -> Export:
    """What an export holds.

    Args:
        root: the export, or a folder with one export and the audio.
        audio: which field of a task names the audio, where there are several.

    Raises:
        UserError: no export, one that cannot be read, or several fields of which none is named.
    """
    path = export_in(root, (".json", ".csv", ".tsv"))
    export = Export(path, path.parent)
    if path.suffix.lower() != ".json":
        export.answers += _of_csv(path, audio)
        return export
    tasks = json_of(path)
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise UserError(f"{path}: no export of Label Studio, which is a list of tasks. Export as JSON or JSON-MIN.")
    for number, task in enumerate(tasks, 1):
        where = f"task {shown(task.get('id', number))}"
        export.answers += _of_task(task, where, audio, export) if "data" in task else _of_row(task, where, audio, path)
    return export


def recognises(path: Path) -> bool:
    """Whether a file is an export: by the first task, or by the columns that it always has."""
    if path.suffix.lower() == ".json":
        task = first_object(path) or {}
        return isinstance(task.get("data"), dict) or {"annotation_id", "annotator"} <= task.keys()
    if path.suffix.lower() not in (".csv", ".tsv"):
        return False
    with path.open(encoding="utf-8-sig", errors="replace") as handle:
        return {"annotation_id", "annotator", "lead_time"} <= set(handle.readline(1 << 16).strip().split(","))


# -- the forms of an export -------------------------------------------------------------------------------------------


def _of_task(task: dict, where: str, audio: str | None, export: Export) -> Iterator[Answer]:
    """The answers of a task of the JSON export, with a blank one for each annotation that has none."""
    path = export.path
    data = task["data"] if isinstance(task["data"], dict) else {}
    file = audio_field(data, audio, f"{path}:{where}")
    guesses = [task.get("predictions"), task.get("drafts")]
    export.dropped[DROPPED_MACHINE] += sum(len(each) for each in guesses if isinstance(each, list))
    annotations = task.get("annotations", task.get("completions", []))
    for number, each in enumerate(annotations if isinstance(annotations, list) else [], 1):
        place = f"{where}, annotation {shown(each.get('id', number)) if isinstance(each, dict) else number}"
        if not isinstance(each, dict) or not isinstance(each.get("result", []), list):
            raise UserError(f"{path}:{place}: no annotation. Export it again.")
        who = _annotator(each.get("completed_by"), f"{path}:{place}")
        skipped = bool(each.get("was_cancelled"))
        facts = _facts(each, _extra(task.get("meta"), who)) | ({STATUS: SKIPPED} if skipped else {})
        results = [] if skipped else each.get("result", [])
        given = [made for result in results if (made := _of_result(result, place, file, who, path))]
        yield from (answer._replace(facts=facts) for answer in given or [Answer(place, file, who, "", "")])


def _of_result(result: Any, where: str, file: str, who: str, path: Path) -> Answer | None:
    """The answer of one control tag; None for a text, a relation and the like."""
    value = result.get("value") if isinstance(result, dict) else None
    if not isinstance(value, dict) or (kind := next((name for name in _ANSWERS if name in value), None)) is None:
        return None
    start, end = (str(value[name]) if value.get(name) is not None else "" for name in ("start", "end"))
    cell = json.dumps({"rating" if kind in ("rating", "number") else "choices": value[kind]})
    return Answer(where, file, who, str(result.get("from_name", kind)), cell, end=segment_end(start, end, path, where))


def _of_row(row: dict, where: str, audio: str | None, path: Path) -> Iterator[Answer]:
    """The answers of an annotation of the JSON-MIN export."""
    file = audio_field(row, audio, f"{path}:{where}")
    who = _annotator(row.get("annotator", row.get("completed_by")), f"{path}:{where}")
    place = f"{where}, annotation {shown(row['annotation_id'])}" if "annotation_id" in row else where
    fields = {name: value for name, value in row.items() if not _is_fact(name) and value != file}
    facts = _facts(row)
    given = [Answer(place, file, who, name, _cell(value), facts=facts) for name, value in fields.items()]
    yield from given or [Answer(place, file, who, "", "", facts=facts)]


def _of_csv(path: Path, audio: str | None) -> Iterator[Answer]:
    table = csv_rows.rows(path)
    header = csv_rows.read_header(path, table, ())
    who = csv_rows.column(path, header, ("annotator", "completed_by"))
    for line, row in table:
        fields = {name: cell for name, cell in zip(header, row, strict=True) if name}
        file = audio_field(fields, audio, f"{path}:{line}")
        given = {name: cell for name, cell in fields.items() if not _is_fact(name) and cell != file}
        if row[who].strip() or any(cell.strip() for cell in given.values()):
            for name, cell in given.items():
                yield Answer(line, file, row[who], name, cell.strip(), facts=_facts(fields))
        else:
            yield Answer(line, file, "", "", "")  # a task that nobody has annotated


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


def _facts(said: Mapping[str, Any], extra: Any = None) -> dict[str, str]:
    """How an annotation was given: seconds and the time at which it was saved."""
    return facts_of(extra, **{SECONDS: said.get("lead_time"), AT: said.get("created_at")})


def _extra(meta: Any, who: str) -> Any:
    own = meta.get(EXTRA) if isinstance(meta, dict) else None
    return own.get(who) if isinstance(own, dict) else None


# -- writing ----------------------------------------------------------------------------------------------------------


def write(out: Path, labels: Labels) -> None:
    """Labels as the JSON export, which Label Studio imports as annotated tasks; plays and the like are in ``meta``."""
    tasks = []
    for number, file in enumerate(labels.files(), 1):
        mine = [each for each in labels.given if each.file == file]
        meta = {each.who: extra_of(each.facts, STATUS, SECONDS, AT) for each in mine}
        annotations = [_annotation(each, f"{number}-{n}", labels) for n, each in enumerate(mine, 1)]
        task = {"id": number, "data": {"audio": file}, "annotations": annotations, "predictions": []}
        tasks.append({**task, "meta": {EXTRA: {who: said for who, said in meta.items() if said}}})
    write_json(out, tasks)


def _annotation(given: Given, key: str, labels: Labels) -> dict[str, Any]:
    scale = labels.label_set.kind == "ordinal"
    value: dict[str, Any] = (
        {"number": float(given.parts[0])} if scale and given.parts else {"choices": list(given.parts)}
    )
    result = {"id": key, "from_name": labels.question, "to_name": "audio", "type": next(iter(value)), "value": value}
    facts = given.facts
    return {
        "id": key,
        "completed_by": {"email": given.who},
        "result": [result] if given.parts else [],
        "was_cancelled": not given.parts,
        **({"lead_time": float(facts[SECONDS])} if facts.get(SECONDS) else {}),
        **({"created_at": facts[AT]} if facts.get(AT) else {}),
    }


READER = tool_reader("label_studio", find, recognises=recognises, write=write, writes=".json")
