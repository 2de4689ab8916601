"""The benchmark's own frozen episodes as prompts for any other system."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s3prl_metaperser import __version__
from s3prl_metaperser.corpora.label_set import plain_counts
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.evaluation.result_keys import Raters
from s3prl_metaperser.exchange.clips import Clips, licence_of
from s3prl_metaperser.exchange.folder import (
    ANSWERS,
    AUDIO,
    CARD,
    FORMAT,
    TWIN,
    Card,
    Folder,
    Form,
    Hashes,
    Part,
    import_pyarrow,
    prompts_name,
    whole,
    write_parquet,
)
from s3prl_metaperser.exchange.prompts import Phrasing, Wording, spoken
from s3prl_metaperser.storage.atomic import write_json, write_text

if TYPE_CHECKING:
    from s3prl_metaperser.run.workspace import Workspace

#: Rows of a Parquet file that are written at once.
_AT_ONCE = 500
README = "README.md"


@dataclass(frozen=True)
class Writing:
    """How prompts are written.

    Attributes:
        twins: also write every query without labelled clips.
        licence: of the audio, as its owner states it.
        about: what is labelled, such as "the emotion"; a word for it by the kind of labels without.
    """

    form: Form = "chat"
    seed: int = 0
    twins: bool = True
    bundle: bool = False
    licence: str | None = None
    about: str = ""
    wording: Wording | None = None


def write_episodes(workspaces: Sequence[Workspace], out: Path, how: Writing) -> tuple[Folder, int]:
    """Write the test episodes of these folds as a folder of prompts, whole or not at all.

    Returns:
        The folder as read again, and how many prompts are in it.

    Raises:
        UserError: audio that may not be passed on, audio through which the split leaks, two folds whose queries cannot
            be told apart, or pyarrow is missing.
    """
    if how.form == "parquet":
        import_pyarrow("parquet")
    names = list(dict.fromkeys(workspace.corpus.name for workspace in workspaces))
    instead = "Leave out --bundle: prompts then name its files by their paths, and are of use where these are."
    licences = [licence_of(name, how.licence, instead) for name in names] if how.bundle else []
    parts = [part_of(workspace) for workspace in workspaces]
    _refuse_equal_ids(parts)
    with whole(out, "the episodes") as partial:
        write_json(partial / ANSWERS, {"parts": [_answers(*pair) for pair in zip(workspaces, parts, strict=True)]})
        rows = (row for pair in zip(workspaces, parts, strict=True) for row in _rows(*pair, partial, how))
        count = _WRITERS[how.form](partial / prompts_name(how.form), rows)
        licence = "; ".join(dict.fromkeys(licences))
        made_by = f"s3prl-metaperser {__version__}"
        card = Card(FORMAT, how.form, how.seed, how.twins, how.bundle, licence, made_by, tuple(parts))
        write_text(partial / README, _readme(card, count))
        write_json(partial / CARD, _as_json(card))
    return Folder.read(out), count


def part_of(workspace: Workspace) -> Part:
    """What a fold's results hold, and its episodes."""
    workspace.refuse_leaks()
    split, label_set = workspace.split, workspace.corpus.label_set
    lists = workspace.episodes("test")
    answered = workspace.labels("train", {rating.utterance: 0 for rating in split.train}).counts.sum(0)
    return Part(
        corpus=workspace.corpus.name,
        scenario=split.scenario,
        fold=split.fold,
        raters=Raters.of([each.rater for each in lists], split.validation_raters, split.train_raters),
        lists=lists,
        label_set=label_set,
        class_weights=tuple(workspace.class_weights().tolist()),
        hashes=Hashes(workspace.corpus.fingerprint(), workspace.contents.fingerprint),
        options=workspace.options.as_config(),
        doubts=split.doubts,
        usual=label_set.classes[int(answered.argmax())],
    )


def labels_of(workspace: Workspace) -> dict[tuple[str, str], Any]:
    """(rater, utterance) -> what a tested listener answered."""
    ratings = workspace.split.ratings_of("test")
    return {(rater, each.utterance): each.answer for rater, mine in ratings.items() for each in mine}


def _answers(workspace: Workspace, part: Part) -> dict[str, dict[str, list]]:
    known, label_set = labels_of(workspace), workspace.corpus.label_set
    found: dict[str, dict[str, list]] = {}
    for query in part.queries():
        (counts,) = plain_counts(label_set.counts(known[query.rater, query.utterance])[None])
        found.setdefault(query.rater, {})[query.utterance] = counts
    return found


def _rows(workspace: Workspace, part: Part, folder: Path, how: Writing) -> Iterator[dict[str, Any]]:
    """The prompts of one fold: every query, and its twin without labelled clips behind it."""
    known, queries = labels_of(workspace), list(part.queries())
    copies = folder / AUDIO if how.bundle else None
    clips = Clips(workspace.corpus, dict(workspace.contents.files), copies, AUDIO)
    rows = len(queries) * (1 + how.twins)
    phrasing = Phrasing(workspace.corpus.label_set, rows=rows, seed=how.seed, about=how.about, wording=how.wording)
    for number, query in enumerate(queries):
        support = query.episode.support
        labels = [spoken(known[query.rater, utterance]) for utterance in support]
        shown = [clips.path(utterance) for utterance in support]
        asked = clips.path(query.utterance)
        common = {"listener": query.rater, "episode": query.episode.seed, "choices": list(phrasing.choices(number))}
        for twin in (False, True)[: 1 + how.twins]:
            mine, said = ([], []) if twin else (shown, labels)
            row = {"id": query.id + TWIN * twin, **common, "shots": len(said), "audio": [*mine, asked], "shown": said}
            if how.form == "chat":
                yield {**row, "messages": _messages(phrasing, number, mine, said, asked)}
            elif twin:
                yield {**row, "instruction": phrasing.alone(number)}
            else:
                places = (1, len(said)), len(said) + 1
                yield {**row, "instruction": phrasing.with_examples(number, said, *places)}


def _messages(
    phrasing: Phrasing, number: int, shown: Sequence[str], labels: Sequence[str], asked: str
) -> list[dict[str, Any]]:
    """One conversation: a turn for each labelled clip, and one for the clip to label."""
    found: list[dict[str, Any]] = []
    before = [{"type": "text", "text": phrasing.turns(number) if shown else phrasing.alone(number)}]
    for path, label in [*zip(shown, labels, strict=True), (asked, None)]:
        found.append({"role": "user", "content": [*before, {"type": "audio", "audio": path}]})
        if label is not None:
            found.append({"role": "assistant", "content": label})
        before = []
    return found


def _refuse_equal_ids(parts: Sequence[Part]) -> None:
    known: dict[str, Part] = {}
    for part in parts:
        first = next(part.queries()).id
        if (other := known.setdefault(first, part)) is not part:
            raise UserError(
                f"Two folds are called {part}, with other episodes (Q = {other.lists[0].queries} and "
                f"{part.lists[0].queries}, or another corpus of this name). Write them into folders of their own."
            )


def _as_json(card: Card) -> dict[str, Any]:
    content = dataclasses.asdict(card)
    for part, written in zip(card.parts, content["parts"], strict=True):
        written["label_set"] = part.label_set.as_dict()
    return content


def _write_lines(path: Path, rows: Iterator[dict[str, Any]]) -> int:
    with open(path, "w", encoding="utf-8") as file:
        return sum(bool(file.write(json.dumps(row, ensure_ascii=False) + "\n")) for row in rows)


def _write_parquet(path: Path, rows: Iterator[dict[str, Any]]) -> int:
    arrow = import_pyarrow()
    texts = arrow.list_(arrow.string())
    kinds = {"id": arrow.string(), "listener": arrow.string(), "episode": arrow.int64(), "choices": texts}
    kinds |= {"shots": arrow.int64(), "audio": texts, "shown": texts, "instruction": arrow.string()}
    return write_parquet(path, arrow.schema(list(kinds.items())), rows, _AT_ONCE)


_WRITERS: dict[Form, Callable[[Path, Iterator[dict[str, Any]]], int]] = {
    "chat": _write_lines,
    "jsonl": _write_lines,
    "parquet": _write_parquet,
}


def _readme(card: Card, count: int) -> str:
    """What is in the folder, for whoever finds it."""
    listeners = {rater for part in card.parts for rater in part.raters.tested}
    audio = f"Audio is in `{AUDIO}/` ({card.licence})."
    if not card.bundled:
        audio = (
            "Audio is named by its path on the machine where this was written. It may not be free to be passed on;\n"
            "neither may the labels here."
        )
    twins = f"Rows whose id ends in `{TWIN}` ask for the same label without the K clips.\n" if card.twins else ""
    return _README.format(
        count=count,
        listeners=len(listeners),
        made_by=card.made_by,
        twins=twins,
        audio=audio,
        folds="\n".join(f"- {part}: {len(part.raters.tested)} listener(s)" for part in card.parts),
        prompts=prompts_name(card.form),
        answers=ANSWERS,
    )


_README = """# Frozen episodes of listeners

{count} prompts for {listeners} listener(s), written by {made_by}. Each shows K clips that one listener
labelled, and asks for that listener's label of a further clip.
{twins}{audio}

{folds}

`{prompts}` is what a system is shown. `{answers}` is what the listeners answered, for scoring
alone: show it to no system. Write one JSON object a line, `{{"id": ..., "answer": "text"}}` or
`{{"id": ..., "probabilities": {{"class": 0.7, ...}}}}`, and score them:

    metaperser score PREDICTIONS.jsonl --episodes THIS_FOLDER --out RESULTS
"""
