"""Task families: what is split, tested and reported, behind one registry. docs/adding_a_task.md shows how to add one.

A task says what the grid, the report and the launcher need to know of it; none of them knows a task by name. Nothing
here imports torch: what a task runs is named as ``module:attribute`` and imported when a cell is run.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s3prl_metaperser.registry import Registry
from s3prl_metaperser.tasks.axes import Axis

if TYPE_CHECKING:
    from s3prl_metaperser.corpora.label_set import LabelSet
    from s3prl_metaperser.evaluation.result import Result

__all__ = ["DEFAULT_TASK", "TASKS", "Axis", "Task", "task_of"]

DEFAULT_TASK = "personalized_emotion"


@dataclass(frozen=True)
class Task:
    """One task family.

    Attributes:
        name: as ``-d``, a grid's ``task`` and result files have it.
        summary: one line for ``metaperser list tasks``.
        unit: what a mean is taken over after the seeds, in the singular: ``rater``, or ``target corpus``. A result's
            ``raters.test`` is one of these, and its fold says which.
        axes: those of its grids besides corpus, upstream, system and protocol; the ways to split are one of them.
        systems: scope (``frozen``, ``finetuned``) -> the registry of its systems.
        default_system: what is run where none is named.
        metrics: label set -> names of the metrics that its results have, the primary one first.
        sections: of the report, in order; see :data:`.report.write.SECTIONS`.
        configuration: scope -> the YAML file with its options' defaults.
        run: ``module:attribute`` of a function (:class:`.CellOptions`) -> :class:`.Result`, which trains a cell,
            evaluates it, and writes its result file.
    """

    name: str
    summary: str
    unit: str
    axes: tuple[Axis, ...]
    systems: Callable[[str], Registry[Any]]
    default_system: str
    metrics: Callable[[LabelSet], tuple[str, ...]]
    sections: tuple[str, ...]
    configuration: Callable[[str], Path]
    run: str

    def run_cell(self, options: Any) -> Result:
        """Train and evaluate one cell; imports what the task runs."""
        module, _, attribute = self.run.partition(":")
        return getattr(importlib.import_module(module), attribute)(options)


TASKS: Registry[Task] = Registry(
    "task", "s3prl_metaperser.tasks", expected=("a Task", lambda _, found: isinstance(found, Task))
)
TASKS.register(
    DEFAULT_TASK,
    f"s3prl_metaperser.tasks.{DEFAULT_TASK}:TASK",
    "few-shot speech emotion recognition for one listener (Meta-PerSER)",
)


def task_of(name: str) -> Task:
    """A task by name.

    Raises:
        UserError: the name is unknown; the message gives the nearest known one and all of them.

    >>> task_of("personalized_emotion").unit
    'rater'
    """
    return TASKS.get(name)
