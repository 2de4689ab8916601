"""One registry for everything that is chosen by name: corpora, label sets, systems, metrics, tasks.

>>> COLOURS: Registry[type] = Registry("colour", "a_package.colours")
>>> COLOURS.register("red", "fractions:Fraction", "warm", facts=3)
>>> COLOURS.names(), COLOURS.summary("red"), COLOURS.facts("red", int), COLOURS.get("red").__name__
(['red'], 'warm', 3, 'Fraction')
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from s3prl_metaperser.errors import UserError, shown, unknown_name

if TYPE_CHECKING:
    from importlib import metadata

_OWN = "s3prl-metaperser"
T = TypeVar("T")
F = TypeVar("F")


@dataclass(frozen=True)
class _Entry:
    target: str
    summary: str
    facts: Any
    package: str | None  # None: this one


class _Points(Protocol):  # Python 3.12 and newer have another class for it than 3.11
    def select(self, *, group: str) -> metadata.EntryPoints: ...


@functools.lru_cache(maxsize=1)
def _installed(path: tuple[str, ...]) -> _Points:
    """Entry points of all packages on ``path``, read once: it takes milliseconds, and there are many registries."""
    from importlib import metadata  # half of what --help would import

    return metadata.entry_points()


def entry_points(group: str) -> metadata.EntryPoints:
    """Entry points of one group."""
    return _installed(tuple(sys.path)).select(group=group)


class Registry(Generic[T]):
    """Names to objects of one type, imported when they are asked for.

    Args:
        kind: what is registered, in the singular ("corpus"), for messages.
        groups: entry-point groups from which other packages' additions are taken, e.g. ``s3prl_metaperser.corpora``.
        expected: what another package's object must be, for messages, and the check of its name and itself.
    """

    def __init__(self, kind: str, *groups: str, expected: tuple[str, Callable[[str, Any], bool]] | None = None):
        self.kind = kind
        self.groups = groups
        self.expected = expected
        self._entries: dict[str, _Entry] = {}
        self._plugins_read = False

    def register(self, name: str, target: str, summary: str = "", *, facts: Any = None) -> None:
        """Add ``name``, found at ``target`` ("package.module:attribute").

        Args:
            facts: what can be known about it without importing it; see :meth:`facts`.

        Raises:
            ValueError: the name is taken by another target.
        """
        self._add(name, _Entry(target, summary, facts, None), ValueError)

    def names(self) -> list[str]:
        """All registered names, in the order of registration; other packages' come last.

        Raises:
            UserError: another package uses a name that is taken.
        """
        if not self._plugins_read:
            for group in self.groups:
                for point in entry_points(group=group):
                    package = point.dist.name if point.dist else "another package"
                    self._add(point.name, _Entry(point.value, f"from {package}", None, package), UserError)
            self._plugins_read = True
        return list(self._entries)

    def knows(self, name: str) -> bool:
        """Whether :meth:`get` would look for an object behind ``name``."""
        try:
            self._entry(name)
        except UserError:
            return False
        return True

    def additions(self) -> dict[str, str]:
        """Name -> the package that adds it; nothing is imported.

        Raises:
            UserError: as :meth:`names`.
        """
        return {name: entry.package for name in self.names() if (entry := self._entries[name]).package is not None}

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def summary(self, name: str) -> str:
        """One line about ``name``, without importing it."""
        return self._entry(name).summary

    def module(self, name: str) -> str:
        """The module that ``name`` is in, without importing it."""
        return self._entry(name).target.partition(":")[0]

    def facts(self, name: str, kind: type[F]) -> F | None:
        """The facts of type ``kind`` that ``name`` was registered with, or that its object has as attribute ``facts``.

        None where there are none. Only what another package adds is imported for this.
        """
        entry = self._entry(name)
        found = entry.facts if entry.package is None else getattr(self.get(name), "facts", None)
        return found if isinstance(found, kind) else None

    def get(self, name: str) -> T:
        """The object behind ``name``.

        Raises:
            UserError: the name is unknown (the message gives the nearest known one and all of them), or another
                package's object cannot be imported or is not what it must be.
        """
        entry = self._entry(name)
        module, _, attribute = entry.target.partition(":")
        if entry.package is None:
            return getattr(importlib.import_module(module), attribute)
        advice = f"Fix or uninstall {entry.package}."
        try:
            found = getattr(importlib.import_module(module), attribute)
        except Exception as error:  # importing another package's module can raise anything
            raise UserError(
                f"The {self.kind} {name!r} cannot be loaded from {entry.target!r} ({error}). {advice}"
            ) from error
        if self.expected and not self.expected[1](name, found):
            raise UserError(
                f"The {self.kind} {name!r} ({entry.target}) is {shown(found)}, expected {self.expected[0]}. {advice}"
            )
        return found

    @contextlib.contextmanager
    def read_again(self) -> Iterator[None]:
        """Inside, entry points are read as by a new process; afterwards, what they added is forgotten. For tests."""
        before = self._entries, self._plugins_read
        own = {name: entry for name, entry in self._entries.items() if entry.package is None}
        self._entries, self._plugins_read = own, False
        _installed.cache_clear()
        try:
            yield
        finally:
            self._entries, self._plugins_read = before

    def _add(self, name: str, entry: _Entry, error: type[Exception]) -> None:
        known = self._entries.setdefault(name, entry)
        if known.target != entry.target:
            both = " and ".join(f"{each.target} (of {each.package or _OWN})" for each in (known, entry))
            advice = f"Uninstall {entry.package}, or rename it there." if entry.package else "Rename one of them."
            raise error(f"{self.kind} {name!r} is registered twice: {both}. {advice}")

    def _entry(self, name: str) -> _Entry:
        if name not in self.names():
            raise unknown_name(self.kind, name, self.names())
        return self._entries[name]
