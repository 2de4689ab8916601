"""How to adapt to a listener, chosen by cross-validation on the listener's own clips, and what to say of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from s3prl_metaperser.listener.labels import ListenerLabels
from s3prl_metaperser.listener.leave_out import Fit, leave_out
from s3prl_metaperser.listener.model import LoadedModel
from s3prl_metaperser.methods.choice import FEWEST, Choice, choose


@dataclass(frozen=True)
class Chosen:
    """What was chosen.

    Attributes:
        choice: the ways with their losses.
        fit: of the way that was chosen; of the model's own system where that is zero-shot.
    """

    choice: Choice
    fit: Fit

    @property
    def adapts(self) -> bool:
        """Whether another way than zero-shot was chosen."""
        return self.choice.chosen != next(iter(self.choice.trials))

    def table(self) -> str:
        """The ways, their losses, what was chosen and why, as text."""
        choice, wide = self.choice, max(map(len, self.choice.trials)) + 2
        beside = "minus zero-shot, standard error (negative log-likelihood; less is better)"
        lines = [f"{'way to adapt':<{wide}}{'loss':>7}   {beside}"]
        for place, (name, trial) in enumerate(choice.trials.items()):
            difference = f"   {trial.difference:+.3f}  {trial.error:.3f}" if place else ""
            lines.append(f"{name:<{wide}}{trial.loss:7.3f}{difference}{'  <- chosen' if name == choice.chosen else ''}")
        return "\n".join([*lines, self.reason()])

    def reason(self) -> str:
        """Why it was chosen, and what choosing can cost."""
        choice = self.choice
        if choice.samples < FEWEST:
            return (
                f"With fewer than {FEWEST} clips no way to adapt can be told from zero-shot, which is kept. --system "
                "names one all the same."
            )
        why = (
            f"{choice.chosen}: the lowest loss of the ways that are more than one standard error better than zero-shot."
            if self.adapts
            else "zero-shot: no way to adapt is more than one standard error better on clips that it had not seen."
        )
        risk = f"{choice.risk:.3f} of loss a clip on average, or twice that where a few clips stand out"
        return f"{why} Choosing costs at most about {risk}."


def choose_way(
    model: LoadedModel,
    items: Sequence[torch.Tensor],
    labels: ListenerLabels,
    folds: int | None = None,
    progress: bool = False,
) -> Chosen | None:
    """Choose among the model's ways to adapt; None where there is a single clip.

    Args:
        items: of K clips.
        folds: as in :func:`.leave_out`.
    """
    zero, *others = model.ways
    fits: dict[str, Fit] = {}
    for name in others:
        fit = leave_out(model, items, labels, folds, progress, model.way(name))
        if fit is None:
            return None
        fits[name] = fit
    losses = {zero: fits[others[-1]].losses_unadapted, **{name: fit.losses for name, fit in fits.items()}}
    choice = choose(losses)
    return Chosen(choice, fits.get(choice.chosen, fits[others[-1]]))
