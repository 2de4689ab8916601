"""The names that a shell may complete, by the argument whose place they take; argcomplete asks for them."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


def complete(parser: argparse.ArgumentParser) -> None:
    """Answer the shell and end, where it asks how a line may go on (the extra completion says how it is made to)."""
    import argcomplete

    for action in _actions(parser):
        if action.choices is None and action.dest in _NAMES:
            vars(action)["completer"] = _NAMES[action.dest]
    argcomplete.autocomplete(parser)


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)
        else:
            yield action


def _of(module: str, registry: str) -> Callable[..., list[str]]:
    return lambda **_: list(getattr(importlib.import_module(f"s3prl_metaperser.{module}"), registry).names())


def _grids(**_: Any) -> list[str]:
    from s3prl_metaperser.grid.definition import known_grids

    return [*known_grids(), *(path.name for path in Path().glob("*.y*ml"))]


def _upstreams(**_: Any) -> list[str]:
    from s3prl_metaperser.s3prl_stack.hub_index import upstream_names

    return list(upstream_names())


def _systems(parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    """Those of the task that the line names so far."""
    from s3prl_metaperser.tasks import DEFAULT_TASK, task_of

    task = task_of(parsed_args.downstream or DEFAULT_TASK)
    return task.systems("finetuned" if parsed_args.upstream_trainable else "frozen").names()


def _tools(**_: Any) -> list[str]:
    from s3prl_metaperser.corpora import writers

    return list(writers())


_NAMES = {
    **dict.fromkeys(("corpus", "corpus_name"), _of("corpora", "CORPORA")),
    "downstream": _of("tasks", "TASKS"),
    "downstream_variant": _systems,
    "format": _of("exchange.publishing", "FORMS"),
    "grid": _grids,
    "labels": _of("corpora.label_sets", "LABEL_SETS"),
    "to": _tools,
    "upstream": _upstreams,
}
