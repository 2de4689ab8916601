"""Where things that can be made again are kept."""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path

from s3prl_metaperser.errors import UserError


def user_path(text: str | Path) -> Path:
    """A path as a user writes it, with ``~`` and ``~name`` written out.

    Raises:
        UserError: there is no such user.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError as error:  # ~nobody
        raise UserError(f"{text}: {error} Give the full path.") from None


def cache_root(cache_dir: str | None = None) -> Path:
    """``datarc.cache_dir``, else ``$METAPERSER_CACHE``, else ``~/.cache/s3prl_metaperser``."""
    chosen = cache_dir or os.environ.get("METAPERSER_CACHE") or Path.home() / ".cache" / "s3prl_metaperser"
    return user_path(chosen).resolve()


def steps_of(folder: Path) -> list[tuple[int, Path]]:
    """``states-<step>.ckpt`` of an experiment folder, by step."""
    found = []
    for path in folder.glob("states-*.ckpt"):
        step = path.stem.removeprefix("states-")
        if step.isdigit():
            found.append((int(step), path))
    return sorted(found)


def new_previous(folder: Path) -> Path:
    """A new folder ``previous-<time>`` in an experiment folder, for what a new start puts aside; no report reads it."""
    name = f"previous-{time.strftime('%Y-%m-%d-%H-%M-%S')}"
    for number in itertools.count(1):
        path = folder / (name if number == 1 else f"{name}-{number}")
        try:
            path.mkdir()
        except FileExistsError:
            continue
        return path
    raise AssertionError
