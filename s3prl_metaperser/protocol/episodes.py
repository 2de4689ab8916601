"""Frozen episode lists: which K support and Q query utterances every system gets, so that comparisons are paired.

An episode list is a function of (corpus, scenario, fold, rater, K, Q, seeds) alone. It is made once, written as a
file, and read by every system.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from s3prl_metaperser.corpora.base import Rating
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.protocol.splits import HELD_OUT, said_of
from s3prl_metaperser.seeding import numpy_generator, seed_from
from s3prl_metaperser.storage.atomic import write_json
from s3prl_metaperser.storage.json_files import read_json


@dataclass(frozen=True)
class Episode:
    """K support and Q query utterances of one rater; no utterance is in both."""

    seed: int
    support: tuple[str, ...]
    query: tuple[str, ...]


@dataclass(frozen=True)
class EpisodeList:
    """The episodes of one rater.

    Attributes:
        shots: K as asked for, and as used: K never shrinks.
        queries: Q as asked for; Q as used is the length of each episode's query, less where the rater has fewer
            than K + Q rated utterances.
        corpus: the corpus's fingerprint.
        pool: hash of the rated utterances that the draws choose from; other test sessions give another pool.
    """

    corpus: str
    scenario: str
    fold: str
    rater: str
    pool: str
    shots: int
    queries: int
    episodes: tuple[Episode, ...]

    @property
    def key(self) -> str:
        """Names the file; no two different requests share it."""
        seeds = [episode.seed for episode in self.episodes]
        return _key(self.corpus, self.scenario, self.fold, self.rater, self.pool, self.shots, self.queries, seeds)

    @property
    def queries_used(self) -> int:
        """Q as used."""
        return len(self.episodes[0].query)


def make_episodes(
    ratings: Sequence[Rating],
    *,
    corpus: str,
    scenario: str,
    fold: str,
    shots: int,
    queries: int,
    seeds: Sequence[int],
    queries_from: Collection[str] | None = None,
    by_rater_alone: bool = False,
) -> EpisodeList:
    """Draw one episode a seed from one rater's ratings, without replacement and without overlap.

    Args:
        queries_from: ids that queries are drawn from, and support samples are not; by default both come from all.
        by_rater_alone: whether a draw is a function of (corpus, rater, seed) alone, whatever the fold: then the support
            samples of a smaller K are the first of a larger one's, and queries are the same as far as ratings go round.

    Raises:
        UserError: the rater has K ratings or fewer, so that nothing is left to test on.

    Examples:
        >>> corpus = load_corpus("iemocap", demo)
        >>> request = dict(corpus=corpus.fingerprint(), scenario="seen", fold="fold1", shots=8, queries=24)
        >>> ratings = [rating for rating in corpus.ratings if rating.rater == "C-E1"]
        >>> made = make_episodes(ratings, seeds=range(3), **request)
        >>> [(len(episode.support), len(episode.query)) for episode in made.episodes]
        [(8, 24), (8, 24), (8, 24)]
    """
    rater = ratings[0].rater
    rated = sorted(rating.utterance for rating in ratings)
    if queries_from is not None or by_rater_alone:
        asked = EpisodeList(corpus, scenario, fold, rater, "", shots, queries, ())
        return _by_rater_alone(rated, queries_from, asked, seeds)
    if len(rated) <= shots:
        raise UserError(
            f"Rater {rater} has {len(rated)} rated utterance(s) in {scenario}/{fold}; K={shots} support utterances "
            "and at least one query utterance are needed. Lower evalrc.shots, or choose other test_raters."
        )
    used = min(queries, len(rated) - shots)
    episodes = []
    for seed in seeds:
        draw = numpy_generator("episode", corpus, scenario, fold, rater, shots, queries, seed).permutation(len(rated))
        chosen = [rated[index] for index in draw[: shots + used]]
        episodes.append(Episode(seed=seed, support=tuple(chosen[:shots]), query=tuple(chosen[shots:])))
    return EpisodeList(corpus, scenario, fold, rater, pool_hash(rated), shots, queries, tuple(episodes))


def _by_rater_alone(
    rated: Sequence[str], queries_from: Collection[str] | None, asked: EpisodeList, seeds: Sequence[int]
) -> EpisodeList:
    """The list that is asked for, with its episodes."""
    shown = [u for u in rated if queries_from is None or u not in queries_from]
    heard = rated if queries_from is None else [u for u in rated if u in queries_from]
    left = len(heard) if queries_from is not None else len(heard) - asked.shots
    if len(shown) < asked.shots or left < 1:
        raise UserError(
            f"Rater {asked.rater} has {len(shown)} rated utterance(s) for the support and {max(left, 0)} for queries "
            f"in {asked.scenario}/{asked.fold}; K={asked.shots} and at least one are needed. Lower evalrc.shots, or "
            "choose other test raters (datarc.pools)."
        )
    episodes = []
    for seed in seeds:
        order = [shown[i] for i in numpy_generator("support", asked.corpus, asked.rater, seed).permutation(len(shown))]
        if queries_from is None:
            query = order[::-1][: min(asked.queries, left)]
        else:
            drawn = numpy_generator("query", asked.corpus, asked.rater, seed).permutation(len(heard))
            query = [heard[i] for i in drawn[: asked.queries]]
        episodes.append(Episode(seed, tuple(order[: asked.shots]), tuple(query)))
    pool = pool_hash(rated) if queries_from is None else pool_hash([*shown, "queries", *heard])
    return replace(asked, pool=pool, episodes=tuple(episodes))


def key_of(lists: Sequence[EpisodeList]) -> str:
    """Names the episodes of several raters; the key of one list is its own."""
    return lists[0].key if len(lists) == 1 else _key(*(each.key for each in lists))


def shrink_notes(lists: Sequence[EpisodeList]) -> list[str]:
    """Of whom Q was shrunk: a line for each, or one line for many."""
    short = {each.rater: each for each in lists if each.queries_used < each.queries}
    if not short:
        return []
    first = lists[0]
    if first.scenario in HELD_OUT:
        what = f"{HELD_OUT[first.scenario]}s held out, fewer than Q = {first.queries}"
        return said_of(
            list(short),
            lambda rater: f"has {short[rater].queries_used} rated utterances of {what}: all are queries",
            lambda: (
                f"have {min(each.queries_used for each in short.values())} or more rated utterances of {what}: all "
                "are queries"
            ),
        )
    wanted = f"fewer than K + Q = {first.shots + first.queries}: K stays {first.shots}, Q shrinks to"
    return said_of(
        list(short),
        lambda rater: (
            f"has {first.shots + short[rater].queries_used} rated utterances in {first.scenario}/{first.fold}, "
            f"{wanted} {short[rater].queries_used}"
        ),
        lambda: f"have {wanted} what is left, at least {min(each.queries_used for each in short.values())}",
    )


def pool_hash(rated: Sequence[str]) -> str:
    """The hash of the utterances that episodes are drawn from."""
    return _key(*sorted(rated))


def frozen_episodes(folder: Path, ratings: Sequence[Rating], **request) -> EpisodeList:
    """The episode list for a request (the arguments of :func:`make_episodes`), from its file if there is one.

    Raises:
        UserError: the file is not what the request makes; it was edited or is damaged.
    """
    return frozen_fold(folder, {"": ratings}, **request)[0]


def frozen_fold(folder: Path, ratings: Mapping[str, Sequence[Rating]], **request) -> tuple[EpisodeList, ...]:
    """The episode lists of all raters of a fold, which share a file; as :func:`frozen_episodes`, for each of them."""
    made = tuple(make_episodes(mine, **request) for mine in ratings.values())
    first, key = made[0], key_of(made)[:12]
    whose = first.rater.replace("/", "_") if len(made) == 1 else f"{len(made)}-raters"
    path = folder / f"{first.scenario}-{first.fold}-{whose}-k{first.shots}-{key}.json"
    if not path.exists():
        write_json(path, asdict(first) if len(made) == 1 else {"raters": [asdict(each) for each in made]})
        return made
    try:
        stored = _read(path)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{path} is not an episode list ({error}). Delete it; it is redrawn.") from None
    if stored != made:
        unlike = next((pair for pair in zip(stored, made, strict=False) if pair[0] != pair[1]), None)
        what = f"{len(stored)} raters instead of {len(made)}" if unlike is None else _difference(*unlike)
        raise UserError(
            f"{path} differs from the episodes that its request draws ({what}): it was edited or "
            "made by another version. Delete it to redraw it, or use the version that made it."
        )
    return made


def _read(path: Path) -> tuple[EpisodeList, ...]:
    content = read_json(path)
    found = []
    for each in content.get("raters", [content]):
        episodes = tuple(Episode(e["seed"], tuple(e["support"]), tuple(e["query"])) for e in each.pop("episodes"))
        found.append(EpisodeList(**each, episodes=episodes))
    return tuple(found)


def _difference(stored: EpisodeList, made: EpisodeList) -> str:
    for name, value in asdict(made).items():
        if name != "episodes" and getattr(stored, name) != value:
            return f"{name} {getattr(stored, name)!r} instead of {value!r}"
    for one, other in zip(stored.episodes, made.episodes, strict=False):
        if one != other:
            unlike = len(set(one.support) ^ set(other.support)) + len(set(one.query) ^ set(other.query))
            return f"seed {other.seed}: {unlike} utterances" if unlike else f"seed {other.seed}: the order"
    return f"{len(stored.episodes)} episodes instead of {len(made.episodes)}"


def _key(*request) -> str:
    return f"{seed_from('episode list', *request):016x}"
