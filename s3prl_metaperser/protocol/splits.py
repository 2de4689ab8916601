"""Seen and Unseen, folds by test rater, and the check that nothing leaks (Meta-PerSER, section 3.2).

Each fold tests one rater. The validation rater is the next test rater in cyclic order; all other raters train.
Seen: the raters are split, the utterances are not. Unseen: training and validation keep to the training sessions,
the test rater's support and query utterances both come from the test sessions.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from s3prl_metaperser.config.options import PoolOptions
from s3prl_metaperser.corpora.base import FEWEST_RATERS, Corpus, Rating, by_rater
from s3prl_metaperser.errors import UserError, unknown_name
from s3prl_metaperser.protocol.doubts import doubtful_raters, speakers_on_both_sides
from s3prl_metaperser.protocol.pools import FEWEST_QUERIES, draw_pools, first_in_order
from s3prl_metaperser.seeding import seed_from

SCENARIOS = ("seen", "unseen")
#: Scenarios that hold out a share of utterances or speakers for queries, and what they hold out.
HELD_OUT = {"unseen_utterances": "utterance", "unseen_speakers": "speaker"}
#: Folds where neither the options nor the corpus name the test raters; fewer where it has fewer raters.
MOST_FOLDS = 5
#: So many raters have a line each in the log; more share one.
SAID_ONE_BY_ONE = 5


@dataclass(frozen=True)
class Split:
    """One fold of one scenario.

    Attributes:
        test_raters: who is tested; one in the paper's protocol.
        validation_raters: who chooses a step; one in the paper's protocol.
        train: ratings of the training raters that may be learned from, sorted as in the corpus.
        validation: the validation raters' ratings; only for choosing a step.
        test: the test raters' ratings; touched in meta-testing alone.
        notes: what was left out and why, with counts; for the log.
        validation_session: whose utterances validation alone uses; None where it shares the training utterances.
        doubts: what may leak through it all the same: raters that may be no second person, speakers on both sides.
        queries: ids that queries of test episodes are drawn from; None: from all of ``test``, as its support is.
        pooled: whether raters come from pools (:mod:`.pools`), and episodes are drawn by rater and seed alone.
    """

    scenario: str
    fold: str
    test_raters: tuple[str, ...]
    validation_raters: tuple[str, ...]
    train_raters: tuple[str, ...]
    train: tuple[Rating, ...]
    validation: tuple[Rating, ...]
    test: tuple[Rating, ...]
    notes: tuple[str, ...] = ()
    validation_session: str | None = None
    doubts: tuple[str, ...] = ()
    queries: frozenset[str] | None = None
    pooled: bool = False

    def ratings_of(self, role: str) -> Mapping[str, tuple[Rating, ...]]:
        """Rater -> its ratings in this role: ``train``, ``validation`` or ``test``."""
        return self._by_role[role]

    @property
    def roles(self) -> dict[str, tuple[str, ...]]:
        """``train``, ``validation`` and ``test`` -> raters."""
        return {"train": self.train_raters, "validation": self.validation_raters, "test": self.test_raters}

    @functools.cached_property
    def opposite(self) -> Mapping[str, str]:
        """Test rater -> the one who stands half their number further, among several."""
        ring = list(self.ratings_of("test"))
        return dict(zip(ring, ring[len(ring) // 2 :] + ring[: len(ring) // 2], strict=True))

    @functools.cached_property
    def _by_role(self) -> Mapping[str, Mapping[str, tuple[Rating, ...]]]:
        return {role: by_rater(getattr(self, role)) for role in ("train", "validation", "test")}


def default_test_raters(corpus: Corpus, excluded: Sequence[str]) -> tuple[str, ...]:
    """Those that the corpus suggests where it has them all, else the (up to) five raters with the most ratings."""
    counts = {rater: len(corpus.all_of(rater)) for rater in corpus.raters()}
    suggested = corpus.suggested.test_raters
    if suggested and all(rater in counts for rater in suggested):
        return suggested
    usable = [rater for rater in counts if rater not in excluded]
    return tuple(sorted(usable, key=lambda rater: (-counts[rater], rater))[:MOST_FOLDS])


def make_split(
    corpus: Corpus,
    *,
    scenario: str,
    fold: str,
    test_raters: Sequence[str] | None = None,
    exclude_raters: Sequence[str] | None = None,
    test_sessions: Sequence[str] | None = None,
    validation_session: str | None = None,
    equal_raters: str = "error",
    pools: PoolOptions | None = None,
) -> Split:
    """The split of one scenario and fold.

    Args:
        fold: ``fold1`` .. ``foldN``, N the number of test raters.
        test_raters: in the order of the folds; by default those that the corpus suggests, or the raters with the most
            ratings.
        exclude_raters: raters that take no part; by default those that the corpus suggests.
        test_sessions: the sessions that Unseen tests on; by default those that the corpus suggests.
        validation_session: a training session of Unseen that is held out for the validation rater's episodes; ``auto``
            for the last one. By default none is, and validation uses the utterances that training does.
        equal_raters: ``allow`` takes raters whose answers are certainly not those of another person as they are.
        pools: whether and how raters are drawn in pools, and what share of the utterances or speakers is held out.

    Raises:
        UserError: unknown scenario, fold, rater or session, or too few raters or ratings for this split; or a training
            rater is a test or validation rater under another name, or their vote (:mod:`.corpora.alike`).

    Examples:
        >>> split = make_split(load_corpus("iemocap", demo), scenario="unseen", fold="fold2")
        >>> split.test_raters, split.validation_raters
        (('C-E2',), ('C-E4',))
        >>> {rating.rater for rating in split.test}
        {'C-E2'}
    """
    if scenario not in (*SCENARIOS, *HELD_OUT):
        raise unknown_name("scenario", scenario, (*SCENARIOS, *HELD_OUT))
    pools = PoolOptions() if pools is None else pools
    raters = corpus.raters()
    known_raters = set(raters)
    if exclude_raters is None:
        known = known_raters.issuperset(corpus.suggested.test_raters[:1])  # else another corpus in the same layout
        exclude_raters = [r for r in corpus.suggested.excluded_raters if known and r in known_raters]
    for rater in [*(test_raters or ()), *exclude_raters]:
        if rater not in known_raters:
            raise unknown_name("rater", rater, raters)
    sessions = corpus.suggested.test_sessions if test_sessions is None else test_sessions
    train_utterances, test_utterances, queries = _utterances(corpus, scenario, sessions, pools)
    session, validated_on = _held_out(corpus, scenario, train_utterances, validation_session)
    train_utterances -= validated_on if session else set()
    notes: list[str] = []
    if pools.test is None:
        tested, validating = _ring(corpus, fold, test_raters, exclude_raters)
    else:
        if test_raters is not None:
            raise UserError("datarc.test_raters and datarc.pools.test both say who is tested. Remove one of them.")
        rated = {rater: corpus.all_of(rater) for rater in raters if rater not in exclude_raters}
        counts = {rater: _usable(mine, test_utterances, queries) for rater, mine in rated.items()}
        to_validate = {rater: sum(r.utterance in validated_on for r in mine) for rater, mine in rated.items()}
        drawn = draw_pools(counts, pools, corpus=corpus.name, fold=fold, to_validate=to_validate)
        tested, validating, few = drawn.test, drawn.validation, f"fewer than {pools.minimum} ratings to be tested with"
        notes += said_of(drawn.short, lambda r: f"has {few}, and trains", lambda: f"have {few}, and train")
    held_out = {*tested, *validating, *exclude_raters}
    remaining = [rater for rater in raters if rater not in exclude_raters]
    train = tuple(r for r in corpus.ratings if r.rater not in held_out and r.utterance in train_utterances)
    trainers = {rating.rater for rating in train}
    notes += said_of(
        exclude_raters,
        lambda rater: f"takes no part: {len(corpus.all_of(rater))} ratings left out",
        lambda: f"take no part: {sum(len(corpus.all_of(r)) for r in exclude_raters)} ratings left out",
    )
    idle = [rater for rater in remaining if rater not in held_out and rater not in trainers]
    nothing = "no rating in the training sessions and"
    notes += said_of(idle, lambda rater: f"has {nothing} does not train", lambda: f"have {nothing} do not train")
    if pools.train is not None:
        kept = first_in_order(trainers, pools.train, corpus=corpus.name, seed=pools.seed)
        spare, trainers = sorted(trainers - {*kept}), {*kept}
        train = tuple(r for r in train if r.rater in trainers)
        beyond = f"beyond the {pools.train} of datarc.pools.train and"
        notes += said_of(spare, lambda r: f"is {beyond} does not train", lambda: f"are {beyond} do not train")
    split = Split(
        scenario=scenario,
        fold=fold,
        test_raters=tested,
        validation_raters=validating,
        train_raters=tuple(sorted(trainers)),
        train=train,
        validation=tuple(r for v in validating for r in corpus.all_of(v) if r.utterance in validated_on),
        test=tuple(r for t in tested for r in corpus.all_of(t) if r.utterance in test_utterances),
        notes=tuple(notes),
        validation_session=session,
        queries=queries,
        pooled=pools.test is not None,
    )
    for role in ("train", "validation", "test"):
        if not getattr(split, role):
            raise UserError(
                f"{scenario}/{fold} of corpus {corpus.name!r} has no {role} ratings ({in_role('test rater', tested)}, "
                f"{in_role('validation rater', validating)}); choose other test_raters or test_sessions."
            )
    check_leakage(corpus, split)
    doubts = doubtful_raters(corpus, split.roles, corpus.answers, allow=equal_raters == "allow")
    if scenario == "unseen":
        learned, heard = ({r.utterance for r in part} for part in ((*split.train, *split.validation), split.test))
        doubts += speakers_on_both_sides(corpus, learned, heard)
    return dataclasses.replace(split, doubts=tuple(doubts))


def _ring(
    corpus: Corpus, fold: str, test_raters: Sequence[str] | None, excluded: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The paper's folds: one test rater each, and the next one in cyclic order validates."""
    if test_raters is None:
        test_raters = default_test_raters(corpus, excluded)
    both = sorted(set(test_raters) & set(excluded))
    if both:
        raise UserError(f"Rater {both[0]!r} is in both test_raters and exclude_raters. Remove it from one of them.")
    remaining = [rater for rater in corpus.raters() if rater not in excluded]
    if len(remaining) < FEWEST_RATERS or len(test_raters) < 2:
        raise UserError(
            f"Corpus {corpus.name!r} at {corpus.root} has {len(remaining)} usable rater(s) ({', '.join(remaining)}) "
            f"and {len(test_raters)} test rater(s); a split needs at least {FEWEST_RATERS} raters (one to test, one to "
            "validate, one to train) and 2 test raters. Add ratings of other raters, or name test_raters."
        )
    folds = {f"fold{number}": rater for number, rater in enumerate(test_raters, start=1)}
    if fold not in folds:
        raise unknown_name("fold", fold, folds)
    return (folds[fold],), (test_raters[(list(folds).index(fold) + 1) % len(test_raters)],)


def _usable(ratings: Sequence[Rating], tested_on: set[str], queries: frozenset[str] | None) -> int:
    """How many ratings a rater can be tested with; none where too few of them are queries."""
    usable = [rating.utterance for rating in ratings if rating.utterance in tested_on]
    if queries is None:
        return len(usable)
    to_ask = sum(utterance in queries for utterance in usable)
    return len(usable) - to_ask + FEWEST_QUERIES if to_ask >= FEWEST_QUERIES else 0


def said_of(raters: Sequence[str], one: Callable[[str], str], all_of_them: Callable[[], str]) -> list[str]:
    """A line for each rater, or one line where they are too many for that.

    Args:
        one: rater -> what is said of this one.
        all_of_them: what is said of them together.
    """
    if len(raters) <= SAID_ONE_BY_ONE:
        return [f"rater {rater} {one(rater)}" for rater in raters]
    return [f"{named(raters)} {all_of_them()}"]


def named(raters: Sequence[str], role: str = "") -> str:
    """Raters in a line of text: a few by name, many by their number and the first of them."""
    if len(raters) <= SAID_ONE_BY_ONE:
        return ", ".join(raters)
    return f"{len(raters)} {role or 'rater'}s ({', '.join(raters[:SAID_ONE_BY_ONE])}, ...)"


def in_role(role: str, raters: Sequence[str]) -> str:
    """``test rater C-E1``, ``test raters C-E1, C-E2``, or ``100 test raters (C-E1, ...)``."""
    if len(raters) > SAID_ONE_BY_ONE:
        return named(raters, role)
    return f"{role}{'s' * (len(raters) > 1)} {named(raters)}"


def _utterances(
    corpus: Corpus, scenario: str, test_sessions: Sequence[str], pools: PoolOptions
) -> tuple[set[str], set[str], frozenset[str] | None]:
    """Ids that may be trained on, ids that are tested on, and those of them that queries are drawn from."""
    everything = {u.id for u in corpus.utterances}
    if scenario == "seen":
        return everything, everything, None
    if scenario in HELD_OUT:
        queries = _held_out_share(corpus, HELD_OUT[scenario], pools)
        return everything - queries, everything, queries
    sessions = sorted({u.session for u in corpus.utterances})
    if sessions in ([], [""]):
        raise UserError(
            f"Corpus {corpus.name!r} at {corpus.root} has no sessions, and the unseen scenario is split by "
            f"them. Choose {' or '.join(HELD_OUT)}; or, where the corpus is read from ratings.csv, add a column "
            "'session' to files.csv and set datarc.test_sessions."
        )
    if not test_sessions:
        raise UserError(
            f"Corpus {corpus.name!r} suggests no test sessions, and the unseen scenario is split by them. Set "
            f"datarc.test_sessions to some of: {', '.join(sessions)}."
        )
    for session in test_sessions:
        if session not in sessions:
            raise unknown_name("session", session, sessions)
    test = {u.id for u in corpus.utterances if u.session in set(test_sessions)}
    return everything - test, test, None


def _held_out_share(corpus: Corpus, what: str, pools: PoolOptions) -> frozenset[str]:
    """The utterances of a share of the ``utterance``s or ``speaker``s, drawn one by one by their names."""
    names = {u.id: u.id if what == "utterance" else u.speaker for u in corpus.utterances}
    if not all(names.values()):
        raise UserError(
            f"Corpus {corpus.name!r} at {corpus.root} does not say who speaks, and unseen_speakers holds speakers out. "
            "Add a column 'speaker' to files.csv, or set datarc.scenario to unseen_utterances."
        )
    ordered = sorted(set(names.values()), key=lambda name: (seed_from(f"held-out {what}", pools.seed, name), name))
    chosen = set(ordered[: max(1, round(pools.held_out * len(ordered)))])
    if len(chosen) == len(ordered):
        raise UserError(f"datarc.pools.held_out: {pools.held_out} of {len(ordered)} {what}s leaves none to train on.")
    return frozenset(utterance for utterance, name in names.items() if name in chosen)


def _held_out(corpus: Corpus, scenario: str, trained_on: set[str], wanted: str | None) -> tuple[str | None, set[str]]:
    """The session that is held out for validation, and the ids that validation uses."""
    if wanted is None:
        return None, trained_on
    if scenario != "unseen":
        raise UserError(
            f"datarc.validation_session: {wanted} is for the unseen scenario; in {scenario} all utterances are tested "
            "on and trained on alike. Remove it, or set datarc.scenario to unseen."
        )
    sessions = sorted({u.session for u in corpus.utterances if u.id in trained_on and u.session})
    session = sessions[-1] if wanted == "auto" and sessions else wanted
    if session not in sessions:
        raise unknown_name("session to hold out for validation", wanted, ["auto", *sessions])
    if len(sessions) < 2:
        raise UserError(
            f"datarc.validation_session: {wanted} leaves no session to train on, since all others are tested on "
            "(datarc.test_sessions)."
        )
    return session, {u.id for u in corpus.utterances if u.session == session}


def check_leakage(corpus: Corpus, split: Split) -> None:
    """Assert that nothing of the test or validation rater, or of the test utterances, can be learned from.

    Raises:
        AssertionError: a leak; a fault of the program, never of the user.
    """
    tested, validating = set(split.test_raters), set(split.validation_raters)
    held_out = tested | validating
    leaks = sorted({r.rater for r in split.train} & held_out)
    _must(not leaks, f"ratings of {leaks} reached the training ratings of {split.scenario}/{split.fold}")
    _must(not tested & validating, f"test raters {sorted(tested & validating)} validate themselves")
    _must({r.rater for r in split.train} == set(split.train_raters), "raters that take no part train")
    _must({r.rater for r in split.validation} == validating, "others than the validation raters validate")
    _must({r.rater for r in split.test} == tested, "others than the test raters are tested")
    allowed = {(r.utterance, r.rater): r for r in corpus.ratings if r.rater not in held_out}
    session_of = {u.id: u.session for u in corpus.utterances}
    unlike = any(allowed.get((r.utterance, r.rater)) != r for r in split.train)
    _must(not unlike, "training ratings are not those of the corpus without the held-out raters")
    if split.scenario == "unseen":
        heard = {r.utterance for r in split.test}
        shared = heard & {r.utterance for r in (*split.train, *split.validation)}
        _must(not shared, f"{len(shared)} test utterances reached training or validation, e.g. {sorted(shared)[:3]}")
        # an utterance that only others rated is tested on, too
        both = {session_of[u] for u in heard} & {session_of[r.utterance] for r in (*split.train, *split.validation)}
        _must(not both, f"sessions {sorted(both)} are tested on and reached training or validation")
    if split.queries is not None:
        shared = set(split.queries) & {r.utterance for r in (*split.train, *split.validation)}
        _must(
            not shared, f"{len(shared)} held-out utterances reached training or validation, e.g. {sorted(shared)[:3]}"
        )
    if split.validation_session is not None:
        trained_on = {r.utterance for r in split.train}
        shared = trained_on & {u.id for u in corpus.utterances if u.session == split.validation_session}
        _must(not shared, f"{len(shared)} utterances of the session held out for validation are trained on")
        outside = {session_of[r.utterance] for r in split.validation} - {split.validation_session}
        _must(not outside, f"validation uses sessions {sorted(outside)}, too")


def _must(holds: bool, leak: str) -> None:
    if not holds:  # and no assert, which python -O leaves out
        raise AssertionError(leak)
