"""From a listener's labelled clips to a saved listener: for ``metaperser adapt`` and the listening page alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from s3prl_metaperser.listener.choosing import Chosen, choose_way
from s3prl_metaperser.listener.labels import ListenerLabels
from s3prl_metaperser.listener.leave_out import Fit, leave_out
from s3prl_metaperser.listener.recognizer import PersonalizedEmotionRecognizer


@dataclass(frozen=True)
class Enrolled:
    """An adapted listener, and what there is to say of it.

    Attributes:
        recognizer: adapted.
        way: how it adapts.
        fit: of the way that was taken; None for zero-shot, and where nothing was left out.
        chosen: how the way was chosen; None where it was given, or could not be.
        warnings: what speaks against relying on it: clips unlike those of the training, labels too few or too alike.
    """

    recognizer: PersonalizedEmotionRecognizer
    way: str
    fit: Fit | None
    chosen: Chosen | None
    warnings: tuple[str, ...]

    def save(self, path: Path, rater: str) -> Path:
        """Write the listener's folder; see :meth:`.PersonalizedEmotionRecognizer.save`."""
        choice = self.chosen.choice.as_json() if self.chosen else None
        fit = self.fit.as_json() if self.fit else None
        return self.recognizer.save(path, rater=rater, warnings=list(self.warnings), fit=fit, choice=choice)


def enrol(
    recognizer: PersonalizedEmotionRecognizer,
    items: Sequence[torch.Tensor],
    labels: ListenerLabels,
    *,
    system: str | None = None,
    folds: int | None = None,
    seed: int = 0,
    copies: int = 0,
    progress: bool = False,
) -> Enrolled:
    """Adapt to a listener.

    Args:
        recognizer: a model that is not adapted.
        items: of K clips.
        labels: the answer to each.
        system: the way to adapt; by default it is chosen by cross-validation on the clips.
        folds: as in :func:`.leave_out`.
        seed: for systems that draw.
        copies: how many clips have the content of an earlier one.
        progress: show bars.

    Raises:
        UserError: no such way, or adaptation diverges.
    """
    model, chosen = recognizer.model, None
    if system is None and folds != 0:
        chosen = choose_way(model, items, labels, folds, progress=progress)
        way = chosen.choice.chosen if chosen else next(iter(model.ways))
        fit = chosen.fit if chosen and chosen.adapts else None
    else:
        way = system or list(model.ways)[-1]
        fit = leave_out(model, items, labels, folds, progress=progress, system=model.way(way))
    adapted = recognizer.adapt_items(items, labels, seed=seed, system=way)
    assert adapted.listener is not None
    warned = [*adapted.listener["warnings"], *labels.warnings(model.card.adaptation.shots, copies)]
    return Enrolled(adapted, way, fit, chosen, (*warned, *(fit.warning() if fit and not chosen else [])))
