"""SHA-256 of files, which identifies audio, checkpoints and models."""

from __future__ import annotations

import hashlib
from pathlib import Path


def file_hash(path: Path) -> str:
    """SHA-256 of a file's content, as 64 hexadecimal digits.

    Raises:
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def text_hash(text: str) -> str:
    """:func:`file_hash` of a file that holds ``text`` as UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()
