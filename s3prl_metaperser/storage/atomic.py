"""Files that exist whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from s3prl_metaperser.storage.disk import new_file, writing


@contextlib.contextmanager
def replacing(path: str | Path, *, private: bool = False) -> Iterator[Path]:
    """A temporary path beside ``path``, which replaces it when the block succeeds and is removed when it does not.

    What a killed process left of the same file is removed first. Who may read what is replaced may read the new file.

    Args:
        private: a file that was not there is for its owner, and for those who may write in its folder.

    Raises:
        CannotWrite: the disk is full, or the file may not be written; what was at ``path`` before is unchanged.
    """
    path = Path(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with new_file(path) as partial:
            mode = _mode(path, partial, private)
            os.chmod(partial, mode)
            yield partial
            with open(partial, "rb") as file:
                os.fsync(file.fileno())
            os.chmod(partial, mode)  # safetensors makes a file of its own, which others cannot read
            os.replace(partial, path)


def write_text(path: str | Path, text: str, *, private: bool = False) -> None:
    """Write ``text`` as UTF-8, whole or not at all; see :func:`replacing`."""
    with replacing(path, private=private) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write ``value`` as JSON; NaN and infinity are refused."""
    write_text(path, json.dumps(value, ensure_ascii=False, allow_nan=False, indent=1) + "\n")


def _mode(path: Path, partial: Path, private: bool) -> int:
    with contextlib.suppress(OSError):
        return path.stat().st_mode & 0o777
    mode = partial.stat().st_mode & 0o777
    if private:
        folder = path.parent.stat().st_mode
        shared = 0 if folder & stat.S_ISVTX else folder & 0o022  # a sticky folder is everybody's, its files are not
        mode &= 0o700 | shared * 3  # who may write there may read and write
    return mode
