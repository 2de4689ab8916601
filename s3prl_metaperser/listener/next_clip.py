"""Which clip a listener should label next, so that the model learns most from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

#: Ridge of the linear model whose uncertainty is reduced, in units of the mean squared length of a clip's vector.
RIDGE = 0.1


def design_gain(
    vectors: np.ndarray, candidates: Sequence[int], labelled: Sequence[int], ridge: float = RIDGE
) -> np.ndarray:
    """How much a label of each candidate would reduce the variance of a linear model's predictions for all clips.

    Transductive experimental design (Yu, Bi and Tresp, ICML 2006), one clip at a time: it needs no labels, and prefers
    clips that stand for many others that are not yet explained by those with a label.

    Args:
        vectors: [N, D], one a clip.
        candidates, labelled: places in ``vectors``.
        ridge: relative to the mean squared length of a vector.

    Returns:
        The reduction for each candidate.

    Examples:
        Two near each other and one apart; the first has a label.

        >>> vectors = np.array([[1.0, 0.0], [0.99, 0.1], [0.0, 1.0]])
        >>> int(np.argmax(design_gain(vectors, [1, 2], [0])))
        1
    """
    kernel = vectors @ vectors.T
    noise = ridge * np.trace(kernel) / len(kernel)
    for each in labelled:
        column = kernel[:, each].copy()
        kernel -= np.outer(column, column) / (column[each] + noise)
    columns = kernel[:, list(candidates)]
    return (columns**2).sum(0) / (kernel[list(candidates), list(candidates)] + noise)


def most_informative(
    items: Mapping[int, torch.Tensor],
    average: Mapping[int, np.ndarray],
    candidates: Sequence[int],
    labelled: Sequence[int],
) -> int:
    """The candidate with the largest :func:`design_gain`, by the clips' features.

    Args:
        items: clip -> features [L, D]; or waveforms with a fine-tuned upstream, where predictions take their place.
        average: clip -> probabilities [C] of the model that is not adapted.
        candidates, labelled: clips that both know; at least one candidate.
    """
    clips = [clip for clip in items if clip in average]
    features = all(items[clip].ndim == 2 for clip in clips)
    rows = [items[clip].double().mean(0).cpu().numpy() if features else average[clip] for clip in clips]
    vectors = np.stack(rows)
    place = {clip: number for number, clip in enumerate(clips)}
    gains = design_gain(
        vectors - vectors.mean(0), [place[clip] for clip in candidates], [place[clip] for clip in labelled]
    )
    return candidates[int(np.argmax(gains))]
