"""Checkpoints with s3prl's names and keys, written whole or not at all, read without running code."""

from __future__ import annotations

import argparse
import zipfile
from pathlib import Path
from typing import Any

import torch

from s3prl_metaperser.errors import UserError
from s3prl_metaperser.storage.atomic import replacing

#: Raised whenever an older version could misread a checkpoint. The first ones lack it and are read as 1.
FORMAT = 1


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """``torch.save``, whole or not at all."""
    with replacing(path) as partial, open(partial, "wb") as file:
        torch.save({"Format": FORMAT, **content}, file)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint with ``weights_only``: nothing in it is executed.

    Raises:
        UserError: the file is missing, damaged, or holds more than tensors, numbers and text.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"Checkpoint {path} does not exist.")
    try:
        torch.serialization.add_safe_globals([argparse.Namespace])  # s3prl's Args; a context would take it back
        check_bytes(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes make torch and pickle raise nearly anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path} is not a checkpoint that can be read safely ({reason}).") from None
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
