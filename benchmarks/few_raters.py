#!/usr/bin/env python
"""Do tests and intervals over few raters hold what they say? A simulation of the standard error alone.

    python benchmarks/few_raters.py                        # sizes at 5, 1 and 0.1 %, and coverage of 95 % intervals
    python benchmarks/few_raters.py --repeats 5000         # rougher

Each of R raters answers Q of U utterances. A score is a rater's leaning, plus what the utterance does to all raters,
plus chance; or the difference of right answers of two equally good systems (-1, 0 or 1), so that scores of few
utterances tie. The mean over raters is zero in truth: a test at 5 % may reject it in 5 % of the repeats at most, and
a 95 % interval must cover it in about 95 %. Everything but the scores is the package's own
(``evaluation.statistics``). ``benchmarks/statistics_size.py`` does it with trained systems on the demo corpus.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from scipy.special import stdtr

from s3prl_metaperser.evaluation.statistics import error_and_freedom

LEVELS = (0.05, 0.01, 0.001)
RATERS = (2, 3, 5, 10, 20, 100, 800)


@dataclass(frozen=True)
class Case:
    """Standard deviations of what a score consists of, and how many utterances there are."""

    what: str
    raters: float
    utterances: float
    chance: float  # 0: right minus wrong answers, which vary by themselves
    pool: int
    queries: int


CASES = (
    Case("raters alike", 0.0, 0.0, 0.45, 200, 24),
    Case("raters differ", 0.3, 0.0, 0.45, 200, 24),
    Case("raters and utterances", 0.05, 0.1, 0.45, 600, 128),
    Case("shared utterances alone", 0.0, 0.4, 0.45, 60, 40),
    Case("right minus wrong, raters alike", 0.0, 0.0, 0.0, 200, 24),
    Case("right minus wrong, raters and utterances", 0.1, 0.1, 0.0, 600, 48),
    Case("right minus wrong, 8 of 12 utterances", 0.0, 0.0, 0.0, 12, 8),
)


def p_values(case: Case, raters: int, repeats: int, generator: np.random.Generator) -> np.ndarray:
    """Two-sided p of a true mean of zero, [repeats]."""
    some = (repeats, raters, case.queries)
    start = generator.integers(case.pool, size=(repeats, raters, 1))
    chosen = (start + np.arange(case.queries)) % case.pool  # neighbours on a ring
    of_utterances = case.utterances * generator.standard_normal((repeats, case.pool))
    x = np.take_along_axis(of_utterances, chosen.reshape(repeats, -1), 1).reshape(some)
    x += case.raters * generator.standard_normal((repeats, raters, 1))
    if case.chance:
        x += case.chance * generator.standard_normal(some)
    else:
        leaning = np.clip(x, -0.45, 0.45)
        x = (generator.random(some) < 0.5 + leaning).astype(float) - (generator.random(some) < 0.5 - leaning)
    means = x.mean(-1)
    d = (x - means[..., None]) / np.sqrt(case.queries * (case.queries - 1))
    place = (np.arange(repeats)[:, None, None] * case.pool + chosen).ravel()
    total = np.bincount(place, d.ravel(), repeats * case.pool).reshape(repeats, case.pool)
    error, freedom = error_and_freedom(means, (d**2).sum((1, 2)), (total**2).sum(1), case.pool)
    mean = np.abs(means.mean(1))
    t = np.divide(mean, error, out=np.where(mean > 0, np.inf, 0.0), where=error > 0)
    return 2 * stdtr(freedom, -t)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--repeats", type=int, default=50_000, help="of up to ten raters; of more, fewer [50000]")
    parser.add_argument("--raters", type=int, nargs="+", default=list(RATERS))
    chosen, begun = parser.parse_args(), time.perf_counter()
    generator, worst = np.random.default_rng(0), 0.0
    print(f"{'scores':<42} {'R':>4} {'repeats':>8} {'5 %':>7} {'1 %':>7} {'0.1 %':>7} {'covers':>7}")
    for case in CASES:
        for raters in chosen.raters:
            repeats = chosen.repeats if raters <= 10 else max(chosen.repeats * 10 // raters, 1000)
            at_once = max(1, 2_000_000 // (raters * case.queries + case.pool))
            sizes = [min(at_once, repeats - done) for done in range(0, repeats, at_once)]
            p = np.concatenate([p_values(case, raters, size, generator) for size in sizes])
            shares = [float(np.mean(p < level)) for level in LEVELS]
            by_chance = [np.sqrt(level * (1 - level) / repeats) for level in LEVELS]
            worst = max(worst, *((s - level) / c for s, level, c in zip(shares, LEVELS, by_chance, strict=True)))
            shown = " ".join(f"{100 * share:>7.3f}" for share in shares)
            print(f"{case.what:<42} {raters:>4} {repeats:>8} {shown} {100 * (1 - shares[0]):>7.1f}", flush=True)
    print(f"largest excess over a level: {worst:.1f} standard errors of this simulation")
    print(f"({time.perf_counter() - begun:.0f} s)")


if __name__ == "__main__":
    main()
