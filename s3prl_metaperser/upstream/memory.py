"""Readable errors for running out of memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from s3prl_metaperser.errors import UserError, first_line

_SIGNS = ("out of memory", "can't allocate memory", "cannot allocate memory", "bad_alloc", "status_alloc_failed")


_LOWER = (
    "Lower tunerc.micro_batch_seconds first, then tunerc.longest_seconds or metarc.inner_steps; `metaperser plan` "
    "shows what fits. The last checkpoint is kept."
)
#: For steps whose memory does not depend on the micro-batch.
ADAPT_LESS = "Adapt fewer layers (tunerc.adapt: top:N); `metaperser plan` shows what fits. The last checkpoint is kept."


@contextlib.contextmanager
def explaining_memory(where: str, advice: str = _LOWER) -> Iterator[None]:
    """Turn an out-of-memory error into one that says where it happened and what to lower.

    Raises:
        UserError: memory ran out inside the block.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        text = str(error).lower()
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and not any(sign in text for sign in _SIGNS):
            raise
        raise UserError(f"{where} ran out of memory ({first_line(error)}). {advice}") from error
