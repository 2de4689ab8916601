"""Few-shot, listener-personalised speech emotion recognition (Meta-PerSER)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from s3prl_metaperser.config.options import flat
from s3prl_metaperser.config.validator import Positive
from s3prl_metaperser.protocol.splits import MOST_FOLDS, SCENARIOS
from s3prl_metaperser.tasks.axes import Axis

_EXPERT = "downstream_expert"


def _folds(options: Mapping[str, Any]) -> tuple[str, ...]:
    """A fold for each test rater; without ``test_raters`` as many as a corpus has at most."""
    raters = dict(flat(options)).get(f"{_EXPERT}.datarc.test_raters")
    count = len(raters) if isinstance(raters, list) and raters else MOST_FOLDS
    return tuple(f"fold{number}" for number in range(1, count + 1))


AXES = (
    Axis("scenario", "scenarios", f"{_EXPERT}.datarc.scenario", Literal["seen", "unseen"], lambda _: SCENARIOS, "data"),
    Axis("fold", "folds", f"{_EXPERT}.datarc.fold", str, _folds, "unit", closed=True),
    Axis("shots", "shots", f"{_EXPERT}.evalrc.shots", Positive, lambda _: (32,), "test", letter="K"),
)
