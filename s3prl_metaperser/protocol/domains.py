"""Which corpora are learned from and which one is tested, and the check that nothing of it leaks.

A corpus of several domains (:mod:`s3prl_metaperser.corpora.together`) has a rater for each: the domain's name. The
target is tested whole, by each of its utterances once; the sources train whole, unless some of their speakers are held
out to choose a step. With one corpus alone (``single:``) about a fifth of its speakers is tested.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from s3prl_metaperser.config.yaml_files import read_yaml
from s3prl_metaperser.corpora.base import Corpus, Rating
from s3prl_metaperser.errors import UserError, listed, unknown_name
from s3prl_metaperser.protocol.recordings import equal_recordings
from s3prl_metaperser.protocol.splits import Split
from s3prl_metaperser.seeding import numpy_generator

#: Scenarios that name corpora: all others at hand -> one; one -> one; the speakers of one apart.
REST, PAIR, SINGLE = "rest", "pair", "single"
#: The share of utterances that ``single`` trains on.
SINGLE_TRAINS = 0.8
#: With fewer speakers nothing is said about others.
FEWEST_SPEAKERS = 3


@dataclass(frozen=True)
class Domains:
    """Sources and target by name; equal where the speakers of one corpus are taken apart."""

    sources: tuple[str, ...]
    target: str

    @property
    def single(self) -> bool:
        """Whether one corpus is both."""
        return self.sources == (self.target,)


@dataclass(frozen=True)
class DomainSplit:
    """What is learned from, and what is tested.

    Attributes:
        train: source -> ratings that are learned from, by utterance; the order of the sources is that of domains.
        validation: source -> ratings of speakers who only choose a step.
        test: the target's ratings.
        notes: what a reader should know of it.
    """

    scenario: str
    trial: int
    domains: Domains
    train: Mapping[str, tuple[Rating, ...]]
    validation: Mapping[str, tuple[Rating, ...]]
    test: tuple[Rating, ...]
    notes: tuple[str, ...] = ()

    @property
    def fold(self) -> str:
        """As result files have it."""
        return f"trial{self.trial}"

    def as_split(self) -> Split:
        """The same for what knows splits by rater: a domain is a rater."""
        validating = tuple(name for name, ratings in self.validation.items() if ratings)
        return Split(
            scenario=self.scenario,
            fold=self.fold,
            test_raters=(self.domains.target,),
            validation_raters=validating,
            train_raters=tuple(self.train),
            train=tuple(rating for ratings in self.train.values() for rating in ratings),
            validation=tuple(rating for ratings in self.validation.values() for rating in ratings),
            test=self.test,
            notes=self.notes,
        )


@functools.cache
def scenarios() -> dict[str, Domains]:
    """The scenarios that have a name of their own."""
    content = read_yaml(Path(__file__).with_name("scenarios.yaml"))
    return {name: Domains(tuple(each["sources"]), each["target"]) for name, each in content.items()}


def domains_of(
    scenario: str, known: Sequence[str], sources: Sequence[str] | None = None, target: str | None = None
) -> Domains:
    """Sources and target of a scenario.

    Args:
        known: domains that are at hand.
        sources, target: in place of those of the scenario, which is then a name alone.

    Raises:
        UserError: no such scenario, a domain that is not at hand, or a target that is a source.

    Examples:
        >>> domains_of("rest:b", ["a", "b", "c"])
        Domains(sources=('a', 'c'), target='b')
        >>> domains_of("single:a", ["a", "b"]).single
        True
    """
    if sources is not None and target is not None:
        found = Domains(tuple(sources), target)
    else:
        found = _named(scenario, known)
    for name in (*found.sources, found.target):
        if name not in known:
            raise UserError(
                f"Scenario {scenario!r} needs the corpus {name!r}, which is not at hand: {', '.join(known)} are. Put "
                "its folder below datarc.root, or name it in datarc.roots."
            )
    if not found.sources:
        raise UserError(f"Scenario {scenario!r} has no source: {found.target!r} is the only corpus at hand.")
    if found.target in found.sources and not found.single:
        raise UserError(f"The target {found.target!r} is a source, too. Leave it out of datarc.sources.")
    return found


def _named(scenario: str, known: Sequence[str]) -> Domains:
    if scenario in scenarios():
        return scenarios()[scenario]
    kind, _, names = scenario.partition(":")
    parts = tuple(filter(None, names.split(":")))
    if kind == REST and len(parts) == 1:
        return Domains(tuple(name for name in known if name != parts[0]), parts[0])
    if kind == PAIR and len(parts) == 2:
        return Domains(parts[:1], parts[1])
    if kind == SINGLE and len(parts) == 1:
        return Domains(parts, parts[0])
    patterns = (f"{REST}:TARGET", f"{PAIR}:SOURCE:TARGET", f"{SINGLE}:CORPUS")
    error = unknown_name("scenario", scenario, [*scenarios(), *patterns])
    raise UserError(f"{error} Or name datarc.sources and datarc.target.")


def _own_name(scenario: str, known: Sequence[str], domains: Domains) -> str:
    """The scenario's name; where it stands for other sources or another target, these in its place.

    Examples:
        >>> _own_name("scn4", ["a", "b"], Domains(("a",), "b"))
        'a:b'
        >>> _own_name("mine", ["a", "b"], Domains(("a",), "b"))
        'mine'
    """
    try:
        meant = _named(scenario, known)
    except UserError:  # a name that stands for nothing is free
        return scenario
    same = meant.target == domains.target and {*meant.sources} == {*domains.sources}
    return scenario if same else f"{'+'.join(domains.sources)}:{domains.target}"


def make_domain_split(
    corpus: Corpus,
    *,
    scenario: str,
    trial: int = 1,
    seed: object = 0,
    validation: float = 0.0,
    sources: Sequence[str] | None = None,
    target: str | None = None,
    by: Literal["speakers", "random"] = "speakers",
) -> DomainSplit:
    """The split of one scenario and trial.

    Args:
        corpus: of several domains.
        seed: names the draw of who is held out; the trial is part of it, too.
        validation: share of each source's utterances whose speakers only choose a step; 0: all train.
        by: how ``single`` takes a corpus apart; ``random`` leaves the speakers on both sides, as a table of the paper
            seems to.

    Raises:
        UserError: as :func:`domains_of`, or one corpus that has a single speaker.
    """
    domains = domains_of(scenario, corpus.raters(), sources, target)
    scenario = _own_name(scenario, corpus.raters(), domains)
    speakers = {utterance.id: utterance.speaker for utterance in corpus.utterances}
    rated = {name: corpus.all_of(name) for name in (*domains.sources, domains.target)}
    test, notes = rated[domains.target], []
    if domains.single:
        rated[domains.target], test = _apart(test, speakers, 1 - SINGLE_TRAINS, by, ("test", seed, trial))
    train: dict[str, tuple[Rating, ...]] = {}
    held_out: dict[str, tuple[Rating, ...]] = {}
    for name in domains.sources:
        own = rated[name]
        train[name], held_out[name] = own, ()
        if validation:
            train[name], held_out[name] = held_apart(own, speakers, validation, ("validation", seed, trial, name))
            if not held_out[name]:
                notes.append(f"note: {name} has too few speakers to hold one out: all train, none chooses a step")
    classes = {label: sum(label in rating.ticks for rating in test) for label in corpus.classes}
    if absent := [label for label, count in classes.items() if not count]:
        notes.append(f"note: {domains.target} has no {' and no '.join(absent)}; UAR and macro-F1 are over the others")
    if len(tested := {speakers[rating.utterance] for rating in test}) < FEWEST_SPEAKERS:
        notes.append(
            f"note: {domains.target} has {len(tested)} speaker{'s' * (len(tested) > 1)} to test: nothing can be said "
            "about others"
        )
    return DomainSplit(scenario, trial, domains, train, held_out, test, tuple(notes))


def held_apart(
    ratings: tuple[Rating, ...], speakers: Mapping[str, str], share: float, names: tuple[object, ...]
) -> tuple[tuple[Rating, ...], tuple[Rating, ...]]:
    """Those who stay, and whole speakers with as near to ``share`` of the utterances as can be; somebody stays.

    Args:
        names: of the generator that puts the speakers in order.
    """
    count: dict[str, int] = {}
    for rating in ratings:
        count[speakers[rating.utterance]] = count.get(speakers[rating.utterance], 0) + 1
    order = numpy_generator("held-out speakers", *names).permutation(sorted(count)).tolist()
    sizes = np.cumsum([0, *(count[speaker] for speaker in order[:-1])]) / len(ratings)
    out = set(order[: int(np.abs(sizes - share).argmin())])
    return (
        tuple(rating for rating in ratings if speakers[rating.utterance] not in out),
        tuple(rating for rating in ratings if speakers[rating.utterance] in out),
    )


def _apart(
    ratings: tuple[Rating, ...], speakers: Mapping[str, str], share: float, by: str, names: tuple[object, ...]
) -> tuple[tuple[Rating, ...], tuple[Rating, ...]]:
    """One corpus in training and test part, of which neither is empty."""
    if by == "random":
        speakers = {rating.utterance: rating.utterance for rating in ratings}
    known = sorted({speakers[rating.utterance] for rating in ratings})
    if len(known) < 2:
        raise UserError(f"{known[0]} speaks alone in its corpus: there is nobody to test. Choose another scenario.")
    train, test = held_apart(ratings, speakers, share, names)
    if not test:  # of two speakers one is tested
        alone = numpy_generator("held-out speakers", *names).permutation(known).tolist()[0]
        test = tuple(rating for rating in train if speakers[rating.utterance] == alone)
        train = tuple(rating for rating in train if speakers[rating.utterance] != alone)
    return train, test


def refuse_domain_leaks(
    split: DomainSplit, corpus: Corpus, sounds: Mapping[str, str], *, allow: bool = False, by_speaker: bool = True
) -> None:
    """Refuse a split in which an utterance, a speaker or a recording stands on two sides.

    Args:
        sounds: utterance id -> digest of what is heard.
        allow: equal recordings (``datarc.equal_audio: allow``).
        by_speaker: False where the speakers are on both sides on purpose.

    Raises:
        UserError: naming what leaks and what to do.
    """
    parts = split.as_split()
    sides: dict[str, Collection[str]] = {
        "learned from": {rating.utterance for rating in parts.train},
        "used to choose a step": {rating.utterance for rating in parts.validation},
        "tested": {rating.utterance for rating in parts.test},
    }
    names = list(sides)
    for at, one in enumerate(names):
        for other in names[at + 1 :]:
            both = f"would be {one} and {other}"
            if shared := sorted({*sides[one]} & {*sides[other]}):
                raise UserError(f"{split.scenario}: {len(shared)} utterances {both}: {listed(shared)}.")
            who = [{corpus.utterance(name).speaker for name in sides[side]} for side in (one, other)]
            if by_speaker and (speakers := sorted(who[0] & who[1])):
                raise UserError(f"{split.scenario}: {len(speakers)} speakers {both}: {listed(speakers)}.")
            groups = equal_recordings(sounds, {*sides[one], *sides[other]})
            across = [each for each in groups if {*each} & {*sides[one]} and {*each} & {*sides[other]}]
            if across and not allow:
                shown = listed([" = ".join(group) for group in across])
                raise UserError(
                    f"{split.scenario}: {len(across)} recording{'s' * (len(across) > 1)} {both} under two names: "
                    f"{shown}. Remove one of each, or set datarc.equal_audio: 'first' keeps the first name in the "
                    "alphabet, 'allow' takes them for two."
                )
