"""A private random generator for every draw, named by what it is for."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch


def seed_from(*names: object) -> int:
    """A 63-bit seed from names and numbers, the same on every machine and in every process."""
    text = "\x1f".join(str(name) for name in names)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def torch_generator(*names: object) -> torch.Generator:
    """A CPU generator that belongs to these names alone."""
    import torch

    return torch.Generator().manual_seed(seed_from(*names))


def numpy_generator(*names: object) -> np.random.Generator:
    """A NumPy generator that belongs to these names alone."""
    import numpy as np  # torch comes without it, and `meta` needs no more than torch

    return np.random.default_rng(seed_from(*names))
