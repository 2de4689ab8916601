"""What annotators did in Potato (https://potatoannotator.readthedocs.io): a project with ``annotation_output``.

Version 2 keeps ``annotation_output/USER/user_state.json``::

    {"user_id": "anna", "instance_id_to_label_to_value": {"item_1": [[{"schema": "emotion", "name": "happy"}, "true"]]}}

and version 1 ``annotation_output/USER/annotated_instances.jsonl``, a line an item::

    {"id": "item_1", "displayed_text": "...", "label_annotations": {"emotion": {"happy": "true"}}}

Which recording an item is, is in the data files that the project's configuration names (``data_files``,
``item_properties``), where the item's name is not the file's itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from s3prl_metaperser.config.yaml_files import YAML_1_1, read_yaml
from s3prl_metaperser.corpora import csv_rows
from s3prl_metaperser.corpora.answer_facts import (
    AT,
    EXTRA,
    SECONDS,
    SKIPPED,
    STATUS,
    extra_of,
    facts_of,
    seconds_since_1970,
)
from s3prl_metaperser.corpora.exported_audio import audio_field
from s3prl_metaperser.corpora.exports import (
    DROPPED_MACHINE,
    Answer,
    Export,
    Given,
    Labels,
    json_lines,
    json_of,
    tool_reader,
)
from s3prl_metaperser.corpora.folders import is_audio
from s3prl_metaperser.errors import UserError, shown
from s3prl_metaperser.storage.atomic import write_json
from s3prl_metaperser.storage.disk import new_folder

OUTPUT, STATE, INSTANCES = "annotation_output", "user_state.json", "annotated_instances.jsonl"
DROPPED_CHECK = "ratings: of items that are left out by name"

_FLAGS = {"true": True, "false": False}
_SPENT = re.compile(r"(\d+)d\s*(\d+)h\s*(\d+)m\s*(\d+)s")
_LAST_NUMBER = re.compile(r"\d+(?:\.\d+)?\Z")


def find(root: Path, audio: str | None = None, skip: str | None = None) -> Export:
    """What a project holds.

    Args:
        root: the project's folder, its ``annotation_output``, or one annotator's file.
        audio: which field of an item names the audio, where there are several.
        skip: a regular expression: items whose whole name it matches (attention checks) are left out and counted.

    Raises:
        UserError: no annotations, or a file that cannot be read.
    """
    files, project = _files(root)
    try:
        left_out = re.compile(skip) if skip else None
    except re.error as error:
        raise UserError(f"skip: {shown(skip)} is no regular expression ({error}).") from None
    export = Export(files[0] if len(files) == 1 else root, project)
    items = _items(project)
    for file in files:
        reading = _of_state if file.name == STATE else _of_instances
        for item, who, where, labels, facts in reading(file, export):
            if left_out is not None and left_out.fullmatch(item):
                export.dropped[DROPPED_CHECK] += 1
                continue
            heard = items.get(item, {"audio": item} if is_audio(item) else {})
            if not heard:
                what = f"item {shown(item)} is in none of the project's data files, and is no audio file by its name"
                raise UserError(f"{where}: {what}. Put config.yaml and its data_files beside {OUTPUT}.")
            recording = audio_field(heard, audio, where)
            place = where.removeprefix(f"{export.path}")[1:]
            if facts.get(STATUS) == SKIPPED:
                export.skipped.append(Answer(place, recording, who, facts=facts))
                continue
            given = [
                Answer(place, recording, who, scheme, ticks=ticks, facts=facts) for scheme, ticks in labels.items()
            ]
            export.answers += given or [Answer(place, recording, who, facts=facts)]
    return export


def _files(root: Path) -> tuple[list[Path], Path]:
    """The annotators' files, and the project's folder."""
    if root.is_file():
        inside = [parent for parent in root.parents if parent.name == OUTPUT]
        return [root], inside[0].parent if inside else root.parent
    project = root.parent if root.name == OUTPUT else root
    output = root if root.name == OUTPUT or not (root / OUTPUT).is_dir() else root / OUTPUT
    users = [path for path in sorted(output.iterdir()) if path.is_dir()] if output.is_dir() else []
    found = [
        next((folder / name for name in (STATE, INSTANCES) if (folder / name).is_file()), None)
        for folder in (*users, output)  # all annotators' rows may stand in one file
    ]
    files = [file for file in found if file is not None]
    if not files:
        what = f"no {OUTPUT}/USER/{STATE} and no {INSTANCES}"
        raise UserError(f"{root}: {what}. Give the folder of a Potato project, or one annotator's file.")
    return files, project


#: item, who, where, scheme -> ticks, facts
_Found = Iterator[tuple[str, str, str, dict[str, tuple[tuple[str, ...], ...]], dict[str, str]]]


def _of_state(file: Path, export: Export) -> _Found:
    state = json_of(file)
    labelled = state.get("instance_id_to_label_to_value") if isinstance(state, dict) else None
    if not isinstance(labelled, dict):
        raise UserError(f"{file}: no instance_id_to_label_to_value. Take the file as Potato wrote it.")
    who = state.get("user_id") or file.parent.name
    origin = state.get("origin")
    if isinstance(origin, dict) and origin.get("kind", "human") != "human":
        export.dropped[DROPPED_MACHINE] += len(labelled)
        return
    found = state.get("instance_id_to_behavioral_data")
    behaviour = found if isinstance(found, dict) else {}
    for item, labels in labelled.items():
        where = f"{file}:item {shown(item)}"
        yield item, str(who), where, _schemes(_pairs(labels, where)), _facts(behaviour.get(item))
    for item in behaviour:
        if item not in labelled and (facts := _facts(behaviour[item])).get(STATUS) == SKIPPED:
            yield str(item), str(who), f"{file}:item {shown(item)}", {}, facts


def _of_instances(file: Path, export: Export) -> _Found:
    for line, row in json_lines(file):
        labels = row.get("label_annotations")
        if not isinstance(labels, dict) or "id" not in row:
            raise UserError(f"{file}:{line}: no 'id' and 'label_annotations'. Take the file as Potato wrote it.")
        where = f"{file}:{line}"
        who, facts = str(row.get("user") or file.parent.name), _facts(row.get("behavioral_data"))
        yield str(row["id"]), who, where, _schemes(_pairs(labels, where)), facts


def _facts(behaviour: Any) -> dict[str, str]:
    """How an item was answered, of version 2's milliseconds or version 1's ``Time spent: 0d 0h 0m 5s``."""
    said = behaviour if isinstance(behaviour, dict) else {}
    milliseconds, spent = said.get("total_time_ms"), _SPENT.search(str(said.get("time_string", "")))
    seconds = milliseconds / 1000 if isinstance(milliseconds, int | float) else None
    if seconds is None and spent:
        days, hours, minutes, rest = map(int, spent.groups())
        seconds = ((days * 24 + hours) * 60 + minutes) * 60 + rest
    return facts_of(said.get(EXTRA), **{SECONDS: seconds, AT: said.get("session_end")})


def write(out: Path, labels: Labels) -> None:
    """Labels as a project of version 2 whose annotators are done; plays and the like stand beside its own times."""
    with new_folder(out) as folder:
        scale = labels.label_set.kind == "ordinal"
        low, high = (*labels.label_set.levels[:1], *labels.label_set.levels[-1:]) or (0.0, 0.0)
        scheme: dict[str, Any] = {"name": labels.question, "description": labels.question}
        if scale:
            scheme |= {"annotation_type": "slider", "min_value": low, "max_value": high, "starting_value": low}
        else:
            kind = "radio" if labels.label_set.kind == "single" else "multiselect"
            scheme |= {"annotation_type": kind, "labels": list(labels.label_set.classes)}
        config = {
            "annotation_task_name": labels.question,
            "task_dir": ".",
            "data_files": ["items.jsonl"],
            "output_annotation_dir": OUTPUT,
            "item_properties": {"id_key": "id", "text_key": "audio"},
            "annotation_schemes": [scheme],
        }
        (folder / "config.yaml").write_text(
            yaml.safe_dump(config, allow_unicode=True, sort_keys=False), encoding="utf-8"
        )
        items = [json.dumps({"id": file, "audio": file}, ensure_ascii=False) + "\n" for file in labels.files()]
        (folder / "items.jsonl").write_text("".join(items), encoding="utf-8")
        for number, who in enumerate(labels.people(), 1):
            user = folder / OUTPUT / (who if re.fullmatch(r"\w[\w.@-]{0,63}", who) else f"user{number}")
            user.mkdir(parents=True)
            write_json(user / STATE, _state(who, labels))
        folder.rename(out)


def _state(who: str, labels: Labels) -> dict[str, Any]:
    mine = [each for each in labels.given if each.who == who]
    scale = labels.label_set.kind == "ordinal"
    answered, behaviour = {}, {}
    for each in mine:
        names = [(labels.question, part) if scale else (part, "true") for part in each.parts]
        pairs = [[{"schema": labels.question, "name": name}, value] for name, value in names]
        if pairs:
            answered[each.file] = pairs
        behaviour[each.file] = _behaviour(each)
    return {
        "user_id": who,
        "instance_id_ordering": [each.file for each in mine],
        "instance_id_to_label_to_value": answered,
        "instance_id_to_behavioral_data": behaviour,
    }


def _behaviour(given: Given) -> dict[str, Any]:
    facts, found = given.facts, dict[str, Any](instance_id=given.file)
    seconds, end = facts.get(SECONDS), seconds_since_1970(facts.get(AT, ""))
    if seconds:
        found["total_time_ms"] = round(1000 * float(seconds))
    if end is not None:
        found |= {"session_start": end - float(seconds or 0), "session_end": end}
    extra = extra_of(facts, SECONDS, AT)
    return {**found, **({EXTRA: extra} if extra else {})}


def _pairs(labels: Any, where: str) -> Iterator[tuple[str, str, Any]]:
    """(scheme, name, value) of version 2's list of pairs, or of nested objects."""
    if isinstance(labels, dict):
        for scheme, given in labels.items():
            given = given.get("labels", given) if isinstance(given, dict) else {str(given): True}
            yield from ((str(scheme), str(name), value) for name, value in given.items())
        return
    for pair in labels if isinstance(labels, list) else (None,):
        key, value = pair if isinstance(pair, list) and len(pair) == 2 else (None, None)
        if not isinstance(key, dict) or not {"schema", "name"} <= key.keys():
            raise UserError(f"{where}: {shown(pair)} is no label. Take the file as Potato wrote it.")
        yield str(key["schema"]), str(key["name"]), value


def _schemes(pairs: Iterator[tuple[str, str, Any]]) -> dict[str, tuple[tuple[str, ...], ...]]:
    """Scheme -> ticks, each as the name of the option and as its value: of a scale the number is either."""
    found: dict[str, tuple[tuple[str, ...], ...]] = {}
    for scheme, name, value in pairs:
        flag = value if isinstance(value, bool) else _FLAGS.get(str(value).strip().lower())
        if flag is False or value is None or value == "":
            continue
        number = _LAST_NUMBER.findall(name)
        words = (name, *([] if flag else [str(value)]), *number)
        found[scheme] = (*found.get(scheme, ()), tuple(dict.fromkeys(words)))
    return found


def _items(project: Path) -> dict[str, dict[str, Any]]:
    """Item -> its fields, of the data files that a configuration in the project's folder names."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted([*project.glob("*.yaml"), *project.glob("*.yml")]):
        content = read_yaml(path, rules=YAML_1_1)
        if not isinstance(content, dict) or "data_files" not in content:
            continue
        properties = content.get("item_properties")
        key = str(properties.get("id_key", "id")) if isinstance(properties, dict) else "id"
        given = content["data_files"]
        for each in given if isinstance(given, list) else [given]:
            file = project / str(each.get("path", "") if isinstance(each, dict) else each)
            if not file.is_file():
                raise UserError(f"{path}: the data file {str(file)!r} does not exist. Put it there.")
            found |= {str(row[key]): row for row in _rows(file) if key in row}
    return found


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    if file.suffix.lower() in (".csv", ".tsv"):
        table = csv_rows.rows(file)
        header = csv_rows.read_header(file, table, ())
        yield from (dict(zip(header, row, strict=True)) for _, row in table)
        return
    with file.open(encoding="utf-8-sig", errors="replace") as handle:
        whole = handle.read(1 << 16).lstrip()[:1] == "["
    rows = json_of(file) if whole else (row for _, row in json_lines(file))
    yield from (row for row in rows if isinstance(row, dict))


def recognises(path: Path) -> bool:
    """Whether a file or folder is a project's, or an annotator's: by its name."""
    if path.is_file():
        return path.name in (STATE, INSTANCES)
    return any(any(path.glob(f"{OUTPUT}/{name}")) for name in (f"*/{STATE}", f"*/{INSTANCES}", INSTANCES))


READER = tool_reader("potato", find, recognises=recognises, write=write)
