"""Files that exist whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from s3prl_metaperser.storage.disk import new_file, writing


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary path beside ``path``, which replaces it when the block succeeds and is removed when it does not.

    What a killed process left of the same file is removed first.

    Raises:
        CannotWrite: the disk is full, or the file may not be written; what was at ``path`` before is unchanged.
    """
    path = Path(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with new_file(path) as partial:
            mode = partial.stat().st_mode
            yield partial
            with open(partial, "rb") as file:
                os.fsync(file.fileno())
            os.chmod(partial, mode)  # safetensors makes a file of its own, which others cannot read
            os.replace(partial, path)


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` as UTF-8, whole or not at all."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write ``value`` as JSON; NaN and infinity are refused."""
    write_text(path, json.dumps(value, ensure_ascii=False, allow_nan=False, indent=1) + "\n")
