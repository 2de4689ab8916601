"""Class-balanced cross-entropy on soft targets (Cui et al. 2019, as EMO-SUPERB applies it)."""

from __future__ import annotations

import numpy as np
import torch

from s3prl_metaperser.corpora.label_set import LabelSet


def class_balanced_weights(targets: np.ndarray, label_set: LabelSet) -> np.ndarray:
    """Weights per class from the effective number of training samples.

    ``w_c = (1 - b) / (1 - b ** n_c)`` with ``b = (N - 1) / N`` and ``n_c`` the number of the N samples whose target is
    decided as the class (``multi``: exceeds ``1 / C``); scaled to a mean of one. A class that no sample has counts as
    one sample. On a scale all weights are one: a number lies between two levels.

    Args:
        targets: smoothed label distributions of the training samples, [N, C].

    Returns:
        float64 [C].
    """
    samples, classes = targets.shape
    if label_set.kind == "ordinal":
        return np.ones(classes)
    counts = np.maximum(label_set.decide(targets).sum(axis=0), 1).astype(np.float64)
    beta = (samples - 1) / samples
    weights = (1.0 - beta) / (1.0 - beta**counts)
    return weights * classes / weights.sum()


def weighted_targets(targets: torch.Tensor, class_weights: torch.Tensor) -> torch.Tensor:
    """Each sample's target times the sample's weight ``sum_c w_c y_c``: [..., C] -> [..., C]."""
    return targets * (targets * class_weights).sum(-1, keepdim=True)


def unfilled(targets: torch.Tensor) -> torch.Tensor:
    """Label distributions [..., C] of a batch's targets, without their scale; zeros stay, where it was filled up."""
    return targets / targets.sum(-1, keepdim=True).clamp_min(torch.finfo(targets.dtype).tiny)


def weighted_batch(targets: torch.Tensor, class_weights: torch.Tensor) -> torch.Tensor:
    """:func:`weighted_targets` of a batch: the weight is of the unscaled target, and filling and scale stay."""
    return targets.sum(-1, keepdim=True) * weighted_targets(unfilled(targets), class_weights)


def soft_cross_entropy(logits: torch.Tensor, weighted: torch.Tensor) -> torch.Tensor:
    """``-sum_c T_c log softmax(logits)_c``, averaged over samples: [..., K, C] twice -> [...]."""
    return -(weighted * torch.log_softmax(logits, dim=-1)).sum(-1).mean(-1)


def class_balanced_loss(probabilities: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> float:
    """The training loss of predictions, float32 [Q, C], against smoothed targets [Q, C]; ``weights`` [C]."""
    targets = targets.astype(np.float64)
    logs = np.log(np.maximum(probabilities.astype(np.float64), np.finfo(np.float32).tiny))
    return float((-(targets * logs).sum(-1) * (targets * weights).sum(-1)).mean())
