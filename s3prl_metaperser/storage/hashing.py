"""SHA-256 of files and of what they hold, which identifies audio, checkpoints and models."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


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


def tensor_hash(tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over names, types, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        _add_tensor(digest, name, tensors[name])
    return digest.hexdigest()


def content_hash(content: Any) -> str:
    """SHA-256 over a checkpoint's content: dictionaries, lists, namespaces and tensors in them, numbers and text."""
    digest = hashlib.sha256()
    _add(digest, "", content)
    return digest.hexdigest()


def _add(digest: Any, name: str, value: Any) -> None:
    if isinstance(value, argparse.Namespace):
        value = vars(value)
    if hasattr(value, "detach"):
        _add_tensor(digest, name, value)
    elif isinstance(value, Mapping):
        digest.update(f"{name} {{{len(value)}\n".encode())
        for key in sorted(value, key=repr):
            _add(digest, repr(key), value[key])
    elif isinstance(value, list | tuple):
        digest.update(f"{name} [{len(value)}\n".encode())
        for part in value:
            _add(digest, "", part)
    else:
        digest.update(f"{name} {value!r}\n".encode())


def _add_tensor(digest: Any, name: str, value: torch.Tensor) -> None:
    import torch

    plain = value.detach().cpu().contiguous()
    digest.update(f"{name} {plain.dtype} {tuple(plain.shape)}\n".encode())
    digest.update(plain.reshape(-1).view(torch.uint8).numpy())
