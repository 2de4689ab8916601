"""A grid's YAML file, typed: unknown keys, names and values are errors that name file, line, key and what is near.

A grid has axes (upstreams, systems by scope, and those of its task: scenarios, folds, shots), and its cells are all
their combinations. ``parts`` joins several such blocks; keys beside ``parts`` apply to each of them.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields, make_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from s3prl_metaperser.config.options import merged
from s3prl_metaperser.config.validator import Filled, Whole, build, faults, filled, one_of, unique
from s3prl_metaperser.config.yaml_files import line_of, read_yaml
from s3prl_metaperser.corpora import CORPORA
from s3prl_metaperser.corpora.replicates import drawn_by
from s3prl_metaperser.errors import UserError, did_you_mean, shown, unknown_name
from s3prl_metaperser.methods.facts import Scope
from s3prl_metaperser.s3prl_stack.hub import check_upstream
from s3prl_metaperser.s3prl_stack.weights_files import check_files
from s3prl_metaperser.storage import resources
from s3prl_metaperser.storage.paths import cache_root
from s3prl_metaperser.tasks import DEFAULT_TASK, TASKS, Axis, task_of
from s3prl_metaperser.upstream.packaged import weights_path

T = TypeVar("T")
#: s3prl's default seed.
SEED = 1337


@dataclass(frozen=True)
class Upstream:
    """An upstream and how it is used: the launcher's ``-u``, ``-k``, ``-g``, ``-s``, ``-l`` and
    ``--upstream_feature_normalize``. ``ckpt`` may also be the name of weights that ``fetch-upstream`` has fetched."""

    name: Filled
    ckpt: Filled | None = None
    model_config: Filled | None = None
    selection: Filled = "hidden_states"
    layer: int | None = None
    normalize: bool = False

    def __post_init__(self) -> None:
        check_upstream(self.name)
        if self.ckpt:
            object.__setattr__(self, "ckpt", weights_path(self.ckpt, cache_root()))
        check_files(self.name, self.ckpt, self.model_config)

    @property
    def label(self) -> str:
        """Names it in folders and in ``--only``."""
        parts = [self.name, *(Path(file).stem for file in (self.ckpt, self.model_config) if file)]
        parts += [self.selection] if self.selection != "hidden_states" else []
        parts += [f"layer{self.layer}"] if self.layer is not None else []
        return "-".join([*parts, *["normalized"] * self.normalize])


@dataclass(frozen=True)
class Part:
    """One block of a grid: the cells are all combinations of its axes.

    Attributes:
        seed: of training, the launcher's ``--seed``.
        seeds: an axis of such seeds, in its place; tables are means over them.
        corpus_seeds: an axis of seeds with which the corpus is drawn anew (:attr:`.Reader.drawn_by`).
        options: changes to the scope's configuration file, nested as in it.
        axes: of the task, name -> values; in the file each has a key of its own.
    """

    corpus: Annotated[str, one_of(CORPORA.names)]
    upstreams: Annotated[tuple[Upstream, ...], filled, unique]
    systems: Annotated[dict[Scope, Annotated[tuple[str, ...], filled, unique]], filled]
    task: str = DEFAULT_TASK
    root: Filled | None = None
    protocol: Literal["paper", "tuned"] = "paper"
    seed: Whole = SEED
    seeds: Annotated[tuple[Whole, ...], unique] = ()
    corpus_seeds: Annotated[tuple[Whole, ...], unique] = ()
    options: dict[str, Any] = field(default_factory=dict)
    axes: Mapping[str, tuple[Any, ...]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        if self.seeds and self.seed != SEED:
            raise ValueError("seed and seeds exclude each other: seeds is an axis of training seeds.")
        if self.corpus_seeds and not drawn_by(self.corpus):
            drawn = [name for name in CORPORA.names() if drawn_by(name)]
            raise ValueError(
                f"corpus_seeds: corpus {self.corpus!r} is not drawn with a seed. Corpora that are: {', '.join(drawn)}."
            )
        if self.corpus_seeds and _value(self.options, drawn_by(self.corpus)) is not _NOTHING:
            raise ValueError(f"options: {drawn_by(self.corpus)} is an axis of the grid, corpus_seeds.")
        for scope, names in self.systems.items():
            for name in names:
                if not (registry := task_of(self.task).systems(scope)).knows(name):
                    raise unknown_name(f"systems.{scope}", name, registry.names())
        check_axes(self.options, "options", self.task)
        chosen = {}
        for axis in axes_of(self.task):
            values = axis.values(self.options)
            chosen[axis.name] = getattr(self, axis.key, ()) or values
            if axis.closed and (unknown := [value for value in chosen[axis.name] if value not in values]):
                raise unknown_name(axis.name, unknown[0], values)
        object.__setattr__(self, "axes", chosen)


@dataclass(frozen=True)
class Grid:
    """A grid as read.

    Attributes:
        results: where results go unless the command line says otherwise.
    """

    path: Path
    description: str
    results: str
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class _File:
    """What stands beside the keys of a part."""

    description: str = ""
    results: Filled | None = None
    parts: Annotated[list[dict[str, Any]], filled] | None = None


_NOTHING = object()


@functools.cache
def axes_of(task: str) -> tuple[Axis, ...]:
    """The axes that a task brings."""
    return task_of(task).axes


@functools.cache
def _part_of(task: str) -> type[Part]:
    """A part as in the file: with a key for each axis of the task."""
    annotated: Any = Annotated  # of types that are known only here
    several: Any = tuple
    keys = [(axis.key, annotated[several[axis.kind, ...], filled, unique], field(default=())) for axis in axes_of(task)]
    return make_dataclass("_Part", keys, bases=(Part,), frozen=True)


def known_grids() -> dict[str, Path]:
    """Name -> file of the grids that come with this project."""
    return {path.stem: path for path in sorted(resources.folder("benchmarks").glob("*.yaml"))}


def is_grid(text: str) -> bool:
    """Whether ``text`` names a grid: a file, or one that comes with this project."""
    return text.endswith((".yaml", ".yml")) or Path(text).is_file() or text in known_grids()


def grid_file(text: str | Path) -> Path:
    """The file of a grid: as it is, or by the name of one that comes with this project. A file stands above a name.

    Raises:
        UserError: neither.
    """
    path = Path(text)
    if path.exists() or path.suffix in (".yaml", ".yml"):
        return path
    if str(text) not in (known := known_grids()):
        raise unknown_name("grid", str(text), known)
    return known[str(text)]


def read_grid(path: str | Path) -> Grid:
    """Read a grid.

    Args:
        path: its file, or its name (:func:`known_grids`).

    Raises:
        UserError: no such grid, not YAML, a key twice, an unknown key, name or value, or one that is missing.
    """
    path = grid_file(path)
    content = read_yaml(path)
    if not isinstance(content, Mapping):
        raise UserError(f"{path}: expected a mapping (key: value), got {shown(content)}.")
    of_file = [one.name for one in fields(_File)]
    file = _checked(_File, {key: value for key, value in content.items() if key in of_file}, path)
    common = {key: value for key, value in content.items() if key not in of_file}
    parts: list[Part] = []
    for number, own in enumerate([{}] if file.parts is None else file.parts):
        where = () if file.parts is None else ("parts", number)
        joined = _joined(common, own)
        task = joined.get("task", DEFAULT_TASK)
        if task not in TASKS.names():  # before other keys, which go by it
            line = line_of(path, (*where, "task") if "task" in own else ("task",))
            raise UserError(f"{_at(path, line, where)}: {unknown_name('task', str(task)[:80], TASKS.names())}")
        part = _part_of(task)
        known = [*of_file, *(one.name for one in fields(part) if one.init)]
        if unknown := [key for key in joined if key not in known]:
            line = line_of(path, (*where, *unknown) if unknown[0] in own else unknown)
            text = f"Unknown key {shown(unknown[0])}.{did_you_mean(str(unknown[0]), known)}"
            raise UserError(f"{_at(path, line, where)}: {text} Known keys: {', '.join(known)}.")
        parts.append(_checked(part, joined, path, where, own))
    return Grid(
        path=Path(path),
        description=" ".join(file.description.split()),
        results=file.results or f"result/{Path(path).stem}",
        parts=tuple(parts),
    )


def axis_options(task: str) -> dict[str, str]:
    """Options that are axes of a grid, and the key that sets them."""
    fixed = {"datarc.corpus": "corpus", "datarc.root": "root", "evalrc.protocol": "protocol"}
    found = {f"downstream_expert.{name}": key for name, key in fixed.items()}
    return found | {axis.option: axis.key for axis in axes_of(task)}


def check_axes(options: Mapping[str, Any], where: str, task: str) -> None:
    """Refuse options that are axes of the grid.

    Raises:
        UserError: naming the key that sets the axis.
    """
    for name, key in axis_options(task).items():
        if _value(options, name) is not _NOTHING:
            raise UserError(f"{where}: {name} is an axis of the grid. Set it with the grid's key {key!r}.")


def slug(text: str) -> str:
    """``text`` as a part of a path: letters, digits, dot, underscore and hyphen."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-.") or "_"


def _joined(common: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """A part's own keys above those that all share; ``options`` are merged one by one, and null is no value."""
    content = {key: value for key, value in {**common, **own}.items() if value is not None}
    options = [given["options"] for given in (common, own) if given.get("options") is not None]
    if len(options) == 2 and all(isinstance(given, Mapping) for given in options):
        content["options"] = merged(*options)
    if isinstance(upstreams := content.get("upstreams"), list):
        content["upstreams"] = [{"name": item} if isinstance(item, str) else item for item in upstreams]
    return content


def _checked(cls: type[T], content: Any, path: str | Path, where: tuple[Any, ...] = (), own: Collection[str] = ()) -> T:
    """An instance of ``cls``, with the file, line and part in errors.

    Args:
        where: the keys that lead to a part.
        own: its own keys; others stand beside ``parts``.
    """
    if found := faults(cls, content):
        keys = found[0].keys if found[0].keys and found[0].keys[0] not in own else (*where, *found[0].keys)
        raise UserError(f"{_at(path, line_of(path, keys), where)}: {found[0].text}")
    return build(cls, content)


def _at(path: str | Path, line: int | None, where: tuple[Any, ...]) -> str:
    return f"{path}{'' if line is None else f':{line}'}{f', part {where[-1] + 1}' if where else ''}"


def _value(options: Any, name: str) -> Any:
    for step in name.split("."):
        options = options.get(step, _NOTHING) if isinstance(options, Mapping) else _NOTHING
    return options
