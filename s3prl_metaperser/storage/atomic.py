"""Files that are either there whole or not there at all."""

from __future__ import annotations

import contextlib
import glob
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from s3prl_metaperser.storage.disk import clear_leftovers, new_file, umask, writing


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary path beside ``path``, which takes its place when the block ends well and goes when it does not.

    What a process that was killed left of the same file is removed first.

    Raises:
        CannotWrite: the disk is full, or the file may not be written; what was at ``path`` before is still there.
    """
    path = Path(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        clear_leftovers(path.parent, f".{glob.escape(path.name)}.*.part")
        with new_file(path) as partial:
            yield partial
            with open(partial, "rb") as file:
                os.fsync(file.fileno())
            os.chmod(partial, 0o666 & ~umask())  # mkstemp's 0600 would keep a shared cache from the others
            os.replace(partial, path)


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` as UTF-8, whole or not at all."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write ``value`` as JSON; NaN and infinity are refused."""
    write_text(path, json.dumps(value, ensure_ascii=False, allow_nan=False, indent=1) + "\n")
