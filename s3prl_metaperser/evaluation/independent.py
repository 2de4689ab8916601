"""Other tests of the same paired differences, as a check of the interval: a sign-flip test, and a mixed model.

The interval of :mod:`.statistics` comes from moments. Neither of these shares its arithmetic: the sign-flip test
assumes only that a rater's difference is as likely to be negative where nothing differs, and the mixed model is a
likelihood,

    d_ru = mean + a_r + b_u + noise,        a, b and noise normal, raters and utterances crossed,

fitted by REML. Its d_ru are the differences on single utterances of metrics that are means over utterances, and of
others their pseudo-values, whose mean over utterances is the rater's difference. With one observation of a rater and
utterance the utterances' effects are eliminated in closed form, so that a fit takes milliseconds; libraries for other
designs invert a matrix of all observations in every step of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from s3prl_metaperser.evaluation.statistics import Estimate, Influences
from s3prl_metaperser.seeding import numpy_generator

#: With so many raters all signs are tried; of more, so many assignments are drawn.
EXACT, DRAWN = 14, 10_000


def sign_flip(differences: Sequence[float]) -> float:
    """Two-sided p value: how often flipping raters' signs gives a mean as far from zero; 2 / 2^R at least.

    >>> sign_flip([1.0, 2.0, 0.5, 1.5, 1.0])
    0.0625
    """
    d = np.asarray(differences, dtype=np.float64)
    if len(d) <= EXACT:
        signs = 1 - 2 * (np.arange(2 ** len(d))[:, None] >> np.arange(len(d)) & 1)
        found, added = signs @ d, 0
    else:
        generator, added = numpy_generator("sign flip", len(d)), 1
        found = np.concatenate([generator.choice([-1, 1], (1000, len(d))) @ d for _ in range(DRAWN // 1000)])
    as_far = np.abs(found) >= abs(d.sum()) * (1 - 1e-12)
    return float((as_far.sum() + added) / (len(found) + added))


@dataclass(frozen=True)
class Mixed:
    """A fitted model.

    Attributes:
        raters, utterances, noise: standard deviations of the effects.
    """

    estimate: Estimate
    raters: float
    utterances: float
    noise: float


def mixed_model(differences: Mapping[str, Influences], metric: str) -> Mixed | None:
    """The mixed model of one metric's differences; None with one rater, or where nothing varies.

    Args:
        differences: rater -> the paired difference of its episodes.
    """
    own = [d for d in differences.values() if np.isfinite(d.means[_index(d, metric)])]
    place = {u: at for at, u in enumerate(dict.fromkeys(u for d in own for u in d.utterances))}
    y = np.zeros((len(own), len(place)))
    known = np.zeros(y.shape, dtype=bool)
    for row, d in enumerate(own):
        columns = [place[u] for u in d.utterances]
        index = _index(d, metric)
        y[row, columns] = d.means[index] + len(columns) * d.derivatives[index]
        known[row, columns] = True
    return fit(y, known) if len(own) > 1 else None


def _index(differences: Influences, metric: str) -> int:
    return [each.name for each in differences.metrics].index(metric)


def fit(y: np.ndarray, known: np.ndarray) -> Mixed | None:
    """REML of values that raters give utterances, one each at most; None where nothing varies.

    Args:
        y: [R, U].
        known: which of them there are, bool [R, U].
    """
    from scipy.optimize import minimize

    mask, y = known.astype(np.float64), np.where(known, y, 0.0)
    count, of_utterance = int(mask.sum()), mask.sum(0)
    spread = y[known].std()
    if count < 3 or spread == 0:
        return None
    data = np.stack([mask, y / spread])  # the constant, and the values
    of_rater, sums, totals = np.diag(mask.sum(1)), data.sum(2).T, data.sum(1)  # sums: [R, 2]; totals: [2, U]
    products = np.einsum("iru,jru->ij", data, data)

    def parts(ratios: np.ndarray) -> tuple[float, np.ndarray]:
        """Minus twice the profiled log-likelihood, and [1, y]' H^-1 [1, y], for variances relative to the noise's."""
        rater, utterance = np.exp(ratios)
        taken = utterance / (1 + utterance * of_utterance)
        within = of_rater - (mask * taken) @ mask.T
        crossed = sums - mask @ (taken * totals).T
        whole = products - (totals * taken) @ totals.T
        inner = np.eye(len(mask)) / rater + within
        g = whole - crossed.T @ np.linalg.solve(inner, crossed)
        scale = (g[1, 1] - g[0, 1] ** 2 / g[0, 0]) / (count - 1)
        logs = np.log1p(utterance * of_utterance).sum() + np.linalg.slogdet(np.eye(len(mask)) + rater * within)[1]
        return float((count - 1) * np.log(max(scale, 1e-300)) + logs + np.log(g[0, 0])), g

    best = min(
        (minimize(lambda r: parts(r)[0], start, bounds=[(-12, 12)] * 2) for start in ((-2.0, -2.0), (-6.0, 0.0))),
        key=lambda found: found.fun,
    )
    _, g = parts(best.x)
    variance = spread**2 * (g[1, 1] - g[0, 1] ** 2 / g[0, 0]) / (count - 1)
    deviations = np.sqrt(variance * np.exp(best.x))
    estimate = Estimate(float(spread * g[0, 1] / g[0, 0]), float(np.sqrt(variance / g[0, 0])), float(len(mask) - 1))
    return Mixed(estimate, float(deviations[0]), float(deviations[1]), float(np.sqrt(variance)))
