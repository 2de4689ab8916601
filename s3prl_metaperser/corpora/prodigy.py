"""A dataset of Prodigy as ``prodigy db-out`` writes it (https://prodi.gy/docs/api-interfaces): JSONL, beside the audio.

A line is a task that one annotator has answered, here of the interface ``choice``::

    {"path": "clips/a.wav", "options": [{"id": "HAPPY", "text": "happy"}, ...], "accept": ["HAPPY"],
     "answer": "accept", "_view_id": "choice", "_annotator_id": "emotions-anna", "_session_id": "emotions-anna"}

or of ``classification``, with a ``label`` in place of ``options`` and ``accept``. Only what was accepted is an answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from s3prl_metaperser.corpora.answer_facts import (
    AT,
    EXTRA,
    SKIPPED,
    STATUS,
    extra_of,
    facts_of,
    seconds_since_1970,
)
from s3prl_metaperser.corpora.exported_audio import audio_field
from s3prl_metaperser.corpora.exports import Answer, Export, Labels, export_in, first_object, json_lines, tool_reader
from s3prl_metaperser.errors import UserError, shown
from s3prl_metaperser.storage.atomic import write_text

DROPPED_REJECTED, DROPPED_IGNORED = "ratings: rejected", "ratings: ignored"
DROPPED_REVIEWED = "ratings: made in a review of those of others"
#: Interfaces with an answer to the whole recording.
ANSWERS = ("accept", "label")
#: What stands for the annotator where none was named: the time at which the session began.
_TIME = re.compile(r"(?:.*-)?\d{4}-\d{2}-\d{2}_\d{2}-\d{2}-\d{2}")
_NAMELESS = (
    "is the time at which a session began, as nobody was named (?session=NAME in the address): several people may be "
    "one session, and one person several"
)


def find(root: Path, audio: str | None = None) -> Export:
    """What a dataset holds.

    Args:
        root: the ``.jsonl`` file, or a folder with one and the audio.
        audio: which field of a task names the audio, where it is neither ``path`` nor ``audio``.

    Raises:
        UserError: no dataset, a line that cannot be read, or nobody who annotated.
    """
    path = export_in(root, (".jsonl",))
    export = Export(path, path.parent)
    for line, task in json_lines(path):
        if task.get("answer") not in ("accept", "reject", "ignore"):
            raise UserError(
                f"{path}:{line}: 'answer' is {shown(task.get('answer'))}, expected accept, reject or ignore. "
                "Export the annotated dataset: prodigy db-out NAME."
            )
        export.answers += _answers(task, line, audio, export)
    export.nameless = {each.who: _NAMELESS for each in export.answers if _TIME.fullmatch(each.who)}
    return export


def _answers(task: dict, line: int, audio: str | None, export: Export) -> Iterator[Answer]:
    where = f"{export.path}:{line}"
    if task.get("_view_id") == "review":
        export.dropped[DROPPED_REVIEWED] += 1
        return
    who, facts = task.get("_annotator_id") or task.get("_session_id"), _facts(task)
    if task["answer"] != "accept":
        export.dropped[DROPPED_REJECTED if task["answer"] == "reject" else DROPPED_IGNORED] += 1
        if task["answer"] == "ignore" and isinstance(who, str):
            export.skipped.append(Answer(line, audio_field(_recordings(task), audio, where), who, facts=facts))
        return
    if not isinstance(who, str):
        raise UserError(f"{where}: nothing says who annotated (_annotator_id). Export it with Prodigy 1.11 or later.")
    file = audio_field(_recordings(task), audio, where)
    asked = [name for name in ANSWERS if name in task]
    if "accept" in asked and not isinstance(task["accept"], list):
        raise UserError(f"{where}: 'accept' is {shown(task['accept'])}, expected a list. Export it again.")
    for name in asked:
        ticks = task[name] if name == "accept" else [task[name]]
        words = _words(task.get("options"))
        if odd := [tick for tick in ticks if not isinstance(tick, str | int)]:
            raise UserError(f"{where}: {name!r} is {shown(odd[0])}, expected the name of a choice. Export it again.")
        found = tuple(words.get(tick, (str(tick),)) for tick in ticks)
        yield Answer(line, file, who, name, ticks=found, facts=facts)
    if not asked:
        yield Answer(line, file, who, facts=facts)


def _recordings(task: dict) -> dict[str, Any]:
    """The fields that may name the audio; what is embedded in the task is none, its path stands beside it."""
    named = {name: value for name, value in task.items() if not name.startswith("_") and name not in ANSWERS}
    named = {name: value for name, value in named.items() if str(value)[:5].lower() != "data:"}
    return {"audio": named["path"]} if named.get("path") else named


def _words(options: Any) -> dict[Any, tuple[str, ...]]:
    """Choice -> its id and its text."""
    found = {}
    for option in options if isinstance(options, list) else ():
        if isinstance(option, dict) and isinstance(option.get("id"), str | int):
            text = option.get("text")
            found[option["id"]] = (str(option["id"]), *([text] if isinstance(text, str) else []))
    return found


def _facts(task: dict) -> dict[str, str]:
    """How a task was answered: when, and what the page says besides under ``meta``."""
    meta = task.get("meta")
    skipped = {STATUS: SKIPPED} if task["answer"] == "ignore" else {}
    return facts_of(meta.get(EXTRA) if isinstance(meta, dict) else None, **{AT: task.get("_timestamp")}) | skipped


def write(out: Path, labels: Labels) -> None:
    """Labels as ``prodigy db-in`` reads them, of the interface ``choice``; times and plays stand in ``meta``."""
    options = [{"id": name, "text": name} for name in labels.label_set.classes]
    lines = []
    for given in labels.given:
        extra, at = extra_of(given.facts, STATUS, AT), seconds_since_1970(given.facts.get(AT, ""))
        task = {
            "audio": given.file,
            "path": given.file,
            "options": options,
            "accept": list(given.parts),
            "answer": "accept" if given.parts else "ignore",
            "_view_id": "choice",
            "_annotator_id": given.who,
            "_session_id": given.who,
            **({"_timestamp": int(at)} if at is not None else {}),
            **({"meta": {EXTRA: extra}} if extra else {}),
        }
        lines.append(json.dumps(task, ensure_ascii=False) + "\n")
    write_text(out, "".join(lines))


def recognises(path: Path) -> bool:
    """Whether a file is a dataset: by its first task."""
    task = (first_object(path) or {}) if path.suffix.lower() == ".jsonl" else {}
    return "answer" in task and bool({"_annotator_id", "_session_id", "_task_hash", "_view_id"} & task.keys())


READER = tool_reader("prodigy", find, recognises=recognises, write=write, writes=".jsonl")
