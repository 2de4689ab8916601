"""Private random generators: a draw depends on the seed and on what is drawn, never on the order."""

from __future__ import annotations

import hashlib

import numpy as np


def generator(seed: int, *names: str) -> np.random.Generator:
    """The generator of ``(seed, *names)``, e.g. ``generator(0, "ticks", "C-E1", utterance_id)``."""
    digest = hashlib.sha256("\x1f".join([str(seed), *names]).encode()).digest()
    return np.random.default_rng(np.frombuffer(digest, dtype="<u4"))
