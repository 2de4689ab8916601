"""SHA-256 of files, by which audio, checkpoints and models are known."""

from __future__ import annotations

import hashlib
from pathlib import Path


def file_hash(path: Path) -> str:
    """SHA-256 of a file's content, as 64 hexadecimal digits.

    Raises:
        OSError: the file cannot be read.
    """
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def text_hash(text: str) -> str:
    """:func:`file_hash` of a file that holds ``text`` as UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()
