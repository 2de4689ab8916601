"""The files of a Dynamic-SUPERB task: what its editors read, and what our own commands do.

A task's folder has a folder for each instance (here: K labelled clips, and none), and in it:

- ``instance.json`` and ``README.md``, for the pull request;
- ``dataset/``, what is uploaded: ``data/test-00000-of-00001.parquet`` and a card;
- ``preprocessed/``, what its preprocessing makes of that: a WAV file a clip, and ``metadata.json``, which evaluation
  reads.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from s3prl_metaperser.errors import UserError, shown
from s3prl_metaperser.exchange.folder import CARD, TWIN, Folder
from s3prl_metaperser.storage.json_files import read_json

#: Audio columns that the editors' script counts: ``audio``, ``audio2`` to ``audio9``.
MOST_CLIPS = 9
INSTANCE, README, DATASET, PREPROCESSED, METADATA = (
    "instance.json",
    "README.md",
    "dataset",
    "preprocessed",
    "metadata.json",
)
PARQUET = "data/test-00000-of-00001.parquet"
#: Between the parts of a column that holds several.
JOINED = "; "


def columns(clips: int) -> tuple[str, ...]:
    """The audio columns of so many clips: ``audio``, ``audio2``, ``audio3``; there is no ``audio1``."""
    return tuple("audio" if number == 1 else f"audio{number}" for number in range(1, clips + 1))


def wav_name(instance: str, file: str, number: int) -> str:
    """A clip's file in ``preprocessed``; numbers count from 1."""
    stem = file.removesuffix(".wav")
    return f"{instance}_{stem}.wav" if number == 1 else f"{instance}_{stem}_pair{number}.wav"


@dataclass(frozen=True)
class Question:
    """What a system is asked.

    Attributes:
        id: the row's ``file``, or the prompt's id.
        paths: the clips, in the order in which the instruction counts them.
        query: which of them is to be labelled, from 0.
        listener, episode: whose label, and in which draw of labelled clips.
        shown: the labels of the others.
        usual: the class that the training raters answer most often; empty where it is not known here. For floors.
        label: the listener's own; empty where it is not known here. Not for systems.
    """

    id: str
    instruction: str
    paths: tuple[Path, ...]
    query: int = 0
    listener: str = ""
    episode: int = 0
    shown: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    usual: str = ""
    label: str = ""

    @property
    def support(self) -> tuple[Path, ...]:
        """The labelled clips, in the order of :attr:`shown`."""
        return self.paths[: self.query] + self.paths[self.query + 1 :]

    def audios(self) -> list[np.ndarray]:
        """The clips at 16 kHz, each float32 [n], full scale 1.

        Raises:
            UserError: one cannot be read.
        """
        return [_waveform(path) for path in self.paths]


@functools.lru_cache(maxsize=64)
def _waveform(path: Path) -> np.ndarray:
    from s3prl_metaperser.corpora.audio import load_audio

    return load_audio(path)


@dataclass(frozen=True)
class Instance:
    """The questions of one instance of a task.

    Attributes:
        metadata: ``metadata.json`` as it stands.
    """

    name: str
    questions: tuple[Question, ...]
    metadata: dict[str, dict[str, Any]]

    def key(self, question: Question) -> str:
        """The question's key in ``metadata.json``."""
        return wav_name(self.name, question.id, 1)


def instances(task: Path) -> list[Instance]:
    """The instances of a task's folder, of one instance's, or of a folder that their own preprocessing made.

    Raises:
        UserError: there is no ``metadata.json``, or it is not of this form.
    """
    found = sorted(task.glob(f"*/{PREPROCESSED}/{METADATA}"))
    found = found or [p for p in (task / PREPROCESSED / METADATA, task / METADATA) if p.is_file()]
    if not found:
        raise UserError(
            f"{task}: no {METADATA} in it, nor in {PREPROCESSED}/ below. `metaperser export-task` writes such a folder."
        )
    return [_read(path) for path in found]


def _read(path: Path) -> Instance:
    try:
        content = read_json(path)
        if not isinstance(content, dict) or not content:
            raise ValueError("no object with a key for each recording")
        name = next(iter(content)).removesuffix(".wav").removesuffix(f"_{_stem(next(iter(content.values())))}")
        return Instance(name, tuple(_question(path.parent, name, key, row) for key, row in content.items()), content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"{error} ({type(error).__name__})"
        raise UserError(f"{path}: {what}. Expected what `metaperser export-task` writes.") from None


def _stem(row: dict[str, Any]) -> str:
    return str(row["file"]).removesuffix(".wav")


def _question(folder: Path, instance: str, key: str, row: dict[str, Any]) -> Question:
    file = str(row["file"])
    if key != wav_name(instance, file, 1):
        raise ValueError(f"the key {shown(key)} is not {wav_name(instance, file, 1)}")
    paths = [folder / key]
    while (path := folder / wav_name(instance, file, len(paths) + 1)).is_file():
        paths.append(path)
    return Question(
        id=file,
        instruction=str(row["instruction"]),
        paths=tuple(paths),
        listener=str(row.get("listener", "")),
        episode=int(row.get("episode", 0)),
        shown=_parts(row, "shown"),
        choices=_parts(row, "choices"),
        usual=str(row.get("usual", "")),
        label=str(row["label"]),
    )


def _parts(row: dict[str, Any], column: str) -> tuple[str, ...]:
    return tuple(filter(None, str(row.get(column, "")).split(JOINED)))


def is_episodes(folder: Path) -> bool:
    """Whether a folder is one of ``metaperser episodes``."""
    return (folder / CARD).is_file()


def questions_of(folder: Folder) -> Iterator[Question]:
    """The prompts of a folder of episodes as questions.

    Raises:
        UserError: they are conversations, which have no one instruction, or were edited and lack something.
    """
    if folder.card.form == "chat":
        raise UserError(
            f"{folder.path} holds prompts in turns (--format chat). Write them with --format jsonl, or loop over them."
        )
    usual = {query.id: part.usual for part in folder.card.parts for query in part.queries()}
    for row in folder.rows():
        try:
            question = Question(
                id=row["id"],
                instruction=row["instruction"],
                paths=tuple(folder.path / each for each in row["audio"]),
                query=len(row["audio"]) - 1,
                listener=row["listener"],
                episode=row["episode"],
                shown=tuple(row["shown"]),
                choices=tuple(row["choices"]),
                usual=usual.get(row["id"].removesuffix(TWIN), ""),
            )
        except (KeyError, TypeError) as error:
            what = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise UserError(f"{folder.prompts}: {shown(row['id'])}: {what}. Write the episodes again.") from None
        yield question


def listed(names: Sequence[str]) -> str:
    """Several in one column."""
    return JOINED.join(names)
