"""A database in audformat (https://audeering.github.io/audformat): ``db.yaml`` with its tables as CSV, and the media.

A column of a table belongs to a rater (``rater_id``) and a scheme (``scheme_id``); only raters of the type ``human``
are people. What may be answered is what the scheme says: its labels, or the whole numbers from its minimum to its
maximum. Who speaks is in a column of the scheme ``speaker``, of any table.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import yaml

from s3prl_metaperser.config.yaml_files import YAML_1_1, read_yaml
from s3prl_metaperser.corpora import csv_rows
from s3prl_metaperser.corpora.answer_facts import FACTS, SKIPPED, STATUS
from s3prl_metaperser.corpora.exports import Answer, Export, Labels, tool_reader
from s3prl_metaperser.corpora.label_cells import is_blank
from s3prl_metaperser.corpora.label_set import LabelSet
from s3prl_metaperser.corpora.segments import segment_end
from s3prl_metaperser.errors import UserError, shown
from s3prl_metaperser.storage.csv_text import csv_text
from s3prl_metaperser.storage.disk import new_folder

HEADER, FILE, HUMAN, SPEAKER = "db.yaml", "file", "human", "speaker"
DROPPED_NOBODY = "ratings: of raters that are no people"
#: A scale has no more levels; headers may be as large as their lists of files.
_MOST_LEVELS, _LARGEST = 101, 1 << 24


def find(root: Path) -> Export:
    """What the database in a folder, or with this header, holds.

    Raises:
        UserError: no header, or tables that are not CSV.
    """
    path = root / HEADER if root.is_dir() else root
    if not path.is_file():
        raise UserError(f"{path} does not exist. Give the folder of an audformat database, with {HEADER} in it.")
    header = read_yaml(path, rules=YAML_1_1, largest=_LARGEST)
    export = Export(path, path.parent)
    raters, schemes, tables = (_part(header, name, path) for name in ("raters", "schemes", "tables"))
    export.traits = {name: _traits(rater) for name, rater in raters.items()}
    for name, table in tables.items():
        columns = table.get("columns") if isinstance(table, dict) else None
        columns = {key: each or {} for key, each in (columns or {}).items()}
        rated = {key: each for key, each in columns.items() if each.get("rater_id") in raters}
        told = {key: each for key, each in rated.items() if each.get("scheme_id") in FACTS}
        rated = {key: each for key, each in rated.items() if key not in told}
        spoken = [key for key, each in columns.items() if SPEAKER in (key, each.get("scheme_id"))]
        if rated or spoken:
            _read_table(_table_of(path, name), rated, told, spoken, raters, schemes, export)
    for name, scheme in schemes.items():
        if (label_set := _label_set(name, scheme)) is not None:
            export.label_sets[name] = label_set
    return export


def _part(header: Any, name: str, path: Path) -> dict[str, Any]:
    found = header.get(name) if isinstance(header, dict) else None
    if found is None and name != "raters":
        raise UserError(f"{path}: no {name}. Give the header of an audformat database.")
    if not isinstance(found or {}, dict):
        raise UserError(f"{path}: {name} is {shown(found)}, expected a mapping. Take an intact header.")
    return {str(key): each if isinstance(each, dict) else {} for key, each in (found or {}).items()}


def _table_of(path: Path, name: str) -> Path:
    table = path.with_name(f"{path.stem}.{name}.csv")
    if not table.is_file():
        how = "Save the database as CSV: db.save(FOLDER, storage_format='csv')"
        raise UserError(f"{table} does not exist; tables in other formats (.parquet, .pkl) are not read. {how}.")
    return table


def _read_table(
    table: Path,
    rated: dict[str, dict],
    told: dict[str, dict],
    spoken: list[str],
    raters: dict,
    schemes: dict,
    export: Export,
) -> None:
    rows = csv_rows.rows(table)
    header = csv_rows.read_header(table, rows, ())
    file = csv_rows.column(table, header, (FILE,))
    start, end = (csv_rows.find_column(header, (name,)) for name in ("start", "end"))
    people = {key: each for key, each in rated.items() if raters[each["rater_id"]].get("type", HUMAN) == HUMAN}
    for line, row in rows:
        where, name = f"{table.name}:{line}", row[file].strip()
        begins, ends = (row[at] if at is not None else "" for at in (start, end))
        for key in spoken:
            if key in header and row[header.index(key)].strip():
                export.described[name] = (row[header.index(key)].strip(), "")
        facts: dict[str, dict[str, str]] = {}
        for key, each in told.items():
            said = row[csv_rows.column(table, header, (key,))].strip()
            facts.setdefault(each["rater_id"], {}).update({} if is_blank(said) else {each["scheme_id"]: said})
        for key, each in rated.items():
            cell, how = row[csv_rows.column(table, header, (key,))].strip(), facts.get(each["rater_id"], {})
            if is_blank(cell):
                if how.get(STATUS) == SKIPPED:
                    export.skipped.append(Answer(where, name, str(each["rater_id"]), facts=how))
                continue
            if key not in people:
                export.dropped[DROPPED_NOBODY] += 1
                continue
            scheme = str(each.get("scheme_id", ""))
            ticks = (_words(cell, schemes.get(scheme, {})),)
            until = segment_end(begins, ends, table, line)
            who = str(each["rater_id"])
            export.answers.append(Answer(where, name, who, scheme, ticks=ticks, end=until, facts=how))
    if others := sorted(set(rated) - set(people)):
        columns = f"columns of raters that are no people (type is not {HUMAN})"
        export.note(table, f"{columns}, left out: {', '.join(others)}.")


def _traits(rater: dict) -> dict[str, str]:
    """What a header says of a rater besides the type and a description."""
    known = {name: value for name, value in rater.items() if name not in ("type", "description")}
    return {str(name): str(value) for name, value in known.items() if isinstance(value, str | int | float)}


def _words(cell: str, scheme: dict) -> tuple[str, ...]:
    """A label as its key and, where the scheme has one, its name."""
    labels = scheme.get("labels")
    found = (
        next((value for key, value in labels.items() if str(key) == cell), None) if isinstance(labels, dict) else None
    )
    named = found.get("name") if isinstance(found, dict) else found
    return (cell, named) if isinstance(named, str) else (cell,)


def _label_set(name: str, scheme: dict) -> LabelSet | None:
    """What may be answered: labels (by name where they have one), or whole numbers; None where it is not said."""
    labels, low, high = scheme.get("labels"), scheme.get("minimum"), scheme.get("maximum")
    if isinstance(labels, list | dict) and len(labels) > 1:
        words = [(str(key), *_words(str(key), scheme)) for key in labels]
        classes = tuple(each[-1] for each in words)
        if len(set(classes)) == len(classes):
            return LabelSet(name, "single", classes, {each[0]: each[-1] for each in words})
    if isinstance(low, int | float) and isinstance(high, int | float) and 0 < high - low < _MOST_LEVELS:
        levels = tuple(float(level) for level in range(math.ceil(low), math.floor(high) + 1))
        if len(levels) > 1 and (levels[0], levels[-1]) == (low, high):
            return LabelSet(name, "ordinal", levels=levels)
    return None


def recognises(path: Path) -> bool:
    """Whether a path is a database's folder or header."""
    return (path / HEADER).is_file() if path.is_dir() else path.name == HEADER


def write(out: Path, labels: Labels) -> None:
    """Labels as a database with one table: a column for each rater's answers, and one for each fact about them."""
    label_set, question, people = labels.label_set, labels.question, labels.people()
    given = {(each.file, each.who): each for each in labels.given}
    known = [name for name in FACTS if any(each.facts.get(name) for each in labels.given)]
    scheme: dict[str, Any] = {"dtype": "str"}
    if label_set.kind == "single":
        scheme = {"dtype": "str", "labels": list(label_set.classes)}
    elif label_set.kind == "ordinal":
        scheme = {"dtype": "float", "minimum": label_set.levels[0], "maximum": label_set.levels[-1]}
    columns = {who: {"scheme_id": question, "rater_id": who} for who in people}
    columns |= {f"{who}.{name}": {"scheme_id": name, "rater_id": who} for who in people for name in known}
    header = {
        "name": question,
        "source": "",
        "usage": "unrestricted",
        "languages": [],
        "media": {},
        "raters": {who: {"type": HUMAN} for who in people},
        "schemes": {question: scheme, **{name: {"dtype": "str"} for name in known}},
        "tables": {"labels": {"type": "filewise", "columns": columns}},
    }
    rows = []
    for file in labels.files():
        mine = [given.get((file, who)) for who in people]
        answers = [";".join(each.parts) if each else "" for each in mine]
        rows.append([file, *answers, *(each.facts.get(name, "") if each else "" for each in mine for name in known)])
    with new_folder(out) as folder:
        text = yaml.safe_dump(header, allow_unicode=True, sort_keys=False)
        (folder / HEADER).write_text(text, encoding="utf-8")
        (folder / "db.labels.csv").write_text(csv_text([[FILE, *columns], *rows]), encoding="utf-8")
        folder.rename(out)


READER = tool_reader("audformat", find, recognises=recognises, write=write)
