"""Safetensors with a checksum over what they hold: a bit that flipped, or rows that were exchanged, are noticed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from s3prl_metaperser.errors import UserError
from s3prl_metaperser.storage.atomic import replacing
from s3prl_metaperser.storage.hashing import tensor_hash, text_hash

_CHECKSUM = "checksum"


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], said: Mapping[str, str]) -> None:
    """Write tensors with ``said`` as their metadata, whole or not at all."""
    plain = {name: value.contiguous() for name, value in tensors.items()}
    with replacing(path) as partial:
        save_file(plain, partial, metadata={**said, _CHECKSUM: _checksum(plain, said)})


def read_said(path: Path, advice: str) -> tuple[dict[str, str], dict[str, tuple[int, ...]]]:
    """The metadata and the shapes of the tensors, which are not read and not checked.

    Raises:
        UserError: the file cannot be read; it ends with ``advice``.
    """
    try:
        with safe_open(path, framework="pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            return file.metadata() or {}, shapes
    except (SafetensorError, OSError) as error:
        raise UserError(f"Cannot read {path} ({error}). {advice}") from None


def read_tensors(path: Path, advice: str) -> dict[str, torch.Tensor]:
    """The tensors, as they were written.

    Raises:
        UserError: the file cannot be read, or tensors and metadata are not those that were written; it ends with
            ``advice``.
    """
    try:
        with safe_open(path, framework="pt") as file:
            said = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UserError(f"Cannot read {path} ({error}). {advice}") from None
    if said.pop(_CHECKSUM, None) != _checksum(tensors, said):
        raise UserError(
            f"{path} does not hold what was written: its values or labels were changed, or the disk has damaged them. "
            f"{advice}"
        )
    return tensors


def _checksum(tensors: Mapping[str, torch.Tensor], said: Mapping[str, str]) -> str:
    return text_hash(json.dumps(dict(said), sort_keys=True) + tensor_hash(tensors))
