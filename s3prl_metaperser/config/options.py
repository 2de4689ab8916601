"""Every option, typed. A configuration file is checked key by key before anything runs."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from s3prl_metaperser.errors import UserError, did_you_mean, shown

Positive = typing.Annotated[int, "positive"]
Fraction = typing.Annotated[float, "fraction"]

#: What every library below takes; nothing here is counted in more.
LARGEST_INTEGER = 2**31 - 1


@dataclass(frozen=True)
class DemoOptions:
    """The demo corpus, made on first use when ``datarc.corpus`` is ``demo``."""

    seed: int = 0
    utterances: Positive = 600
    raters: Literal["paper", "identical", "opposed"] = "paper"


@dataclass(frozen=True)
class DataOptions:
    """Which data, which split of it, and where what is made from it is kept."""

    corpus: str = "demo"
    root: str | None = None
    scenario: Literal["seen", "unseen"] = "seen"
    fold: str = "fold1"
    test_raters: tuple[str, ...] | None = None
    exclude_raters: tuple[str, ...] | None = None
    test_sessions: tuple[str, ...] = ("Ses05",)
    duplicates: Literal["error", "union", "first"] = "error"
    outside: bool = False
    smoothing: Fraction = 0.05
    cache_dir: str | None = None
    num_workers: int = 0
    demo: DemoOptions = field(default_factory=DemoOptions)


@dataclass(frozen=True)
class ModelOptions:
    """The head, and how pooled features are prepared for it."""

    projector_dim: Positive = 256
    standardize: Literal["auto", True, False] = "auto"
    feature_dtype: Literal["float32", "float16"] = "float32"
    batch_size: Positive | None = None
    bf16: bool = False


@dataclass(frozen=True)
class InitialisationOptions:
    """SSL-E's frozen twin: the head and layer weights trained on consensus labels (section 2.3.1)."""

    total_steps: Positive = 1000
    batch_size: Positive = 32
    lr: float = 1e-3
    weight_decay: float = 0.01
    eval_step: Positive = 50


@dataclass(frozen=True)
class MetaOptions:
    """Meta-training (section 2.3)."""

    initialisation: bool = True
    combined_set: bool = True
    derivative_annealing: bool = True
    annealed_fraction: Fraction = 0.3
    annealing_scope: Literal["training", "adaptation"] = "training"
    lslr: bool = True
    lslr_lr: float | None = None
    engine: Literal["auto", "loop"] = "auto"
    shots: Positive = 32
    inner_steps: Positive = 5
    inner_lr: float = 0.05


@dataclass(frozen=True)
class FewShotOptions:
    """How baselines with a conventional optimiser use the K samples (Linear-Few, Entire-Few, Multi-Few)."""

    optimizer: Literal["AdamW", "Adam", "SGD"] = "AdamW"
    lr: float = 1e-3
    classifier_lr: float = 1e-3
    weight_decay: float = 0.01


@dataclass(frozen=True)
class TuningOptions:
    """How the whole model adapts, with ``-f`` (see :mod:`s3prl_metaperser.upstream.finetuning`)."""

    adapt: str = "all"
    train_front_end: bool = False
    micro_batch_seconds: float = 20.0
    longest_seconds: float = 15.0
    bf16: bool = False
    activation_checkpointing: bool = False
    dropout: bool = False


@dataclass(frozen=True)
class EvaluationOptions:
    """Meta-testing (section 3.3)."""

    shots: Positive = 32
    queries: Positive = 128
    seeds: Positive = 10
    steps: Positive = 50
    rate_factor: float = 1.0
    protocol: Literal["paper", "tuned"] = "paper"
    validation_seeds: Positive = 10
    interval_draws: Positive = 2000
    trajectory: tuple[int, ...] = (0, 1, 2, 5, 10, 20, 50)


@dataclass(frozen=True)
class RunnerOptions:
    """The outer loop, with s3prl's names."""

    total_steps: Positive = 150
    gradient_clipping: float = 1.0
    log_step: Positive = 10
    eval_step: Positive = 10
    save_step: Positive = 10
    max_keep: Positive = 1
    threads: Positive | None = 1


@dataclass(frozen=True)
class OptimizerOptions:
    """The outer optimiser."""

    name: Literal["AdamW", "Adam", "SGD"] = "AdamW"
    lr: float = 9e-5
    weight_decay: float = 0.01


@dataclass(frozen=True)
class ExpertOptions:
    """The field ``downstream_expert`` of the configuration."""

    datarc: DataOptions = field(default_factory=DataOptions)
    modelrc: ModelOptions = field(default_factory=ModelOptions)
    initrc: InitialisationOptions = field(default_factory=InitialisationOptions)
    metarc: MetaOptions = field(default_factory=MetaOptions)
    fewrc: FewShotOptions = field(default_factory=FewShotOptions)
    tunerc: TuningOptions = field(default_factory=TuningOptions)
    evalrc: EvaluationOptions = field(default_factory=EvaluationOptions)


@dataclass(frozen=True)
class Options:
    """The whole configuration file."""

    runner: RunnerOptions = field(default_factory=RunnerOptions)
    optimizer: OptimizerOptions = field(default_factory=OptimizerOptions)
    downstream_expert: ExpertOptions = field(default_factory=ExpertOptions)

    @classmethod
    def from_config(cls, config: Mapping[str, Any], source: str = "config") -> Options:
        """Check a configuration as read from YAML.

        Raises:
            UserError: an unknown key (with the nearest known one) or a value of the wrong type or range.
        """
        return _build(cls, config, source)

    def as_config(self) -> dict[str, Any]:
        """The whole configuration with every default filled in, in plain values as read from YAML."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    def digest(self, *sections: str) -> str:
        """SHA-256 over the named sections of ``downstream_expert`` ("datarc", ...), ``runner`` or ``optimizer``."""
        parts = {}
        for name in sections:
            owner = self if name in ("runner", "optimizer") else self.downstream_expert
            parts[name] = dataclasses.asdict(getattr(owner, name))
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


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


def _build(cls: type, content: Any, where: str) -> Any:
    if not isinstance(content, Mapping):
        raise UserError(f"{where} must be a mapping of {', '.join(_names(cls))}, got {shown(content)}.")
    known = _names(cls)
    for key in content:
        if key not in known:
            hint = did_you_mean(str(key), known)
            raise UserError(f"Unknown key {where}.{str(key)[:80]}.{hint} Known keys of {where}: {', '.join(known)}.")
    hints = typing.get_type_hints(cls, include_extras=True)
    values = {key: _convert(hints[key], value, f"{where}.{key}") for key, value in content.items()}
    return cls(**values)


def _names(cls: type) -> list[str]:
    return [f.name for f in dataclasses.fields(cls)]


def _convert(kind: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(kind):
        return _build(kind, {} if value is None else value, where)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in arguments:
            return None
        return _convert(next(a for a in arguments if a is not type(None)), value, where)
    if origin is Literal:
        for allowed in arguments:
            if value == allowed and isinstance(value, bool) == isinstance(allowed, bool):
                return allowed
        names = [str(allowed) for allowed in arguments]
        hint = did_you_mean(value, names) if isinstance(value, str) else ""
        raise UserError(f"Bad value {shown(value)} for {where}.{hint} Expected one of: {', '.join(names)}.")
    if origin is tuple:
        if isinstance(value, str) or not isinstance(value, list | tuple):
            kinds = "whole numbers" if arguments[0] is int else "names"
            raise UserError(f"Bad value {shown(value)} for {where}, expected a list of {kinds}.")
        if arguments[0] is int:
            return tuple(_scalar(int, item, where) for item in value)
        return tuple(_name(item, where) for item in value)
    if kind in (Positive, Fraction):
        base, constraint = arguments[0], kind.__metadata__[0]
        value = _scalar(base, value, where)
        if constraint == "positive" and value < 1:
            raise UserError(f"Bad value {value!r} for {where}, expected a whole number of at least 1.")
        if constraint == "fraction" and not 0.0 <= value < 1.0:
            raise UserError(f"Bad value {value!r} for {where}, expected a number from 0 up to, not including, 1.")
        return value
    return _scalar(kind, value, where)


def _name(item: Any, where: str) -> str:
    """A name in a list. YAML reads some names as something else: ``no`` as false, ``1.10`` as 1.1."""
    if isinstance(item, str) or (isinstance(item, int) and not isinstance(item, bool)):
        return str(item)
    raise UserError(f"Bad value {shown(item)} in {where}, expected a name. Put quotes around it.")


def _scalar(kind: type, value: Any, where: str) -> Any:
    wanted = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}[kind]
    if kind is float and isinstance(value, str):  # YAML 1.1 reads 1e-3 as text
        with contextlib.suppress(ValueError):
            value = float(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) <= 2**1000:
        value = float(value)
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        raise UserError(f"Bad value {shown(value)} for {where}, expected {wanted}.")
    if kind is float and (value != value or value in (float("inf"), float("-inf")) or value < 0):
        raise UserError(f"Bad value {value!r} for {where}, expected a finite number that is not negative.")
    if kind is str and "\0" in value:
        raise UserError(f"Bad value {shown(value)} for {where}: it holds a NUL character.")
    if kind is int and value > LARGEST_INTEGER:
        raise UserError(f"Bad value {shown(value)} for {where}, expected at most {LARGEST_INTEGER}.")
    if kind is int and value < 0:
        raise UserError(f"Bad value {value!r} for {where}, expected a whole number that is not negative.")
    return value
