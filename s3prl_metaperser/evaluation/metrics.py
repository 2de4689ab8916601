"""Metrics: what is computed from a rater's predictions and answers, for which kinds of label sets.

A metric is registered once, here or by another package (entry point group ``s3prl_metaperser.metrics``); results,
statistics, comparisons and the report take all that fit the corpus's label set. docs/adding_a_metric.md adds one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import inf, isfinite, nan
from typing import TYPE_CHECKING

import numpy as np

from s3prl_metaperser.errors import UserError
from s3prl_metaperser.registry import Registry

if TYPE_CHECKING:
    from s3prl_metaperser.corpora.label_set import LabelSet

METRICS: Registry[Metric] = Registry(
    "metric",
    "s3prl_metaperser.metrics",
    expected=("a Metric with this name", lambda name, found: isinstance(found, Metric) and found.name == name),
)

#: Unit -> (factor for printing, digits after the point, word behind a difference).
UNITS = {
    "percent": (100.0, 1, "points"),
    "nats": (1.0, 3, "nats"),
    "bits": (1.0, 3, "bits"),
    "points of the scale": (1.0, 2, "points of the scale"),
    "": (1.0, 3, ""),
}


#: By how much an utterance's weight of one is changed for a derivative: its error is of the order of the square.
NUDGE = 1e-4


@dataclass(frozen=True)
class Metric:
    """One metric of an episode's query utterances.

    Attributes:
        name: its key in results and its registered name.
        kinds: kinds of label sets that it fits: ``multi``, ``single``, ``soft``, ``ordinal``.
        of_episode: (probabilities [Q, C], counts [Q, C], label set) -> its value; NaN where it is undefined.
        bounds: least and greatest value; intervals are cut there.
        unit: a key of :data:`UNITS`.
        weighted: the same under many weightings of the utterances, [W], for its standard error. Without it, the error
            comes from the values without each utterance (the jackknife): exact for means over utterances, first order
            for others.
        of_decisions: it goes by decided classes alone (:meth:`.LabelSet.decide`), not by probabilities.
        capped: answers alone may keep it below its upper bound; tables then say what a perfect prediction reaches.
        words: what the title stands for, where it does not say so itself.
        further: kinds of label sets for which it stands in the table of further metrics alone, not in all tables.
    """

    name: str
    title: str
    kinds: tuple[str, ...]
    of_episode: Callable[[np.ndarray, np.ndarray, LabelSet], float]
    higher_is_better: bool = True
    bounds: tuple[float, float] = (0.0, 1.0)
    unit: str = "percent"
    weighted: Callable[[Weighted], np.ndarray] | None = None
    of_decisions: bool = False
    capped: bool = False
    words: str = ""
    further: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise ValueError(
                f"metric {self.name}: bad unit {self.unit!r}, expected one of {', '.join(map(repr, UNITS))}"
            )

    @property
    def scale(self) -> float:
        """Factor between a value and what is printed: 100 for percent."""
        return UNITS[self.unit][0]

    @property
    def decimals(self) -> int:
        """Digits after the point in print."""
        return UNITS[self.unit][1]

    @property
    def heading(self) -> str:
        """Title with unit, for an axis: ``macro-F1, %``."""
        unit = {"percent": "%"}.get(self.unit, self.unit)
        return f"{self.title}, {unit}" if unit and unit != self.title else self.title

    @property
    def difference_unit(self) -> str:
        """The word behind a printed difference: ``points`` of percent."""
        return UNITS[self.unit][2]

    @property
    def less(self) -> str:
        """What stands behind a printed difference where less is better; empty where more is."""
        return "" if self.higher_is_better else " (less is better)"

    def shown(self, value: float, sign: str = "") -> str:
        """A value as it is printed, without its unit."""
        return f"{self.scale * value:{sign}.{self.decimals}f}"

    def __reduce__(self) -> tuple[Callable[[str], Metric], tuple[str]]:
        """Other processes get it by its registered name."""
        return _registered, (self.name,)

    def better(self, first: float, second: float) -> bool:
        """Whether the first value is better than the second."""
        return first > second if self.higher_is_better else first < second

    def influence(self, nudged: Weighted) -> tuple[float, np.ndarray]:
        """Its value, and its derivative by the weight of each utterance or cluster, [U]; NaN and zeros where it is
        undefined.
        """
        p, counts, size = nudged.probabilities, nudged.counts, len(nudged.weights) // 2
        if self.weighted is not None:
            values = self.weighted(nudged)
            whole, derivative = float(values[0]), (values[1 : size + 1] - values[size + 1 :]) / (2 * NUDGE)
        else:
            whole, derivative = self.of_episode(p, counts, nudged.label_set), np.zeros(size)
            if size > 1 and isfinite(whole):
                rest = nudged.weights[1 : size + 1] == 1  # all but one of them
                without = np.array([self.of_episode(p[kept], counts[kept], nudged.label_set) for kept in rest])
                derivative = (1 - 1 / size) * (whole - np.where(np.isfinite(without), without, whole))
                derivative -= derivative.mean()
        return (whole, derivative) if isfinite(whole) else (nan, np.zeros(size))


def _registered(name: str) -> Metric:
    return METRICS.get(name)


class Weighted:
    """One episode under many weightings of its query utterances; what several metrics need is computed once.

    Args:
        probabilities: predictions, [Q, C].
        counts: the rater's answers, [Q, C] (:attr:`.LabelTable.counts`).
        weights: [W, Q]; None for one row of ones.
        smoothing: of the targets that the predictions were trained on; a scale's numbers take it back.
        threshold: above which a class is given, where one was learned.
        small: whether weights differ from the first row by as little as a derivative needs.
    """

    def __init__(
        self,
        probabilities: np.ndarray,
        counts: np.ndarray,
        label_set: LabelSet,
        weights: np.ndarray | None = None,
        smoothing: float = 0.0,
        threshold: float | None = None,
        *,
        small: bool = False,
    ):
        self.probabilities = np.asarray(probabilities, dtype=np.float64)
        self.counts = np.asarray(counts, dtype=np.float64)
        self.label_set = label_set
        self.weights = np.ones((1, len(self.counts))) if weights is None else weights
        self.smoothing = smoothing
        self.threshold = threshold
        self.small = small

    @classmethod
    def nudged(
        cls,
        probabilities: np.ndarray,
        counts: np.ndarray,
        label_set: LabelSet,
        smoothing: float = 0.0,
        clusters: np.ndarray | None = None,
        threshold: float | None = None,
    ) -> Weighted:
        """With equal weights, then with each utterance's (or cluster's) a little larger, then with each a little
        smaller, [2U + 1, Q].

        Args:
            clusters: of each utterance, 0 .. U - 1, int [Q]; None: each is one of its own.
        """
        weights = _nudges(len(counts) if clusters is None else int(clusters.max()) + 1)
        weights = weights if clusters is None else weights[:, clusters]
        return cls(probabilities, counts, label_set, weights, smoothing, threshold, small=True)

    @cached_property
    def shares(self) -> np.ndarray:
        """The share of each class in an answer, [Q, C]."""
        return self.counts / self.counts.sum(-1, keepdims=True)

    @cached_property
    def decided(self) -> np.ndarray:
        """Predicted classes, bool [Q, C]."""
        return self.label_set.decide(self.probabilities, self.smoothing)

    @cached_property
    def answered(self) -> np.ndarray:
        """Classes that the rater answered, bool [Q, C]."""
        return self.label_set.answered(self.counts)

    @cached_property
    def confusion(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """:meth:`confusion_of` what is decided."""
        return self.confusion_of(self.decided)

    def confusion_of(self, d: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Weighted true positives, false positives, false negatives and true negatives per class, [W, C] each.

        Args:
            d: classes that are given, bool [Q, C].
        """
        a = self.answered
        tp, fp, fn, tn = (self.weights @ cell.astype(np.float64) for cell in (d & a, d & ~a, ~d & a, ~d & ~a))
        return tp, fp, fn, tn

    @cached_property
    def values(self) -> tuple[np.ndarray, np.ndarray]:
        """Predicted and answered numbers of an ordinal scale, [Q] each."""
        return self.label_set.value(self.probabilities, self.smoothing), self.label_set.value(self.shares)

    def mean(self, values: np.ndarray) -> np.ndarray:
        """Weighted means over utterances: [Q] -> [W]."""
        return self.weights @ values / self._total

    @cached_property
    def _total(self) -> np.ndarray:
        return self.weights.sum(-1)


@lru_cache(maxsize=64)
def _nudges(size: int) -> np.ndarray:
    step = NUDGE * np.eye(size)
    return 1 + np.concatenate([np.zeros((1, size)), step, -step])


def metrics_for(label_set: LabelSet) -> tuple[Metric, ...]:
    """The metrics that fit a label set, in the order of registration; the first is the primary one."""
    return tuple(metric for metric in map(METRICS.get, METRICS.names()) if label_set.kind in metric.kinds)


def main_metrics(label_set: LabelSet) -> tuple[Metric, ...]:
    """:func:`metrics_for` without those that stand in the table of further metrics alone."""
    return tuple(metric for metric in metrics_for(label_set) if label_set.kind not in metric.further)


def metric_of_decisions(label_set: LabelSet) -> Metric:
    """The first metric that goes by decided classes alone."""
    return next(metric for metric in metrics_for(label_set) if metric.of_decisions)


def metric_for(label_set: LabelSet, name: str) -> Metric:
    """One metric by name.

    Raises:
        UserError: it is unknown, or does not fit the label set.
    """
    metric = METRICS.get(name)
    if label_set.kind not in metric.kinds:
        known = ", ".join(m.name for m in metrics_for(label_set))
        raise UserError(f"Metric {name!r} does not fit {label_set.kind!r} label sets. Expected one of: {known}.")
    return metric


def episode_scores(
    probabilities: np.ndarray,
    counts: np.ndarray,
    label_set: LabelSet,
    smoothing: float = 0.0,
    threshold: float | None = None,
) -> dict[str, float]:
    """Every metric that fits, of one episode's query utterances; undefined ones are left out.

    Args:
        probabilities: predictions, [Q, C].
        counts: the rater's answers (or their shares), [Q, C].
        smoothing: of the targets that the predictions were trained on.
        threshold: above which a class is given, where one was learned.

    Raises:
        UserError: shapes that do not fit, no utterances, or values that are not finite.

    Examples:
        >>> from s3prl_metaperser.corpora.label_set import LabelSet
        >>> two = LabelSet("two", "multi", ("happy", "sad"))
        >>> scores = episode_scores(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([[1, 0], [1, 0]]), two)
        >>> {name: round(scores[name], 3) for name in ("macro_f1", "micro_f1", "unweighted_accuracy", "nats", "brier")}
        {'macro_f1': 0.333, 'micro_f1': 0.5, 'unweighted_accuracy': 0.5, 'nats': 0.857, 'brier': 0.65}
    """
    probabilities, counts = _checked(probabilities, "probabilities"), _checked(counts, "counts")
    if probabilities.shape != counts.shape:
        raise UserError(f"probabilities {probabilities.shape} and counts {counts.shape} differ in shape.")
    episode = Weighted(probabilities, counts, label_set, smoothing=smoothing, threshold=threshold)
    values = {
        metric.name: float(
            metric.weighted(episode)[0]
            if metric.weighted is not None
            else metric.of_episode(probabilities, counts, label_set)
        )
        for metric in metrics_for(label_set)
    }
    return {name: value for name, value in values.items() if isfinite(value)}


def _checked(array: np.ndarray, name: str) -> np.ndarray:
    array = np.asarray(array, dtype=np.float64)
    if array.ndim != 2 or array.shape[0] == 0 or array.shape[1] < 2:
        raise UserError(f"{name} must have shape [Q, C] with Q >= 1 and C >= 2, got {array.shape}.")
    if not np.isfinite(array).all():
        raise UserError(f"{name} holds {int((~np.isfinite(array)).sum())} value(s) that are NaN or infinite.")
    return array


# -- the metrics ------------------------------------------------------------------------------------------------------


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Zero where the denominator is zero."""
    return np.divide(numerator, denominator, out=np.zeros_like(denominator), where=denominator > 0)


def _macro_f1(episode: Weighted) -> np.ndarray:
    """Mean over all C classes; one that is neither predicted nor answered counts as zero (``zero_division=0``)."""
    tp, fp, fn, _ = episode.confusion
    return _ratio(2 * tp, 2 * tp + fp + fn).mean(-1)


def _micro_f1(episode: Weighted) -> np.ndarray:
    tp, fp, fn, _ = episode.confusion
    return _ratio(2 * tp.sum(-1), (2 * tp + fp + fn).sum(-1))


def _unweighted_accuracy(episode: Weighted) -> np.ndarray:
    """Mean over classes of per-class binary accuracy: the definition under which the paper's Random row comes out."""
    tp, fp, fn, tn = episode.confusion
    return ((tp + tn) / (tp + fp + fn + tn)).mean(-1)


def _macro_f1_union(episode: Weighted) -> np.ndarray:
    """Mean over the classes that are predicted or answered: scikit-learn's default."""
    tp, fp, fn, _ = episode.confusion
    occurs = episode.decided.any(0) | episode.answered.any(0)
    if not occurs.any():
        return np.full(len(tp), np.nan)
    return _ratio(2 * tp, 2 * tp + fp + fn)[:, occurs].mean(-1)


def _accuracy(episode: Weighted) -> np.ndarray:
    """Share of utterances whose decided class the rater answered; one minus the error rate of Learning with
    Disagreements."""
    return episode.mean((episode.decided & episode.answered).any(-1).astype(np.float64))


def _balanced_accuracy(episode: Weighted) -> np.ndarray:
    """Mean recall over the classes that the rater answered."""
    tp, _, fn, _ = episode.confusion
    occurs = episode.answered.any(0)
    return (tp[:, occurs] / (tp + fn)[:, occurs]).mean(-1)


def _nats(episode: Weighted) -> np.ndarray:
    """Negative log-likelihood of the answers' shares; probabilities count as at least float32's smallest."""
    p = np.maximum(episode.probabilities, np.finfo(np.float32).tiny)
    return episode.mean(-(episode.shares * np.log(p)).sum(-1))


def _brier(episode: Weighted) -> np.ndarray:
    """Squared distance to the answers' shares, summed over classes (Brier 1950)."""
    return episode.mean(((episode.probabilities - episode.shares) ** 2).sum(-1))


def _manhattan(episode: Weighted) -> np.ndarray:
    """Sum over classes of the distance to the answers' shares (Learning with Disagreements)."""
    return episode.mean(np.abs(episode.probabilities - episode.shares).sum(-1))


def _error_rate(episode: Weighted) -> np.ndarray:
    """Share of wrong decisions (Learning with Disagreements 2025): of utterances; of several ticks of each class."""
    if episode.label_set.kind == "multi":
        return 1 - _unweighted_accuracy(episode)
    return 1 - _accuracy(episode)


def _entropies(p: np.ndarray) -> np.ndarray:
    """In bits, [..., C] -> [...]."""
    return -(p * np.log2(np.where(p > 0, p, 1.0))).sum(-1)


def _entropy_correlation(episode: Weighted) -> np.ndarray:
    """Pearson's, over utterances, of the entropies of predictions and of answers (Uma et al. 2021): whether it is
    unsure where the rater is; undefined where either is the same everywhere."""
    x, y = _entropies(episode.probabilities), _entropies(episode.shares)
    if min(np.ptp(x), np.ptp(y)) < 1e-12:
        return np.full(len(episode.weights), np.nan)
    x, y = x - x.mean(), y - y.mean()  # against cancellation
    mean_x, mean_y = episode.mean(x), episode.mean(y)
    covariance = episode.mean(x * y) - mean_x * mean_y
    found = covariance / np.sqrt((episode.mean(x * x) - mean_x**2) * (episode.mean(y * y) - mean_y**2))
    return np.clip(found, -1.0, 1.0)  # of equal entropies the rounding is beyond


def _corrected_macro_f1(episode: Weighted) -> np.ndarray:
    """Macro-F1 where the class is given whose probability is largest *over its mean* in the episode.

    Plain macro-F1 rewards whoever spreads predictions over rare classes; dividing by the mean takes from every system
    how readily it gives each class. Of several ticks one is found at most, so that it stays below plain macro-F1's cap.
    What is given does not change with a derivative's small weights: of a jump that happens to be near there is none.
    """
    p, weights = episode.probabilities, episode.weights[: 1 if episode.small else None]
    means = weights @ p / weights.sum(-1, keepdims=True)
    ratios = p[None] / np.maximum(means, np.finfo(float).tiny)[:, None]  # [W, Q, C]
    chosen = (ratios >= ratios.max(-1, keepdims=True) * (1 - 1e-9)).argmax(-1)  # of equal ones the first
    values = np.empty(len(episode.weights))
    for row in chosen if len(chosen) == 1 else np.unique(chosen, axis=0):
        same = slice(None) if len(chosen) == 1 else (chosen == row).all(-1)
        tp, fp, fn, _ = (part[same] for part in episode.confusion_of(np.eye(p.shape[1], dtype=bool)[row]))
        occurs = np.ones(p.shape[1], dtype=bool) if episode.label_set.kind == "multi" else (tp + fp + fn > 0).any(0)
        values[same] = _ratio(2 * tp, 2 * tp + fp + fn)[:, occurs].mean(-1)
    return values


def _threshold_macro_f1(episode: Weighted) -> np.ndarray:
    """Macro-F1 with the threshold that was learned; undefined without one."""
    if episode.threshold is None:
        return np.full(len(episode.weights), np.nan)
    tp, fp, fn, _ = episode.confusion_of(episode.probabilities > episode.threshold)
    return _ratio(2 * tp, 2 * tp + fp + fn).mean(-1)


def _jensen_shannon(episode: Weighted) -> np.ndarray:
    """Divergence from the answers' shares in bits (Lin 1991)."""
    p, t = episode.probabilities, episode.shares
    return episode.mean(np.maximum(_entropies((p + t) / 2) - (_entropies(p) + _entropies(t)) / 2, 0.0))


def _mean_absolute_error(episode: Weighted) -> np.ndarray:
    predicted, answered = episode.values
    return episode.mean(np.abs(predicted - answered))


def _concordance(episode: Weighted) -> np.ndarray:
    """Lin's (1989) concordance correlation coefficient; undefined where the answers do not vary."""
    x, y = episode.values
    if np.ptp(y) == 0:
        return np.full(len(episode.weights), np.nan)
    x, y = x - y.mean(), y - y.mean()  # the same for both, against cancellation
    mean_x, mean_y = episode.mean(x), episode.mean(y)
    covariance = episode.mean(x * y) - mean_x * mean_y
    variances = episode.mean(x * x) - mean_x**2 + episode.mean(y * y) - mean_y**2
    return 2 * covariance / (variances + (mean_x - mean_y) ** 2)


def _weighted_kappa(episode: Weighted) -> np.ndarray:
    """Cohen's (1968) quadratically weighted kappa of the decided levels; undefined where the answers do not vary."""
    levels = np.asarray(episode.label_set.levels)
    x, y = (levels[chosen.argmax(-1)] for chosen in (episode.decided, episode.answered))
    if np.ptp(y) == 0:
        return np.full(len(episode.weights), np.nan)
    mean_x, mean_y = episode.mean(x), episode.mean(y)
    by_chance = episode.mean(x * x) + episode.mean(y * y) - 2 * mean_x * mean_y
    return 1 - episode.mean((x - y) ** 2) / by_chance


def _metric(name: str, title: str, kinds: str, weighted: Callable[[Weighted], np.ndarray], **facts) -> Metric:
    """A metric whose value is that of its weighted form with equal weights; registered as the constant of its name."""
    METRICS.register(name, f"{__name__}:{name.upper()}")

    def of_episode(probabilities: np.ndarray, counts: np.ndarray, label_set: LabelSet) -> float:
        return float(weighted(Weighted(probabilities, counts, label_set))[0])

    return Metric(name, title, tuple(kinds.split()), of_episode, weighted=weighted, **facts)


_SIGNED = {"bounds": (-1.0, 1.0), "unit": ""}
_LOSS = {"higher_is_better": False, "bounds": (0.0, inf)}
_DISTANCE = {"higher_is_better": False, "bounds": (0.0, 2.0), "unit": ""}
_DECIDED = {"of_decisions": True}
_ALL = "multi single soft ordinal"

MACRO_F1 = _metric("macro_f1", "macro-F1", "multi", _macro_f1, capped=True, **_DECIDED)
MICRO_F1 = _metric("micro_f1", "micro-F1", "multi", _micro_f1, **_DECIDED)
UNWEIGHTED_ACCURACY = _metric(
    "unweighted_accuracy", "UA", "multi", _unweighted_accuracy, words="mean binary accuracy (over classes)", **_DECIDED
)
JENSEN_SHANNON = _metric(
    "jensen_shannon", "Jensen-Shannon", "soft", _jensen_shannon, higher_is_better=False, unit="bits"
)
CCC = _metric("ccc", "CCC", "ordinal", _concordance, **_SIGNED)
MAE = _metric("mae", "MAE", "ordinal", _mean_absolute_error, unit="points of the scale", **_LOSS)
QWK = _metric("qwk", "QWK", "ordinal", _weighted_kappa, **_SIGNED, **_DECIDED)
NATS = _metric("nats", "nats", _ALL, _nats, unit="nats", **_LOSS)
BRIER = _metric("brier", "Brier", _ALL, _brier, **_DISTANCE)
ACCURACY = _metric("accuracy", "accuracy", "single", _accuracy, **_DECIDED)
MACRO_F1_UNION = _metric("macro_f1_union", "macro-F1 (occurring classes)", "single soft", _macro_f1_union, **_DECIDED)
BALANCED_ACCURACY = _metric("balanced_accuracy", "balanced accuracy", "single", _balanced_accuracy, **_DECIDED)
MANHATTAN = _metric("manhattan", "Manhattan", "multi single soft", _manhattan, further=("multi",), **_DISTANCE)
ERROR_RATE = _metric(
    "error_rate",
    "error rate",
    "multi single",
    _error_rate,
    **_DECIDED,
    higher_is_better=False,
    further=("multi", "single"),
)
CORRECTED_MACRO_F1 = _metric(
    "corrected_macro_f1",
    "macro-F1, prior-corrected",
    "multi single soft",
    _corrected_macro_f1,
    capped=True,
    words="of the class whose probability is largest over its mean",
    further=("multi", "single", "soft"),
)
THRESHOLD_MACRO_F1 = _metric(
    "threshold_macro_f1",
    "macro-F1, learned threshold",
    "multi",
    _threshold_macro_f1,
    capped=True,
    words="with the threshold that is best for the training raters (evalrc.learned_threshold)",
    further=("multi",),
)
ENTROPY_CORRELATION = _metric(
    "entropy_correlation",
    "entropy correlation",
    "multi soft",
    _entropy_correlation,
    further=("multi", "soft"),
    **_SIGNED,
)
