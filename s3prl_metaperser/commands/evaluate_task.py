"""``metaperser evaluate-task``: a system's answers to a task of Dynamic-SUPERB, scored."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s3prl_metaperser.commands.common import at_least
from s3prl_metaperser.commands.score import add_words, metrics_text, rates_text
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.storage.hashing import file_hash, text_hash
from s3prl_metaperser.storage.paths import user_path

if TYPE_CHECKING:
    from s3prl_metaperser.exchange.scoring import Rates


def add(commands) -> None:
    parser = commands.add_parser("evaluate-task", help="score a system's answers to a task of Dynamic-SUPERB")
    parser.add_argument("task", metavar="TASK", help="of export-task, or another of its form; or a folder of episodes")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--responder",
        metavar="NAME",
        help="majority, random, zero-shot, meta-perser, huggingface, or module:Class with respond(audios, instruction)",
    )
    which.add_argument("--responses", nargs="+", metavar="FILE", help="metadata.json with sllm_response at each key")
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help="such as model=MODEL")
    parser.add_argument("--out", required=True, metavar="DIR", help="answers and scores; answers there are kept")
    parser.add_argument("--limit", type=at_least(1), metavar="N", help="only the first N rows of each instance")
    add_words(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from s3prl_metaperser.exchange.predictions import ANSWERED_BY
    from s3prl_metaperser.exchange.task_files import instances, is_episodes

    task, out = user_path(arguments.task), user_path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    if is_episodes(task):
        return _episodes(arguments, task, out)
    from s3prl_metaperser.exchange import task_evaluate

    everything = instances(task)
    found = [first_rows(each, arguments.limit) for each in everything]
    if arguments.responses:
        given = task_evaluate.read_responses([user_path(file) for file in arguments.responses], found)
        found = [each for each in found if each.name in given]
    else:
        responder, given = _responder(arguments), {}
        asked = [[each.name, each.metadata] for each in everything]
        _refuse_others_answers(arguments, text_hash(json.dumps(asked)), out / ANSWERED_BY)
        for each in found:
            file = out / f"{each.name}.jsonl"
            given[each.name] = task_evaluate.answer_all(each.questions, responder, file, each.name)
            name = arguments.responder.rpartition(":")[2]
            task_evaluate.write_responses(each, given[each.name], name, out / f"{each.name}.json")
    synonyms = user_path(arguments.synonyms) if arguments.synonyms else None
    scored = [task_evaluate.evaluate(each, given[each.name], arguments.language, synonyms) for each in found]
    for one in scored:
        print(f"{one.name}: {one.rows} rows, {len(one.rated)} listener(s)")
        _print(one.intervals())
    gained = None
    if len(scored) == 2:
        first, second = (1, 0) if _shots(found[0]) < _shots(found[1]) else (0, 1)
        gained = task_evaluate.gain(scored[first], scored[second])
        print(f"gain of the labelled clips ({scored[first].name} minus {scored[second].name})")
        if gained is None:
            print("  the two instances have different rows")
        else:
            _print(gained, sign="+")
    from s3prl_metaperser.storage.atomic import write_json

    write_json(out / "scores.json", task_evaluate.as_json(scored, gained))
    print(f"all numbers: {out / 'scores.json'}")
    return 0


def _episodes(arguments: argparse.Namespace, task: Path, out: Path) -> int:
    """Prompts of our own episodes: they are only answered here, and `metaperser score` makes results of them."""
    import itertools

    from s3prl_metaperser.exchange.folder import Folder
    from s3prl_metaperser.exchange.predictions import ANSWERED_BY
    from s3prl_metaperser.exchange.task_evaluate import answer_all
    from s3prl_metaperser.exchange.task_files import questions_of
    from s3prl_metaperser.run.shown_commands import metaperser

    if arguments.responses:
        raise UserError("--responses are answers to a task. Those to episodes are scored by `metaperser score`.")
    folder = Folder.read(task)
    questions = list(itertools.islice(questions_of(folder), arguments.limit))
    file = out / f"{arguments.responder.rpartition(':')[2]}.jsonl"
    responder = _responder(arguments)
    found = {str(part): responder.doubts(part) for part in folder.card.parts} if hasattr(responder, "doubts") else {}
    doubts = {part: list(mine) for part, mine in found.items() if mine}
    _refuse_others_answers(arguments, file_hash(folder.prompts), file.with_suffix(f".{ANSWERED_BY}"), doubts=doubts)
    answer_all(questions, responder, file, "episodes")
    print(f"{file}: {len(questions)} answers")
    for doubt in dict.fromkeys(each for mine in doubts.values() for each in mine):
        advice = "Episodes of its own fold alone are written by `metaperser episodes EXPDIR`."
        print(f"warning: {doubt}; results will say so. {advice}", file=sys.stderr)
    print(f"next: {metaperser('score', file, '--episodes', task, '--out', out / 'results')}")
    return 0


def _refuse_others_answers(arguments: argparse.Namespace, questions: str, file: Path, **further: Any) -> None:
    from s3prl_metaperser.exchange.task_evaluate import refuse_others_answers

    said = {"responder": arguments.responder, "options": _options(arguments), "questions": questions, **further}
    refuse_others_answers(file, said)


def _responder(arguments: argparse.Namespace) -> Any:
    from s3prl_metaperser.exchange.responders import open_responder

    return open_responder(arguments.responder, _options(arguments))


def _options(arguments: argparse.Namespace) -> dict[str, str]:
    options = {}
    for text in arguments.option:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise UserError(f"--option {text!r}: expected NAME=VALUE.")
        options[name] = value
    return options


def first_rows(instance: Any, limit: int | None) -> Any:
    """The first rows of an instance; all where there is no limit."""
    import dataclasses

    return instance if limit is None else dataclasses.replace(instance, questions=instance.questions[:limit])


def _shots(instance: Any) -> int:
    return max(len(question.paths) for question in instance.questions)


def _print(found: Rates, sign: str = "") -> None:
    print("\n".join(rates_text(found.rates, sign) + metrics_text(found.metrics, "single", sign)))
