"""The demo's crowd: hundreds of raters with few ratings each, whose perception is known.

A rater hears an utterance's arousal, valence and dominance in an own way and answers with one of six emotions:

    P(c | a, v, d) = (1 - lapse) softmax_c(bias_c - sharpness * sum_k w_k (centre_ck - heard_k)^2) + lapse * habit_c,

``heard`` being (a, v, d) with ``lean`` times the arousal above the middle of the scale added to the valence. Weights
``w`` and ``lean`` come from one of five types of perception and an individual part; ``bias`` (how readily a word is
used) and ``sharpness`` are individual; ``lapse`` is inattention, and a spammer answers by habit alone. Agreement of
``crowd`` is that of CREMA-D's voice ratings (Krippendorff's alpha of about 0.27).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from s3prl_metaperser.corpora.agreement import krippendorff_alpha
from s3prl_metaperser.corpora.iemocap import CLASSES as IEMOCAP
from s3prl_metaperser.corpora.label_set import LabelSet
from s3prl_metaperser.demo.draws import generator
from s3prl_metaperser.demo.script import CENTROIDS, Turn

CLASSES = ("angry", "disgust", "fear", "happy", "neutral", "sad")
LABEL_SET = LabelSet("demo-crowd", "single", CLASSES)
#: Ratings of an utterance, and about how many a rater gives (CREMA-D's plan).
PER_UTTERANCE, PER_RATER = 9, 40.5
FEWEST_RATERS = 20

_CENTRES = CENTROIDS[[IEMOCAP.index(name) for name in CLASSES]]
# Types of perception: weights of arousal, valence, dominance; lean of arousal on perceived valence.
_TYPES = (
    ((1.1, 1.1, 1.1), 0.0),
    ((0.2, 2.2, 0.4), -0.8),
    ((2.4, 0.8, 0.3), 0.7),
    ((0.3, 0.7, 2.2), 0.6),
    ((1.8, 0.2, 1.4), -0.6),
)


@dataclass(frozen=True)
class Population:
    """How raters of a variant differ.

    Attributes:
        what: what the variant is for.
        sharpness: how surely the nearest word is chosen, on average.
        individual: spread of weights (log scale) and ``lean`` within a type; 0: all raters are of the first type.
        bias: spread of each word's bias, in logits.
        spammers: share of raters who answer by habit alone.
        lapse: mean lapse of the others.
    """

    what: str
    sharpness: float
    individual: float = 0.0
    bias: float = 0.0
    spammers: float = 0.0
    lapse: float = 0.0


POPULATIONS = {
    "crowd": Population(
        "hundreds of raters, each with a perception of its own, who agree like CREMA-D's", 0.7, 0.4, 1.0, 0.04, 0.08
    ),
    "crowd-strong": Population(
        "the crowd with larger differences between raters: there is more to personalise", 0.5, 0.4, 1.3, 0.04, 0.08
    ),
    "crowd-identical": Population("a crowd of identical raters: personalisation must gain nothing", 0.7),
}


@dataclass(frozen=True)
class Rater:
    """One rater of the crowd: weights [3], lean, sharpness, bias [C], lapse, habit [C], and the number of the type."""

    weights: np.ndarray
    lean: float
    sharpness: float
    bias: np.ndarray
    lapse: float
    habit: np.ndarray
    type: int

    @classmethod
    def draw(cls, population: Population, rng: np.random.Generator) -> Rater:
        """A rater of a population."""
        differ = population.individual > 0
        kind = int(rng.integers(len(_TYPES))) if differ else 0
        weights, lean = _TYPES[kind]
        spread, spam = population.individual, bool(rng.random() < population.spammers)
        attention = rng.beta(1.0, 1 / population.lapse - 1) if population.lapse else 0.0
        return cls(
            weights=np.array(weights) * np.exp(spread * rng.standard_normal(3)),
            lean=lean + spread * float(rng.standard_normal()),
            sharpness=population.sharpness * float(np.exp(0.25 * differ * rng.standard_normal())),
            bias=population.bias * rng.standard_normal(len(CLASSES)),
            lapse=1.0 if spam else float(attention),
            habit=rng.dirichlet(np.ones(len(CLASSES))),
            type=-1 if spam else kind,
        )


def probabilities(raters: Sequence[Rater], avd: np.ndarray) -> np.ndarray:
    """P(class) of each rater and utterance, [R, n, C].

    Args:
        avd: arousal, valence and dominance of the utterances, [n, 3].
    """
    weights, bias, habit = (np.stack([getattr(r, name) for r in raters]) for name in ("weights", "bias", "habit"))
    lean, sharpness, lapse = (np.array([getattr(r, name) for r in raters]) for name in ("lean", "sharpness", "lapse"))
    heard = np.repeat(avd[None], len(raters), axis=0)
    heard[..., 1] += lean[:, None] * (avd[None, :, 0] - 3.0)
    squared = ((_CENTRES[None, None] - heard[:, :, None]) ** 2 * weights[:, None, None]).sum(-1)
    logits = bias[:, None] - sharpness[:, None, None] * squared
    chosen = np.exp(logits - logits.max(-1, keepdims=True))
    chosen /= chosen.sum(-1, keepdims=True)
    lazy = lapse[:, None, None]
    return (1 - lazy) * chosen + lazy * habit[:, None]


def intended_prior() -> np.ndarray:
    """How often each of IEMOCAP's emotions is intended, [9]: the crowd's six alike, the others never."""
    return np.array([name in CLASSES for name in IEMOCAP]) / len(CLASSES)


def raters_of(variant: str, turns: int, *, seed: int) -> dict[str, Rater]:
    """Rater id -> rater, as many as it takes; each is drawn by its id alone."""
    count = max(FEWEST_RATERS, round(turns * PER_UTTERANCE / PER_RATER))
    names = [f"r{number:04d}" for number in range(1, count + 1)]
    return {name: Rater.draw(POPULATIONS[variant], generator(seed, "crowd", name)) for name in names}


def dealt(raters: int, utterances: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Who rates what: every utterance has :data:`PER_UTTERANCE` raters, and all raters have as many as the others.

    Returns:
        Indices of raters and of utterances, int64 [n] each, no pair twice.
    """
    rng, total = generator(seed, "deal"), utterances * PER_UTTERANCE
    who = np.concatenate([rng.permutation(raters) for _ in range(-(-total // raters))])[:total]
    what = np.concatenate([rng.permutation(utterances) for _ in range(PER_UTTERANCE)])
    while True:  # an utterance that a rater would get twice changes places with one drawn from all
        _, first = np.unique(who * utterances + what, return_index=True)
        twice = np.setdiff1d(np.arange(total), first)
        if not len(twice):
            return who, what
        for place, other in zip(twice, rng.integers(total, size=len(twice)), strict=True):
            what[[place, other]] = what[[other, place]]


def draw_answers(raters: dict[str, Rater], turns: Sequence[Turn], *, seed: int) -> dict[str, dict[str, str]]:
    """Utterance id -> rater id -> answer, each drawn by its rater and utterance alone."""
    who, what = dealt(len(raters), len(turns), seed=seed)
    names, avd = list(raters), np.array([turn.avd for turn in turns])
    found: dict[str, dict[str, str]] = {turn.utterance: {} for turn in turns}
    for index, name in enumerate(names):
        mine = np.sort(what[who == index])
        for place, row in zip(mine, probabilities([raters[name]], avd[mine])[0], strict=True):
            utterance = turns[place].utterance
            drawn = generator(seed, "answer", name, utterance).random()
            found[utterance][name] = CLASSES[min(int(np.searchsorted(np.cumsum(row), drawn)), len(CLASSES) - 1)]
    return {utterance: dict(sorted(answers.items())) for utterance, answers in found.items()}


def alpha(answers: dict[str, dict[str, str]]) -> float:
    """Krippendorff's alpha of single answers (nominal): 1 is full agreement, 0 is chance."""
    given = [(clip, CLASSES.index(each)) for clip, of in enumerate(answers.values()) for each in of.values()]
    clips, classes = np.array(given).T
    return krippendorff_alpha(clips, np.eye(len(CLASSES))[classes])
