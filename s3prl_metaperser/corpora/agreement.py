"""How far raters agree, whether they differ in a lasting way, and whose answers tell nothing: from answers alone.

An answer is a vector: its ticks (one or several classes), its shares, or its number on the scale. Two answers are as
far apart as the squared distance of their vectors: twice 0 or 1 of single classes, the number of classes that one ticks
and the other does not, or the squared difference of numbers. Everything here follows from sums of these, so that
thousands of raters take no pairs of ratings.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from s3prl_metaperser.corpora.alike import Answers
from s3prl_metaperser.seeding import numpy_generator

#: A rater is judged by no fewer ratings of clips that others rated, too.
FEWEST = 10
#: How often halves are drawn.
SPLITS = 20
#: Below it answers are not told from the same ones shuffled: the upper 5 % of the normal distribution.
SHUFFLED = 1.645


def vectors(answers: Answers) -> np.ndarray:
    """Each rating's answer, [N, D]: ticks or shares (D = C), or the number (D = 1)."""
    counts = answers.counts if answers.levels is None else answers.counts @ answers.levels[:, None]
    return counts[answers.answer]


def krippendorff_alpha(clip: np.ndarray, values: np.ndarray) -> float:
    """Krippendorff's alpha, with squared distances: nominal for single classes, interval for numbers.

    One minus observed over expected disagreement, of ratings whose clip has another one (Krippendorff, Content
    Analysis, 2004, chapter 11).

    Args:
        clip: which clip each rating is of, int [N].
        values: the answers as vectors, [N, D].

    Returns:
        1 for full agreement, 0 for chance; NaN where no two raters share a clip, or all answers are equal.

    Examples:
        >>> float(krippendorff_alpha(np.array([0, 0, 1, 1]), np.array([[1.0], [1.0], [3.0], [3.0]])))
        1.0
    """
    pairable = np.bincount(clip)[clip] > 1
    number, values = np.unique(clip[pairable], return_inverse=True)[1], values[pairable]
    if not len(values):
        return float("nan")
    values = values - values.mean(0)
    size = np.bincount(number)
    observed = (_within(number, values) / (size - 1)).sum()
    expected = _within(np.zeros(len(values), dtype=np.int64), values).sum() / (len(values) - 1)
    return float(1 - observed / expected) if expected > 0 else float("nan")


@dataclass(frozen=True)
class Variance:
    """What answers vary with, in squared distances: unbiased, so that a part near zero may come out below it.

    Attributes:
        clip: what all raters hear in a clip.
        rater: what a rater answers more often, or higher, than others on whatever clip.
        rest: what a rater hears in some clips unlike others, and chance.
    """

    clip: float
    rater: float
    rest: float

    @property
    def shares(self) -> dict[str, float]:
        """Each part of the whole; of numbers the clip's share is the intraclass correlation ICC(2,1)."""
        total = self.clip + self.rater + self.rest
        return {name: value / total for name, value in vars(self).items()} if total > 0 else {}


def variance(clip: np.ndarray, rater: np.ndarray, values: np.ndarray) -> Variance | None:
    """The three parts of a crossed design, of which any number of ratings may be missing.

    Pairs of ratings of one clip differ by rater and rest, those of one rater by clip and rest, all others by all three;
    means of squared distances over the pairs are unbiased. Where nothing is missing this is the analysis of variance
    (Shrout and Fleiss 1979).

    Args:
        clip, rater: int [N]; no pair twice.
        values: [N, D].

    Returns:
        None where there is no pair of one of the three kinds.
    """
    values = values - values.mean(0)
    everything = np.zeros(len(values), dtype=np.int64)
    sums = [_within(key, values).sum() for key in (clip, rater, everything)]
    pairs = [int((n * (n - 1)).sum()) for n in map(np.bincount, (clip, rater, everything))]
    sums[2] -= sums[0] + sums[1]
    pairs[2] -= pairs[0] + pairs[1]
    if not all(pairs):
        return None
    of_clip, of_rater, others = (total / count for total, count in zip(sums, pairs, strict=True))
    return Variance(others - of_clip, others - of_rater, of_clip + of_rater - others)


def _within(group: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Half the squared distances of all ordered pairs within each group, summed: size * squares - square of the sum."""
    size = np.bincount(group)
    squares = np.bincount(group, (values**2).sum(1))
    return size * squares - sum(np.bincount(group, column) ** 2 for column in values.T)


def others_mean(clip: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The mean of all other ratings of each rating's clip, [N, D]; NaN where there is no other."""
    size = np.bincount(clip)[clip] - 1
    sums = np.stack([np.bincount(clip, column)[clip] for column in values.T], axis=1) - values
    return np.divide(sums, size[:, None], out=np.full_like(sums, np.nan), where=size[:, None] > 0)


def split_half(clip: np.ndarray, rater: np.ndarray, values: np.ndarray, splits: int = SPLITS) -> tuple[float, int]:
    """Whether raters differ from the others in a lasting way: do two halves of their ratings say the same?

    How a rater's answers differ in the mean from those of the others to the same clips is taken from either half; the
    two are correlated over raters, and the correlation of halves is stepped up to that of all ratings (Spearman and
    Brown).

    Returns:
        The reliability, 1 at most, mean over random halves, NaN where it cannot be said; and of how many raters: those
        with twice :data:`FEWEST` ratings at least.
    """
    apart = values - others_mean(clip, values)
    known = np.isfinite(apart).all(1)
    enough = np.flatnonzero(np.bincount(rater[known], minlength=rater.max() + 1) >= 2 * FEWEST)
    rows = np.flatnonzero(known & np.isin(rater, enough))
    if len(enough) < 3:
        return float("nan"), len(enough)
    who, apart = np.searchsorted(enough, rater[rows]), apart[rows]
    found = []
    for split in range(splits):
        half = places(who, numpy_generator("card", "halves", split)) % 2
        first, second = (_means(who[half == side], apart[half == side], len(enough)) for side in (0, 1))
        first, second = first - first.mean(0), second - second.mean(0)
        scale = np.sqrt((first**2).sum() * (second**2).sum())
        found.append((first * second).sum() / scale if scale > 0 else np.nan)
    halves = float(np.mean(found))
    return 2 * halves / (1 + halves) if halves > -1 else float("nan"), len(enough)


def places(who: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each row's place in a random order of its rater's rows, int [N]."""
    order = np.lexsort((rng.random(len(who)), who))
    found = np.empty(len(who), dtype=np.int64)
    starts = np.searchsorted(who[order], np.arange(who.max() + 1 if len(who) else 0))
    found[order] = np.arange(len(who)) - starts[who[order]]
    return found


def _means(who: np.ndarray, values: np.ndarray, raters: int) -> np.ndarray:
    size = np.maximum(np.bincount(who, minlength=raters), 1)
    return np.stack([np.bincount(who, column, minlength=raters) for column in values.T], axis=1) / size[:, None]


@dataclass(frozen=True)
class Told:
    """What raters' answers tell of those of the others, each an array over raters.

    Attributes:
        known: how many of a rater's ratings are of clips that others rated, too.
        agreement: of classes, how often a rater agrees with another one of the same clip, above chance, 1 at most
            (chance: the rater's own answers shuffled over the clips); of numbers the correlation with the others' mean.
        score: how far that is from the mean over all shuffles, in standard deviations (Hoeffding 1951).
    """

    known: np.ndarray
    agreement: np.ndarray
    score: np.ndarray

    @property
    def judged(self) -> np.ndarray:
        """Whose ratings are enough, bool [R]."""
        return self.known >= FEWEST

    @property
    def nothing(self) -> np.ndarray:
        """Whose answers are no nearer to the others' than when they are shuffled, at the 5 % level, bool [R]."""
        return self.judged & ~(self.score >= SHUFFLED)


def told(clip: np.ndarray, rater: np.ndarray, values: np.ndarray, *, numbers: bool = False) -> Told:
    """What each rater's answers tell of those of the others to the same clips.

    Args:
        clip, rater: int [N].
        values: [N, D]; of classes the ticks or shares.
        numbers: the answers are numbers on a scale.
    """
    raters = rater.max() + 1
    own = values if numbers else values / values.sum(1, keepdims=True)
    others = others_mean(clip, own)
    rows = np.isfinite(others).all(1)
    who, own, others = rater[rows], own[rows], others[rows]
    known = np.bincount(who, minlength=raters)
    mean_own, mean_others = _means(who, own, raters), _means(who, others, raters)
    mine, theirs = own - mean_own[who], others - mean_others[who]
    excess = np.bincount(who, (mine * theirs).sum(1), minlength=raters)
    spread = np.sqrt(_products(who, mine, theirs, raters) / np.maximum(known - 1, 1))
    chance = 0.0 if numbers else (mean_own * mean_others).sum(1)
    most = spread * np.sqrt(np.maximum(known - 1, 1)) if numbers else known * (1 - chance)
    with np.errstate(divide="ignore", invalid="ignore"):
        return Told(known, excess / most, np.where(spread > 1e-12, excess / spread, 0.0))


def _products(who: np.ndarray, mine: np.ndarray, theirs: np.ndarray, raters: int) -> np.ndarray:
    """Sum over all pairs (i, j) of a rater's rows of (mine_i . theirs_j)^2: the trace of two scatter matrices."""
    total = np.zeros(raters)
    for first in range(mine.shape[1]):
        for second in range(mine.shape[1]):
            of_mine = np.bincount(who, mine[:, first] * mine[:, second], minlength=raters)
            total += of_mine * np.bincount(who, theirs[:, first] * theirs[:, second], minlength=raters)
    return total
