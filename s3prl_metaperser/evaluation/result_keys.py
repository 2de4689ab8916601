"""What a result file holds, key by key; the comment beside each field documents its key (docs/results.md).

:class:`.Result` is made of these. :class:`Cell` and :class:`Setting` name what results are gathered by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from s3prl_metaperser.config import validator

#: A whole number that is not negative.
Count = Annotated[int, validator.at_least(0)]
#: An array with a row for each query utterance and a column for each class, [Q, C].
Rows = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class EvaluatedCell:
    """What was tested, and how: the cell with its fold."""

    corpus: str  # the corpus's name
    upstream: str  # s3prl's name of the upstream
    scope: Literal["frozen", "finetuned"]  # what adapts: a head on a frozen upstream, or the whole model
    scenario: str  # the task's scenario; listener-personalised emotion recognition has seen and unseen
    fold: str  # which unit (rater) is tested
    system: str  # the system's registered name
    split: Literal["test", "dev"]  # whose episodes: the test rater's, or the validation rater's
    shots: Count  # K, support samples asked for
    queries: Count  # Q, query samples asked for
    seeds: tuple[Count, ...]  # one episode each
    steps: Count  # steps of adaptation
    protocol: str  # paper or tuned (docs/protocols.md)
    standardized: bool  # whether features were standardised with the training split's statistics
    training_seed: int  # the launcher's --seed


@dataclass(frozen=True)
class Raters:
    """Who was tested, who chose, who trained."""

    test: str | tuple[str, ...]  # the rater (or other unit) that was tested, or a list of several
    validation: str | tuple[str, ...]  # the one that selected the step, or several; empty for none
    train: tuple[str, ...]  # those that were trained on

    @classmethod
    def of(cls, test: Sequence[str], validation: Sequence[str], train: Sequence[str]) -> Raters:
        """One is named alone."""
        tested, validating = ("".join(who) if len(who) < 2 else tuple(who) for who in (test, validation))
        return cls(tested, validating, tuple(train))

    @property
    def tested(self) -> tuple[str, ...]:
        """All that were tested."""
        return (self.test,) if isinstance(self.test, str) else self.test

    @property
    def validating(self) -> tuple[str, ...]:
        """All that selected the step."""
        return self.validation if isinstance(self.validation, tuple) else (self.validation,) * bool(self.validation)


@dataclass(frozen=True)
class Counts:
    """K and Q as asked for and as used. Q shrinks where a rater has fewer than K + Q rated utterances, K never."""

    shots_requested: Count  # K as asked for
    shots_used: Count  # K as used
    queries_requested: Count  # Q as asked for
    queries_used: Count  # Q as used; the smallest where several raters were tested
    episodes: Count  # how many, all of the same K


@dataclass(frozen=True)
class Hashes:
    """SHA-256 of what the numbers depend on."""

    corpus: str  # the corpus's labels
    task: str  # the training task: labels, audio, features, split
    features: str  # the features' recipe
    upstream_checkpoint: str  # the upstream's weights
    episodes: str  # the episode list
    code: str  # this package's Python files
    parameters: str | None = None  # the trained parameters
    audio: str | None = None  # all of the corpus's audio files; not in files written before this was recorded
    start: str | None = None  # the parameters of another task's model that was started from, as its result has them


@dataclass(frozen=True)
class Tuned:
    """What the protocol ``tuned`` chose, and among what. The options stay the configuration as given."""

    criterion: str  # what was lowest
    validation_episodes: Count  # how many it is a mean over
    chosen: dict[str, Any]  # section.option -> value
    grid: tuple[dict[str, Any], ...]  # every choice with its loss, null where it diverged

    def choices(self) -> list[tuple[dict[str, Any], float | None]]:
        """(choice, loss) of the grid."""
        return [({n: v for n, v in choice.items() if n != "loss"}, choice.get("loss")) for choice in self.grid]


@dataclass(frozen=True)
class Selected:
    """The state that was tested, among those that training went through; since version 4."""

    loss: float | None  # on the validation rater
    initial_loss: float | None = None  # the same before the first outer step
    rates_moved: float | None = None  # mean relative distance of inner rates from their start; null if none are learned


@dataclass(frozen=True)
class Episode:
    """One episode's predictions."""

    seed: Count  # names the draw of support and query
    support: tuple[str, ...]  # utterance ids, K of them
    query: tuple[str, ...]  # utterance ids, Q of them
    probabilities: Rows  # [Q, C]: the prediction
    ticks: Rows  # [Q, C]: how often the rater gave each class, its share of the answer, or the levels beside a number
    loss: float  # class-balanced cross-entropy on the query utterances
    metrics: dict[str, float]  # metric -> its value on this episode
    rater: str | None = None  # whose it is, where several were tested
    clusters: tuple[str, ...] | None = None  # who speaks each of query, where intervals are for further speakers


@dataclass(frozen=True)
class Point:
    """The same episodes after another number of steps; lists have one item an episode, in their order."""

    steps: Count  # 0: before adaptation
    diverged: str | None = None  # where adaptation diverges: how; then there is nothing else
    metrics: dict[str, tuple[float, ...]] = field(default_factory=dict)  # in the file beside the other keys, by name
    loss: tuple[float, ...] = ()  # as in episodes
    support_loss: tuple[float, ...] = ()  # the same on the support samples
    predicted: tuple[tuple[Count, ...], ...] = ()  # for each query utterance a number; bit c says that class c is given


@dataclass(frozen=True)
class Control:
    """The same episodes without labels, or with others'; lists have one item an episode, in their order."""

    name: str  # unadapted, swapped, mixed, consensus or shuffled (docs/protocols.md)
    shots: Count  # labels in the place of K
    diverged: str | None = None  # where adaptation diverges: how; then there is nothing else
    metrics: dict[str, tuple[float, ...]] = field(default_factory=dict)  # metric -> its value on each episode
    loss: tuple[float, ...] = ()  # as in episodes
    predicted: tuple[tuple[Count, ...], ...] = ()  # for each query utterance a number; bit c says that class c is given


@dataclass(frozen=True, order=True)
class Setting:
    """What systems must share to be compared: all of a cell but the system."""

    corpus: str
    upstream: str
    scope: str
    scenario: str
    shots: int
    protocol: str

    def __str__(self) -> str:
        return (
            f"{self.corpus}, {self.upstream} ({self.scope}), {self.scenario}, K={self.shots}, protocol {self.protocol}"
        )


@dataclass(frozen=True, order=True)
class Cell:
    """One number of a table: everything that names it but the fold, which is averaged over."""

    corpus: str
    upstream: str
    scope: str
    scenario: str
    system: str
    shots: int
    protocol: str

    @property
    def setting(self) -> Setting:
        """The cell without its system."""
        return Setting(self.corpus, self.upstream, self.scope, self.scenario, self.shots, self.protocol)

    def __str__(self) -> str:
        return f"{self.system}: {self.setting}"
