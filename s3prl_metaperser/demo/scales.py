"""The demo's judgements on a scale: how aroused, pleasant or dominant an utterance sounds, from 1 to 7.

The same people as in the other corpora of a variant, who hear one of the utterance's three numbers and place it on the
scale, each in an own way:

    P(level | heard) = (1 - lapse) P(round(4 + stretch (heard - 4) + offset + noise e) = level) + lapse habit_level,

e standard normal, cut off at the ends of the scale; ``heard`` is the utterance's number, 1 to 5, brought to 1 to 7. In
valence, high arousal is heard as pleasant (``lean`` > 0) or unpleasant, as when the rater chooses a word. A severe
rater has an offset below zero; in ``opposed`` some hold the scale upside down (``stretch`` = -1); in ``misspecified``
what is heard depends on speaker and loudness, too.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from s3prl_metaperser.corpora.label_set import LabelSet
from s3prl_metaperser.demo import crowd, raters
from s3prl_metaperser.demo.draws import generator
from s3prl_metaperser.demo.hearing import Hearing, loudness_of
from s3prl_metaperser.demo.script import Turn, write_script

#: Question -> which of an utterance's three numbers it asks for.
QUESTIONS = {"arousal": 0, "valence": 1, "dominance": 2}
LEVELS = (1, 2, 3, 4, 5, 6, 7)
LABEL_SETS = {name: LabelSet(f"demo-{name}", "ordinal", levels=tuple(map(float, LEVELS))) for name in QUESTIONS}
NOISE = 0.8
#: Crowd -> spread over raters of offset (in levels) and of stretch (log scale); the eleven raters are as the crowd is.
SPREADS = {"crowd": (0.8, 0.25), "crowd-strong": (1.2, 0.4), "crowd-identical": (0.0, 0.0)}
_USUAL = SPREADS["crowd"]

#: Every rater hears the same delivery.
_loudness = functools.lru_cache(maxsize=4096)(loudness_of)


@dataclass(frozen=True)
class Judge:
    """How one rater uses a scale.

    Attributes:
        lean: what a point of arousal above the middle adds to the valence heard.
        offset: levels added to every answer.
        stretch: how far apart the rater keeps what is far apart; negative where the scale is held upside down.
        noise: standard deviation of an answer, in levels.
        lapse: share of answers without listening.
        habit: P(level) of these, [7].
        hearing: what is heard otherwise from each speaker and loudness; None for all alike.
        spammer: answers by habit alone.
    """

    lean: float
    offset: float = 0.0
    stretch: float = 1.0
    noise: float = NOISE
    lapse: float = 0.0
    habit: np.ndarray | None = None
    hearing: Hearing | None = None
    spammer: bool = False

    @classmethod
    def draw(cls, rng: np.random.Generator, spreads: tuple[float, float], lean: float, **facts) -> Judge:
        """One with an offset, a stretch, a noise and a habit of its own, where raters differ at all."""
        offset, stretch, noise = rng.standard_normal(3)
        own = {"offset": spreads[0] * offset, "stretch": float(np.exp(spreads[1] * stretch))}
        own["noise"] = NOISE * float(np.exp(spreads[1] * noise))
        return cls(lean, habit=rng.dirichlet(np.ones(len(LEVELS))), **{**own, **facts})


def heard(
    judges: Sequence[Judge], question: str, avd: np.ndarray, turns: Sequence[Turn] = (), *, seed: int = 0
) -> np.ndarray:
    """What raters hear of utterances, on the scale from 1 to 7 and a little beyond, [R, n].

    Args:
        judges: R of them.
        avd: arousal, valence and dominance, [n, 3].
        turns: the utterances, and ``seed`` of the corpus, for raters who go by speaker and loudness, too.
    """
    numbers = np.repeat(avd[None], len(judges), axis=0)
    for own, judge in zip(numbers, judges, strict=True):
        if judge.hearing is not None:
            loud = [_loudness(turn, seed=seed) for turn in turns]
            own += [
                judge.hearing.speakers[t.speaker] + by * judge.hearing.loudness
                for t, by in zip(turns, loud, strict=True)
            ]
    found = numbers[..., QUESTIONS[question]]
    if question == "valence":
        found = found + np.array([judge.lean for judge in judges])[:, None] * (numbers[..., 0] - 3.0)
    return 1.0 + (found - 1.0) * (LEVELS[-1] - 1) / 4


def probabilities(judges: Sequence[Judge], heard: np.ndarray) -> np.ndarray:
    """P(level) of what each rater hears [R, n], [R, n, 7]."""
    names = ("stretch", "offset", "noise", "lapse")
    stretch, offset, noise, lapse = (np.array([getattr(j, name) for j in judges])[:, None] for name in names)
    habit = np.stack([np.zeros(len(LEVELS)) if judge.habit is None else judge.habit for judge in judges])
    middle = (LEVELS[0] + LEVELS[-1]) / 2
    place = middle + stretch * (heard - middle) + offset
    from scipy.special import ndtr  # here: a grid's status reads the demo's settings without scipy

    below = ndtr((np.array(LEVELS[:-1]) + 0.5 - place[..., None]) / noise[..., None])
    chosen = np.diff(below, axis=2, prepend=0.0, append=1.0)
    return (1 - lapse[..., None]) * chosen + lapse[..., None] * habit[:, None]


def crowd_judge(rater: crowd.Rater, variant: str, rng: np.random.Generator) -> Judge:
    """A rater of a crowd before a scale: as inattentive, and with the lean, of the same person before words."""
    return Judge.draw(rng, SPREADS[variant], rater.lean, lapse=rater.lapse, spammer=rater.type < 0)


def _eleven(variant: str) -> dict[str, Judge]:
    """The eleven raters before a scale: the same people whatever the corpus's seed."""
    found = {}
    for model in raters.rater_models(variant):
        if variant in raters.PUBLISHED:
            lean = raters.PERCEPTION[model.id][1]
            rng = generator(0, "scale", model.id)
            found[model.id] = Judge.draw(rng, _USUAL, lean, hearing=model.hearing)
        else:
            found[model.id] = Judge(0.0, stretch=1.0 if model.permutation is None else -1.0)
    return found


@dataclass(frozen=True)
class Scaled:
    """A corpus of one question.

    Attributes:
        question: one of :data:`QUESTIONS`.
        turns: the utterances.
        judges: rater -> how the scale is used.
        answers: utterance -> rater -> level.
    """

    question: str
    turns: list[Turn]
    judges: dict[str, Judge]
    answers: dict[str, dict[str, int]]


def scaled(question: str, variant: str, *, utterances: int, seed: int) -> Scaled:
    """The utterances of a variant, and what its raters answer to a question; each is drawn by its own name alone."""
    if variant in crowd.POPULATIONS:
        turns = write_script(crowd.intended_prior(), seed=seed, utterances=utterances)
        people = crowd.raters_of(variant, len(turns), seed=seed)
        judges = {name: crowd_judge(rater, variant, generator(seed, "scale", name)) for name, rater in people.items()}
        who, what = crowd.dealt(len(people), len(turns), seed=seed)
        names = list(judges)
        pairs = [(names[r], int(u)) for r, u in zip(who, what, strict=True)]
    else:
        turns = write_script(raters.intended_prior(variant), seed=seed, utterances=utterances)
        models, judges = raters.rater_models(variant), _eleven(variant)
        pairs = [(model.id, at) for at, turn in enumerate(turns) for model in raters.who_rates(models, turn, seed=seed)]
    rated: dict[str, list[int]] = {}
    for name, at in pairs:
        rated.setdefault(name, []).append(at)
    avd = np.array([turn.avd for turn in turns])
    answers: dict[str, dict[str, int]] = {turn.utterance: {} for turn in turns}
    for name, places in sorted(rated.items()):
        mine = [turns[at] for at in sorted(places)]
        judge = [judges[name]]
        table = probabilities(judge, heard(judge, question, avd[sorted(places)], mine, seed=seed))[0]
        for turn, row in zip(mine, table, strict=True):
            drawn = generator(seed, "answer", question, name, turn.utterance).random()
            answers[turn.utterance][name] = LEVELS[min(int(np.searchsorted(np.cumsum(row), drawn)), len(LEVELS) - 1)]
    return Scaled(question, turns, judges, answers)
