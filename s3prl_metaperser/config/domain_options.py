"""The options of domain generalisation: further sections beside the common ones, and none that it does not use."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from s3prl_metaperser.config.options import (
    DataOptions,
    DemoOptions,
    EvaluationOptions,
    ExpertOptions,
    FewShotOptions,
    InitialisationOptions,
    MetaOptions,
    ModelOptions,
    OptimizerOptions,
    Options,
    OutputOptions,
    PoolOptions,
    RunnerOptions,
)
from s3prl_metaperser.config.section import left_out, option
from s3prl_metaperser.config.validator import Fraction, NotNegative, Positive, Share, Whole, at_least

#: How z-scores are made: with the statistics of all sources together, of each corpus or speaker alone, or not at all.
Statistics = Literal["source", "corpus", "speaker", "none"]
#: These look at the target's recordings (not at its labels) before it is tested.
TRANSDUCTIVE: tuple[Statistics, ...] = ("corpus", "speaker")


@dataclass(frozen=True)
class DomainData(DataOptions):
    """``datarc``: which corpora are learned from, and which one is tested."""

    corpus: str = "demo_corpora"
    scenario: str = "scn4"
    trial: Positive = 1
    sources: tuple[str, ...] | None = None
    target: str | None = None
    split: Literal["speakers", "random"] = "speakers"
    validation: Fraction = 0.2
    batches: Literal["balanced", "pooled"] = "balanced"
    batch_size: Positive = 32
    equal_audio: Literal["error", "first", "allow"] = "error"
    fold: str = left_out("")
    test_raters: tuple[str, ...] | None = left_out(None)
    exclude_raters: tuple[str, ...] | None = left_out(None)
    pools: PoolOptions = left_out(PoolOptions())
    test_sessions: tuple[str, ...] | None = left_out(None)
    validation_session: str | None = left_out(None)
    equal_raters: Literal["error", "allow"] = left_out("error")
    duplicates: Literal["error", "union", "first"] = left_out("error")
    outside: bool = left_out(False)
    smoothing: Fraction = left_out(0.0)
    num_workers: Whole = left_out(0)
    demo: DemoOptions = left_out(DemoOptions())

    def __post_init__(self) -> None:
        if (self.sources is None) != (self.target is None):
            raise ValueError("sources and target go together: both, or a scenario.")
        if self.sources is not None and len(set(self.sources)) < max(1, len(self.sources)):
            raise ValueError("sources names a corpus twice, or none.")


@dataclass(frozen=True)
class DomainModelOptions(ModelOptions):
    """``modelrc``: what learns, and how features are standardised for it."""

    network: Literal["pooled", "mlp", "resnet18"] = "pooled"
    statistics: Statistics = "source"
    clamp: NotNegative = 10.0
    weights: str | None = None
    channels: Positive = 64
    bn_momentum: Share = 0.01
    frozen_norm: bool = False
    standardize: Literal["auto", True, False] = left_out("auto")


@dataclass(frozen=True)
class AugmentOptions:
    """``augmentrc``: how recordings are changed in training, where a network sees frames."""

    crop_seconds: Annotated[float, at_least(0.1)] = 2.0
    probability: Share = 0.5
    stretch: tuple[Annotated[float, at_least(0.5)], Annotated[float, at_least(0.5)]] = (0.8, 1.25)
    shift: Fraction = 0.1

    def __post_init__(self) -> None:
        if self.stretch[0] > self.stretch[1]:
            raise ValueError(f"stretch: the slowest rate comes first, got {list(self.stretch)}.")


@dataclass(frozen=True)
class MarginOptions:
    """The domain-shift margin gamma of DA-MLDG (Gandhi et al., Eq. 3)."""

    gradient: Literal["detached", "attached"] = "detached"
    absolute: bool = True
    temperature: Annotated[float, at_least(1e-6)] = 1.0
    largest: NotNegative | None = None


@dataclass(frozen=True)
class GeneralOptions:
    """``generalrc``: what a system of domain generalisation goes by."""

    meta_test_domains: Positive = 1
    choose: Literal["uniform", "by_size"] = "uniform"
    inner_lr: NotNegative = 0.01
    order: Literal[1, 2] = 2
    loss_mean: Literal["domain", "pooled"] = "domain"
    margin: MarginOptions = field(default_factory=MarginOptions)
    penalty: NotNegative | None = None
    anneal_steps: Whole | None = None
    adversary: Literal["source", "speaker"] = "source"
    class_weights: Literal["none", "balanced", "logit_adjustment"] = "none"
    rate_factor: NotNegative = option(1.0, zero="1 leaves optimizer.lr as it is.")
    seed_set: Whole = 0
    average: Literal["none", "ema", "dense", "swad"] = "none"
    ema_decay: Fraction = 0.99
    engine: Literal["adjoint", "loop"] = option("adjoint", affects="speed")
    micro_batch: Positive | None = None
    group_lr: NotNegative = 0.01
    drop_features: Fraction = 1 / 3
    drop_samples: Fraction = 1 / 3
    mixup_alpha: Annotated[float, at_least(1e-3)] = 0.2
    mixstyle_alpha: Annotated[float, at_least(1e-3)] = 0.1
    means: bool = False
    variance_decay: Fraction = 0.95
    selection: Literal["last", "source_validation"] = "last"


@dataclass(frozen=True)
class DomainEvaluation(EvaluationOptions):
    """``evalrc``: whole utterances of the target, without adaptation."""

    shots: Positive = left_out(1)
    queries: Positive = left_out(1)
    seeds: Positive = left_out(1)
    steps: Positive = left_out(1)
    rate_factor: NotNegative = left_out(1.0)
    validation_seeds: Positive = left_out(1)
    interval_draws: Positive | None = left_out(None)
    trajectory: tuple[Whole, ...] = left_out(())
    controls: tuple[Literal["unadapted", "swapped", "mixed"], ...] = left_out(())
    learned_threshold: bool = left_out(False)


@dataclass(frozen=True)
class DomainOptimizer(OptimizerOptions):
    """The optimiser: the paper's SGD."""

    name: Literal["AdamW", "Adam", "SGD"] = "SGD"
    lr: NotNegative = option(0.05, zero="Write a rate such as 0.05.")
    weight_decay: NotNegative = 0.0
    momentum: Share = 0.9
    decay: Share = 1.0
    decay_steps: Positive = 10_000


@dataclass(frozen=True)
class DomainRunner(RunnerOptions):
    """The training loop; ``epochs`` (passes over the sources) stands above ``total_steps``."""

    total_steps: Positive = 300
    epochs: Positive | None = None
    eval_step: Positive = 50
    save_step: Positive = option(100, affects="files")


@dataclass(frozen=True)
class DomainExpert(ExpertOptions):
    """``downstream_expert``."""

    datarc: DomainData = field(default_factory=DomainData)
    modelrc: DomainModelOptions = field(default_factory=DomainModelOptions)
    augmentrc: AugmentOptions = field(default_factory=AugmentOptions)
    generalrc: GeneralOptions = field(default_factory=GeneralOptions)
    evalrc: DomainEvaluation = field(default_factory=DomainEvaluation)
    initrc: InitialisationOptions = left_out(InitialisationOptions())
    metarc: MetaOptions = left_out(MetaOptions())
    fewrc: FewShotOptions = left_out(FewShotOptions())
    outputrc: OutputOptions = left_out(OutputOptions())


@dataclass(frozen=True)
class DomainOptions(Options):
    """The whole configuration of domain generalisation."""

    runner: DomainRunner = field(default_factory=DomainRunner)
    optimizer: DomainOptimizer = field(default_factory=DomainOptimizer)
    downstream_expert: DomainExpert = field(default_factory=DomainExpert)
