"""A trained state as tensors under s3prl's names: packed for a checkpoint, hashed for a result, read back."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch

from s3prl_metaperser.errors import UserError
from s3prl_metaperser.methods.base import ModelState
from s3prl_metaperser.methods.learner import EntireLearner, HeadLearner


def pack_state(state: ModelState) -> dict[str, Any]:
    """A state under s3prl's entries: layer weights are the Featurizer's, projector and classifier the Downstream's.

    ``Adapted`` names what adapts, in the order of the inner rates.
    """
    packed: dict[str, Any] = {"Adapted": list(state.parameters())}
    if isinstance(state.learner, HeadLearner):
        tensors = _on_cpu(state.learner.head)
        weights = tensors.pop("weights")
        packed["Featurizer"] = {"weights": weights} if len(weights) > 1 else {}  # s3prl has none for a single layer
        packed["Downstream"] = tensors
    if isinstance(state.learner, EntireLearner):
        packed["Upstream"] = _on_cpu(state.learner.model.upstream)
    if state.rates is not None:
        packed["InnerRates"] = _on_cpu(state.rates)
    if state.priors:
        packed["OutputPriors"] = dict(state.priors)
    return packed


def _on_cpu(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().cpu() for name, value in module.state_dict().items()}


def state_hash(state: ModelState) -> str:
    """SHA-256 over a state's tensors, by name: identifies a result's parameters wherever their checkpoint is."""
    return packed_hash(pack_state(state))


def packed_hash(packed: dict[str, Any]) -> str:
    """The same of what :func:`pack_state` made, or of a checkpoint."""
    digest = hashlib.sha256()
    for section in ("Downstream", "Featurizer", "Generaliser", "InnerRates", "Upstream"):
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
        if isinstance(blank.learner, HeadLearner):
            weights = content["Featurizer"] or {"weights": torch.zeros(1)}
            blank.learner.head.load_state_dict({**weights, **content["Downstream"]})
        if isinstance(blank.learner, EntireLearner):
            blank.learner.model.upstream.load_state_dict(content["Upstream"])
        if blank.rates is not None:
            blank.rates.load_state_dict(content["InnerRates"])
    except (KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{source} does not fit this upstream, system or configuration: {reason}") from None
    return blank
