"""One registry for everything that is chosen by name: corpora and systems."""

from __future__ import annotations

import importlib
from importlib.metadata import entry_points
from typing import Any

from s3prl_metaperser.errors import unknown_name


class Registry:
    """Names to objects, imported when they are asked for.

    Args:
        kind: what is registered, in the singular ("corpus"), for messages.
        group: entry-point group from which other packages' additions are taken, e.g. ``s3prl_metaperser.corpora``.
    """

    def __init__(self, kind: str, group: str):
        self.kind = kind
        self.group = group
        self._targets: dict[str, str] = {}
        self._summaries: dict[str, str] = {}
        self._plugins_read = False

    def register(self, name: str, target: str, summary: str = "") -> None:
        """Add ``name``, found at ``target`` ("package.module:attribute").

        Raises:
            ValueError: the name is taken by another target.
        """
        if self._targets.get(name, target) != target:
            raise ValueError(
                f"{self.kind} {name!r} is registered twice: {self._targets[name]} and {target}. Rename one of them."
            )
        self._targets[name] = target
        self._summaries[name] = summary

    def names(self) -> list[str]:
        """All registered names, in the order of registration."""
        if not self._plugins_read:
            for point in entry_points(group=self.group):
                self.register(point.name, point.value, f"from {point.dist.name}" if point.dist else "")
            self._plugins_read = True
        return list(self._targets)

    def summary(self, name: str) -> str:
        """One line about ``name``, without importing it."""
        self._check(name)
        return self._summaries[name]

    def get(self, name: str) -> Any:
        """The object behind ``name``.

        Raises:
            UserError: the name is unknown; the message gives the nearest known one and all of them.
        """
        self._check(name)
        module, _, attribute = self._targets[name].partition(":")
        return getattr(importlib.import_module(module), attribute)

    def _check(self, name: str) -> None:
        if name not in self.names():
            raise unknown_name(self.kind, name, self.names())
