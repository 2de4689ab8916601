"""The demo's raters: who rates what, and what each ticks given the emotion that was intended.

A rater is a confusion table P(class | intended emotion) and a tick rate. Raters differ in how they
perceive, not only in how often they use a word: each weighs arousal, valence and dominance in an own way,
and some hear high arousal as positive (``lean`` > 0: angry speech sounds excited) where others hear it as
negative. The table is that perceptual kernel, fitted to the rater's marginals (Meta-PerSER, Table A1) by
iterative proportional fitting.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from s3prl_metaperser.config.yaml_files import read_yaml
from s3prl_metaperser.corpora.iemocap import CLASSES
from s3prl_metaperser.demo.draws import generator
from s3prl_metaperser.demo.hearing import Hearing, loudness_of
from s3prl_metaperser.demo.script import CENTROIDS, Turn
from s3prl_metaperser.errors import unknown_name
from s3prl_metaperser.storage import resources

#: What each variant is for.
VARIANTS = {
    "paper": "marginals and tick rates of Table A1, every rater with a perception of its own",
    "identical": "all raters share one table and one tick rate: personalisation must gain nothing",
    "opposed": "some raters' tables are permutations of the others': adaptation must gain a lot on these",
    "misspecified": "as paper, but what a rater hears depends on speaker and loudness: no table describes a rater",
}
#: Variants in which a rater's table differs from turn to turn.
WITHOUT_TABLES = ("misspecified",)
#: Variants whose marginals and perceptions are those of Table A1.
PUBLISHED = ("paper", *WITHOUT_TABLES)

EXTERNALS = ("C-E1", "C-E2", "C-E4", "C-E5", "C-E6")
SELVES = ("C-F1", "C-F2", "C-F3", "C-M1", "C-M3", "C-M5")
MINIMUM_RATINGS = 3  # per utterance

# Share of all utterances that each external rates.
_COVERAGE = {"C-E1": 0.93, "C-E2": 0.94, "C-E4": 0.92, "C-E5": 0.75, "C-E6": 0.76}

# Weights of arousal, valence, dominance; lean of arousal on perceived valence.
PERCEPTION = {
    "C-E1": ((0.2, 2.2, 0.4), -0.8),
    "C-E2": ((0.8, 2.2, 0.2), -0.8),
    "C-E4": ((1.7, 0.8, 0.5), 0.5),
    "C-E5": ((0.3, 0.7, 1.4), 0.8),
    "C-E6": ((2.4, 2.2, 0.3), 0.7),
    "C-F1": ((2.2, 0.6, 0.2), 0.6),
    "C-F2": ((0.3, 2.4, 0.3), -0.8),
    "C-F3": ((0.4, 0.8, 2.2), 0.8),
    "C-M1": ((1.8, 0.2, 1.4), -0.6),
    "C-M3": ((1.0, 1.8, 0.2), 0.0),
    "C-M5": ((0.2, 1.6, 1.6), -0.9),
}
_SHARPNESS = 1.5
_SELF_TICK_RATE = 1.08  # Table A1 has none for self-raters

# Variants identical and opposed: one sharp table, the same everyday tick rate, less uneven emotions.
_SHARED_PERCEPTION = ((1.1, 1.1, 1.1), 0.0)
_SHARED_TICK_RATE = 1.05

# Variant opposed: where the others say one class of a pair, these raters say the other one. Two patterns,
# so that no two external raters oppose alike: then the consensus of the others holds next to nothing of a
# permuted rater's own words, while a self-rater with the same pattern can be learned from.
_SWAPS = (
    (("frustrated", "excited"), ("angry", "happy"), ("sad", "surprise"), ("neutral", "fear")),
    (("frustrated", "neutral"), ("angry", "excited"), ("sad", "happy"), ("disgust", "fear")),
)
_OPPOSED = {"C-E2": 0, "C-F1": 0, "C-M3": 0, "C-E5": 1, "C-F3": 1}  # rater -> pattern


@dataclass(frozen=True)
class RaterModel:
    """One rater of the demo.

    Attributes:
        id: e.g. ``C-E1``.
        table: P(class | intended emotion), [C, C], rows sum to one; with ``hearing`` the mean over turns.
        tick_rate: mean number of ticks per rated utterance, 1 to 2.
        coverage: share of the utterances within reach that this rater rates.
        speaker: whose utterances are within reach; None for all.
        permutation: ``table[e, c]`` is the others' table at ``[e, permutation[c]]``; None where it is theirs.
        hearing: what the table of a turn depends on; None where it is always the same.
    """

    id: str
    table: np.ndarray
    tick_rate: float
    coverage: float
    speaker: str | None = None
    permutation: tuple[int, ...] | None = None
    hearing: Hearing | None = None

    def row(self, turn: Turn, *, seed: int) -> np.ndarray:
        """P(class | this turn), [C].

        Args:
            seed: of the corpus, which says how the turn is spoken.
        """
        if self.hearing is None:
            return self.table[turn.intended]
        return self.hearing.table(turn.speaker, loudness_of(turn, seed=seed))[turn.intended]

    def draw(self, row: np.ndarray, rng: np.random.Generator) -> tuple[int, ...]:
        """One class by ``row`` [C] and, with probability ``tick_rate - 1``, a second one that differs."""
        first = int(rng.choice(len(row), p=row))
        second = rng.random() < self.tick_rate - 1
        if not second:
            return (first,)
        rest = row.copy()
        rest[first] = 0.0
        return (first, int(rng.choice(len(row), p=rest / rest.sum())))


def tick_share(table: np.ndarray, tick_rate: float, prior: np.ndarray) -> np.ndarray:
    """Expected share of each class among all ticks [C]; a second tick never repeats the first.

    Args:
        table: [C, C], as a model has it.
        prior: how often each emotion is intended, [C].
    """
    second = np.einsum("ea,ec,ea->ec", table, table, 1 / (1 - table)) - table**2 / (1 - table)
    return prior @ (table + (tick_rate - 1) * second) / tick_rate


def kernel(weights: tuple[float, float, float], lean: float) -> np.ndarray:
    """Similarity of each class (columns) to what a rater hears of each emotion (rows): [C, C], positive.

    ``exp(-sharpness * sum_d w_d (avd_c - heard_e)_d^2)``, where the valence heard is the intended one plus
    ``lean`` times the arousal above the middle of the scale.
    """
    return similarity(_heard(lean), weights)


def similarity(heard: np.ndarray, weights: tuple[float, float, float]) -> np.ndarray:
    """Similarity of each class to each of n things heard, [n, 3] -> [n, C]."""
    squared = (CENTROIDS[None, :, :] - heard[:, None, :]) ** 2
    return np.exp(-_SHARPNESS * squared @ np.array(weights)) + 1e-4


def _heard(lean: float) -> np.ndarray:
    """Arousal, valence and dominance that are heard of each emotion, [C, 3]."""
    heard = CENTROIDS.copy()
    heard[:, 1] += lean * (CENTROIDS[:, 0] - 3.0)
    return heard


def fit_table(similarity: np.ndarray, prior: np.ndarray, marginals: np.ndarray, tick_rate: float) -> np.ndarray:
    """P(class | intended) [C, C] by iterative proportional fitting; rows are the intended emotions.

    Args:
        similarity: positive, [C, C].
        prior: how often each emotion is intended, [C].
        marginals: share of each class among the rater's ticks, [C].
        tick_rate: ticks per rated utterance; a second tick never repeats the first, so that first ticks need
            slightly other shares, found by correcting the target.
    """
    target = marginals.copy()
    for _ in range(20):
        joint = similarity.copy()
        for _ in range(300):
            joint *= target / joint.sum(axis=0)
            joint *= (prior / joint.sum(axis=1))[:, None]
        table = joint / joint.sum(axis=1, keepdims=True)
        target = target * marginals / tick_share(table, tick_rate, prior)
        target /= target.sum()
    return table


@cache
def table_a1() -> dict[str, tuple[np.ndarray, float]]:
    """External rater -> (marginals [C], which sum to one; ticks per rated utterance): Table A1."""
    published = read_yaml(resources.folder("benchmarks/paper") / "tables.yaml")["table_a1"]
    order = [published["classes"].index(name) for name in CLASSES]
    result = {}
    for rater in EXTERNALS:
        marginals = np.array(published[rater]["marginals"], dtype=float)[order]
        result[rater] = (marginals / marginals.sum(), float(published[rater]["ticks_per_utterance"]))
    return result


def swapped(pairs: tuple[tuple[str, str], ...]) -> tuple[int, ...]:
    """The permutation of class indices that swaps the names in each pair and leaves all others."""
    partner = dict(pairs) | {b: a for a, b in pairs}
    return tuple(CLASSES.index(partner.get(name, name)) for name in CLASSES)


def intended_prior(variant: str) -> np.ndarray:
    """How often each emotion is intended, [C]: the externals' mean marginals over a floor.

    The floor is high in the variants in which macro-F1 must be free to move.
    """
    mean = np.mean([marginals for marginals, _ in table_a1().values()], axis=0)
    floor = 0.15 if variant in PUBLISHED else 0.7
    return (1 - floor) * mean + floor / len(CLASSES)


def rater_models(variant: str) -> tuple[RaterModel, ...]:
    """The eleven raters of a variant: five externals, six self-raters.

    Raises:
        UserError: unknown variant.
    """
    if variant not in VARIANTS:
        raise unknown_name("raters variant", variant, VARIANTS)
    prior = intended_prior(variant)
    mean = np.mean([marginals for marginals, _ in table_a1().values()], axis=0)
    shared = fit_table(kernel(*_SHARED_PERCEPTION), prior, prior, _SHARED_TICK_RATE)
    models = []
    for rater in (*EXTERNALS, *SELVES):
        marginals, rate = table_a1().get(rater, (mean, _SELF_TICK_RATE))
        permutation = hearing = None
        if variant in PUBLISHED:
            table = fit_table(kernel(*PERCEPTION[rater]), prior, marginals, rate)
            if variant in WITHOUT_TABLES:
                hearing = _hearing(rater, table)
                table = hearing.average()
        else:
            table, rate = shared, _SHARED_TICK_RATE
            if variant == "opposed" and rater in _OPPOSED:
                permutation = swapped(_SWAPS[_OPPOSED[rater]])
                table = shared[:, list(permutation)]
        speaker = f"Ses{int(rater[-1]):02d}{rater[2]}" if rater in SELVES else None
        models.append(RaterModel(rater, table, rate, _COVERAGE.get(rater, 1.0), speaker, permutation, hearing))
    return tuple(models)


def _hearing(rater: str, table: np.ndarray) -> Hearing:
    """A rater who also goes by speaker and loudness, and to whom words are as ready as to that of ``table``."""
    weights, lean = PERCEPTION[rater]
    scale = table[0] / kernel(weights, lean)[0]  # fitting scales columns alike in all rows, up to each row's sum
    return Hearing.draw(rater, lambda heard: similarity(heard, weights), scale / scale.sum(), _heard(lean))


def who_rates(models: tuple[RaterModel, ...], turn: Turn, *, seed: int) -> list[RaterModel]:
    """The raters of one utterance, at least three; chance alone decides, never the emotion."""
    eagerness = {
        model.id: generator(seed, "rates", model.id, turn.utterance).random() / model.coverage for model in models
    }
    within_reach = [model for model in models if model.speaker in (None, turn.speaker)]
    chosen = [model for model in within_reach if eagerness[model.id] < 1]
    if len(chosen) < MINIMUM_RATINGS:
        chosen = sorted(within_reach, key=lambda model: eagerness[model.id])[:MINIMUM_RATINGS]
    return sorted(chosen, key=lambda model: model.id)


def draw_ratings(
    models: tuple[RaterModel, ...], turns: list[Turn], *, seed: int
) -> dict[str, dict[str, tuple[str, ...]]]:
    """Utterance id -> rater id -> ticks (class names), every rater with a private generator per utterance."""
    return {
        turn.utterance: {
            model.id: tuple(
                CLASSES[c]
                for c in model.draw(model.row(turn, seed=seed), generator(seed, "ticks", model.id, turn.utterance))
            )
            for model in who_rates(models, turn, seed=seed)
        }
        for turn in turns
    }
