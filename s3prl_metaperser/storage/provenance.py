"""Provenance: what an artifact was made from, and how a mismatch is reported.

Parts are plain data: section -> value, or section -> {name: value}. Hashes of audio and labels are kept per file and
per rater, so that a message can name which of them differ.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from s3prl_metaperser.errors import UserError, listed, shown

#: Sections in which names are many and values are hashes: they are counted, as so many of these.
_COUNTED = {"audio": "file", "labels": "rater"}


def digest(parts: Any) -> str:
    """SHA-256 of plain data."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs, a phrase each, e.g. ``smoothing 0.05 -> 0.1``; empty where nothing does."""
    found = []
    for section in [*now, *(name for name in then if name not in now)]:
        old, new = _plain(then.get(section)), _plain(now.get(section))
        if old == new:
            continue
        if section in _COUNTED and isinstance(old, Mapping) and isinstance(new, Mapping):
            found += _counted(section, old, new)
        elif isinstance(old, Mapping) and isinstance(new, Mapping):
            found += [f"{section}.{phrase}" for phrase in differences(old, new)]
        else:
            found.append(f"{section} {_short(old)} -> {_short(new)}")
    return found


def refuse(what: str, then: Mapping[str, Any], now: Mapping[str, Any], advice: str) -> UserError:
    """The error for something that was made from other parts."""
    differing = "; ".join(differences(then, now)) or "it does not say from what"
    return UserError(f"{what} was made from different inputs (stored -> current: {differing}). {advice}")


def _counted(section: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    changed = sorted(name for name in old.keys() & new.keys() if old[name] != new[name])
    gone, added = sorted(old.keys() - new.keys()), sorted(new.keys() - old.keys())
    phrases = []
    for names, verb in ((changed, "changed"), (gone, "missing"), (added, "new")):
        if names:
            noun = _COUNTED[section] + "s" * (len(names) > 1)
            phrases.append(f"{section} of {len(names)} {noun} {verb} ({listed(names)})")
    return phrases


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _short(value: Any) -> str:
    if isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef"):
        return value[:12]
    return "nothing" if value is None else shown(value, 60)
