"""What s3prl's hub and this project offer, read from the source: no torch, no import of s3prl, a few milliseconds.

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
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from s3prl_metaperser.config.validator import Positive, one_of, read
from s3prl_metaperser.errors import UserError, unknown_name
from s3prl_metaperser.storage import resources

#: This project's own upstreams, in the form of s3prl's.
OWN = "s3prl_metaperser.upstream.hubconf"
#: What every upstream of the hub takes, in Hz.
RATE = 16_000

HubName = Annotated[str, one_of(lambda: hub_index())]


@dataclass(frozen=True)
class UpstreamConfig:
    """An upstream's YAML file in ``upstream_configs/``.

    Attributes:
        hub_name: the name after ``-u``.
        checkpoint: address of the checkpoint, or null.
        checkpoint_file: its file name in s3prl's download folder, or null.
        learned: whether it has learned weights.
        dim: size of a feature vector.
        layers: number of hidden states that s3prl returns.
        rate: samples at 16 kHz per frame.
        notes: what to know before using it.
        memory_plan: gigabytes of a device -> seconds of padded audio in a micro-batch with ``-f``, or null.
        trained_on: corpus, by its registered name where it has one -> in which way (:mod:`.trained_on`).
    """

    hub_name: HubName
    checkpoint: str | None
    checkpoint_file: str | None
    learned: bool
    dim: Positive
    layers: Positive
    rate: Positive
    notes: str
    memory_plan: Mapping[int | str, float | str] | None
    trained_on: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class HubEntry:
    """One name of the hub.

    Attributes:
        name: the name after ``-u``.
        module: the hubconf module that its function is imported from ("s3prl.upstream.wavlm.hubconf").
        attribute: the function's name in that module.
        required: its positional parameters without a default.
        summary: what it is and takes, where it is this project's own.
    """

    name: str
    module: str
    attribute: str
    required: tuple[str, ...]
    summary: str = ""

    @property
    def own(self) -> bool:
        """Whether it is this project's and not s3prl's. Its ``-k`` is a file or a folder, which it checks itself."""
        return self.module == OWN

    @property
    def needs(self) -> str | None:
        """``"ckpt"``, ``"model_config"`` or None: the option that this upstream requires."""
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
        raise UserError('s3prl is not installed. Run: pip install "s3prl>=0.4.17,<0.5"')
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
    """Every upstream of ``s3prl.hub``, in the hub's order, then our own; a name defined twice is the last one's."""
    index: dict[str, HubEntry] = {}
    for node in _parse("s3prl.hub").body:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("s3prl."):
            offered = _offered(node.module)
            wanted = offered if node.names[0].name == "*" else {alias.name for alias in node.names}
            index.update({name: offered[name] for name in offered if name in wanted})
    return index | _offered(OWN)


def upstream_names() -> list[str]:
    """Every name that ``-u`` takes, in the order of s3prl's hub."""
    return list(hub_index())


def check_upstream(name: str) -> None:
    """Raise a UserError with the nearest known name if s3prl's hub has no upstream ``name``."""
    if name not in hub_index():
        raise unknown_name("upstream", name, hub_index(), "metaperser list upstreams")


def load_upstream_config(name: str) -> UpstreamConfig | None:
    """The content of ``upstream_configs/NAME.yaml``; None if it does not exist.

    Raises:
        UserError: an unknown or missing key, or a wrong value; the message names file, line and key.
    """
    path = resources.folder("upstream_configs") / f"{name}.yaml"
    return read(UpstreamConfig, path) if path.is_file() else None


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
    folder = Path(__file__).parents[1] if module == OWN else s3prl_folder()
    return folder.joinpath(*module.split(".")[1:]).with_suffix(".py")


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
            summary = (ast.get_docstring(node) or "") if module == OWN else ""
            offered[node.name] = HubEntry(node.name, module, node.name, required, summary)
        elif isinstance(node, ast.ImportFrom) and node.level and node.module and node.module.endswith("hubconf"):
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
    body = function.body[1:] if ast.get_docstring(function) else function.body
    nodes = [node for statement in body for node in ast.walk(statement)]
    strings = [n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    assigned = [
        (ast.unparse(n.targets[0]), n.value.value)
        for n in nodes
        if isinstance(n, ast.Assign) and isinstance(n.value, ast.Constant)
    ]
    overwritten = {value for _, value in assigned} - set(dict(assigned).values())
    found = tuple(dict.fromkeys(text for text in strings if text not in overwritten))
    if any(text.startswith("http") or text.endswith(".yaml") for text in found):
        return found
    called = [n.func.id for n in nodes if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
    for other in called:
        if other in functions and other != name and other in hub_index():
            found += _constants(other)
    return found
