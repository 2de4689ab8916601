"""Which options can change which cell's numbers, and so are part of its identity.

The rest is left at the configuration file's values in a cell, so that changing the rate of a system that does not use
it makes no other cell run again, and so that all folds of a cell have the same options on record.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from s3prl_metaperser.config.options import flat, sections_of_readers
from s3prl_metaperser.config.yaml_files import read_yaml
from s3prl_metaperser.methods.facts import EXPERT, Facts, below, options_of_initialisation
from s3prl_metaperser.tasks import DEFAULT_TASK, task_of

#: Raised whenever the same definition would give other numbers.
RECIPE = 1
_DATA = f"{EXPERT}.datarc"
_ALWAYS = (_DATA, f"{EXPERT}.modelrc", f"{EXPERT}.evalrc")


def matters(option: str, task: str, scope: str, facts: Facts, config: Mapping[str, Any]) -> bool:
    """Whether an option can change the numbers of a system's cells.

    Args:
        option: such as ``runner.total_steps``.
    """
    if option in not_for_numbers(task):
        return False
    reader, dot, _ = option.removeprefix(f"{_DATA}.").partition(".")
    if dot and reader in sections_of_readers() and reader != config[EXPERT]["datarc"]["corpus"]:
        return False  # of another corpus's reader
    return below(option, _always(task)) or facts.matters(option, scope, config)


def options_of_cell(task: str, scope: str, facts: Facts, config: Mapping[str, Any]) -> dict[str, Any]:
    """The options that are part of a cell's identity."""
    return _counted(task, config, lambda option: matters(option, task, scope, facts, config))


def options_of_shared(scope: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """The options that are part of the identity of the initialisation that a scenario and fold share."""
    by = (_DATA, f"{EXPERT}.modelrc", *options_of_initialisation(scope))
    return _counted(
        DEFAULT_TASK, config, lambda option: below(option, by) and matters(option, DEFAULT_TASK, scope, Facts(), config)
    )


def nested(options: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of :func:`s3prl_metaperser.config.options.flat`."""
    config: dict[str, Any] = {}
    for name, value in options.items():
        section = config
        *path, key = name.split(".")
        for step in path:
            section = section.setdefault(step, {})
        section[key] = value
    return config


def as_identified(option: str, value: Any) -> Any:
    """An option's value as identities have it: null stands for what it was before its default became null."""
    return _recipe(DEFAULT_TASK)[0]["unset"].get(option) if value is None else value


@functools.cache
def not_for_numbers(task: str) -> frozenset[str]:
    """Options that say how fast a cell runs, or where its files are."""
    return task_of(task).options_that_affect("speed", "files")


@functools.cache
def _always(task: str) -> tuple[str, ...]:
    """Options by which every cell of a task goes: the data, the model, how it is tested, and its axes."""
    return (*_ALWAYS, *(axis.option for axis in task_of(task).axes))


def _counted(task: str, config: Mapping[str, Any], counts: Callable[[str], bool]) -> dict[str, Any]:
    """Options that count, as the recipe of their identity has it (recipe.yaml)."""
    recipe, defaults = _recipe(task)
    found = {}
    for name, value in flat(config):
        if name in recipe["options"]:
            value = as_identified(name, value)
        elif value == defaults.get(name):
            continue
        if counts(name):
            found[name] = value
    return found


@functools.cache
def _recipe(task: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """``recipe.yaml``, and the default of every option of a task."""
    return read_yaml(Path(__file__).with_name("recipe.yaml")), dict(flat(task_of(task).options().as_config()))
