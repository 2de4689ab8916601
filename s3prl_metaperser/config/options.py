"""Every option, typed. A configuration file is checked key by key before anything runs."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib
import json
import math
import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self, get_type_hints

from s3prl_metaperser.config.section import (
    Affects,
    as_dict,
    kinds_of,
    not_used,
    numbers_of,
    option,
    settable,
    turned_off,
)
from s3prl_metaperser.config.validator import Fraction, NotNegative, Positive, Share, Whole, build
from s3prl_metaperser.errors import UserError, did_you_mean, shown

#: Whose further keys are options that the corpus's reader declares; see :meth:`Options.from_config`.
OPEN_SECTIONS = ("config.downstream_expert.datarc",)
#: Sections that training goes by and meta-testing does not.
_TRAINING = ("downstream_expert.initrc", "downstream_expert.metarc", "optimizer", "runner")


@dataclass(frozen=True)
class DemoOptions:
    """The demo corpus, made on first use when ``datarc.corpus`` is ``demo``."""

    seed: Whole = 0
    utterances: Positive = 600
    raters: Literal["paper", "identical", "opposed", "misspecified", "crowd", "crowd-strong", "crowd-identical"] = (
        "paper"
    )
    answer: Literal["emotion", "arousal", "valence", "dominance"] = "emotion"


#: A number of raters, a share of them, or their names.
Pool = int | float | tuple[str, ...]


@dataclass(frozen=True)
class PoolOptions:
    """Pools of raters; without ``test`` each fold tests one rater, as in the paper."""

    test: Pool | None = None
    validation: Pool | None = None
    train: Positive | None = None
    folds: Positive = 5
    minimum: Positive | None = None
    held_out: Fraction = 0.2
    seed: Whole = 0

    def __post_init__(self) -> None:
        for name, pool in (("test", self.test), ("validation", self.validation)):
            if isinstance(pool, tuple):
                if len(set(pool)) < max(1, len(pool)):
                    raise ValueError(f"{name} names a rater twice, or nobody: {shown(list(pool))}.")
            elif pool is not None and not (pool >= 1 if isinstance(pool, int) else 0 < pool < 1):
                raise ValueError(f"{name}: {pool} is neither a number of raters (5) nor a share of them (0.2).")
        if self.test is None and self.validation is not None:
            raise ValueError("validation goes with test: a number of raters, a share of them, or a list of names.")
        if self.test is None and self.train is not None:
            raise ValueError("train goes with test: it is how many of the other raters train.")
        if not self.held_out:
            raise ValueError("held_out: 0 leaves nothing to test on; it is a share, such as 0.2.")


@dataclass(frozen=True)
class DataOptions:
    """Which data, which split of it, and where what is made from it is kept."""

    corpus: str = "demo"
    root: str | None = option(None, affects="files")
    scenario: str = "seen"  # the task says which there are
    fold: str = "fold1"
    test_raters: tuple[str, ...] | None = None
    exclude_raters: tuple[str, ...] | None = None
    pools: PoolOptions = field(default_factory=PoolOptions)
    test_sessions: tuple[str, ...] | None = None
    validation_session: str | None = None
    equal_audio: Literal["error", "first", "allow"] = "error"
    equal_raters: Literal["error", "allow"] = "error"
    duplicates: Literal["error", "union", "first"] = "error"
    outside: bool = option(False, affects="files")
    smoothing: Fraction = 0.05
    cache_dir: str | None = option(None, affects="files")
    num_workers: Whole = option(0, affects="speed")
    demo: DemoOptions = field(default_factory=DemoOptions, metadata={"of_reader": True})
    #: Further options that the corpus's reader declares, where they are given; in a file they stand among the others.
    reader_options: Mapping[str, Any] = field(default_factory=dict, hash=False, metadata={"affects": None})


@dataclass(frozen=True)
class ModelOptions:
    """The head, and how pooled features are prepared for it."""

    projector_dim: Positive = 256
    standardize: Literal["auto", True, False] = "auto"
    feature_dtype: Literal["float32", "float16"] = "float32"
    batch_size: Positive | None = option(None, affects="speed")
    bf16: bool = False
    pooling: Literal["mean", "statistics"] = "mean"


@dataclass(frozen=True)
class InitialisationOptions:
    """SSL-E's frozen twin: the head and layer weights trained on consensus labels (section 2.3.1)."""

    total_steps: Positive = 1000
    batch_size: Positive = 32
    lr: NotNegative = option(1e-3, zero="Write a rate such as 1e-3.")
    weight_decay: NotNegative = 0.01
    eval_step: Positive = 50


@dataclass(frozen=True)
class MetaOptions:
    """Meta-training (section 2.3)."""

    initialisation: bool | str = True  # text: an experiment of domain generalisation to start from
    combined_set: Literal["auto", True, False] = "auto"
    derivative_annealing: bool = True
    annealed_fraction: Share = 0.3
    annealing_scope: Literal["training", "adaptation"] = "training"
    lslr: bool = True
    lslr_lr: NotNegative | None = option(None, zero="With lslr: false the inner rates stay as they are.")
    engine: Literal["auto", "loop"] = option("auto", affects="speed")
    shots: Positive = 32
    raters: Positive | None = None
    raters_per_step: Positive | None = None
    inner_steps: Positive = 5
    inner_lr: NotNegative = option(0.05, zero="Write the rate at which the inner loop starts, such as 0.05.")
    lora_rank: Positive = 4
    selection: Literal["best", "best_from_0", "last"] = "best"
    criterion: Literal["loss", "metric", "both"] = "loss"

    @property
    def on_support(self) -> bool:
        """Whether the outer loss is taken on the support samples (CSMT)."""
        return self.combined_set is not False


@dataclass(frozen=True)
class FewShotOptions:
    """How baselines with a conventional optimiser use the K samples (Linear-Few, Entire-Few, Multi-Few)."""

    optimizer: Literal["AdamW", "Adam", "SGD"] = "AdamW"
    lr: NotNegative = option(1e-3, zero="Write a rate such as 1e-3, or choose a system that does not adapt.")
    classifier_lr: NotNegative = option(1e-3, zero="Write a rate such as 1e-3.")
    weight_decay: NotNegative = 0.01


@dataclass(frozen=True)
class OutputOptions:
    """A few numbers fitted to the K labels under a prior: output adaptations, Dawid-Skene, mixtures of raters."""

    spread: NotNegative = option(1.0, zero="1 leaves the priors as wide as they were set.")
    temperature: NotNegative = option(1.0, zero="1 leaves predictions as sharp as they are.")


@dataclass(frozen=True)
class TuningOptions:
    """How the whole model adapts, with ``-f`` (see :mod:`s3prl_metaperser.upstream.finetuning`)."""

    adapt: str = "all"
    train_front_end: bool = False
    micro_batch_seconds: NotNegative = option(20.0, affects="speed")
    longest_seconds: NotNegative = 15.0
    bf16: bool = False
    activation_checkpointing: bool = option(False, affects="speed")
    dropout: bool = False


@dataclass(frozen=True)
class EvaluationOptions:
    """Meta-testing (section 3.3)."""

    shots: Positive = 32
    queries: Positive = 128
    seeds: Positive = 10
    steps: Positive = 50
    rate_factor: NotNegative = option(1.0, zero="1 leaves the inner rates as they were learned.")
    protocol: Literal["paper", "tuned"] = "paper"
    validation_seeds: Positive = 10
    interval_draws: Positive | None = option(None, affects="summary", gone="intervals need no random draws now")
    verdicts: bool = option(True, affects="summary")
    learned_threshold: bool = option(False, affects="summary")
    trajectory: tuple[Whole, ...] = option((0, 1, 2, 5, 10, 20, 50), affects="summary")
    controls: tuple[Literal["unadapted", "swapped", "mixed", "shuffled", "consensus"], ...] = option(
        (), affects="summary"
    )


@dataclass(frozen=True)
class RunnerOptions:
    """The outer loop, with s3prl's names."""

    total_steps: Positive = 150
    gradient_clipping: NotNegative | None = option(1.0, zero="null is no clipping.")
    log_step: Positive = option(10, affects="files")
    eval_step: Positive = 10
    save_step: Positive = option(10, affects="files")
    max_keep: Positive = option(1, affects="files")
    threads: Positive | None = option(1, affects="speed")

    @property
    def largest_norm(self) -> float:
        """Of a gradient; longer ones are scaled down to it."""
        return math.inf if self.gradient_clipping is None else self.gradient_clipping


@dataclass(frozen=True)
class OptimizerOptions:
    """The outer optimiser."""

    name: Literal["AdamW", "Adam", "SGD"] = "AdamW"
    lr: NotNegative = option(9e-5, zero="Write a rate such as 1e-4, or choose a system that is not trained further.")
    weight_decay: NotNegative = 0.01


@dataclass(frozen=True)
class ExpertOptions:
    """The field ``downstream_expert`` of the configuration."""

    datarc: DataOptions = field(default_factory=DataOptions)
    modelrc: ModelOptions = field(default_factory=ModelOptions)
    initrc: InitialisationOptions = field(default_factory=InitialisationOptions)
    metarc: MetaOptions = field(default_factory=MetaOptions)
    fewrc: FewShotOptions = field(default_factory=FewShotOptions)
    outputrc: OutputOptions = field(default_factory=OutputOptions)
    tunerc: TuningOptions = field(default_factory=TuningOptions)
    evalrc: EvaluationOptions = field(default_factory=EvaluationOptions)

    def __post_init__(self) -> None:
        if self.metarc.combined_set == "auto":  # as the paper in the paper's protocol; docs/many_raters.md says why not
            decided = dataclasses.replace(self.metarc, combined_set=self.datarc.pools.test is None)
            object.__setattr__(self, "metarc", decided)


@dataclass(frozen=True)
class Options:
    """The whole configuration file. A task with options of its own has a subclass, with further sections."""

    runner: RunnerOptions = field(default_factory=RunnerOptions)
    optimizer: OptimizerOptions = field(default_factory=OptimizerOptions)
    downstream_expert: ExpertOptions = field(default_factory=ExpertOptions)

    @classmethod
    def from_config(cls, config: Mapping[str, Any], source: str = "config", *, stored: bool = False) -> Self:
        """Check a configuration as read from YAML.

        Args:
            stored: that of a run which is over: it may have learned nothing.

        Raises:
            UserError: an unknown key (with the nearest known one), a value of the wrong type or range, or one with
                which nothing would be learned.
        """
        options = build(cls, _with_reader_options(cls, config, source), source)
        if not stored:
            options.check_learning(source)
        return options

    def check_learning(self, source: str = "config", but: Options | None = None) -> None:
        """Raise a UserError for an option that is 0 where nothing is learned with 0.

        Args:
            but: options in which it may be 0 already.
        """
        known = turned_off(but) if but is not None else {}
        for name, advice in turned_off(self).items():
            if name not in known:
                raise UserError(f"Bad value 0 for {source}.{name}: nothing would be learned. {advice}")

    def not_used(self, but: Options | None = None) -> list[str]:
        """A sentence for each given option that version 0.1.0 had and that is not used any more.

        Args:
            but: options of a run of then, which nobody has given now.

        Examples:
            >>> Options.from_config({"downstream_expert": {"evalrc": {"interval_draws": 60}}}).not_used()
            ['downstream_expert.evalrc.interval_draws is not used any more: intervals need no random draws now.']
        """
        known = {} if but is None else not_used(but)
        return [f"{name} is not used any more: {why}." for name, why in not_used(self).items() if name not in known]

    def as_config(self) -> dict[str, Any]:
        """The whole configuration with every default filled in, in plain values as read from YAML."""
        config = json.loads(json.dumps(as_dict(self)))
        datarc = config["downstream_expert"]["datarc"]
        datarc |= datarc.pop("reader_options")
        return config

    def digest(self, *sections: str) -> str:
        """SHA-256 over the named sections of ``downstream_expert`` ("datarc", ...), ``runner`` or ``optimizer``."""
        parts = {}
        for name in sections:
            owner = self if name in ("runner", "optimizer") else self.downstream_expert
            parts[name] = dataclasses.asdict(getattr(owner, name))
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _with_reader_options(cls: type[Options], config: Any, source: str) -> Any:
    """The configuration with those keys of ``datarc`` set apart that only the corpus's reader knows.

    Raises:
        UserError: the reader does not declare such an option, or with another type.
    """
    expert = config.get("downstream_expert") if isinstance(config, Mapping) else None
    datarc = expert.get("datarc") if isinstance(expert, Mapping) else None
    of_data = get_type_hints(get_type_hints(cls)["downstream_expert"])["datarc"]
    common = [f.name for f in settable(of_data) if f.name != "reader_options"]
    if not isinstance(expert, Mapping) or not isinstance(datarc, Mapping) or set(datarc) <= set(common):
        return config
    corpus, where = str(datarc.get("corpus", DataOptions.corpus)), f"{source}.downstream_expert.datarc"
    declared = _declared_options(corpus)
    own = [f.name for f in dataclasses.fields(declared)]
    for key in datarc:
        if key not in common and key not in own:
            theirs = f"corpus {corpus!r} has the options {', '.join(own)}" if own else f"corpus {corpus!r} has none"
            raise UserError(
                f"Unknown key {where}.{str(key)[:80]}.{did_you_mean(str(key), (*common, *own))} Known keys of {where}: "
                f"{', '.join(common)}; {theirs}."
            )
    given = {key: value for key, value in datarc.items() if key not in common}
    checked: Any = build(declared, given, where)
    rest = {key: value for key, value in datarc.items() if key in common}
    rest["reader_options"] = {key: getattr(checked, key) for key in given}
    return {**config, "downstream_expert": {**expert, "datarc": rest}}


def _declared_options(corpus: str) -> type:
    """What a corpus's reader declares; readers are to the right of this room, and found by name as in a registry."""
    return importlib.import_module("s3prl_metaperser.corpora").declared_options(corpus)


@functools.cache
def sections_of_readers() -> frozenset[str]:
    """Sections of ``datarc`` that matter only where the corpus has their name."""
    return frozenset(each.name for each in dataclasses.fields(DataOptions) if each.metadata.get("of_reader"))


@functools.cache
def options_that_affect(*kinds: Affects) -> frozenset[str]:
    """Names such as ``runner.threads`` of all options that can change what ``kinds`` say.

    Examples:
        >>> sorted(name.rpartition(".")[2] for name in options_that_affect("summary"))
        ['controls', 'interval_draws', 'learned_threshold', 'trajectory', 'verdicts']
    """
    return frozenset(name for name, affects in kinds_of(Options) if affects in kinds)


def training_options(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Section -> those of its options that training goes by and meta-testing does not.

    Args:
        config: a whole configuration, by this or an earlier version.
    """
    options = Options.from_config(config, stored=True)
    sections = {name.rpartition(".")[2]: name for name in _TRAINING}
    return {short: numbers_of(operator.attrgetter(name)(options)) for short, name in sections.items()}


def merged(options: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Nested ``options`` with those of ``changes`` in their place; a section without content changes nothing."""
    found = dict(options)
    for key, value in changes.items():
        if isinstance(found.get(key), Mapping) and (value is None or isinstance(value, Mapping)):
            found[key] = merged(found[key], value or {})
        else:
            found[key] = value
    return found


def flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(``section.option``, value) of a nested configuration."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
