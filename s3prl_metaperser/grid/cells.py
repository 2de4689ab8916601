"""The cells of a grid: what each runs with, and the hash of what can change its numbers."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from s3prl_metaperser.config.options import Options, flat, merged, options_that_affect
from s3prl_metaperser.config.override import parse_override
from s3prl_metaperser.config.yaml_files import read_yaml
from s3prl_metaperser.errors import UserError, unknown_name
from s3prl_metaperser.grid.definition import AXES, Grid, Part, Upstream, check_axes, slug
from s3prl_metaperser.grid.relevance import RECIPE, matters, nested, options_of_cell, options_of_shared
from s3prl_metaperser.methods import facts_of
from s3prl_metaperser.s3prl_stack.hub import checkpoint_hash
from s3prl_metaperser.storage.paths import user_path
from s3prl_metaperser.storage.resources import shipped_configuration

#: What ``--only`` can choose by.
AXIS_KEYS = ("upstream", "scope", "scenario", "system", "fold", "shots", "protocol")


@dataclass(frozen=True)
class Cell:
    """One training and one evaluation.

    Attributes:
        shots: K in meta-testing.
        config: the whole configuration; options that cannot change this system's numbers are the scope's own.
    """

    corpus: str
    upstream: Upstream
    scope: str
    scenario: str
    system: str
    fold: str
    shots: int
    protocol: str
    seed: int
    config: Mapping[str, Any]

    @functools.cached_property
    def options(self) -> Options:
        """The configuration, typed."""
        return Options.from_config(self.config)

    @functools.cached_property
    def definition(self) -> dict[str, Any]:
        """What can change the numbers, as plain JSON values."""
        return {
            "recipe": RECIPE,
            "upstream": identity_of_upstream(self.upstream),
            "scope": self.scope,
            "system": self.system,
            "seed": self.seed,
            "options": options_of_cell(self.scope, self.system, self.config),
        }

    @functools.cached_property
    def identity(self) -> str:
        """SHA-256 of :attr:`definition`."""
        return _hash(self.definition)

    @property
    def place(self) -> str:
        """The cell's place in the tables, as a relative path: other settings of the same cell share it."""
        how = f"k{self.shots}" + ("" if self.protocol == "paper" else f"-{self.protocol}")
        data = f"{slug(self.corpus)}-{slug(self.upstream.label)}-{self.scope}"
        return f"{data}/{self.scenario}/{slug(self.system)}-{how}/{self.fold}"

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
        shipped = dict(flat(Options.from_config(_base(self.scope)).as_config()))
        counted = self.definition["options"].keys() - AXES.keys()
        return all(shipped[name] == value for name, value in flat(self.config) if name in counted)

    @property
    def task(self) -> tuple:
        """Cells that share this learn from the same features."""
        return (self.corpus, self.upstream, self.scope, self.scenario, self.fold)

    @functools.cached_property
    def initialisation(self) -> str | None:
        """SHA-256 of what the shared initialisation is made from; None for a system that does without."""
        if not facts_of(self.system).shares_initialisation(self.config):
            return None
        options = options_of_shared(self.scope, self.config)
        return _hash({**self.definition, "system": "initialisation", "options": options})

    @functools.cached_property
    def features(self) -> str:
        """SHA-256 of what names the upstream's feature store, or its checkpoint where it is fine-tuned."""
        expert = self.config["downstream_expert"]
        named = {"corpus", "duplicates", *self.options.downstream_expert.datarc.reader_options}
        datarc = expert["datarc"].items()  # which corpus, and what its reader and the sections of readers say
        data = {key: value for key, value in datarc if key in named or isinstance(value, Mapping)}
        chosen = {"upstream": identity_of_upstream(self.upstream), "scope": self.scope, "data": data}
        return _hash({**chosen, "dtype": expert["modelrc"]["feature_dtype"]})

    def __str__(self) -> str:
        how = "" if self.protocol == "paper" else f", {self.protocol}"
        return (
            f"{self.system} on {self.corpus}, {self.upstream.label} ({self.scope}), "
            f"{self.scenario}/{self.fold}, K={self.shots}{how}"
        )


def expand(
    grid: Grid, *, corpus: str | None = None, root: str | None = None, changes: Sequence[str] = ()
) -> list[Cell]:
    """All cells of a grid, those that share features and initialisation side by side.

    Args:
        corpus: in place of the grid's own.
        root: the corpus's folder.
        changes: options, such as ``downstream_expert.evalrc.steps=20``.

    Raises:
        UserError: an option that does not exist or has a bad value, or two cells for one place in the tables.
    """
    changed: dict[str, Any] = {}
    for change in changes:
        changed = merged(changed, _change(change))
    check_axes(changed, "--set")
    cells: dict[str, Cell] = {}
    for part in grid.parts:
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
    order: dict[tuple, int] = {}
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
    chosen = list(cells)
    for condition in only.split(","):
        key, equals, text = (part.strip() for part in condition.partition("="))
        if not equals or not text:
            raise UserError(
                f"--only: {condition.strip()!r} does not have the form key=value. Keys: {', '.join(AXIS_KEYS)}."
            )
        if key not in AXIS_KEYS:
            raise unknown_name("key of --only", key, AXIS_KEYS)
        known = {axis_value(cell, key) for cell in cells}
        values = {value.strip() for value in text.split("|")}
        for value in values:
            if value not in known:
                raise UserError(f"--only: {unknown_name(f'{key} in this grid', value, known)}")
        chosen = [cell for cell in chosen if axis_value(cell, key) in values]
    if not chosen:
        raise UserError(f"--only {only!r} matches no cell of this grid.")
    return chosen


def axis_value(cell: Cell, key: str) -> str:
    """A cell's value of one of :data:`AXIS_KEYS`, as text."""
    return cell.upstream.label if key == "upstream" else str(getattr(cell, key))


def _cells(part: Part, changed: Mapping[str, Any], where: str) -> list[Cell]:
    found = []
    for scope, names in part.systems.items():
        base = _base(scope)
        wanted = merged(merged(base, part.options), changed)
        chosen = Options.from_config(wanted, source=f"{where}: options").as_config()
        defaults, given = dict(flat(Options.from_config(base).as_config())), dict(flat(chosen))
        for upstream in part.upstreams:
            for scenario in part.scenarios:
                for fold in part.folds:
                    axes = {"corpus": part.corpus, "root": part.root, "scenario": scenario, "fold": fold}
                    datarc = {f"downstream_expert.datarc.{key}": value for key, value in axes.items()}
                    for name in names:
                        for shots in part.shots:
                            tested = {"shots": shots, "protocol": part.protocol}
                            evalrc = {f"downstream_expert.evalrc.{key}": value for key, value in tested.items()}
                            config = _effective(defaults, {**given, **datarc, **evalrc}, scope, name)
                            axis = (part.corpus, upstream, scope, scenario, name, fold, shots, part.protocol, part.seed)
                            found.append(Cell(*axis, config))
    return found


def _effective(defaults: Mapping[str, Any], wanted: Mapping[str, Any], scope: str, system: str) -> dict[str, Any]:
    """One system's configuration: options that do not matter to it are the defaults, but for where and how fast."""
    config = nested(wanted)
    free = options_that_affect("speed", "files")
    return nested(
        {
            name: value if name in free or matters(name, scope, system, config) else defaults[name]
            for name, value in wanted.items()
        }
    )


@functools.cache
def _base(scope: str) -> Mapping[str, Any]:
    """The scope's configuration file, as the launcher takes it."""
    return read_yaml(shipped_configuration(scope == "finetuned"))


def _change(text: str) -> dict[str, Any]:
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


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
