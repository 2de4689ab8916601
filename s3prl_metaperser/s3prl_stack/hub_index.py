"""What s3prl's hub offers, read from its source: no torch, no import of s3prl, a few hundredths of a second.

``s3prl/hub.py`` star-imports one ``hubconf.py`` per family of upstreams; importing it imports every family
(seconds, and transformers with it). Everything needed to check a name, to import only the family asked for
and to know which files define an upstream stands in those small files as plain function definitions, so they
are parsed instead.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s3prl_metaperser.config.yaml_files import read_yaml
from s3prl_metaperser.errors import UserError, did_you_mean, unknown_name
from s3prl_metaperser.storage import resources

# key of an upstream's YAML file -> (its types, what it is)
CONFIG_KEYS: dict[str, tuple[tuple[type, ...], str]] = {
    "hub_name": ((str,), "the name after -u"),
    "checkpoint": ((str, type(None)), "address of the checkpoint, or null"),
    "checkpoint_file": ((str, type(None)), "its file name in s3prl's download folder, or null"),
    "learned": ((bool,), "whether it has learned weights"),
    "dim": ((int,), "size of a feature vector"),
    "layers": ((int,), "number of hidden states that s3prl returns"),
    "rate": ((int,), "samples at 16 kHz a frame"),
    "notes": ((str,), "what to know before using it"),
    "memory_plan": (
        (dict, type(None)),
        "gigabytes of a device -> seconds of padded audio in a micro-batch with -f, and the basis; or null",
    ),
}


@dataclass(frozen=True)
class HubEntry:
    """One name of the hub.

    Attributes:
        name: the name after ``-u``.
        module: the hubconf module that its function is imported from ("s3prl.upstream.wavlm.hubconf").
        attribute: the function's name in that module.
        required: its positional parameters without a default.
    """

    name: str
    module: str
    attribute: str
    required: tuple[str, ...]

    @property
    def needs(self) -> str | None:
        """``"ckpt"``, ``"model_config"`` or None: what the user has to give for this upstream to exist."""
        if "model_config" in self.required and "ckpt" not in self.required:
            return "model_config"
        if self.name.endswith(("_local", "_url", "_custom")) or "ckpt" in self.required:
            return "ckpt"
        return None


def s3prl_folder() -> Path:
    """The folder of the installed s3prl, found without importing it.

    Raises:
        UserError: s3prl is not installed.
    """
    spec = importlib.util.find_spec("s3prl")
    if spec is None or not spec.submodule_search_locations:
        raise UserError('s3prl is not installed. Type: pip install "s3prl>=0.4.17,<0.5"')
    return Path(next(iter(spec.submodule_search_locations)))


def s3prl_version() -> str:
    """The version of the installed s3prl ("0.4.18")."""
    return (s3prl_folder() / "version.txt").read_text(encoding="utf-8").strip()


def download_folder() -> Path:
    """Where s3prl keeps what it downloads (``~/.cache/s3prl/download`` unless its ``set_dir`` was called)."""
    module = sys.modules.get("s3prl.util.download")
    return Path(module._download_dir) if module else Path.home() / ".cache" / "s3prl" / "download"


def download_name(url: str) -> str:
    """The file name that s3prl gives to the download of ``url``."""
    return f"{hashlib.sha256(url.encode()).hexdigest()}.{Path(url).name}"


@functools.cache
def hub_index() -> dict[str, HubEntry]:
    """Every upstream of ``s3prl.hub``, in the hub's order; a name defined twice is the last one's."""
    index: dict[str, HubEntry] = {}
    for node in _parse("s3prl.hub").body:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("s3prl."):
            offered = _offered(node.module)
            wanted = offered if node.names[0].name == "*" else {alias.name for alias in node.names}
            index.update({name: offered[name] for name in offered if name in wanted})
    return index


def upstream_names() -> list[str]:
    """Every name that ``-u`` takes, in the order of s3prl's hub."""
    return list(hub_index())


def check_upstream(name: str) -> None:
    """Raise a UserError with the nearest known name if s3prl's hub has no upstream ``name``."""
    if name not in hub_index():
        raise unknown_name("upstream", name, hub_index())


def load_upstream_config(name: str) -> dict[str, Any] | None:
    """What ``upstream_configs/NAME.yaml`` says, with the keys of ``CONFIG_KEYS``; None if there is no such
    file.

    Raises:
        UserError: an unknown or missing key, or a value of the wrong type; the message names file and key.
    """
    path = resources.folder("upstream_configs") / f"{name}.yaml"
    if not path.is_file():
        return None
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected keys and values, found {type(values).__name__}.")
    for key in values:
        if key not in CONFIG_KEYS:
            near = did_you_mean(key, CONFIG_KEYS)
            raise UserError(f"{path}: unknown key {key!r}.{near} Available: {', '.join(CONFIG_KEYS)}.")
    for key, (types, meaning) in CONFIG_KEYS.items():
        if key not in values:
            raise UserError(f"{path}: key {key!r} ({meaning}) is missing.")
        if type(values[key]) not in types:
            expected = " or ".join("null" if t is type(None) else t.__name__ for t in types)
            raise UserError(f"{path}: key {key!r} ({meaning}) is {values[key]!r}, expected {expected}.")
    check_upstream(values["hub_name"])
    return values


def checkpoint_urls(name: str) -> list[str]:
    """The addresses that upstream ``name`` downloads from, empty if it downloads nothing through s3prl.

    Where a function sets the same variable twice (s3prl: an old fairseq file, then the converted one that is
    used by default), the last one counts.
    """
    return [text for text in _constants(name) if text.startswith(("http://", "https://"))]


def bundled_configs(name: str) -> list[Path]:
    """The YAML files inside s3prl that define upstream ``name`` (``fbank.yaml`` of ``fbank``)."""
    folder = _source(hub_index()[name].module).parent
    return [folder / text for text in _constants(name) if text.endswith(".yaml") and (folder / text).is_file()]


def _source(module: str) -> Path:
    return s3prl_folder().joinpath(*module.split(".")[1:]).with_suffix(".py")


@functools.cache
def _parse(module: str) -> ast.Module:
    return ast.parse(_source(module).read_text(encoding="utf-8"))


def _offered(module: str) -> dict[str, HubEntry]:
    """The public functions of a hubconf, defined there or taken from another hubconf."""
    offered = {}
    for node in _parse(module).body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            positional = [*node.args.posonlyargs, *node.args.args]
            required = tuple(p.arg for p in positional[: len(positional) - len(node.args.defaults)])
            offered[node.name] = HubEntry(node.name, module, node.name, required)
        elif isinstance(node, ast.ImportFrom) and node.level and (node.module or "").endswith("hubconf"):
            other = ".".join(module.split(".")[: -node.level] + node.module.split("."))
            for alias in node.names:
                name = alias.asname or alias.name
                entry = _offered(other).get(alias.name)
                if entry and not name.startswith("_"):
                    offered[name] = HubEntry(name, module, name, entry.required)
    return offered


@functools.cache
def _constants(name: str) -> tuple[str, ...]:
    """The strings in the function behind ``name``; if it only hands over to others, the strings in those."""
    entry = hub_index()[name]
    functions = {n.name: n for n in _parse(entry.module).body if isinstance(n, ast.FunctionDef)}
    function = functions.get(entry.attribute)
    if function is None:
        return ()
    assigned: dict[str, str] = {}
    body = ast.Module(body=[n for n in function.body if not _is_docstring(n)], type_ignores=[])
    for node in ast.walk(body):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            assigned[ast.unparse(node.targets[0])] = str(node.value.value)
    strings = [n.value for n in ast.walk(body) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    overwritten = _assigned_strings(body) - set(assigned.values())
    found = tuple(dict.fromkeys(text for text in strings if text not in overwritten))
    if any(text.startswith("http") or text.endswith(".yaml") for text in found):
        return found
    called = [n.func.id for n in ast.walk(body) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
    for other in called:
        if other in functions and other != name and other in hub_index():
            found += _constants(other)
    return found


def _assigned_strings(body: ast.AST) -> set[str]:
    return {
        node.value.value
        for node in ast.walk(body)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    }


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
