"""The card of a model folder: what it says, typed, and the options that it stands for. docs/listener.md explains it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from s3prl_metaperser.config.options import Options
from s3prl_metaperser.config.validator import Filled, Whole, at_least, at_most, build
from s3prl_metaperser.corpora import CORPORA, reader_of
from s3prl_metaperser.corpora.label_set import LabelSet
from s3prl_metaperser.corpora.label_sets import set_of
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.upstream.licences import licence_of

#: Version of the card. 1 (version 0.1.0) names the classes of its label set alone, and is read, too.
SCHEMA: Literal[2] = 2
#: Sections of ``downstream_expert`` that adaptation and prediction go by.
SECTIONS = ("modelrc", "metarc", "fewrc", "outputrc", "tunerc", "evalrc")

#: More than a card of any model counts, and no more than memory is taken for.
Counted = Annotated[int, at_least(1), at_most(100_000)]
#: Of a class in the loss; one on average.
Weight = Annotated[float, at_least(0), at_most(100_000)]


@dataclass(frozen=True)
class UpstreamCard:
    """Which upstream, and how its features are made."""

    name: Filled
    checkpoint: str
    source: tuple[str, ...]
    model_config: str | None
    selection: Filled
    layer: Whole | None
    normalize: bool
    dtype: Literal["float32", "float16"]
    precision: Literal["float32", "bfloat16"]
    recipe: int
    layers: Counted
    features: Counted
    standardized: bool
    not_adapted: str | None


@dataclass(frozen=True)
class Adaptation:
    """How the K clips are used, for a reader; it repeats what the options say."""

    shots: Counted
    steps: Counted
    inner_steps: Counted
    learned_rates: bool
    rate_factor: float
    smoothing: float
    class_weights: tuple[Weight, ...]

    @classmethod
    def under(cls, options: Options, class_weights: tuple[float, ...]) -> Adaptation:
        """What the options say, with the class weights [C] of the training split."""
        expert = options.downstream_expert
        return cls(
            shots=expert.evalrc.shots,
            steps=expert.evalrc.steps,
            inner_steps=expert.metarc.inner_steps,
            learned_rates=expert.metarc.lslr,
            rate_factor=expert.evalrc.rate_factor,
            smoothing=expert.datarc.smoothing,
            class_weights=class_weights,
        )


@dataclass(frozen=True)
class TrainingCard:
    """What the model was trained on, without names of raters."""

    corpus: str
    train_raters: Counted
    fingerprint: str | None = None
    scenario: str | None = None
    fold: str | None = None
    seed: int | None = None
    selected_step: int | None = None
    validation_loss: float | None = None
    start: str | None = None  # SHA-256 of the parameters of another task's model that it was started from


@dataclass(frozen=True)
class Card:
    """``card.json``, whole.

    Raises:
        UserError: parts that contradict each other; the card was edited.
    """

    schema: Literal[1, 2]
    kind: Literal["model", "listener"]
    system: Filled
    scope: Literal["frozen", "finetuned"]
    classes: tuple[str, ...]
    label_set: LabelSet
    upstream: UpstreamCard
    adaptation: Adaptation
    options: dict[str, Any]
    training: TrainingCard
    metrics: dict[str, Any] | None
    licences: dict[str, str]
    versions: dict[str, Any]
    parameters: tuple[str, ...]
    sha256: str
    listener: dict[str, Any] | None

    def __post_init__(self) -> None:
        if self.classes != self.label_set.classes:
            raise UserError("classes and label_set.classes differ.")
        if len(self.adaptation.class_weights) != len(self.classes):
            raise UserError(f"adaptation.class_weights must hold {len(self.classes)} numbers, one for each class.")

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Card:
        """A card as read from its file.

        Raises:
            UserError: a key that is missing, or a value of the wrong type or range.
        """
        classes = content.get("classes")
        if content["schema"] == 1 and isinstance(classes, list) and all(isinstance(name, str) for name in classes):
            content = {**content, "label_set": set_of({"classes": classes}).as_dict()}
        return build(cls, content, strict=True, further=True)

    def as_json(self) -> dict[str, Any]:
        """Plain values, as they stand in the file."""
        plain = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        plain |= {name: dataclasses.asdict(plain[name]) for name in ("upstream", "adaptation", "training")}
        if plain["training"]["start"] is None:
            del plain["training"]["start"]
        return json.loads(json.dumps({**plain, "label_set": self.label_set.as_dict(), "schema": SCHEMA}))

    def in_force(self, where: str) -> Options:
        """The options that adaptation and prediction go by.

        Args:
            where: names the card in errors.

        Raises:
            UserError: unknown options, or ``adaptation`` and ``options`` that contradict each other.
        """
        expert = {**self.options, "datarc": {"smoothing": self.adaptation.smoothing}}
        try:
            options = Options.from_config({"downstream_expert": expert}, source="options", stored=True)
        except UserError as error:
            raise UserError(f"{where}: {str(error).replace('options.downstream_expert', 'options')}") from None
        meant = Adaptation.under(options, self.adaptation.class_weights)
        for name, value in dataclasses.asdict(meant).items():
            if (said := getattr(self.adaptation, name)) != value:
                raise UserError(f"{where}: adaptation.{name} is {said!r}, but options say {value!r}. It was edited.")
        return options


def option_sections(options: Options) -> dict[str, Any]:
    """The card's ``options``: plain values, as in config.yaml; no paths of the machine that trained."""
    expert = options.as_config()["downstream_expert"]
    if isinstance(expert["metarc"]["initialisation"], str):  # the start was there; what it was stands in training
        expert["metarc"]["initialisation"] = True
    return {name: expert[name] for name in SECTIONS}


def licence_notes(upstream: str, corpus: str, model: str | None) -> dict[str, str]:
    """The card's ``licences``; notes to read, no legal advice.

    Args:
        upstream: hub name.
        corpus: registered name.
        model: what ``--licence`` says.
    """
    unknown = "not known here; see where its weights come from"
    if upstream.startswith(("fbank", "mfcc", "mel", "spectrogram", "linear")):
        unknown = "no learned weights"
    return {
        "model": model or "not stated by who exported it",
        "upstream": str(licence_of(upstream) or unknown),
        "corpus": (reader_of(corpus).terms if corpus in CORPORA.names() else "")
        or "not known here; ask who made the corpus",
    }
