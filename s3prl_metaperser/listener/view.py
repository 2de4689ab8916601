"""What is known of a listening session at one moment, for the page."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from s3prl_metaperser.corpora.label_set import Answer
from s3prl_metaperser.listener.curve import Point
from s3prl_metaperser.listener.leave_out import Fit
from s3prl_metaperser.listener.model import said_of_unlike

#: What the worker is doing while it adapts.
ADAPTING, READING, SAVING = "adapting", "reading", "saving"


class Saved(NamedTuple):
    """A listener that was to be saved as the folder ``path``; ``problem`` is why it was not."""

    path: Path
    problem: str = ""


@dataclass(frozen=True)
class View:
    """What is known at one moment. It never changes: the session puts another one in its place.

    Attributes:
        answers: clip -> its label, in the order in which clips were labelled.
        average: clip -> probabilities [C] of the model that is not adapted: the average listener's.
        adapted: clip -> probabilities [C] of the model adapted to all labelled clips; empty before that.
        left_out: labelled clip -> probabilities [C] of the model adapted without it; empty where that was not done.
        foretold: labelled clip -> what the model, as adapted then, predicted before the clip had a label.
        used: clips in the last adaptation.
        fit: the last adaptation's.
        pending: labels since then.
        busy: what the worker is doing; empty where nothing.
        unreadable: clip -> why.
        problem: why the last adaptation failed; empty where it did not.
        skipped: clips that were skipped, and have no label.
        again: clip that came again -> the second answer.
        curve: how far adaptation was after each few labels.
        saved: the last attempt to save the listener.
        unlike: clips that are unlike the speech that the model was trained on.
    """

    answers: dict[int, Answer]
    average: dict[int, np.ndarray] = field(default_factory=dict)
    adapted: dict[int, np.ndarray] = field(default_factory=dict)
    left_out: dict[int, np.ndarray] = field(default_factory=dict)
    foretold: dict[int, np.ndarray] = field(default_factory=dict)
    used: int = 0
    fit: Fit | None = None
    pending: int = 0
    busy: str = ""
    unreadable: dict[int, str] = field(default_factory=dict)
    problem: str = ""
    skipped: frozenset[int] = frozenset()
    again: dict[int, Answer] = field(default_factory=dict)
    curve: tuple[Point, ...] = ()
    saved: Saved | None = None
    unlike: frozenset[int] = frozenset()

    def said_of_unlike(self) -> list[str]:
        """What to say of them, see :func:`.model.said_of_unlike`."""
        return said_of_unlike(len(self.unlike), len(self.average))
