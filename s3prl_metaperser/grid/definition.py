"""A grid's YAML file, typed: unknown keys, names and values are errors that name the file, the key and what is near.

A grid has axes (upstreams, scenarios, systems by scope, folds, shots), and its cells are all their combinations.
``parts`` joins several such blocks; what stands beside ``parts`` holds for each of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from s3prl_metaperser.config.options import merged
from s3prl_metaperser.config.yaml_files import read_yaml
from s3prl_metaperser.corpora import CORPORA
from s3prl_metaperser.errors import UserError, did_you_mean, shown, unknown_name
from s3prl_metaperser.methods import systems
from s3prl_metaperser.s3prl_stack.hub import check_upstream
from s3prl_metaperser.s3prl_stack.weights_files import check_files

SCOPES = ("frozen", "finetuned")
SCENARIOS = ("seen", "unseen")
PROTOCOLS = ("paper", "tuned")
FOLDS = 5
#: s3prl's default seed.
SEED = 1337


@dataclass(frozen=True)
class Upstream:
    """An upstream and how it is used: the launcher's ``-u``, ``-k``, ``-g``, ``-s``, ``-l`` and
    ``--upstream_feature_normalize``."""

    name: str
    ckpt: str | None = None
    model_config: str | None = None
    selection: str = "hidden_states"
    layer: int | None = None
    normalize: bool = False

    @property
    def label(self) -> str:
        """Names it in folders and in ``--only``."""
        parts = [self.name]
        if self.ckpt:
            parts.append(Path(self.ckpt).stem)
        if self.model_config:
            parts.append(Path(self.model_config).stem)
        if self.selection != "hidden_states":
            parts.append(self.selection)
        if self.layer is not None:
            parts.append(f"layer{self.layer}")
        if self.normalize:
            parts.append("normalized")
        return "-".join(parts)


@dataclass(frozen=True)
class Part:
    """One block of a grid: the cells are all combinations of its axes.

    Attributes:
        systems: scope -> systems.
        folds: ``fold1``, ...
        shots: K in meta-testing.
        seed: of training, the launcher's ``--seed``.
        options: changes to the scope's configuration file, nested as in it.
    """

    corpus: str
    root: str | None
    upstreams: tuple[Upstream, ...]
    systems: Mapping[str, tuple[str, ...]]
    scenarios: tuple[str, ...]
    folds: tuple[str, ...]
    shots: tuple[int, ...]
    protocol: str
    seed: int
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Grid:
    """A grid as read.

    Attributes:
        description: what it is, for people.
        results: where results go unless the command line says otherwise.
    """

    path: Path
    description: str
    results: str
    parts: tuple[Part, ...]


_PART_KEYS = tuple(field.name for field in fields(Part))
_GRID_KEYS = ("description", "results", "parts", *_PART_KEYS)
_REQUIRED = ("corpus", "upstreams", "systems")
#: Options that are axes of the grid, and the key that sets them.
AXES = {
    "downstream_expert.datarc.corpus": "corpus",
    "downstream_expert.datarc.root": "root",
    "downstream_expert.datarc.scenario": "scenarios",
    "downstream_expert.datarc.fold": "folds",
    "downstream_expert.evalrc.shots": "shots",
    "downstream_expert.evalrc.protocol": "protocol",
}


def read_grid(path: str | Path) -> Grid:
    """Read a grid.

    Raises:
        UserError: not YAML, a key twice, an unknown key, name or value, or one that is missing.
    """
    path = Path(path)
    content = _mapping(read_yaml(path), str(path))
    _known(content, _GRID_KEYS, str(path))
    parts = content.get("parts", [{}])
    if not isinstance(parts, list) or not parts:
        raise UserError(f"Bad value {shown(parts)} for parts in {path}, expected a list of mappings.")
    common = {key: value for key, value in content.items() if key in _PART_KEYS}
    several = "parts" in content
    return Grid(
        path=path,
        description=" ".join(_text(content.get("description", ""), f"description in {path}").split()),
        results=_filled(content.get("results", f"result/{path.stem}"), f"results in {path}"),
        parts=tuple(
            _part(common, part, f"{path}, part {number}" if several else str(path))
            for number, part in enumerate(parts, start=1)
        ),
    )


def check_axes(options: Mapping[str, Any], where: str) -> None:
    """Refuse options that are axes of the grid.

    Raises:
        UserError: naming the key that sets the axis.
    """
    for name, key in AXES.items():
        value: Any = options
        for step in name.split("."):
            value = value.get(step, _NOTHING) if isinstance(value, Mapping) else _NOTHING
        if value is not _NOTHING:
            raise UserError(f"{where}: {name} is an axis of the grid. Set it with the grid's key {key!r}.")


_NOTHING = object()


def _part(common: Mapping[str, Any], own: Any, where: str) -> Part:
    own = _mapping(own, where)
    _known(own, _PART_KEYS, where)
    options = merged(_options(common, where), _options(own, where))
    content = {**common, **own, "options": options}
    for key in _REQUIRED:
        if key not in content:
            raise UserError(f"{where}: the key {key!r} is missing.")
    check_axes(options, f"{where}, options")
    chosen_systems = _systems(content["systems"], where)
    return Part(
        corpus=_one_of("corpus", content["corpus"], CORPORA.names(), where),
        root=None if content.get("root") is None else _filled(content["root"], f"root in {where}"),
        upstreams=tuple(_upstream(item, where) for item in _list(content["upstreams"], "upstreams", where)),
        systems=chosen_systems,
        scenarios=_names("scenarios", content.get("scenarios", list(SCENARIOS)), SCENARIOS, where),
        folds=_folds(content.get("folds"), options, where),
        shots=tuple(_shots(item, where) for item in _list(content.get("shots", [32]), "shots", where)),
        protocol=_one_of("protocol", content.get("protocol", "paper"), PROTOCOLS, where),
        seed=_whole(content.get("seed", SEED), "seed", where),
        options=options,
    )


def _options(content: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    options = content.get("options")
    return {} if options is None else _mapping(options, f"options in {where}")


def _systems(value: Any, where: str) -> dict[str, tuple[str, ...]]:
    by_scope = _mapping(value, f"systems in {where}")
    for scope in by_scope:
        _one_of("scope", scope, SCOPES, where)
    if not by_scope:
        raise UserError(f"{where}: systems names none. Expected e.g. systems: {{frozen: [Meta-PerSER]}}.")
    found = {}
    for scope, names in by_scope.items():
        known = systems(scope == "finetuned").names()
        found[scope] = _names(f"systems.{scope}", names, known, where)
    return found


def _upstream(value: Any, where: str) -> Upstream:
    content = {"name": value} if isinstance(value, str) else _mapping(value, f"upstreams in {where}")
    _known(content, tuple(field.name for field in fields(Upstream)), f"upstreams in {where}")
    if "name" not in content:
        raise UserError(f"{where}: an entry of upstreams has no name: {shown(dict(content))}.")
    texts = {
        key: _filled(content[key], f"upstreams.{key} in {where}")
        for key in ("name", "ckpt", "model_config", "selection")
        if content.get(key) is not None
    }
    layer = content.get("layer")
    if layer is not None and (isinstance(layer, bool) or not isinstance(layer, int)):
        raise UserError(f"Bad value {shown(layer)} for upstreams.layer in {where}, expected a whole number.")
    normalize = content.get("normalize", False)
    if not isinstance(normalize, bool):
        raise UserError(f"Bad value {shown(normalize)} for upstreams.normalize in {where}, expected true or false.")
    try:
        check_upstream(texts["name"])
        check_files(texts["name"], texts.get("ckpt"), texts.get("model_config"))
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    return Upstream(**texts, layer=layer, normalize=normalize)


def _folds(value: Any, options: Mapping[str, Any], where: str) -> tuple[str, ...]:
    raters = options.get("downstream_expert", {})
    raters = raters.get("datarc", {}) if isinstance(raters, Mapping) else {}
    raters = raters.get("test_raters") if isinstance(raters, Mapping) else None
    count = len(raters) if isinstance(raters, list) and raters else FOLDS
    known = [f"fold{number}" for number in range(1, count + 1)]
    return tuple(known) if value is None else _names("folds", value, known, where)


def _shots(value: Any, where: str) -> int:
    shots = _whole(value, "shots", where)
    if shots < 1:
        raise UserError(f"Bad value {shown(value)} for shots in {where}, expected a whole number of at least 1.")
    return shots


def _whole(value: Any, key: str, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise UserError(f"Bad value {shown(value)} for {key} in {where}, expected a whole number.")
    return value


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise UserError(f"Bad value {shown(value)} for {what}, expected text.")
    return value


def _filled(value: Any, what: str) -> str:
    if not _text(value, what).strip():
        raise UserError(f"Bad value {shown(value)} for {what}, expected text that is not empty.")
    return value


def _names(key: str, value: Any, known: Any, where: str) -> tuple[str, ...]:
    return tuple(_one_of(key, item, known, where) for item in _list(value, key, where))


def _one_of(key: str, value: Any, known: Any, where: str) -> str:
    if value in list(known):
        return value
    error = unknown_name(key, value if isinstance(value, str) else shown(value), known)
    raise UserError(f"{where}: {error}")


def _list(value: Any, key: str, where: str) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise UserError(f"Bad value {shown(value)} for {key} in {where}, expected a list such as [{_EXAMPLES[key]}].")
    for index, item in enumerate(value):
        if item in value[:index]:
            raise UserError(f"{where}: {key} names {shown(item)} twice.")
    return value


_EXAMPLES = {
    "upstreams": "wavlm_base",
    "scenarios": "seen, unseen",
    "folds": "fold1, fold2",
    "shots": "32",
    "systems.frozen": "Linear-Few, Meta-PerSER",
    "systems.finetuned": "Entire-Few, Meta-PerSER",
}


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise UserError(f"{where}: expected a mapping (key: value), got {shown(value)}.")
    return value


def _known(content: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    for key in content:
        if key not in known:
            hint = did_you_mean(str(key), known)
            raise UserError(f"{where}: unknown key {shown(key)}.{hint} Known keys: {', '.join(known)}.")


def slug(text: str) -> str:
    """``text`` as a part of a path: letters, digits, dot, underscore and hyphen."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-.") or "_"
