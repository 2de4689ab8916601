"""A module that offers what ``s3prl.hub`` does, and imports only what it is asked for."""

from __future__ import annotations

import importlib
import types
from typing import Any

from s3prl_metaperser.s3prl_stack.hub_index import hub_index


class LazyHub(types.ModuleType):
    """``s3prl.hub`` with the same upstreams, each family imported when one of its names is asked for."""

    def __getattr__(self, name: str) -> Any:
        entry = None if name.startswith("_") else hub_index().get(name)
        if entry is None:
            raise AttributeError(f"module 's3prl.hub' has no attribute {name!r}")
        return getattr(importlib.import_module(entry.module), entry.attribute)

    def __dir__(self) -> list[str]:
        return sorted([*hub_index(), "options"])

    def options(self, only_registered_ckpt: bool = False) -> list[str]:
        """The upstream names; with ``only_registered_ckpt`` only those that need no file from the user."""
        local = ("_local", "_url", "_gdriveid", "_custom")
        return [name for name in hub_index() if not (only_registered_ckpt and name.endswith(local))]
