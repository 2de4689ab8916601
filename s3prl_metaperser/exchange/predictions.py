"""Predictions of any system: one JSON object a line, appended as they come, so that whoever makes them can resume."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from s3prl_metaperser.errors import UserError, shown
from s3prl_metaperser.exchange.folder import Folder
from s3prl_metaperser.storage.disk import writing
from s3prl_metaperser.storage.json_files import parse_json, read_json

#: One answer: in words, or probabilities by class or in the order of the classes.
Answered = str | Mapping[str, float] | Sequence[float]
KEYS = ("answer", "probabilities")
#: Beside answers: whose they are, to which questions, and what speaks against them.
ANSWERED_BY = "answered_by.json"


@dataclass(frozen=True)
class Predictions:
    """A file of predictions.

    Attributes:
        lines: id -> where it stands in the file, from 1.
        repeated: lines that say again what stands there already.
        broken: whether the last line is none, as a process leaves it that is killed while it writes.
        doubts: fold -> what speaks against the answers to its episodes, as who answered says beside the file.
    """

    path: Path
    answers: dict[str, Answered] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    repeated: int = 0
    broken: bool = False
    doubts: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Predictions:
        """Read a file.

        Raises:
            UserError: no such file, or what stands beside it cannot be read; a line other than the last that is no
                prediction, or a second one of the same id that says something else, with its number.
        """
        if not path.is_file():
            raise UserError(f"{path}: no such file of predictions.")
        lines = path.read_bytes().split(b"\n")
        found = cls(path)
        repeated, broken = 0, False
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                name, answer = _prediction(parse_json(line))
            except ValueError as error:
                if number == len(lines) and _is_torn(line):  # a whole line ends in a line break
                    broken = True
                    break
                raise UserError(f"{path}:{number}: {error}. {_EXPECTED}") from None
            if name in found.answers:
                if found.answers[name] != answer:
                    raise UserError(
                        f"{path}:{number}: {shown(name)} was answered otherwise in line {found.lines[name]}. Remove "
                        "one of the two."
                    )
                repeated += 1
            else:
                found.answers[name], found.lines[name] = answer, number
        return cls(path, found.answers, found.lines, repeated, broken, _doubts(path.with_suffix(f".{ANSWERED_BY}")))


_EXPECTED = (
    'Expected one JSON object a line: {"id": "...", "answer": "text"} or '
    '{"id": "...", "probabilities": {"class": 0.7}}.'
)


def _doubts(beside: Path) -> Mapping[str, Sequence[str]]:
    if not beside.is_file():
        return {}
    try:
        return {fold: list(map(str, doubts)) for fold, doubts in read_json(beside).get("doubts", {}).items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{beside} cannot be read ({error}). Answer the episodes again.") from None


def _is_torn(line: bytes) -> bool:
    """Whether a line is no JSON: one that is, and says nothing of use, was written so."""
    try:
        json.loads(line)
    except ValueError:
        return True
    return False


def _prediction(content: Any) -> tuple[str, Answered]:
    if not isinstance(content, dict) or not isinstance(content.get("id"), str):
        raise ValueError("no id")
    given = [key for key in KEYS if content.get(key) is not None]
    if len(given) != 1:
        raise ValueError(f"{' and '.join(given) or 'neither answer nor probabilities'} for {shown(content['id'])}")
    answer = content[given[0]]
    if given[0] == "answer":
        if isinstance(answer, bool) or not isinstance(answer, str | int | float):
            raise ValueError(f"answer {shown(answer)} is no text")
        return content["id"], str(answer)
    values = answer.values() if isinstance(answer, dict) else answer if isinstance(answer, list) else [None]
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
            raise ValueError(f"probability {shown(value)} for {shown(content['id'])}")
    return content["id"], answer


def record(path: str | Path, id: str, answer: Answered) -> None:
    """Append one prediction to a file, which need not exist; a line that a killed process left behind is removed first.

    Args:
        answer: text, or probabilities by class (or a list in the order of the label set's classes).

    Raises:
        UserError: the file cannot be written.
        ValueError: no answer.
    """
    key = "answer" if isinstance(answer, str) else "probabilities"
    content = {"id": id, key: answer if isinstance(answer, str | Mapping) else list(answer)}
    _prediction(content)
    with writing(path), open(path, "a+b") as file:
        _drop_torn_line(file)
        file.write(json.dumps(content, ensure_ascii=False).encode() + b"\n")


def _drop_torn_line(file: Any) -> None:
    """Of a file that does not end in a line break the rest of the last line; a whole object gets its break."""
    end = file.seek(0, os.SEEK_END)
    file.seek(max(0, end - 1))
    if not end or file.read(1) == b"\n":
        return
    at = end
    tail = b""
    while at and b"\n" not in tail:
        at = max(0, at - 65536)
        file.seek(at)
        tail = file.read(end - at)
    line = tail.rpartition(b"\n")[2]
    if _is_torn(line):
        file.truncate(end - len(line))
    else:
        file.write(b"\n")


def unanswered(episodes: str | Path, predictions: str | Path) -> Iterator[dict[str, Any]]:
    """The prompts of a folder that a file of predictions does not answer yet; all of them where there is no such file.

    Yields:
        Each prompt as the folder has it (docs/speech_language_models.md), with its ``audio`` as whole paths.

    Raises:
        UserError: no such folder, or a file that is none of predictions.
    """
    folder, path = Folder.read(Path(episodes)), Path(predictions)
    known = Predictions.read(path).answers if path.is_file() else {}
    for row in folder.rows():
        if row["id"] not in known:
            yield {**row, "audio": [str(folder.path / each) for each in row["audio"]]}


def with_audio(messages: Sequence[Mapping[str, Any]], folder: str | Path = ".") -> list[dict[str, Any]]:
    """Messages of a chat prompt as chat APIs take them: each clip in it, as ``input_audio`` with a WAV file in Base64.

    Args:
        folder: that relative paths are relative to: that of the prompts.

    Raises:
        UserError: a clip that cannot be read.
    """
    return [{**each, "content": _content(each["content"], Path(folder))} for each in messages]


def _content(content: str | Sequence[Mapping[str, Any]], folder: Path) -> Any:
    if isinstance(content, str):
        return content
    return [_input_audio(folder / p["audio"]) if p["type"] == "audio" else dict(p) for p in content]


def _input_audio(path: Path) -> dict[str, Any]:
    import base64
    import io

    import soundfile

    from s3prl_metaperser.corpora.audio import RATE, load_audio

    file = io.BytesIO()
    soundfile.write(file, load_audio(path), RATE, format="WAV", subtype="PCM_16")
    return {"type": "input_audio", "input_audio": {"data": base64.b64encode(file.getvalue()).decode(), "format": "wav"}}
