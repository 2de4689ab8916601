"""Controls: the same episodes without adaptation, or adapted to labels that are not the listener's."""

from __future__ import annotations

from collections.abc import Sequence

from s3prl_metaperser.corpora.label_set import LabelSet
from s3prl_metaperser.evaluation.decided import UNADAPTED
from s3prl_metaperser.evaluation.meta_testing import Diverged, EpisodeResult, meta_test, predict_unadapted
from s3prl_metaperser.evaluation.result_keys import Control
from s3prl_metaperser.evaluation.trajectory import point_of
from s3prl_metaperser.methods.base import EpisodeData, ModelState, System


def tested_control(
    name: str, system: System, state: ModelState, episodes: Sequence[EpisodeData], label_set: LabelSet
) -> Control:
    """Meta-test under a control.

    Args:
        episodes: with the control's labels as support; the query samples are the cell's own.
    """
    shots = 0 if name == UNADAPTED else len(episodes[0].support.targets)
    try:
        test = predict_unadapted if name == UNADAPTED else meta_test
        results = test(system, state, episodes)
    except Diverged as error:
        return Control(name, shots, diverged=str(error))
    return control_of(name, shots, results, label_set, system.options.downstream_expert.datarc.smoothing)


def control_of(
    name: str, shots: int, results: Sequence[EpisodeResult], label_set: LabelSet, smoothing: float
) -> Control:
    """What is stored of predictions under a control."""
    point = point_of(0, results, label_set, smoothing)
    return Control(name, shots, metrics=point.metrics, loss=point.loss, predicted=point.predicted)
