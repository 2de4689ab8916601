"""Batches of any usual shape, cut into micro-batches along their first axis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from s3prl_metaperser.errors import UserError


def samples(batch: Any) -> int:
    """How many samples a batch holds: the length that its tensors (and lists of samples) have in common.

    Args:
        batch: a tensor, or tuples and dictionaries of them, with the samples on the first axis; a list of tensors is a
            list of samples (of different lengths, such as waveforms).

    Raises:
        UserError: there is no tensor in it, or their lengths differ.

        >>> import torch
        >>> samples((torch.zeros(4, 3), {"labels": torch.zeros(4)}))
        4
    """
    found = set(_lengths(batch))
    if len(found) != 1:
        what = f"tensors of {sorted(found)} samples" if found else "no tensor with a first axis"
        raise UserError(f"A batch that is cut into micro-batches has {what}. Give every part of it the same length.")
    return found.pop()


def part(batch: Any, start: int, stop: int) -> Any:
    """Samples ``start`` to ``stop`` of ``batch``, in its own shape; what is no tensor is handed on as it is."""
    if isinstance(batch, Tensor):
        return batch[start:stop] if batch.dim() else batch
    if isinstance(batch, Mapping):
        return {key: part(value, start, stop) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(part(value, start, stop) for value in batch))
    if isinstance(batch, tuple):
        return tuple(part(value, start, stop) for value in batch)
    if isinstance(batch, list):
        tensors = all(isinstance(value, Tensor) for value in batch)
        return batch[start:stop] if tensors else [part(value, start, stop) for value in batch]
    return batch


def _lengths(batch: Any) -> list[int]:
    if isinstance(batch, Tensor):
        return [len(batch)] if batch.dim() else []
    if isinstance(batch, Mapping):
        return [length for value in batch.values() for length in _lengths(value)]
    if isinstance(batch, list) and batch and all(isinstance(value, Tensor) for value in batch):
        return [len(batch)]
    if isinstance(batch, list | tuple):
        return [length for value in batch for length in _lengths(value)]
    return []
