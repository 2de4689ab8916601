"""Meta-testing: one loop for all systems (section 2.3.4)."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from s3prl_metaperser import parallel
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.meta.adjoint import NonFinite
from s3prl_metaperser.methods.base import EpisodeData, ModelState, Predictor, System
from s3prl_metaperser.progress import tqdm
from s3prl_metaperser.protocol.loss import class_balanced_loss


class Diverged(UserError):
    """Adaptation to an episode ends in NaN or infinity."""


@dataclass(frozen=True)
class EpisodeResult:
    """One episode's predictions.

    Attributes:
        probabilities: float32 [Q, C].
        ticks: how often the rater ticked each class (or the shares, or the levels beside a number), float64 [Q, C].
        loss: class-balanced cross-entropy on the query utterances.
        support_loss: the same on the support samples; None where it was not asked for.
        clusters: as :class:`.Scored` has them.
        seconds: of adapting to the support samples; the mean of those that are adapted together.
        numbers: that are kept of the listener, see :func:`numbers_kept`.
    """

    seed: int
    query: tuple[str, ...]
    probabilities: np.ndarray
    ticks: np.ndarray
    loss: float
    support_loss: float | None = None
    clusters: tuple[str, ...] | None = None
    seconds: float | None = None
    numbers: int | None = None


def meta_test(
    system: System,
    state: ModelState,
    episodes: Sequence[EpisodeData],
    progress: str | None = None,
    *,
    support_loss: bool = False,
) -> list[EpisodeResult]:
    """Adapt to each episode's support samples and predict its query samples; episodes are shared out over processes.

    Args:
        progress: what the progress bar says; no bar without it.
        support_loss: also the loss on the support samples after adaptation, at the price of predicting them.

    Raises:
        Diverged: predictions that are not finite, in every process alike.
    """
    mine, size = parallel.share(episodes), system.episodes_at_once
    quiet, problem = progress is None or not parallel.is_leader(), ""
    results: dict[int, EpisodeResult] = {}
    with tqdm(total=len(mine), desc=progress, disable=quiet, unit="episode", dynamic_ncols=True) as bar:
        for start in range(0, len(mine), size):
            part = mine[start : start + size]
            try:
                tested = _tested(system, state, [episode for _, episode in part], support_loss)
            except Diverged as error:  # raised below, where the other processes know of it, too
                problem = str(error)
                break
            results |= {index: result for (index, _), result in zip(part, tested, strict=True)}
            bar.update(len(part))
    whole: dict[int, EpisodeResult] = {}
    problems = []
    for found, text in parallel.gather((results, problem)):
        whole |= found
        problems += [text] if text else []
    if problems:
        raise Diverged(problems[0])
    return [whole[index] for index in range(len(episodes))]


def _tested(
    system: System, state: ModelState, episodes: Sequence[EpisodeData], support_loss: bool = False
) -> list[EpisodeResult]:
    begun = time.perf_counter()
    try:
        predictors = system.adapt_many(state, [episode.support for episode in episodes])
    except NonFinite as error:
        seeds = ", ".join(str(episode.support.seed) for episode in episodes)
        raise Diverged(f"{system.name} diverges while it adapts to episode {seeds}: {error}") from None
    seconds = (time.perf_counter() - begun) / len(episodes)
    kept = [numbers_kept(system, state, predictor) for predictor in predictors]
    scored = [_scored(system, state, *pair, support_loss) for pair in zip(predictors, episodes, strict=True)]
    return [dataclasses.replace(one, seconds=seconds, numbers=count) for one, count in zip(scored, kept, strict=True)]


def numbers_kept(system: System, state: ModelState, predictor: Predictor) -> int:
    """How many numbers tell a listener from nobody in particular: those of all tensors that adaptation has changed."""
    if not system.personalises:
        return 0
    own, before = state.parameters(), system.unadapted(state)
    total = 0
    for name, value in predictor.items():
        if name not in before or not torch.equal(value, before[name]):
            mine = own.get(name, value)  # a head may be multiplied out; of stacked ones a single one is taken
            total += (mine if mine.dim() == value.dim() else value).numel()
    return total


def _scored(
    system: System, state: ModelState, predictor: Predictor, episode: EpisodeData, support_loss: bool
) -> EpisodeResult:
    probabilities = system.predict(state, predictor, episode.query)
    if not np.isfinite(probabilities).all():
        raise Diverged(
            f"{system.name} diverges while it adapts to episode {episode.support.seed}: its predictions are NaN. "
            f"{system.if_it_diverges}"
        )
    labels, weights = episode.query_labels, system.class_weights.detach().cpu().double().numpy()
    on_support = None
    if support_loss:
        support = episode.support
        known = system.predict(state, predictor, support.features)
        on_support = class_balanced_loss(known, support.targets.cpu().numpy(), weights)
    return EpisodeResult(
        seed=episode.support.seed,
        query=labels.utterances,
        probabilities=probabilities,
        ticks=labels.counts,
        loss=class_balanced_loss(probabilities, labels.targets, weights),
        support_loss=on_support,
    )


def predict_unadapted(system: System, state: ModelState, episodes: Sequence[EpisodeData]) -> list[EpisodeResult]:
    """:func:`meta_test` of what predicts before any support sample is seen.

    Raises:
        Diverged: predictions that are not finite.
    """
    predictor = system.unadapted(state)
    found = {i: _scored(system, state, predictor, episode, False) for i, episode in parallel.share(episodes)}
    whole = {index: result for part in parallel.gather(found) for index, result in part.items()}
    return [whole[index] for index in range(len(episodes))]


def validation(
    system: System, state: ModelState, episodes: Sequence[EpisodeData], scored: Callable[[EpisodeResult], float]
) -> float:
    """Mean of a score of each episode in meta-testing the validation rater; infinite where adaptation diverges."""
    mine, total = [episode for _, episode in parallel.share(episodes)], 0.0
    with torch.no_grad():
        for start in range(0, len(mine), system.episodes_at_once):
            try:
                tested = _tested(system, state, mine[start : start + system.episodes_at_once])
                total += sum(map(scored, tested))
            except Diverged:
                total = float("inf")
    return parallel.sum_value(total) / len(episodes)
