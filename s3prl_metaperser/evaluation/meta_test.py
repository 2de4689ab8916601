"""Meta-testing: one loop for all systems (section 2.3.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

from s3prl_metaperser.errors import UserError
from s3prl_metaperser.methods.base import EpisodeData, ModelState, System


@dataclass(frozen=True)
class EpisodeResult:
    """One episode's predictions.

    Attributes:
        probabilities: float32 [Q, C].
        ticks: how often the rater ticked each class, int64 [Q, C].
        loss: class-balanced cross-entropy on the query utterances.
    """

    seed: int
    query: tuple[str, ...]
    probabilities: np.ndarray
    ticks: np.ndarray
    loss: float


def meta_test(
    system: System, state: ModelState, episodes: Sequence[EpisodeData], progress: str | None = None
) -> list[EpisodeResult]:
    """Adapt to each episode's support samples and predict its query samples.

    Args:
        progress: what the progress bar says; no bar without it.

    Raises:
        UserError: predictions that are not finite: adaptation diverged.
    """
    weights = system.class_weights.detach().cpu().double().numpy()
    results = []
    for episode in tqdm(episodes, desc=progress, disable=progress is None, unit="episode", dynamic_ncols=True):
        predictor = system.adapt(state, episode.support)
        probabilities = system.predict(predictor, episode.query)
        if not np.isfinite(probabilities).all():
            raise UserError(
                f"{system.name} diverges while it adapts to episode {episode.support.seed}: its predictions are NaN. "
                "Lower metarc.inner_lr (Meta-PerSER) or fewrc.lr (Linear-Few), or train with more steps."
            )
        labels = episode.query_labels
        results.append(
            EpisodeResult(
                seed=episode.support.seed,
                query=labels.utterances,
                probabilities=probabilities,
                ticks=labels.ticks,
                loss=_class_balanced_loss(probabilities, labels.targets, weights),
            )
        )
    return results


def validation_loss(system: System, state: ModelState, episodes: Sequence[EpisodeData]) -> float:
    """Mean class-balanced loss in meta-testing the validation rater; infinite where adaptation diverges."""
    with torch.no_grad():
        try:
            return float(np.mean([result.loss for result in meta_test(system, state, episodes)]))
        except UserError:
            return float("inf")


def _class_balanced_loss(probabilities: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> float:
    targets = targets.astype(np.float64)
    logs = np.log(np.maximum(probabilities.astype(np.float64), np.finfo(np.float32).tiny))
    return float((-(targets * logs).sum(-1) * (targets * weights).sum(-1)).mean())
