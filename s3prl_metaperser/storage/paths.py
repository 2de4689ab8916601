"""Paths: the cache, checkpoints by step, and what a restart moves aside."""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from pathlib import Path

from s3prl_metaperser.errors import UserError


def user_path(text: str | Path) -> Path:
    """A path as a user writes it, with ``~`` and ``~name`` written out.

    Raises:
        UserError: the user does not exist.
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
    paths = {path.stem.removeprefix("states-"): path for path in folder.glob("states-*.ckpt")}
    return sorted((int(step), path) for step, path in paths.items() if step.isdigit())


def new_previous(folder: Path) -> Path:
    """A new folder ``previous-<time>`` in an experiment folder, for what a restart moves aside; no report reads it."""
    name = f"previous-{time.strftime('%Y-%m-%d-%H-%M-%S')}"
    for number in itertools.count(1):
        path = folder / (name if number == 1 else f"{name}-{number}")
        with contextlib.suppress(FileExistsError):
            path.mkdir()
            return path
    raise AssertionError
