"""Checkpoints with s3prl's names and keys, written whole or not at all, read without running code."""

from __future__ import annotations

import argparse
import hashlib
import zipfile
from pathlib import Path
from typing import Any

import torch

from s3prl_metaperser.atomic import replacing
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.methods.base import ModelState

#: Raised whenever an older version could misread a checkpoint. The first ones do not say theirs; they read as 1.
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
    """Raise a ValueError where a checkpoint's bytes are not those that were written: torch itself does not look."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as file:
            if (damaged := file.testzip()) is not None:
                raise ValueError(f"{damaged} in it is damaged")


def pack_state(state: ModelState) -> dict[str, Any]:
    """A state under s3prl's entries: layer weights are the Featurizer's, projector and classifier the Downstream's.

    ``Adapted`` names what adapts, in the order of the inner rates.
    """
    packed: dict[str, Any] = {"Adapted": list(state.parameters())}
    if state.head is not None:
        tensors = {name: value.detach().cpu() for name, value in state.head.state_dict().items()}
        weights = tensors.pop("weights")
        packed["Featurizer"] = {"weights": weights} if len(weights) > 1 else {}  # s3prl has none for a single layer
        packed["Downstream"] = tensors
    if state.model is not None:
        packed["Upstream"] = {name: value.detach().cpu() for name, value in state.model.upstream.state_dict().items()}
    if state.rates is not None:
        packed["InnerRates"] = {"values": state.rates.values.detach().cpu()}
    return packed


def state_hash(state: ModelState) -> str:
    """SHA-256 over a state's tensors, by name: which parameters a result is of, wherever their checkpoint lies."""
    return packed_hash(pack_state(state))


def packed_hash(packed: dict[str, Any]) -> str:
    """The same of what :func:`pack_state` made, or of a checkpoint."""
    digest = hashlib.sha256()
    for section in ("Downstream", "Featurizer", "InnerRates", "Upstream"):
        for name, value in sorted(packed.get(section, {}).items()):
            digest.update(f"{section} {name} {value.dtype} {list(value.shape)}\n".encode())
            digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def unpack_state(content: dict[str, Any], blank: ModelState, source: str | Path) -> ModelState:
    """Fill ``blank`` from a checkpoint.

    Raises:
        UserError: the shapes or names differ from what the options make.
    """
    try:
        if blank.head is not None:
            weights = content["Featurizer"] or {"weights": torch.zeros(1)}
            blank.head.load_state_dict({**weights, **content["Downstream"]})
        if blank.model is not None:
            blank.model.upstream.load_state_dict(content["Upstream"])
        if blank.rates is not None:
            blank.rates.load_state_dict(content["InnerRates"])
    except (KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{source} does not fit this upstream, system or configuration: {reason}") from None
    return blank
