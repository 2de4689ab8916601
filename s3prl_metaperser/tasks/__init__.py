"""Task families: what is split, tested and reported, behind one registry. docs/adding_a_task.md shows how to add one.

A task says what the grid, the report and the launcher need to know of it; none of them knows a task by name. Nothing
here imports torch: what a task runs is named as ``module:attribute`` and imported when a cell is run.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from s3prl_metaperser.config.options import Options, flat
from s3prl_metaperser.config.section import Affects, kinds_of
from s3prl_metaperser.config.validator import build
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.methods import Facts, Systems, facts_of
from s3prl_metaperser.registry import Registry
from s3prl_metaperser.tasks.axes import Axis

if TYPE_CHECKING:
    from s3prl_metaperser.corpora.label_set import LabelSet
    from s3prl_metaperser.evaluation.result import Result

__all__ = ["DEFAULT_TASK", "TASKS", "Axis", "StageKind", "Task", "task_of"]

DEFAULT_TASK = "personalized_emotion"
StageKind = Literal["features", "initialisation"]


@dataclass(frozen=True)
class Task:
    """One task family.

    Attributes:
        name: as ``-d``, a grid's ``task`` and result files have it.
        title: heading of its report.
        unit: what a mean is taken over after the seeds, in the singular: ``rater``, or ``target corpus``. A result's
            ``raters.test`` is one of these, and its fold says which.
        axes: those of its grids besides corpus, upstream, system and protocol; the ways to split are one of them.
        systems: scope (``frozen``, ``finetuned``) -> the registry of its systems. A system that is registered with
            :class:`.Facts` is run again only for options that it goes by.
        default_system: what is run where none is named.
        metrics: label set -> names of the metrics that its report shows, the primary one first.
        sections: of the report, in order: names of :mod:`s3prl_metaperser.report.sections` (``tables``), or
            ``module:attribute`` of a function (:class:`~.report.gathered.Gathered`) -> a list of
            :class:`~.report.page.Section`.
        run: ``module:attribute`` of a function (:class:`.CellOptions`, ``open_workspace``, :class:`.Record`) ->
            :class:`.Result`, which trains a cell, evaluates it, and writes its result file; as :func:`.run_cell`.
        options: all that its cells are run with: :class:`.Options`, or a subclass with further sections.
        configuration: scope -> the YAML file with the options' defaults; None: those of the dataclass.
        stages: what its cells share and the grid makes before them, as :class:`.OpenCell` does.
        plural: of the unit, where it is not the unit with an s.
        keeps_checkpoints: whether its cells keep s3prl's checkpoints, so that the launcher resumes and evaluates them;
            :attr:`run` then takes one as its fourth argument, ``past``, and goes by ``cell.trains``.
    """

    name: str
    title: str
    unit: str
    axes: tuple[Axis, ...]
    systems: Callable[[str], Registry[Any]]
    default_system: str
    metrics: Callable[[LabelSet], tuple[str, ...]]
    sections: tuple[str, ...]
    run: str
    options: type[Options] = Options
    configuration: Callable[[str], Path | None] = lambda scope: None
    stages: tuple[StageKind, ...] = ()
    plural: str = ""
    keeps_checkpoints: bool = False

    @property
    def units(self) -> str:
        """The unit in the plural: ``raters``, ``target corpora``."""
        return self.plural or f"{self.unit}s"

    def runner(self) -> Callable[..., Result]:
        """The function that runs a cell; its module is imported here.

        Raises:
            UserError: there is no such function.
        """
        module, _, attribute = self.run.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError, ValueError) as error:
            raise UserError(f"The task {self.name!r} cannot be run by {self.run!r} ({error}).") from error

    def options_from(self, config: Mapping[str, Any], source: str = "config", *, stored: bool = False) -> Options:
        """A configuration of this task, checked.

        Args:
            stored: see :meth:`.Options.from_config`.

        Raises:
            UserError: an unknown key or a bad value; also of an option that is one of the task's axes.

        >>> task_of(DEFAULT_TASK).options_from({"downstream_expert": {"datarc": {"scenario": "sen"}}})
        Traceback (most recent call last):
            ...
        s3prl_metaperser.errors.UserError: Bad value 'sen' for config.downstream_expert.datarc.scenario. Did you mean \
        'seen'? Expected one of: seen, unseen.
        """
        options = self.options.from_config(config, source, stored=stored)
        found = dict(flat(options.as_config()))
        for axis in self.axes:
            build(axis.kind, found.get(axis.option), f"{source}.{axis.option}")
        return options

    def options_that_affect(self, *kinds: Affects) -> frozenset[str]:
        """Names such as ``runner.threads`` of all options that can change what ``kinds`` say."""
        return frozenset(name for name, affects in kinds_of(self.options) if affects in kinds)

    def free_options(self) -> frozenset[str]:
        """Options that may differ between the results of one number in a table: which unit is tested, and how fast."""
        units = {axis.option for axis in self.axes if axis.role == "unit"}
        return self.options_that_affect("summary", "speed", "files") | units

    def facts_of(self, scope: str, system: str) -> Facts:
        """What a system of this task declares; nothing where it is not installed here."""
        registry = self.systems(scope)
        if isinstance(registry, Systems):
            return facts_of(system)
        return (registry.facts(system, Facts) if registry.knows(system) else None) or Facts()


def _is_task(name: str, found: object) -> bool:
    return isinstance(found, Task) and found.name == name


TASKS: Registry[Task] = Registry("task", "s3prl_metaperser.tasks", expected=("a Task of this name", _is_task))
TASKS.register(
    DEFAULT_TASK,
    f"s3prl_metaperser.tasks.{DEFAULT_TASK}:TASK",
    "few-shot speech emotion recognition for one listener (Meta-PerSER)",
)
TASKS.register(
    "domain_generalized_emotion",
    "s3prl_metaperser.tasks.domain_generalized_emotion:TASK",
    "emotion recognition in a corpus that nothing was learned from (DA-MLDG and its peers)",
)


def task_of(name: str) -> Task:
    """A task by name.

    Raises:
        UserError: the name is unknown; the message gives the nearest known one and all of them.

    >>> task_of("personalized_emotion").unit
    'rater'
    """
    return TASKS.get(name)
