"""Raters whom no table describes: what they hear of an emotion depends on who speaks, and how loudly.

The variant ``misspecified``. A rater who takes one speaker for friendlier than another, or loud speech for angry
speech, ticks the same intended emotion in another way from one utterance to the next. A model of one table a rater
(Dawid and Skene 1979), which generates the labels of the other variants, is then wrong by construction:

    P(c | turn) is proportional to scale_c * similarity(class c, heard),
    heard = what is heard of the intended emotion otherwise + what the speaker adds + loudness * what a step of it adds,

in arousal, valence and dominance.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from s3prl_metaperser.demo.draws import generator
from s3prl_metaperser.demo.script import CENTROIDS, SPEAKERS, SPREAD, Turn
from s3prl_metaperser.demo.voice import deliver

#: (what is heard, [..., C, 3]) -> similarity of each class to it, [..., C, C]: rows are intended emotions.
Similarity = Callable[[np.ndarray], np.ndarray]

#: Level of speech (dB re full scale) that is neither loud nor soft, and the step in which loudness is counted.
LEVEL, STEP = -25.0, 3.0
#: Spread over speakers of what is added to arousal, valence and dominance; and of what a step of loudness adds.
OF_SPEAKERS, OF_LOUDNESS = np.array([0.3, 1.1, 0.8]), np.array([0.5, 0.6, 0.4])
_QUADRATURE = 5


@dataclass(frozen=True)
class Hearing:
    """How one rater hears.

    Attributes:
        speakers: speaker -> what is added to arousal, valence and dominance, [3].
        loudness: what a step of loudness adds, [3].
        similarity: the rater's perception.
        scale: how readily each class is ticked, [C].
        base: what is heard of each emotion from a neutral speaker at the usual level, [C, 3].
    """

    speakers: dict[str, np.ndarray]
    loudness: np.ndarray
    similarity: Similarity
    scale: np.ndarray
    base: np.ndarray

    @classmethod
    def draw(cls, rater: str, similarity: Similarity, scale: np.ndarray, base: np.ndarray) -> Hearing:
        """That of a rater: the same person in every corpus, whatever its seed."""
        speakers = {s: OF_SPEAKERS * generator(0, "hears", rater, s).standard_normal(3) for s in SPEAKERS}
        loudness = OF_LOUDNESS * generator(0, "hears loudness", rater).standard_normal(3)
        return cls(speakers, loudness, similarity, scale, base)

    def table(self, speaker: str, loudness: float | np.ndarray) -> np.ndarray:
        """P(class | intended) of one speaker, [C, C]: at one loudness, or at one for each intended emotion, [C]."""
        heard = self.base + self.speakers[speaker] + np.multiply.outer(loudness, self.loudness)
        joint = self.similarity(heard) * self.scale
        return joint / joint.sum(axis=1, keepdims=True)

    def average(self) -> np.ndarray:
        """The table that describes the rater best, [C, C]: over speakers, and over each emotion's loudness."""
        nodes, weights = np.polynomial.hermite_e.hermegauss(_QUADRATURE)
        arousal, _, dominance = (CENTROIDS - 3.0).T  # as `deliver` has it; the rest of a level is chance
        usual, spread = (2.6 * arousal + 1.4 * dominance) / STEP, np.sqrt(2.0 + SPREAD**2 * (2.6**2 + 1.4**2)) / STEP
        found = [w * self.table(s, usual + spread * n) for s in SPEAKERS for n, w in zip(nodes, weights, strict=True)]
        return np.sum(found, axis=0) / (weights.sum() * len(SPEAKERS))


def loudness_of(turn: Turn, *, seed: int) -> float:
    """How loudly a turn is spoken, in steps above the usual level."""
    return (deliver(turn, "", seed=seed).level - LEVEL) / STEP
