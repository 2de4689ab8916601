"""Checkpoints with s3prl's names and keys, written whole or not at all, read without running code.

A checkpoint holds a checksum over its content, so that an edited tensor is noticed; what version 0.1.0 and s3prl wrote
holds none, and is read with a line that says so.
"""

from __future__ import annotations

import argparse
import functools
import sys
import zipfile
from pathlib import Path
from typing import Any

import torch

from s3prl_metaperser import __version__
from s3prl_metaperser.errors import UserError, first_line
from s3prl_metaperser.storage.atomic import replacing
from s3prl_metaperser.storage.hashing import content_hash

#: Raised whenever an older version could misread a checkpoint. The first ones lack it and are read as 1.
FORMAT = 1
#: The entry that holds :func:`.hashing.content_hash` of the others.
CHECKSUM = "Checksum"


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """``torch.save``, whole or not at all."""
    content = {"Format": FORMAT, "Version": __version__, **content}  # what is written again keeps its version
    with replacing(path) as partial, open(partial, "wb") as file:
        torch.save({**content, CHECKSUM: content_hash(content)}, file)


def load_checked(path: Path) -> Any:
    """A checkpoint's content, if its checksum is right; one without any is read, and that is said once.

    Raises:
        ValueError: bytes or content were changed. torch and pickle raise nearly anything else where bytes are damaged.
    """
    torch.serialization.add_safe_globals([argparse.Namespace])  # s3prl's Args; a context would take it back
    check_bytes(path)
    content = torch.load(path, map_location="cpu", weights_only=True)
    stored = content.pop(CHECKSUM, None) if isinstance(content, dict) else None
    if stored is None:
        say_unchecked(path)
    elif stored != content_hash(content):
        raise ValueError("its checksum is not that of its content: it was edited, or the disk has damaged it")
    return content


@functools.cache
def say_unchecked(path: Path) -> None:
    """Say once that a file cannot be checked."""
    print(f"[MetaPerSER] {path} has no checksum, as version 0.1.0 wrote none: it is read unchecked", file=sys.stderr)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint with ``weights_only``: nothing in it is executed.

    Raises:
        UserError: the file is missing, damaged, edited, or holds more than tensors, numbers and text.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"Checkpoint {path} does not exist.")
    try:
        content = load_checked(path)
    except Exception as error:  # damaged bytes make torch and pickle raise nearly anything
        raise UserError(
            f"{path} is not a checkpoint that can be read safely ({first_line(error)}). Use another one of its folder, "
            "or train again."
        ) from None
    whole = isinstance(content, dict) and isinstance(content.get("Args"), argparse.Namespace)
    if not whole or not isinstance(content.get("Config"), dict):
        raise UserError(f"{path} is not an s3prl checkpoint: it has no Args and Config.")
    if content.get("Format", FORMAT) != FORMAT:
        raise UserError(
            f"{path} has checkpoint format {content['Format']!r}, this version reads {FORMAT}. Use the version of "
            "s3prl_metaperser that wrote it, or train again."
        )
    return content


def check_bytes(path: Path) -> None:
    """Raise a ValueError if a checkpoint's bytes are corrupted, which torch itself does not check."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as file:
            if (damaged := file.testzip()) is not None:
                raise ValueError(f"{damaged} in it is damaged")
