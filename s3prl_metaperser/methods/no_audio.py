"""No-Audio: what the training raters answered to the very clip, and nothing that is heard. A floor.

Where the training raters have rated the clips that a listener is tested on (the scenario ``seen``), a listener can be
predicted without any audio: by the training raters' answers to the clip, pooled and smoothed like consensus labels.
What a model adds to that it has heard. With the listener's own table on top it is
``No-Audio+confusion``, ``No-Audio+map`` and so on, as on any other system.

Clips are known by their features, to the bit. One that no training rater has rated gets the training raters' mean
answer, and is counted; a test in which none is known is refused. It cannot be exported: nobody has rated a listener's
own clips.
"""

from __future__ import annotations

import sys

import numpy as np
import torch

from s3prl_metaperser.errors import UserError
from s3prl_metaperser.methods.base import Inputs, ModelState, Predictor, System, TrainingTask
from s3prl_metaperser.methods.learner import Learner
from s3prl_metaperser.methods.task import pooled


class KnownClips(Learner):
    """Answers by the bytes of a clip's features; nothing of it is trained or stored.

    Attributes:
        answers: features as bytes -> label distribution, float32 [C].
        mean: over all of them.
    """

    def __init__(self, task: TrainingTask):
        rows, targets = task.consensus.rows, task.consensus.targets
        found: dict[bytes, list[np.ndarray]] = {}
        for key, target in zip(_keys(task.pooled[torch.from_numpy(rows).to(task.device)]), targets, strict=True):
            found.setdefault(key, []).append(target)
        self.answers = {key: np.mean(several, 0) for key, several in found.items()}
        self.mean = targets.mean(0) if len(targets) else np.zeros(len(task.classes), dtype=np.float32)
        self.told = 0


class NoAudio(System):
    """The training raters' pooled answers to the clip."""

    personalises = False

    def blank(self, task: TrainingTask) -> ModelState:
        return ModelState(KnownClips(task))

    def initialise(self, task: TrainingTask) -> ModelState:
        return self.blank(task)

    def unadapted(self, state: ModelState) -> Predictor:
        return {}

    def predict(self, state: ModelState, predictor: Predictor, query: Inputs) -> np.ndarray:
        clips = state.learner
        assert isinstance(clips, KnownClips)
        found = [clips.answers.get(key) for key in _keys(pooled(query))]
        unknown = sum(answer is None for answer in found)
        if found and unknown == len(found):
            raise UserError(
                f"{self.name} predicts from what the training raters answered to the very clip, and none of them rated "
                f"any of these {len(found)}. Test it where they did: in the scenario seen."
            )
        if unknown > clips.told:
            clips.told = unknown
            print(
                f"[MetaPerSER] {self.name}: no training rater rated {unknown} of {len(found)} clips of an episode; "
                "their mean answer stands for these",
                file=sys.stderr,
            )
        return np.stack([clips.mean if answer is None else answer for answer in found]).astype(np.float32)


def _keys(features: torch.Tensor) -> list[bytes]:
    """Each clip's features [L, D] as bytes."""
    return [row.tobytes() for row in features.detach().cpu().float().numpy()]
