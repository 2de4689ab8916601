"""Rater pools: disjoint training, validation and test raters, and many test raters from one training.

Raters stand in an order that depends on (corpus, seed, rater) alone: one more or one less moves no other. Fold f tests
the f-th part of that order, the raters behind it validate, all others train, or the first of them. With as many folds
as there are parts, everybody is tested once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from s3prl_metaperser.config.options import PoolOptions
from s3prl_metaperser.errors import UserError, unknown_name
from s3prl_metaperser.seeding import seed_from

#: Query utterances that a test rater must have beside the K support samples.
FEWEST_QUERIES = 8
#: Validation raters where the options leave it open: half as many as are tested, and at least so many.
FEWEST_VALIDATING = 5


@dataclass(frozen=True)
class Pools:
    """Who is tested and who validates in one fold; all others train.

    Attributes:
        short: raters who have too few ratings to be tested or to validate; they train.
    """

    test: tuple[str, ...]
    validation: tuple[str, ...]
    short: tuple[str, ...]


def draw_pools(
    counts: Mapping[str, int],
    options: PoolOptions,
    *,
    corpus: str,
    fold: str,
    to_validate: Mapping[str, int] | None = None,
) -> Pools:
    """The pools of one fold.

    Args:
        counts: rater -> how many ratings it can be tested with; without raters that take no part.
        options: ``datarc.pools``, with ``minimum`` filled in.
        corpus: its name.
        to_validate: rater -> how many ratings it can validate with, where those are others.

    Raises:
        UserError: unknown fold or rater, a rater in two pools, or fewer raters with enough ratings than are asked for.

    Examples:
        >>> counts = {f"rater{number}": 40 for number in range(20)}
        >>> options = PoolOptions(test=5, validation=3, folds=4, minimum=24)
        >>> folds = [draw_pools(counts, options, corpus="mine", fold=f"fold{number}") for number in range(1, 5)]
        >>> len({rater for pools in folds for rater in pools.test}), len(folds[0].validation)
        (20, 3)
    """
    folds = fold_names(options)
    if fold not in folds:
        raise unknown_name("fold", fold, folds)
    minimum, to_validate = options.minimum or 1, counts if to_validate is None else to_validate
    able = in_order((r for r, count in counts.items() if count >= minimum), corpus=corpus, seed=options.seed)
    short = tuple(sorted(set(counts) - set(able)))
    tested = _named("test", options.test, counts, minimum)
    validating = _named("validation", options.validation, to_validate, minimum)
    if both := sorted(set(tested or ()) & set(validating or ())):
        raise UserError(f"Rater {both[0]!r} is in datarc.pools.test and in datarc.pools.validation. Remove one.")
    if tested is None:
        ring = [rater for rater in able if rater not in (validating or ())]
        size = _count(options.test, len(ring))
        _enough(len(ring), len(folds) * size, f"{len(folds)} folds of {size} test raters", minimum)
        start = folds.index(fold) * size
        ring = ring[start:] + ring[:start]
        tested, rest = tuple(ring[:size]), ring[size:]
    else:
        rest = [rater for rater in able if rater not in tested]
    if validating is None:
        wanted = options.validation
        rest = [rater for rater in rest if to_validate[rater] >= minimum]
        most = max(FEWEST_VALIDATING, len(tested) // 2) if wanted is None else _count(wanted, len(able))
        _enough(len(rest), most, f"{most} validation raters beside {len(tested)} test raters", minimum)
        validating = tuple(rest[:most])
    if not set(counts) - {*tested, *validating}:
        raise UserError(
            f"{len(tested)} test and {len(validating)} validation raters leave no rater to train on. Lower "
            "datarc.pools.test or datarc.pools.validation."
        )
    return Pools(tuple(sorted(tested)), tuple(sorted(validating)), short)


def in_order(raters: Iterable[str], *, corpus: str, seed: int) -> list[str]:
    """Raters in the order that pools are taken from, which depends on (corpus, seed, rater) alone."""
    return sorted(raters, key=lambda rater: (seed_from("rater pool", corpus, seed, rater), rater))


def first_in_order(raters: Collection[str], count: int, *, corpus: str, seed: int) -> tuple[str, ...]:
    """The first so many raters in that order, sorted by name: who is among ten is among thirty.

    Raises:
        UserError: there are fewer.
    """
    if len(raters) < count:
        raise UserError(
            f"datarc.pools.train: {count} raters cannot train, since {len(raters)} are left to. Lower it, or "
            "datarc.pools.test or datarc.pools.validation."
        )
    return tuple(sorted(in_order(raters, corpus=corpus, seed=seed)[:count]))


def fold_names(options: PoolOptions) -> list[str]:
    """The folds of rater pools; named test raters are one fold."""
    count = 1 if isinstance(options.test, tuple) else options.folds
    return [f"fold{number}" for number in range(1, count + 1)]


def _named(role: str, wanted: object, counts: Mapping[str, int], minimum: int) -> tuple[str, ...] | None:
    """The raters that are named; None where they are drawn."""
    if not isinstance(wanted, tuple):
        return None
    for rater in wanted:
        if rater not in counts:
            raise unknown_name("rater", rater, sorted(counts))
        if counts[rater] < minimum:
            raise UserError(
                f"datarc.pools.{role} names {rater!r}, who has {counts[rater]} ratings for it; {minimum} are needed "
                "(datarc.pools.minimum)."
            )
    return tuple(wanted)


def _count(wanted: object, able: int) -> int:
    if isinstance(wanted, int):
        return wanted
    assert isinstance(wanted, float)
    return max(1, int(wanted * able))


def _enough(able: int, needed: int, what: str, minimum: int) -> None:
    if able < needed:
        raise UserError(
            f"{what} need {needed} raters with at least {minimum} ratings, and there are {able}. Lower "
            "datarc.pools.test, datarc.pools.validation, datarc.pools.folds or datarc.pools.minimum."
        )
