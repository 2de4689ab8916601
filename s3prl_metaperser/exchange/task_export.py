"""Frozen episodes as a task of Dynamic-SUPERB: an instruction, a clip and a listener's labelled clips, one answer."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s3prl_metaperser.corpora import reader_of
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.exchange.clips import Clips, licence_of, link
from s3prl_metaperser.exchange.episodes import labels_of, part_of
from s3prl_metaperser.exchange.folder import Query, import_pyarrow, whole, write_parquet
from s3prl_metaperser.exchange.prompts import Phrasing, Wording, spoken
from s3prl_metaperser.exchange.task_files import (
    DATASET,
    INSTANCE,
    METADATA,
    MOST_CLIPS,
    PARQUET,
    PREPROCESSED,
    README,
    columns,
    listed,
    wav_name,
)
from s3prl_metaperser.exchange.task_pages import instance_page, task_page, upload_page
from s3prl_metaperser.grid.definition import slug
from s3prl_metaperser.storage.atomic import write_json, write_text

if TYPE_CHECKING:
    from s3prl_metaperser.run.workspace import Workspace

NAME = "PersonalizedEmotionRecognition"
#: Rows of a Parquet file that are written at once; each holds its recordings.
_AT_ONCE = 20


@dataclass(frozen=True)
class Exporting:
    """How a task is written.

    Attributes:
        twins: also write an instance without labelled clips.
        local: copy audio that may not be passed on, for an evaluation on this machine.
        licence: of the audio, as its owner states it.
        version: the commit of the uploaded data set, once there is one.
    """

    name: str = NAME
    seed: int = 0
    about: str = ""
    wording: Wording | None = None
    twins: bool = True
    local: bool = False
    licence: str | None = None
    version: str = ""


@dataclass(frozen=True)
class Written:
    """What was written of one instance.

    Attributes:
        left_out: queries whose answer is several classes.
        repeated: queries of a listener and draw that an earlier fold has, too.
    """

    name: str
    rows: int
    listeners: int
    instructions: int
    left_out: int
    repeated: int
    parquet: bool


@dataclass(frozen=True)
class _Row:
    """A query and the clips beside it, before it is an instance's."""

    query: Query
    file: str
    label: str
    shown: tuple[str, ...]
    usual: str


def export_task(workspaces: Sequence[Workspace], out: Path, how: Exporting) -> list[Written]:
    """Write a task's folder, whole or not at all.

    Args:
        workspaces: folds of one corpus, scenario and K.

    Raises:
        UserError: more labelled clips than the benchmark takes, several corpora, scenarios or K, answers that are not
            one word, or audio that may not be passed on.
    """
    first = workspaces[0]
    shots = first.options.downstream_expert.evalrc.shots
    _check(workspaces, shots)
    instead = "--local copies it for an evaluation on this machine, never to be uploaded."
    licence = "" if how.local else licence_of(first.corpus.name, how.licence, instead)
    rows, left_out, repeated = _rows(workspaces)
    if not rows:
        raise UserError("No query has one class as its answer, and an answer is one word in this benchmark.")
    corpus = "".join(part.capitalize() for part in slug(first.corpus.name).replace("-", "_").split("_"))
    found = []
    with whole(out, "the task") as partial:
        folder = partial / ".clips"  # one copy of each recording, of which the task has many names
        clips = Clips(first.corpus, dict(first.contents.files), folder, str(folder))
        for count in (shots, 0)[: 1 + how.twins]:
            name = f"{how.name}_{corpus}-{count}shot"
            written = _write(partial / name, name, count, rows, clips, how, licence)
            found.append(Written(name, *written, left_out, repeated, (partial / name / DATASET / PARQUET).is_file()))
        shutil.rmtree(folder)
        write_text(partial / README, task_page(how.name, first, found, licence))
    return found


def check_shots(shots: int) -> None:
    """Refuse more labelled clips than the benchmark takes.

    Raises:
        UserError: there are.
    """
    if shots + 1 > MOST_CLIPS:
        raise UserError(
            f"K={shots}: Dynamic-SUPERB counts {MOST_CLIPS} audio columns, a query and at most {MOST_CLIPS - 1} "
            "labelled clips. Choose --shots 8 or fewer."
        )


def _check(workspaces: Sequence[Workspace], shots: int) -> None:
    check_shots(shots)
    settings = {(w.corpus.name, w.split.scenario, w.options.downstream_expert.evalrc.shots) for w in workspaces}
    if len(settings) > 1:
        said = "; ".join(f"{corpus} {scenario} K={k}" for corpus, scenario, k in sorted(settings))
        raise UserError(f"A task is of one corpus, scenario and K, and these are {said}. Choose: --only.")
    label_set = workspaces[0].corpus.label_set
    if label_set.kind not in ("single", "multi"):
        raise UserError(f"The labels of {label_set.name} are {label_set.kind}, and an answer is one word here.")


def _rows(workspaces: Sequence[Workspace]) -> tuple[list[_Row], int, int]:
    """The queries with one class as answer; how many have several, and how many were there before."""
    rows: dict[str, _Row] = {}
    left_out = repeated = 0
    raters = list(dict.fromkeys(each.rater for w in workspaces for each in w.episodes("test")))
    slugs = [slug(rater) for rater in raters]
    name = {r: s if slugs.count(s) == 1 else f"{s}-{raters.index(r)}" for r, s in zip(raters, slugs, strict=True)}
    for workspace in workspaces:
        known = labels_of(workspace)
        part = part_of(workspace)
        for query in part.queries():
            answer = known[query.rater, query.utterance]
            index = query.id.rpartition("/")[2]
            file = f"{name[query.rater]}-{query.episode.seed}-{index}"
            if len(answer) != 1:
                left_out += 1
            elif file in rows:
                repeated += 1
            else:
                shown = tuple(spoken(known[query.rater, u]) for u in query.episode.support)
                rows[file] = _Row(query, file, spoken(answer), shown, part.usual)
    return list(rows.values()), left_out, repeated


def _write(
    folder: Path, name: str, shots: int, rows: Sequence[_Row], clips: Clips, how: Exporting, licence: str
) -> tuple[int, int, int]:
    """One instance; returns how many rows, listeners and different instructions it has."""
    data = folder / PREPROCESSED
    data.mkdir(parents=True)
    corpus = clips.corpus
    phrasing = Phrasing(
        corpus.label_set, rows=len(rows), seed=how.seed, about=how.about, wording=how.wording, kind="single"
    )
    metadata: dict[str, dict[str, Any]] = {}
    for number, row in enumerate(rows):
        shown = row.shown[:shots]
        instruction = phrasing.with_examples(number, shown, (2, shots + 1), 1) if shots else phrasing.alone(number)
        for at, utterance in enumerate((row.query.utterance, *row.query.episode.support[:shots]), start=1):
            link(Path(clips.path(utterance)), data / wav_name(name, row.file, at))
        metadata[wav_name(name, row.file, 1)] = {
            "file": row.file,
            "instruction": instruction,
            "label": row.label,
            "listener": row.query.rater,
            "episode": row.query.episode.seed,
            "shots": shots,
            "shown": listed(shown),
            "choices": listed(phrasing.choices(number)),
            "usual": row.usual,
        }
    write_json(data / METADATA, metadata)
    listeners = len({row.query.rater for row in rows})
    instructions = len({row["instruction"] for row in metadata.values()})
    terms = licence or f"not to be passed on: {reader_of(corpus.name).terms or 'unknown licence'}"
    write_json(folder / INSTANCE, _instance(name, shots, rows, corpus.name, how, terms))
    write_text(folder / README, instance_page(name, shots, len(rows), listeners, instructions, terms, how.seed))
    try:
        import_pyarrow()
    except UserError:
        return len(rows), listeners, instructions
    _write_parquet(folder / DATASET / PARQUET, data, name, shots + 1, metadata)
    write_text(folder / DATASET / README, upload_page(name, terms))
    return len(rows), listeners, instructions


def _instance(name: str, shots: int, rows: Sequence[_Row], corpus: str, how: Exporting, terms: str) -> dict[str, Any]:
    given = f"{shots} clips that a listener has labelled" if shots else "no labelled clip"
    listeners = len({row.query.rater for row in rows})
    what = f"Label the emotion in a clip as one particular listener does, given {given}."
    return {
        "name": name,
        "description": f"{what} {len(rows)} rows of {listeners} listener(s) of {corpus}. Audio: {terms}.",
        "keywords": ["emotion recognition", "personalization", "in-context learning", "annotator", "speech"],
        "metrics": ["accuracy"],
        "path": f"DynamicSuperb/{name}",
        "version": how.version,
    }


def _write_parquet(path: Path, wavs: Path, name: str, clips: int, metadata: dict[str, dict[str, Any]]) -> None:
    """The data set, with recordings in it, in the form of the Hugging Face library ``datasets``."""
    arrow = import_pyarrow()
    kinds = {"episode": "int64", "shots": "int64"}
    texts = next(iter(metadata.values()))
    sound = arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())])
    fields = [(column, sound) for column in columns(clips)]
    fields += [(key, arrow.int64() if key in kinds else arrow.string()) for key in texts]
    features = {column: {"_type": "Audio"} for column in columns(clips)}
    features |= {key: {"dtype": kinds.get(key, "string"), "_type": "Value"} for key in texts}
    said = {"huggingface": json.dumps({"info": {"features": features}})}

    def rows() -> Iterator[dict[str, Any]]:
        for row in metadata.values():
            names = {column: wav_name(name, row["file"], at) for at, column in enumerate(columns(clips), start=1)}
            yield {**{c: {"bytes": (wavs / each).read_bytes(), "path": each} for c, each in names.items()}, **row}

    write_parquet(path, arrow.schema(fields, metadata=said), rows(), _AT_ONCE)
