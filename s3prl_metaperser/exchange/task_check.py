"""The checks of Dynamic-SUPERB's editors, made before they make them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s3prl_metaperser.errors import UserError, shown
from s3prl_metaperser.exchange.folder import import_pyarrow
from s3prl_metaperser.exchange.prompts import distinct_wanted
from s3prl_metaperser.exchange.task_files import (
    DATASET,
    INSTANCE,
    METADATA,
    MOST_CLIPS,
    PREPROCESSED,
    README,
    columns,
    wav_name,
)
from s3prl_metaperser.exchange.task_pages import SECTIONS
from s3prl_metaperser.storage.json_files import read_json

_PATH = re.compile(r"DynamicSuperb/[\w.-]+")
_AUDIO = re.compile(r"audio(\d*)")
#: instance.json: key -> type of its values.
_KEYS: dict[str, Any] = {
    "name": str,
    "description": str,
    "keywords": list,
    "metrics": list,
    "path": str,
    "version": str,
}


@dataclass(frozen=True)
class Checked:
    """One instance.

    Attributes:
        rows, instructions: how many, and how many different ones.
        faults: what its editors would not take.
        notes: what is still to be done, or was not checked.
    """

    name: str
    rows: int
    instructions: int
    faults: tuple[str, ...]
    notes: tuple[str, ...]


def check_task(task: Path) -> list[Checked]:
    """Check a task's folder, or one instance's.

    Raises:
        UserError: there is no instance in it.
    """
    folders = [path.parent for path in sorted(task.glob(f"*/{INSTANCE}"))] or [task]
    if not (folders[0] / INSTANCE).is_file():
        raise UserError(f"{task}: no {INSTANCE} in it, nor in a folder below. `metaperser export-task` writes a task.")
    found = [_checked(folder) for folder in folders]
    if folders[0] != task and (faults := list(_page(task / README))):
        first = found[0]
        found[0] = Checked(first.name, first.rows, first.instructions, (*faults, *first.faults), first.notes)
    return found


def _page(path: Path) -> Iterator[str]:
    if not path.is_file():
        yield f"{path}: there is no such page."
        return
    text = path.read_text(encoding="utf-8")
    for section in SECTIONS:
        if not re.search(rf"^#+ *{section}", text, re.MULTILINE | re.IGNORECASE):
            yield f"{path}: no section {section!r}."


def _checked(folder: Path) -> Checked:
    notes: list[str] = []
    faults = list(_instance(folder, notes))
    rows: dict[str, dict[str, Any]] = {}
    for source in (_parquet_rows, _metadata_rows):
        found = source(folder, faults, notes)
        if found is None:
            continue
        faults += [f"{folder.name}: {fault}" for fault in _rows(found)]
        by_file = {str(row.get("file")): row for row in found}
        if rows and {f: _texts(r) for f, r in by_file.items()} != {f: _texts(r) for f, r in rows.items()}:
            faults.append(f"{folder.name}: {PREPROCESSED}/{METADATA} and the data set have different rows.")
        rows = by_file
    if not rows and not faults:
        faults.append(f"{folder.name}: there is no data set in it.")
    instructions = len({str(row.get("instruction")) for row in rows.values()})
    return Checked(folder.name, len(rows), instructions, tuple(dict.fromkeys(faults)), tuple(notes))


def _texts(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if "audio" not in key}


def _instance(folder: Path, notes: list[str]) -> Iterator[str]:
    where = folder / INSTANCE
    try:
        content = read_json(where)
    except (OSError, ValueError) as error:
        yield f"{where} cannot be read ({error})."
        return
    if not isinstance(content, dict):
        yield f"{where}: expected an object."
        return
    for key, kind in _KEYS.items():
        value = content.get(key)
        if not isinstance(value, kind) or (not value and key != "version"):
            yield f"{where}: {key} is {shown(value)}, expected a {'list' if kind is list else 'text'}."
        elif kind is list and not all(isinstance(each, str) and each for each in value):
            yield f"{where}: {key} has something in it that is no text."
    if content.get("name") != folder.name:
        yield f"{where}: name is {shown(content.get('name'))}, and the folder is {folder.name}."
    if not _PATH.fullmatch(str(content.get("path"))):
        yield f"{where}: path is {shown(content.get('path'))}, expected DynamicSuperb/NAME."
    if content.get("version") == "":
        notes.append(f"{where}: version is the commit of the uploaded data set; write it in when there is one.")
    if not (folder / README).is_file():
        yield f"{folder / README}: there is no such page."


def _parquet_rows(folder: Path, faults: list[str], notes: list[str]) -> list[dict[str, Any]] | None:
    """The data set's rows, recordings as bytes."""
    files = sorted((folder / DATASET).glob("**/*.parquet"))
    if not files:
        notes.append(f"{folder.name}: no Parquet file in {DATASET}/; write the task again where pyarrow is installed.")
        return None
    splits = {path.name.partition("-")[0] for path in files}
    if splits != {"test"}:
        faults.append(f"{folder / DATASET}: splits {', '.join(sorted(splits))}, expected one, test.")
    try:
        parquet = import_pyarrow("parquet")
    except UserError as error:
        notes.append(f"{folder / DATASET} was not checked: {error}")
        return None
    found = []
    for path in files:
        try:
            table = parquet.ParquetFile(path)
            for batch in table.iter_batches(batch_size=64):
                for row in batch.to_pylist():
                    faults += _sounds(path, row)
                    found.append({k: v if "audio" not in k else True for k, v in row.items() if v is not None})
        except Exception as error:  # Arrow has errors of its own
            faults.append(f"{path} cannot be read ({error}).")
    return found


def _sounds(path: Path, row: dict[str, Any]) -> list[str]:
    """Recordings that cannot be decoded."""
    import io

    import soundfile

    faults = []
    for name, value in row.items():
        if value is not None and _AUDIO.fullmatch(name):
            try:
                frames = soundfile.info(io.BytesIO(value["bytes"])).frames
            except (soundfile.SoundFileError, TypeError, KeyError, ValueError) as error:
                faults.append(f"{path}: {name} of {shown(row.get('file'))} cannot be decoded ({error}).")
            else:
                faults += [] if frames else [f"{path}: {name} of {shown(row.get('file'))} is empty."]
    return faults


def _metadata_rows(folder: Path, faults: list[str], notes: list[str]) -> list[dict[str, Any]] | None:
    """The rows of the preprocessed form, with a column for each clip that is there."""
    where = folder / PREPROCESSED / METADATA
    if not where.is_file():
        notes.append(f"{folder.name}: there is no {PREPROCESSED}/{METADATA}.")
        return None
    try:
        content = read_json(where)
    except (OSError, ValueError) as error:
        faults.append(f"{where} cannot be read ({error}).")
        return []
    found = []
    if not isinstance(content, dict):
        faults.append(f"{where}: expected an object with a key for each recording.")
        return []
    for key, row in content.items():
        file = str(row.get("file")) if isinstance(row, dict) else ""
        if not isinstance(row, dict) or key != wav_name(folder.name, file, 1):
            faults.append(f"{where}: the key {shown(key)} is not {wav_name(folder.name, file, 1)}.")
            continue
        faults += [f"{where}: {name} of {shown(key)} would be dropped." for name in row if "audio" in name]
        clips = 0
        while (where.parent / wav_name(folder.name, file, clips + 1)).is_file():
            clips += 1
        if not clips:
            faults.append(f"{where.parent / key}: there is no such file.")
        found.append({**row, **dict.fromkeys(columns(clips), True)})
    return found


def _rows(rows: list[dict[str, Any]]) -> Iterator[str]:
    """What is wrong with the columns and their content."""
    if not rows:
        yield "it has no row."
        return
    names = list(dict.fromkeys(name for row in rows for name in row))
    for name in ("file", "instruction", "label"):
        wrong = [row for row in rows if not (isinstance(row.get(name), str) and row[name].strip())]
        if wrong:
            yield f"{len(wrong)} row(s) have no {name}, or one that is no text."
    files = [str(row.get("file")) for row in rows]
    if twice := [(file, count) for file, count in Counter(files).items() if count > 1]:
        yield f"file {shown(twice[0][0])} stands there {twice[0][1]} times; it must be unique."
    numbers = {int(found[1] or 1) for name in names if (found := _AUDIO.fullmatch(name))}
    if "audio" not in names or "audio1" in names:
        yield "the first clip's column is audio, not audio1."
    if numbers and max(numbers) > MOST_CLIPS:
        yield f"column audio{max(numbers)}: the editors' script counts audio to audio{MOST_CLIPS}."
    if numbers and numbers != set(range(1, max(numbers) + 1)):
        yield f"columns of audio with a gap: {', '.join(f'audio{n}' if n > 1 else 'audio' for n in sorted(numbers))}."
    if text := [name for name in names if re.fullmatch(r"text\d*", name)]:
        yield f"column {text[0]}: the editors' script takes it for audio. Name it otherwise."
    different, wanted = len({str(row.get("instruction")) for row in rows}), distinct_wanted(len(rows))
    if different < wanted:
        yield f"{different} different instruction(s) in {len(rows)} rows, expected at least {wanted}."
