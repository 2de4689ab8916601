"""Macro-F1, micro-F1 and unweighted accuracy of multi-label predictions (Meta-PerSER, section 3.3)."""

from __future__ import annotations

import numpy as np

from s3prl_metaperser.errors import UserError
from s3prl_metaperser.protocol.labels import binarise

METRICS = ("macro_f1", "micro_f1", "unweighted_accuracy")


def multilabel_scores(probabilities: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """The three metrics of one episode's query utterances.

    Both arrays are binarised with ``> 1 / C``. F1 of a class that is neither predicted nor present counts as zero
    (``zero_division=0``); unweighted accuracy is the mean over classes of per-class binary accuracy, the definition
    under which the paper's Random row comes out.

    Args:
        probabilities: predictions, [Q, C].
        targets: label distributions or multi-hot labels, [Q, C].

    Returns:
        ``macro_f1``, ``micro_f1`` and ``unweighted_accuracy``, each in [0, 1].

    Raises:
        UserError: shapes that do not fit, no utterances, or values that are not finite.

    Examples:
        >>> multilabel_scores(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([[1, 0], [1, 0]]))
        {'macro_f1': 0.3333333333333333, 'micro_f1': 0.5, 'unweighted_accuracy': 0.5}
    """
    probabilities, targets = _checked(probabilities, "probabilities"), _checked(targets, "targets")
    if probabilities.shape != targets.shape:
        raise UserError(f"probabilities {probabilities.shape} and targets {targets.shape} differ in shape.")
    scores = scores_from_counts(*confusion_counts(binarise(probabilities), binarise(targets)))
    return {name: float(value) for name, value in scores.items()}


def confusion_counts(
    predicted: np.ndarray, present: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """True positives, false positives, false negatives and true negatives per class.

    Args:
        predicted: bool [Q, C].
        present: bool [Q, C].

    Returns:
        Four float64 arrays [C].
    """
    cells = predicted & present, predicted & ~present, ~predicted & present, ~predicted & ~present
    return tuple(cell.sum(axis=0).astype(np.float64) for cell in cells)


def scores_from_counts(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray, tn: np.ndarray) -> dict[str, np.ndarray]:
    """The metrics from per-class counts [..., C], which may be weighted; each result has shape [...]."""
    denominator = 2 * tp + fp + fn
    f1 = np.divide(2 * tp, denominator, out=np.zeros_like(denominator), where=denominator > 0)
    pooled = denominator.sum(-1)
    micro = np.divide(2 * tp.sum(-1), pooled, out=np.zeros_like(pooled), where=pooled > 0)
    return {
        "macro_f1": f1.mean(-1),
        "micro_f1": micro,
        "unweighted_accuracy": ((tp + tn) / (tp + fp + fn + tn)).mean(-1),
    }


def _checked(array: np.ndarray, name: str) -> np.ndarray:
    array = np.asarray(array, dtype=np.float64)
    if array.ndim != 2 or array.shape[0] == 0 or array.shape[1] < 2:
        raise UserError(f"{name} must have shape [Q, C] with Q >= 1 and C >= 2, got {array.shape}.")
    if not np.isfinite(array).all():
        raise UserError(f"{name} holds {int((~np.isfinite(array)).sum())} value(s) that are NaN or infinite.")
    return array
