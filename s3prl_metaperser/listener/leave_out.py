"""How well adaptation fits a listener, by cross-validation on the listener's own K clips.

The clips are cut into folds; each fold is predicted by the model adapted to the others, through the same adaptation
that makes the final listener. The figures are those of K clips, and of adaptation to fewer than K: with 32 clips they
are rough, and say so by their intervals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from s3prl_metaperser.corpora.label_set import LabelSet
from s3prl_metaperser.evaluation.metrics import episode_scores, main_metrics
from s3prl_metaperser.evaluation.statistics import Interval, Scored, paired_intervals
from s3prl_metaperser.listener.labels import ListenerLabels
from s3prl_metaperser.listener.model import LoadedModel
from s3prl_metaperser.methods.base import System
from s3prl_metaperser.methods.choice import FEWEST, parts_of_samples, sample_losses
from s3prl_metaperser.methods.outputs import PARTS
from s3prl_metaperser.progress import tqdm
from s3prl_metaperser.protocol.loss import class_balanced_loss


class FitRow(NamedTuple):
    """One figure of the fit, as text."""

    title: str
    unadapted: str
    adapted: str
    difference: str


@dataclass(frozen=True)
class Fit:
    """Adapted against not adapted, on the same clips, none of which the adapted model had seen.

    Attributes:
        clips: K.
        folds: in how many parts they were left out.
        label_set: the model's; it says which metrics there are.
        adapted: each metric that is defined for these answers, and the class-balanced loss.
        unadapted: the same of the model's initialisation.
        difference: adapted - unadapted with its 95 % interval over clips like these; of each metric.
        probabilities: of each clip by the model adapted without it, float32 [K, C].
        losses: the negative log-likelihood of each clip's label by the model adapted without it, [K].
        losses_unadapted: the same of the model's initialisation.
    """

    clips: int
    folds: int
    label_set: LabelSet
    adapted: dict[str, float]
    unadapted: dict[str, float]
    difference: dict[str, Interval]
    probabilities: np.ndarray
    losses: np.ndarray
    losses_unadapted: np.ndarray

    def as_json(self) -> dict[str, Any]:
        """For a card: the figures."""
        return {
            "clips": self.clips,
            "folds": self.folds,
            "adapted": self.adapted,
            "unadapted": self.unadapted,
            "difference": {name: span.as_json() for name, span in self.difference.items()},
        }

    def rows(self) -> list[FitRow]:
        """Each figure as people read it."""
        rows = []
        for metric in main_metrics(self.label_set):
            if span := self.difference.get(metric.name):
                before, after = (metric.shown(values[metric.name]) for values in (self.unadapted, self.adapted))
                low, mean, high = (metric.shown(getattr(span, part), "+") for part in ("low", "mean", "high"))
                interval = f"[{low}, {high}]" if self.clips >= FEWEST else "(too few clips for an interval)"
                rows.append(FitRow(metric.heading, before, after, f"{mean} {interval}{metric.less}"))
        loss, adapted = self.unadapted["loss"], self.adapted["loss"]
        return [*rows, FitRow("loss", f"{loss:.3f}", f"{adapted:.3f}", f"{adapted - loss:+.3f} (less is better)")]

    def table(self) -> str:
        """:meth:`rows` as text."""
        kind = "one at a time" if self.folds == self.clips else f"in {self.folds} folds"
        capped = [metric.title for metric in main_metrics(self.label_set) if metric.capped]
        note = f"; {' and '.join(capped)} counts classes that never occur as zero" if capped else ""
        rows = self.rows()
        wide = max(10, *(len(row.title) + 1 for row in rows))
        lines = [
            f"cross-validation on the {self.clips} clips ({kind}){note}",
            f"{'':<{wide}}{'not adapted':>12}{'adapted':>10}   difference, 95 % interval",
            *(f"{row.title:<{wide}}{row.unadapted:>12}{row.adapted:>10}   {row.difference}" for row in rows),
        ]
        return "\n".join(lines)

    def warning(self) -> list[str]:
        """What to say where adaptation does not pay on these clips; else nothing."""
        if self.adapted["loss"] <= self.unadapted["loss"]:
            return []
        return [
            "On clips that it had not seen, the adapted model fits this listener worse than the one that is not "
            f"adapted (loss {self.adapted['loss']:.3f} against {self.unadapted['loss']:.3f}): label more clips, or "
            "predict with the base model."
        ]


def default_folds(clips: int, finetuned: bool) -> int:
    """Eight; with a fine-tuned upstream, where adaptation takes long, four. 0 where nothing is left."""
    return min(clips, PARTS["finetuned" if finetuned else "frozen"]) if clips > 1 else 0


def leave_out(
    model: LoadedModel,
    items: Sequence[torch.Tensor],
    labels: ListenerLabels,
    folds: int | None = None,
    progress: bool = False,
    system: System | None = None,
) -> Fit | None:
    """Measure the fit; None where there is nothing to leave out.

    Args:
        model: not adapted.
        items: of K clips.
        labels: the answer to each.
        folds: from 2 to K; 0 for none; by default :func:`default_folds`.
        progress: show a bar.
        system: one of the model's ways to adapt; by default its own.
    """
    folds = default_folds(len(items), model.finetuned) if folds is None else min(folds, len(items))
    if folds < 2:
        return None
    parts = parts_of_samples(len(items), folds)
    targets, found = model.targets(labels), np.empty((len(items), len(model.classes)), dtype=np.float32)
    with tqdm(total=folds, desc="cross-validation", disable=not progress, unit="fold", dynamic_ncols=True) as bar:
        for size in sorted({len(part) for part in parts}):  # what is adapted at once has one K
            alike = [part for part in parts if len(part) == size]
            for group in [alike] if not model.finetuned else [[part] for part in alike]:
                kept = [np.setdiff1d(np.arange(len(items)), part) for part in group]
                adapted = model.adapt([([items[i] for i in rest], targets[rest]) for rest in kept], system=system)
                for part, predictor in zip(group, adapted, strict=True):
                    found[part] = model.predict(predictor, [items[i] for i in part], system)
                bar.update(len(group))
    before = model.predict(model.predictor, items)
    smoothing, names = model.card.adaptation.smoothing, [str(index) for index in range(len(items))]
    after, base = (Scored(names, p, labels.counts, model.label_set, smoothing) for p in (found, before))
    wanted = targets.cpu().numpy()
    return Fit(
        clips=len(items),
        folds=folds,
        label_set=model.label_set,
        adapted=_scores(model, after, wanted),
        unadapted=_scores(model, base, wanted),
        difference=paired_intervals({"": [after]}, {"": [base]}),
        probabilities=found,
        losses=sample_losses(found, wanted),
        losses_unadapted=sample_losses(before, wanted),
    )


def _scores(model: LoadedModel, scored: Scored, targets: np.ndarray) -> dict[str, float]:
    weights = model.system.class_weights.detach().cpu().double().numpy()
    scores = episode_scores(scored.probabilities, scored.counts, scored.label_set, scored.smoothing)
    return {**scores, "loss": class_balanced_loss(scored.probabilities, targets, weights)}
