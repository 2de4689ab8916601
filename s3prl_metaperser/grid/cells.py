"""The cells of a grid: what each runs with, and the hash of what can change its numbers."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from s3prl_metaperser.config.options import Options, flat, merged
from s3prl_metaperser.config.override import parse_override
from s3prl_metaperser.config.yaml_files import read_yaml
from s3prl_metaperser.corpora.replicates import drawn_by
from s3prl_metaperser.errors import UserError, unknown_name
from s3prl_metaperser.grid.definition import SEED, Grid, Part, Upstream, axes_of, axis_options, check_axes, slug
from s3prl_metaperser.grid.relevance import RECIPE, matters, nested, not_for_numbers, options_of_cell, options_of_shared
from s3prl_metaperser.methods.facts import Facts
from s3prl_metaperser.run.workspace import say
from s3prl_metaperser.s3prl_stack.hub import checkpoint_hash
from s3prl_metaperser.storage.paths import user_path
from s3prl_metaperser.storage.provenance import digest
from s3prl_metaperser.tasks import DEFAULT_TASK, task_of


@dataclass(frozen=True)
class Cell:
    """One training and one evaluation.

    Attributes:
        family: the task, such as ``personalized_emotion``.
        corpus_seed: with which its corpus is drawn, where that is an axis.
        replicate: names it beside cells that differ in seeds alone: ``seed7``, ``drawn1``.
        config: the whole configuration; options that cannot change this system's numbers are the scope's own.
    """

    corpus: str
    upstream: Upstream
    scope: str
    system: str
    axes: Mapping[str, Any]
    protocol: str
    seed: int
    config: Mapping[str, Any]
    family: str = DEFAULT_TASK
    corpus_seed: int | None = None
    replicate: tuple[str, ...] = ()

    @functools.cached_property
    def options(self) -> Options:
        """The configuration, typed."""
        return task_of(self.family).options.from_config(self.config)

    @property
    def facts(self) -> Facts:
        """What its system declares."""
        return task_of(self.family).facts_of(self.scope, self.system)

    @functools.cached_property
    def definition(self) -> dict[str, Any]:
        """What can change the numbers, as plain JSON values."""
        return {
            "recipe": RECIPE,
            "upstream": identity_of_upstream(self.upstream),
            "scope": self.scope,
            "system": self.system,
            "seed": self.seed,
            "options": options_of_cell(self.family, self.scope, self.facts, self.config),
            **({} if self.family == DEFAULT_TASK else {"task": self.family}),
        }

    @functools.cached_property
    def identity(self) -> str:
        """SHA-256 of :attr:`definition`."""
        return digest(self.definition)

    @property
    def place(self) -> str:
        """The cell's place in the tables, as a relative path: other settings of the same cell share it."""
        tested = [
            f"{axis.letter.lower()}{self.axes[axis.name]}" for axis in axes_of(self.family) if axis.role == "test"
        ]
        data = f"{slug(self.corpus)}-{slug(self.upstream.label)}-{self.scope}"
        data = data if self.family == DEFAULT_TASK else f"{slug(self.family)}-{data}"
        row = "-".join([slug(self.system), *tested, *self._unusual_protocol, *self.replicate])
        return f"{data}/{self.along('data')}/{row}/{self.along('unit')}"

    @property
    def path(self) -> str:
        """The cell's folder, below the results."""
        return f"{self.place}-{self.identity[:8]}"

    @property
    def finetuned(self) -> bool:
        """Whether the whole model adapts (``-f``)."""
        return self.scope == "finetuned"

    def as_shipped(self) -> bool:
        """Whether all options but the grid's axes are those of the scope's configuration file."""
        shipped = dict(flat(task_of(self.family).options.from_config(_base(self.family, self.scope)).as_config()))
        counted = self.definition["options"].keys() - axis_options(self.family).keys()
        return all(shipped.get(name) == value for name, value in flat(self.config) if name in counted)

    @property
    def task(self) -> Hashable:
        """Cells that share this learn from the same features."""
        return (self.family, self.corpus_key, self.upstream, self.scope, self.along("data"), self.along("unit"))

    @property
    def corpus_key(self) -> str:
        """The corpus, and the seed with which it is drawn, where that is an axis."""
        return self.corpus if self.corpus_seed is None else f"{self.corpus}, seed {self.corpus_seed}"

    def along(self, *roles: str) -> str:
        """Its values of the axes with these roles, as text: ``seen``, ``fold1``, ``seen/fold1``."""
        return "/".join(str(self.axes[axis.name]) for axis in axes_of(self.family) if axis.role in roles) or "all"

    @property
    def tested(self) -> str:
        """How it is tested: ``K=32``, and the protocol where it is not the paper's."""
        values = [f"{axis.letter}={self.axes[axis.name]}" for axis in axes_of(self.family) if axis.role == "test"]
        return ", ".join([*values, *self._unusual_protocol, *self.replicate])

    @property
    def _unusual_protocol(self) -> list[str]:
        return [] if self.protocol == "paper" else [self.protocol]

    @functools.cached_property
    def initialisation(self) -> str | None:
        """SHA-256 of what the shared initialisation is made from; None for a system that does without."""
        if not self.facts.shares_initialisation(self.config):
            return None
        options = options_of_shared(self.scope, self.config)
        return digest({**self.definition, "system": "initialisation", "options": options})

    @functools.cached_property
    def features(self) -> str:
        """SHA-256 of what names the upstream's feature store, or its checkpoint where it is fine-tuned."""
        expert = self.config["downstream_expert"]
        named = {"corpus", "duplicates", *self.options.downstream_expert.datarc.reader_options}
        datarc = expert["datarc"].items()  # which corpus, and what its reader and the sections of readers say
        data = {key: value for key, value in datarc if key in named or isinstance(value, Mapping)}
        chosen = {"upstream": identity_of_upstream(self.upstream), "scope": self.scope, "data": data}
        modelrc = expert["modelrc"]
        pooling = {} if modelrc["pooling"] == "mean" else {"pooling": modelrc["pooling"]}
        return digest({**chosen, "dtype": modelrc["feature_dtype"], **pooling})

    def __str__(self) -> str:
        data = f"{self.corpus}, {self.upstream.label} ({self.scope}), {self.along('data', 'unit')}"
        return ", ".join(filter(None, (f"{self.system} on {data}", self.tested)))


def expand(
    grid: Grid, *, corpus: str | None = None, root: str | None = None, changes: Sequence[str] = ()
) -> list[Cell]:
    """All cells of a grid, those that share features and initialisation side by side.

    Args:
        corpus: in place of the grid's own.
        changes: options, such as ``downstream_expert.evalrc.steps=20``.

    Raises:
        UserError: an option that does not exist or has a bad value, or two cells for one place in the tables.
    """
    changed: dict[str, Any] = {}
    for change in changes:
        changed = merged(changed, change_of(change))
    cells: dict[str, Cell] = {}
    for part in grid.parts:
        check_axes(changed, "--set", part.task)
        if corpus is not None and corpus != part.corpus:
            part = dataclasses.replace(part, corpus=corpus, root=None)
        if root is not None:
            part = dataclasses.replace(part, root=str(user_path(root).resolve()))
        for cell in _cells(part, changed, str(grid.path)):
            known = cells.setdefault(cell.place, cell)
            if known.identity != cell.identity:
                raise UserError(
                    f"{grid.path}: two parts have the cell {cell} with different options. A table has one place for "
                    "it: split the grid into two files with results of their own."
                )
    order: dict[Hashable, int] = {}
    for cell in cells.values():
        order.setdefault(cell.task, len(order))
    return sorted(cells.values(), key=lambda cell: order[cell.task])


def select(cells: Sequence[Cell], only: str | None) -> list[Cell]:
    """The cells that ``--only`` names.

    Args:
        only: such as ``upstream=hubert_base,scenario=unseen|seen``; None for all.

    Raises:
        UserError: an unknown key, or a value that no cell has.
    """
    if only is None:
        return list(cells)
    keys, chosen = only_keys(cells), list(cells)
    for condition in only.split(","):
        key, equals, text = (part.strip() for part in condition.partition("="))
        known = {axis_value(cell, key) for cell in cells} if key in keys else {key}
        if not equals or (not text and "" not in known):  # empty: the cells that have no such axis
            raise UserError(f"--only: {condition.strip()!r} does not have the form key=value. Keys: {', '.join(keys)}.")
        if key not in keys:
            raise unknown_name("key of --only", key, keys)
        values = {value.strip() for value in text.split("|")}
        for value in values:
            if value not in known:
                raise UserError(f"--only: {unknown_name(f'{key} in this grid', value, known)}")
        chosen = [cell for cell in chosen if axis_value(cell, key) in values]
    if not chosen:
        raise UserError(f"--only {only!r} matches no cell of this grid.")
    return chosen


def only_keys(cells: Sequence[Cell]) -> list[str]:
    """What ``--only`` can choose by among these cells."""
    axes = dict.fromkeys(name for cell in cells for name in cell.axes)
    return ["upstream", "scope", *axes, "system", "protocol", "seed", "corpus_seed"]


def axis_value(cell: Cell, key: str) -> str:
    """A cell's value of one of :func:`only_keys`, as text; empty for another task's axis."""
    if key in ("scope", "system", "protocol", "seed", "corpus_seed"):
        return "" if getattr(cell, key) is None else str(getattr(cell, key))
    return cell.upstream.label if key == "upstream" else str(cell.axes.get(key, ""))


_say_once = functools.cache(say)


def _cells(part: Part, changed: Mapping[str, Any], where: str) -> list[Cell]:
    found, task = [], task_of(part.task)
    for scope, names in part.systems.items():
        base = _base(part.task, scope)
        reader = {"downstream_expert": {"datarc": {"corpus": part.corpus}}}  # whose options may be among those given
        wanted = merged(merged(merged(base, part.options), changed), reader)
        try:
            options = task.options_from(wanted, source="options")
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
        for line in options.not_used():
            _say_once(f"{where}: {line}")
        defaults, given = dict(flat(task.options.from_config(base).as_config())), dict(flat(options.as_config()))
        given |= {"downstream_expert.datarc.root": part.root, "downstream_expert.evalrc.protocol": part.protocol}
        option_of = {axis.name: axis.option for axis in axes_of(part.task)}
        seeds = itertools.product(part.corpus_seeds or (None,), part.seeds or (part.seed,))
        combined = itertools.product(seeds, part.upstreams, names, *part.axes.values())
        for (corpus_seed, seed), upstream, name, *along in combined:
            axes = dict(zip(part.axes, along, strict=True))
            wanted = given | {option_of[axis]: value for axis, value in axes.items()}
            if corpus_seed is not None:
                wanted[drawn_by(part.corpus)] = corpus_seed
            config = _effective(defaults, wanted, part.task, scope, name)
            common = (part.protocol, seed, config, part.task, corpus_seed)
            found.append(Cell(part.corpus, upstream, scope, name, axes, *common, _replicate(part, seed, corpus_seed)))
    return found


def _replicate(part: Part, seed: int, corpus_seed: int | None) -> tuple[str, ...]:
    """What names a cell beside those with other seeds; nothing with the seeds of grids that have one, whose results
    then count."""
    named = [f"seed{seed}"] if part.seeds and seed != SEED else []
    return (*named, *([f"drawn{corpus_seed}"] if corpus_seed else []))


def _effective(
    defaults: Mapping[str, Any], wanted: Mapping[str, Any], task: str, scope: str, system: str
) -> dict[str, Any]:
    """One system's configuration: options that do not matter to it are the defaults, but for where and how fast."""
    config, facts = nested(wanted), task_of(task).facts_of(scope, system)
    free = not_for_numbers(task)
    return nested(
        {
            name: value if name in free or matters(name, task, scope, facts, config) else defaults[name]
            for name, value in wanted.items()
        }
    )


@functools.cache
def _base(task: str, scope: str) -> Mapping[str, Any]:
    """The configuration file of a task and scope, as the launcher takes it; empty for a task without one."""
    path = task_of(task).configuration(scope)
    return {} if path is None else read_yaml(path)


def change_of(text: str) -> dict[str, Any]:
    """What ``--set`` changes, nested as a configuration is.

    Raises:
        UserError: not of the form ``section.option=value``.
    """
    found: dict[str, Any] = {}
    for part in text.split(",,"):
        key, equals, _ = part.partition("=")
        key = key.strip()
        if not equals or not key:
            raise UserError(f"--set: {text!r} does not have the form section.option=value.")
        prefixed = part.strip() if key.split(".")[0] in ("config", "args") else f"config.{part.strip()}"
        for path, value in parse_override(prefixed):
            if path[0] == "args":
                raise UserError(f"--set: {key!r}: only options of the configuration can be set here.")
            found = merged(found, nested({".".join(path[1:]): value}))
    return found


@functools.cache
def identity_of_upstream(upstream: Upstream) -> dict[str, Any]:
    """What of an upstream can change numbers; a file that ``-k`` or ``-g`` names by its content, not by where it lies.

    Raises:
        UserError: such a file cannot be read.
    """
    content = {key: value for key, value in vars(upstream).items() if key not in ("ckpt", "model_config")}
    if upstream.ckpt or upstream.model_config:
        content["files"] = checkpoint_hash(upstream.name, upstream.ckpt, upstream.model_config)
    return content
