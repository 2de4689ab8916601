"""Checkpoints with s3prl's names and keys, written whole or not at all, read without running code."""

from __future__ import annotations

import argparse
import pickle
from pathlib import Path
from typing import Any

import torch

from s3prl_metaperser.atomic import replacing
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.methods.base import ModelState


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """``torch.save``, whole or not at all."""
    with replacing(path) as partial:
        torch.save(content, partial)


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
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, AttributeError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path} is not a checkpoint that can be read safely ({reason}).") from None
    if not isinstance(content, dict) or "Args" not in content or "Config" not in content:
        raise UserError(f"{path} is not an s3prl checkpoint: it has no Args and Config.")
    return content


def pack_state(state: ModelState) -> dict[str, dict[str, torch.Tensor]]:
    """A state under s3prl's entries: layer weights are the Featurizer's, projector and classifier the Downstream's."""
    packed: dict[str, dict[str, torch.Tensor]] = {}
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
