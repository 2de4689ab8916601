"""The paper's rule for several ticks, ``> 1 / C`` (Meta-PerSER, section 3.3); other kinds go by their label set."""

from __future__ import annotations

import numpy as np

from s3prl_metaperser.corpora.label_set import THRESHOLD_MARGIN


def binarise(distribution: np.ndarray) -> np.ndarray:
    """Multi-hot labels, bool [..., C]: ``> 1 / C``."""
    distribution = np.asarray(distribution, dtype=np.float64)
    return distribution > 1.0 / distribution.shape[-1] + THRESHOLD_MARGIN


def ticked(ticks: np.ndarray) -> np.ndarray:
    """Multi-hot labels of tick counts, bool [..., C]: their distribution's, ``> 1 / C``."""
    ticks = np.asarray(ticks, dtype=np.float64)
    return binarise(ticks / ticks.sum(-1, keepdims=True))
