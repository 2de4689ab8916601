"""How much there is to personalise, asked before anything is trained: no audio, only what raters answered.

If the answers of all others to a clip are known, how much better is a rater predicted once K of the rater's own answers
are known, too? Of classes,

    log p = sharpness * log(shares of the others' answers) + b_r      (normalised),

one sharpness for all raters, and a bias b_r for each class, the most probable one given the K answers under a normal
prior. Of numbers the prediction is a line through the others' mean, plus one offset of the rater, shrunk likewise. How
wide the prior is goes by all *other* raters. The gain is a floor of what there is to personalise: it holds whatever is
lasting on any clip, and nothing of how a rater hears some clips unlike others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from s3prl_metaperser.corpora.agreement import others_mean, places, vectors
from s3prl_metaperser.corpora.alike import Answers
from s3prl_metaperser.evaluation.statistics import Estimate, Interval, within
from s3prl_metaperser.seeding import numpy_generator

SHOTS = (4, 8, 16, 32)
#: A rater is asked about so many answers beside the K.
QUERIES = 8
#: How often the K are drawn.
DRAWS = 5
#: Widths of the prior: standard deviation of a bias, in logits; and of an offset, by the deviation of one answer.
SPREADS = (0.1, 0.25, 0.5, 1.0, 2.0)
SHARPNESS = tuple(np.arange(0.1, 1.55, 0.1))


@dataclass(frozen=True)
class Measure:
    """One measure without and with K answers of the rater, means over raters with 95 % intervals.

    Attributes:
        name: ``surprise`` (of the answers, in nats) or ``right`` (share of answers that are the most probable class);
            of a scale ``distance`` (mean absolute error, in points) or ``level`` (share of right nearest levels).
        without: the others' answers alone.
        gain: of the K answers, the better way up.
    """

    name: str
    without: Interval
    gain: Interval


@dataclass(frozen=True)
class Personal:
    """What K answers of a rater are worth.

    Attributes:
        raters: how many have K + :data:`QUERIES` answers to clips that others answered, too.
    """

    shots: int
    raters: int
    measures: tuple[Measure, ...]


def personal(answers: Answers, shots: Sequence[int] = SHOTS, draws: int = DRAWS) -> list[Personal]:
    """What K answers of a rater are worth, for each K for which three raters have answers enough."""
    model = _Numbers(answers) if answers.levels is not None else _Classes(answers)
    found = []
    for k in shots:
        able = np.flatnonzero(np.bincount(model.who, minlength=len(answers.raters)) >= k + QUERIES)
        if len(able) < 3:
            continue
        without, within = _scores(model, able, k, draws)
        chosen = within[_of_the_others(within[..., 0]), np.arange(len(able))]
        measures = [
            Measure(
                name,
                over_raters(without[:, at], 0, most),
                over_raters(better * (chosen[:, at] - without[:, at]), -most, most),
            )
            for at, (name, better, most) in enumerate(model.MEASURES)
        ]
        found.append(Personal(k, len(able), tuple(measures)))
    return found


def over_raters(values: np.ndarray, low: float, high: float) -> Interval:
    """Mean over raters with its 95 % interval, by Student's t, within bounds."""
    error = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0
    return within(Estimate(float(values.mean()), error, max(len(values) - 1, 1)).interval(), low, high)


def _of_the_others(losses: np.ndarray) -> np.ndarray:
    """For each rater the width with the least loss over all other raters, int [R], of [widths, R]."""
    return (losses.sum(1, keepdims=True) - losses).argmin(0)


def _scores(model: _Classes | _Numbers, able: np.ndarray, k: int, draws: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores of each rater without the K answers [R, 2], and with them for each width [widths, R, 2]."""
    rows = np.flatnonzero(np.isin(model.who, able))
    who = np.searchsorted(able, model.who[rows])
    without, within = np.zeros((len(able), 2)), np.zeros((len(SPREADS), len(able), 2))
    for draw in range(draws):
        place = places(who, numpy_generator("card", "answers", draw))
        given = np.empty((len(able), k), dtype=np.int64)
        given[who[place < k], place[place < k]] = rows[place < k]
        asked, of = rows[place >= k], who[place >= k]
        size = np.bincount(of)[:, None]
        without += _summed(of, model.scored(asked, None)) / size
        for at, spread in enumerate(SPREADS):
            within[at] += _summed(of, model.scored(asked, model.learnt(given, spread)[of])) / size
    return without / draws, within / draws


def _summed(who: np.ndarray, scores: np.ndarray) -> np.ndarray:
    return np.stack([np.bincount(who, column) for column in scores.T], axis=1)


class _Classes:
    """Answers of classes: a bias for each.

    Attributes:
        who: the rater of each row that has others beside it, int [n].
        logs: sharpened log shares of the others' answers, [n, C].
        given: shares of the answer, [n, C].
    """

    MEASURES = (("surprise", -1, np.inf), ("right", 1, 1))

    def __init__(self, answers: Answers):
        ticks = answers.counts[answers.answer]
        of_clip, of_rater = (_summed(key, ticks)[key] for key in (answers.clip, answers.rater))
        others = of_clip - ticks
        known = np.bincount(answers.clip)[answers.clip] > 1
        usual = ticks.sum(0) - of_rater + 0.5  # of the other raters, whatever the clip
        usual /= usual.sum(1, keepdims=True)
        shares = (others + 0.5 * usual) / (others.sum(1, keepdims=True) + 0.5)
        self.who = answers.rater[known]
        self.given = ticks[known] / ticks[known].sum(1, keepdims=True)
        logs = np.log(shares[known])
        sharp = min(SHARPNESS, key=lambda s: -(self.given * log_softmax(s * logs)).sum()) if len(logs) else 1.0
        self.logs = sharp * logs

    def learnt(self, rows: np.ndarray, spread: float) -> np.ndarray:
        """Each rater's bias [R, C] by these rows [R, K]."""
        return fitted_bias(self.logs[rows], self.given[rows], spread)

    def scored(self, rows: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
        """Surprisal, and whether the most probable class was answered, [n, 2]."""
        logs = self.logs[rows] if bias is None else self.logs[rows] + bias
        given = self.given[rows]
        surprisal = -_sum(given * log_softmax(logs))[:, 0]
        return np.stack([surprisal, given[np.arange(len(rows)), logs.argmax(1)] > 0], axis=1)


class _Numbers:
    """Numbers on a scale: an offset.

    Attributes:
        who: as in :class:`_Classes`.
        value, line: the answer, and what the others' mean predicts, [n].
    """

    MEASURES = (("distance", -1, np.inf), ("level", 1, 1))

    def __init__(self, answers: Answers):
        values = vectors(answers)[:, 0]
        others = others_mean(answers.clip, values[:, None])[:, 0]
        known = np.isfinite(others)
        assert answers.levels is not None
        self.levels, self.who, self.value = answers.levels, answers.rater[known], values[known]
        self.line = _line(others[known], self.value)

    def learnt(self, rows: np.ndarray, spread: float) -> np.ndarray:
        """Each rater's offset [R] by these rows [R, K]; ``spread`` in deviations of one answer."""
        return (self.value[rows] - self.line[rows]).sum(1) / (rows.shape[1] + 1 / spread**2)

    def scored(self, rows: np.ndarray, offset: np.ndarray | None) -> np.ndarray:
        """Absolute error, and whether the nearest level was answered, [n, 2]."""
        low, high = self.levels[0], self.levels[-1]
        predicted = np.clip(self.line[rows] if offset is None else self.line[rows] + offset, low, high)
        error = np.abs(predicted - self.value[rows])
        return np.stack([error, self._level(predicted) == self._level(self.value[rows])], axis=1)

    def _level(self, values: np.ndarray) -> np.ndarray:
        return np.abs(values[:, None] - self.levels).argmin(1)


def _line(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """What least squares predict of ``y`` by ``x``."""
    if not len(x) or x.std() < 1e-12:
        return np.full_like(y, y.mean() if len(y) else 0.0)
    slope = ((x - x.mean()) * (y - y.mean())).mean() / x.var()
    return y.mean() + slope * (x - x.mean())


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Over the last axis, of logits that are neither large nor all very small."""
    return logits - np.log(_sum(np.exp(logits)))


def _sum(values: np.ndarray) -> np.ndarray:
    """Over the last, short axis, which is kept: several times as fast as ``values.sum(-1)``."""
    return values @ np.ones((values.shape[-1], 1))


def fitted_bias(logs: np.ndarray, given: np.ndarray, spread: float, steps: int = 50) -> np.ndarray:
    """The most probable bias of each rater by K answers, under a normal prior: Newton's method with short steps.

    Args:
        logs: log probabilities without a bias, [R, K, C].
        given: shares of the answers, [R, K, C].
        spread: the prior's standard deviation.

    Returns:
        [R, C]
    """
    bias, classes = np.zeros((len(logs), logs.shape[2])), logs.shape[2]
    prior = np.eye(classes) / spread**2
    for _ in range(steps):
        p = np.exp(logs + bias[:, None])
        p /= _sum(p)
        gradient = (given - p).sum(1) - bias / spread**2
        curvature = prior - p.swapaxes(1, 2) @ p
        curvature[:, range(classes), range(classes)] += p.sum(1)
        step = np.linalg.solve(curvature, gradient[..., None])[..., 0]
        largest = np.abs(step).max(1, keepdims=True, initial=0.0)
        bias += step / np.maximum(largest, 1.0)
        if not largest.size or largest.max() < 1e-5:
            break
    return bias
