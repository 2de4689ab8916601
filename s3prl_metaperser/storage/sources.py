"""What ran: the package's own source as it was when this process began, versions, and the memory that it took."""

from __future__ import annotations

import ast
import functools
import hashlib
import resource
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from s3prl_metaperser import __version__

PACKAGE = Path(__file__).resolve().parents[1]
#: What numbers depend on, besides this package.
PACKAGES = ("s3prl", "torch", "torchaudio", "transformers", "huggingface_hub", "numpy", "scikit-learn", "safetensors")


@functools.cache
def sources() -> dict[str, bytes]:
    """Path inside the package -> content, of every Python file; read at the first call, which every run makes first."""
    return _on_disk()


def _on_disk() -> dict[str, bytes]:
    return {path.relative_to(PACKAGE).as_posix(): path.read_bytes() for path in sorted(PACKAGE.rglob("*.py"))}


@functools.cache
def code_hash() -> str:
    """SHA-256 over :func:`sources`."""
    digest = hashlib.sha256()
    for name, content in sources().items():
        digest.update(name.encode())
        digest.update(content)
    return digest.hexdigest()


def code_that_ran() -> str:
    """:func:`code_hash`, for what a run writes; files that were edited since it began are said."""
    now = _on_disk()
    edited = sorted(name for name in {**sources(), **now} if sources().get(name) != now.get(name))
    if edited:
        more = f" and {len(edited) - 3} more" if len(edited) > 3 else ""
        print(
            f"[MetaPerSER] WARNING: {', '.join(edited[:3])}{more} changed while this ran; the hash of the code is of "
            "what was there when it began",
            file=sys.stderr,
        )
    return code_hash()


def versions() -> dict[str, str]:
    """Versions of Python, this package and what numbers depend on."""
    found = {"python": sys.version.split()[0], "s3prl-metaperser": __version__}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def peak_memory() -> int:
    """Peak resident memory of this process, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@functools.cache
def code_of(starts: tuple[str, ...], within: tuple[str, ...]) -> str:
    """SHA-256 of the code that computes something; comments, docstrings and layout do not count.

    Args:
        starts: modules of the package that compute it, e.g. ``upstream.pooling``.
        within: rooms or modules; what the starts import from these, directly or not, counts as well.

    Examples:
        >>> code_of(("seeding",), ()) == code_of(("seeding",), ("meta",)) != code_of(("errors",), ())
        True
    """
    found: dict[str, bytes] = {}
    left = list(starts)
    while left:
        name = left.pop()
        path = _path(name)
        if path is None or name in found:
            continue
        tree = ast.parse(sources()[path])
        found[name] = _normalised(tree)
        left += [other for other in _imported(tree) if f"{other}.".startswith(tuple(f"{room}." for room in within))]
    digest = hashlib.sha256()
    for name in sorted(found):
        digest.update(f"{name}\n".encode() + found[name])
    return digest.hexdigest()


def _path(module: str) -> str | None:
    stem = module.replace(".", "/")
    return next((path for path in (f"{stem}.py", f"{stem}/__init__.py") if path in sources()), None)


def _imported(tree: ast.Module) -> Iterator[str]:
    """Modules of the package that a module imports, wherever in it, and names that may be modules."""
    package = f"{PACKAGE.name}."
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and f"{node.module}.".startswith(package):
            module = f"{node.module}.".removeprefix(package)
            yield module.removesuffix(".")
            yield from (f"{module}{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (a.name.removeprefix(package) for a in node.names if a.name.startswith(package))


def _normalised(tree: ast.Module) -> bytes:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and (
            ast.get_docstring(node, clean=False) is not None
        ):
            node.body = node.body[1:]
    return ast.dump(tree, annotate_fields=False).encode()
