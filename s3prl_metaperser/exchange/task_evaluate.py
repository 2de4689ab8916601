"""A system's answers to a task, scored: exact, by mention, not applicable, and the metrics of classes, by listener."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from s3prl_metaperser.corpora.label_set import LabelSet
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.evaluation.statistics import Scored
from s3prl_metaperser.exchange.predictions import Predictions, record
from s3prl_metaperser.exchange.responders import asked
from s3prl_metaperser.exchange.scoring import Answers, Rated, Rates, row_of
from s3prl_metaperser.exchange.task_files import Instance, Question
from s3prl_metaperser.exchange.words import Vocabulary
from s3prl_metaperser.progress import tqdm
from s3prl_metaperser.storage.atomic import write_json
from s3prl_metaperser.storage.hashing import file_hash
from s3prl_metaperser.storage.json_files import read_json

#: As the benchmark's own labels are smoothed by default.
SMOOTHING = 0.05
RESPONSE, SYSTEM = "sllm_response", "sllm_name"


@dataclass(kw_only=True)
class Evaluated(Answers):
    """The answers to one instance, by listener and draw."""

    name: str
    rows: int
    label_set: LabelSet


def refuse_others_answers(file: Path, said: Mapping[str, Any]) -> None:
    """Refuse to go on with answers that another system gave, or to other questions; write down whose these will be.

    Args:
        file: where that is written, beside the answers.
        said: the responder, its options, and what it is asked; its doubts.

    Raises:
        UserError: it says something else, or cannot be read.
    """
    if file.is_file():
        try:
            before = dict(read_json(file))
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"{file} cannot be read ({error}). Choose another --out.") from None
        if differs := [name for name in said if said[name] != before.get(name)]:
            raise UserError(
                f"{file.parent} has answers of {before.get('responder')}, and not the same {', '.join(differs)} as "
                "here. Choose another --out, or delete it."
            )
    else:
        write_json(file, said)


def answer_all(questions: Sequence[Question], responder: Any, file: Path, progress: str = "") -> dict[str, str]:
    """Ask everything that ``file`` does not answer yet, and append the answers to it.

    Raises:
        UserError: a file that is none of predictions; whatever the responder raises of this kind.
    """
    known = Predictions.read(file).answers if file.is_file() else {}
    left = [question for question in questions if question.id not in known]
    for question in tqdm(left, desc=progress, unit="row", disable=not progress, dynamic_ncols=True):
        record(file, question.id, asked(responder, question))
    found = Predictions.read(file).answers if file.is_file() else {}
    return {question.id: str(found[question.id]) for question in questions}


def read_responses(files: Sequence[Path], instances: Sequence[Instance]) -> dict[str, dict[str, str]]:
    """Instance -> row -> answer, of files in the form of the benchmark's inference: ``metadata.json`` with
    ``sllm_response`` at each key.

    Raises:
        UserError: a file that cannot be read, keys of no instance, or rows of an instance without an answer.
    """
    given: dict[str, str] = {}
    for file in files:
        try:
            content = read_json(file)
            given |= {key: row[RESPONSE] if isinstance(row, dict) else row for key, row in content.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            what = f"no {RESPONSE}" if isinstance(error, KeyError) else str(error)
            raise UserError(f"{file}: {what}. Expected metadata.json with {RESPONSE} at each recording.") from None
    keys = {each.key(question): (each.name, question.id) for each in instances for question in each.questions}
    if extra := [key for key in given if key not in keys]:
        raise UserError(f"{len(extra)} recording(s) of the responses are not in the task: {', '.join(extra[:5])}.")
    found: dict[str, dict[str, str]] = {}
    for key, answer in given.items():
        if not isinstance(answer, str):
            raise UserError(f"The response to {key} is no text.")
        instance, file_name = keys[key]
        found.setdefault(instance, {})[file_name] = answer
    for each in instances:
        mine = found.get(each.name)
        if mine and (missing := [q.id for q in each.questions if q.id not in mine]):
            raise UserError(f"{each.name}: {len(missing)} row(s) have no response: {', '.join(missing[:5])}.")
    if not found:
        raise UserError("The files have no response to this task.")
    return found


def evaluate(
    instance: Instance,
    answers: Mapping[str, str],
    languages: Collection[str] | None = None,
    synonyms: Path | None = None,
) -> Evaluated:
    """Score the answers to all rows of an instance."""
    questions = instance.questions
    classes = tuple(sorted({name for q in questions for name in (*q.choices, q.label)}))
    label_set = LabelSet(instance.name, "single", classes)
    words = Vocabulary(label_set, languages, synonyms)
    draws: dict[str, dict[int, list[Question]]] = {}
    for question in questions:
        draws.setdefault(question.listener, {}).setdefault(question.episode, []).append(question)
    found = Evaluated(name=instance.name, rows=len(questions), label_set=label_set)
    for listener, episodes in draws.items():
        for mine in episodes.values():
            names = tuple(file_hash(question.paths[question.query]) for question in mine)  # listeners share clips
            counts = np.stack([label_set.counts((question.label,)) for question in mine])
            rows = [row_of(q.id, answers[q.id], count, words, SMOOTHING) for q, count in zip(mine, counts, strict=True)]
            rates = np.array([row.rates for row in rows]).T
            found.rated.setdefault(listener, []).append(Rated(names, rates))
            own = Scored(names, np.stack([row.probabilities for row in rows]), counts, label_set, SMOOTHING)
            found.scored.setdefault(listener, []).append(own)
    return found


def gain(first: Evaluated, second: Evaluated) -> Rates | None:
    """What the first instance has over the second, row by row; None where their rows differ."""
    asked = [{who: [e.query for e in mine] for who, mine in each.rated.items()} for each in (first, second)]
    same = asked[0] == asked[1] and first.label_set.classes == second.label_set.classes
    return first.gain_over(second) if same else None


def write_responses(instance: Instance, answers: Mapping[str, str], name: str, path: Path) -> None:
    """The answers as the benchmark's inference writes them."""
    keys = {instance.key(question): question.id for question in instance.questions}
    content = {key: {**instance.metadata[key], SYSTEM: name, RESPONSE: answers[id]} for key, id in keys.items()}
    write_json(path, content)


def as_json(evaluated: Sequence[Evaluated], gained: Rates | None) -> dict[str, Any]:
    """For ``scores.json``."""
    content = {each.name: {"rows": each.rows, **each.intervals().as_json()} for each in evaluated}
    return content if gained is None else {**content, "gain_of_labelled_clips": gained.as_json()}
