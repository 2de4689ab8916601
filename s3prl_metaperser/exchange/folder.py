"""A folder of frozen episodes for other systems: what was asked, what they are shown, and what the listeners answered.

``episodes.json`` says which episodes they are and all that their scores depend on, ``answers.json`` what the listeners
answered to the query clips; both are for :mod:`.score`. The prompts (``prompts.jsonl``, or ``prompts.parquet``) hold
nothing of ``answers.json``.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from s3prl_metaperser.config import validator
from s3prl_metaperser.corpora.label_set import LabelSet
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.evaluation.result_keys import Raters
from s3prl_metaperser.protocol.episodes import Episode, EpisodeList
from s3prl_metaperser.storage.disk import new_folder, writing
from s3prl_metaperser.storage.json_files import read_json
from s3prl_metaperser.storage.locks import beside, held

CARD, ANSWERS, PROMPTS, AUDIO = "episodes.json", "answers.json", "prompts", "audio"
FORMAT = 1
Form = Literal["chat", "jsonl", "parquet"]
#: What is added to the id of a row for the same query without labelled clips.
TWIN = "/k0"


@dataclass(frozen=True)
class Hashes:
    """Of the corpus's labels and audio, as result files have them."""

    corpus: str
    audio: str


@dataclass(frozen=True)
class Part:
    """The episodes of one fold, and all that a result of them holds.

    Attributes:
        raters: who is tested; who else has a role in this fold.
        class_weights: of the training raters, for the loss.
        usual: the class that the training raters answer most often; empty in folders written before it was recorded.
        options: the configuration, with the training's own as it is by default.
    """

    corpus: str
    scenario: str
    fold: str
    raters: Raters
    lists: tuple[EpisodeList, ...]
    label_set: LabelSet
    class_weights: tuple[float, ...]
    hashes: Hashes
    options: dict[str, Any]
    doubts: tuple[str, ...] = ()
    usual: str = ""

    @property
    def shots(self) -> int:
        """K."""
        return self.lists[0].shots

    @property
    def smoothing(self) -> float:
        """Of the targets."""
        return float(self.options["downstream_expert"]["datarc"]["smoothing"])

    def __str__(self) -> str:
        return f"{self.corpus} {self.scenario}/{self.fold} K={self.shots}"

    def queries(self) -> Iterator[Query]:
        """Every query with its id, in order."""
        for each in self.lists:
            for episode in each.episodes:
                start = f"{self.corpus}/{self.scenario}/{self.fold}/{each.rater}/k{self.shots}/seed{episode.seed}"
                for index, utterance in enumerate(episode.query):
                    yield Query(f"{start}/{index}", each.rater, episode, utterance)


class Query(NamedTuple):
    """One query clip of an episode."""

    id: str
    rater: str
    episode: Episode
    utterance: str


@dataclass(frozen=True)
class Card:
    """``episodes.json``.

    Attributes:
        twins: whether every query stands there without labelled clips, too.
        bundled: whether the audio is in the folder, and may be passed on under ``licence``.
    """

    format: int
    form: Form
    seed: int
    twins: bool
    bundled: bool
    licence: str
    made_by: str
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Folder:
    """A folder of episodes, read.

    Attributes:
        answers: for each part, rater -> utterance -> counts [C].
    """

    path: Path
    card: Card
    answers: tuple[Mapping[str, Mapping[str, np.ndarray]], ...]

    @classmethod
    def read(cls, path: Path) -> Folder:
        """Read ``episodes.json`` and ``answers.json``.

        Raises:
            UserError: no such folder, or files that are not those that were written.
        """
        card = read_card(path)
        try:
            content = read_json(path / ANSWERS)["parts"]
            found = tuple({rater: _arrays(own) for rater, own in part.items()} for part in content)
            for part, answers in zip(card.parts, found, strict=True):
                shapes = {answers[query.rater][query.utterance].shape for query in part.queries()}
                if shapes != {(len(part.label_set.classes),)}:
                    raise ValueError("not a number for each class")
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{path / ANSWERS} does not fit {CARD} ({type(error).__name__}: {error}). Write the episodes again."
            ) from None
        return cls(path, card, found)

    @property
    def prompts(self) -> Path:
        """The file of prompts."""
        return self.path / prompts_name(self.card.form)

    def rows(self) -> Iterator[dict[str, Any]]:
        """The prompts, in their order."""
        return prompt_rows(self.prompts)


def _arrays(own: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {utterance: np.asarray(counts, dtype=np.float64) for utterance, counts in own.items()}


def prompts_name(form: str) -> str:
    """The file that holds prompts of this form."""
    return f"{PROMPTS}.{'parquet' if form == 'parquet' else 'jsonl'}"


def prompt_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file of prompts.

    Raises:
        UserError: no such file, or a line that is no row.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file. `metaperser episodes` writes it.")
    table = path.suffix == ".parquet"
    for number, item in enumerate(_table_rows(path) if table else _lines(path), start=1):
        try:
            row = item if table else json.loads(item)
            if not isinstance(row["id"], str):
                raise TypeError("id is no text")
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}:{number}: not a prompt ({error}). Write the episodes again.") from None
        yield row


def _lines(path: Path) -> Iterator[Any]:
    with open(path, encoding="utf-8") as file:
        yield from file


def _table_rows(path: Path) -> Iterator[Any]:
    parquet = import_pyarrow("parquet")
    for batch in parquet.ParquetFile(path).iter_batches(batch_size=256):
        yield from batch.to_pylist()


def read_card(path: Path) -> Card:
    """``episodes.json`` of a folder.

    Raises:
        UserError: no such folder, or another version's or an edited file.
    """
    where = path / CARD
    if not where.is_file():
        raise UserError(f"{path}: not a folder of episodes, it has no {CARD}. `metaperser episodes` makes one.")
    try:
        content = read_json(where)
    except (OSError, ValueError) as error:
        raise UserError(f"{where} cannot be read ({error}).") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"{where} is not of format {FORMAT}, which this version reads. Write the episodes again.")
    try:
        return validator.build(Card, content, strict=True)
    except UserError as error:
        raise UserError(f"{where}: {error} It was edited or is damaged: write the episodes again.") from None


@contextlib.contextmanager
def whole(out: Path, what: str) -> Iterator[Path]:
    """A hidden folder that becomes ``out`` when the block succeeds, and is removed when it does not.

    Raises:
        UserError: ``out`` is not new or empty, is being written, or cannot be.
    """
    if (out.exists() or out.is_symlink()) and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f"--out {out} is not empty. Choose a new or empty folder for {what}.")
    out = out.resolve()
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        with held(beside(out), f"--out {out}"), new_folder(out) as partial:
            yield partial
            os.replace(partial, out)


def write_parquet(path: Path, schema: Any, rows: Iterator[dict[str, Any]], at_once: int) -> int:
    """Write rows into a Parquet file, so many at a time; returns how many there were."""
    arrow, parquet, count = import_pyarrow(), import_pyarrow("parquet"), 0
    path.parent.mkdir(parents=True, exist_ok=True)
    with parquet.ParquetWriter(path, schema) as writer:
        while batch := list(itertools.islice(rows, at_once)):
            writer.write_table(arrow.Table.from_pylist(batch, schema))
            count += len(batch)
    return count


def import_pyarrow(module: str = "") -> Any:
    """pyarrow, or one of its modules.

    Raises:
        UserError: it is not installed.
    """
    import importlib

    try:
        return importlib.import_module(f"pyarrow.{module}" if module else "pyarrow")
    except ModuleNotFoundError:
        advice = "pip install 's3prl-metaperser[parquet]'"
        raise UserError(f"Parquet needs pyarrow, which is not installed: {advice}") from None
