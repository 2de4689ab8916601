"""What a card says of adaptation and of licences, and the options that it stands for."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from s3prl_metaperser.config.options import Options
from s3prl_metaperser.errors import UserError

#: Sections of ``downstream_expert`` that adaptation and prediction go by.
SECTIONS = ("modelrc", "metarc", "fewrc", "tunerc", "evalrc")

_UPSTREAM_LICENCES = (
    ("wavlm", "WavLM's weights are Microsoft's: see https://github.com/microsoft/unilm/tree/master/wavlm"),
    ("hubert", "HuBERT's weights are Meta's: see https://github.com/facebookresearch/fairseq"),
    ("wav2vec2", "wav2vec 2.0's weights are Meta's: see https://github.com/facebookresearch/fairseq"),
)
_CORPUS_LICENCES = {
    "demo": "synthetic speech and synthetic raters, made by s3prl_metaperser (Apache-2.0); no evidence about people",
    "iemocap": "IEMOCAP is given out under a licence agreement of USC's SAIL laboratory; ask there whether models "
    "trained on it may be shared",
}


def option_sections(options: Options) -> dict[str, Any]:
    """The card's ``options``: plain values, as in config.yaml; no paths of the machine that trained."""
    expert = options.downstream_expert
    sections = {name: dataclasses.asdict(getattr(expert, name)) for name in SECTIONS}
    return {key: _plain(value) for key, value in sections.items()}


def adaptation_of(options: Options) -> dict[str, Any]:
    """The card's ``adaptation`` as far as the options say it: how the K clips are used, for a reader."""
    expert = options.downstream_expert
    return {
        "shots": expert.evalrc.shots,
        "steps": expert.evalrc.steps,
        "inner_steps": expert.metarc.inner_steps,
        "learned_rates": expert.metarc.lslr,
        "rate_factor": expert.evalrc.rate_factor,
        "smoothing": expert.datarc.smoothing,
    }


def options_of(card: Mapping[str, Any], where: str) -> Options:
    """The options that a card stands for.

    Args:
        where: names the card in errors.

    Raises:
        UserError: unknown keys, or ``adaptation`` and ``options`` that contradict each other.
    """
    said = card["adaptation"]
    expert = {**card["options"], "datarc": {"smoothing": said.get("smoothing")}}
    options = Options.from_config({"downstream_expert": expert}, source=where)
    for key, value in adaptation_of(options).items():
        if said.get(key) != value:
            raise UserError(
                f"{where}: adaptation.{key} is {said.get(key)!r}, but options say {value!r}. It was edited."
            )
    return options


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
    named = next((note for name, note in _UPSTREAM_LICENCES if name in upstream), unknown)
    return {
        "model": model or "not stated by who exported it",
        "upstream": named,
        "corpus": _CORPUS_LICENCES.get(corpus, "not known here; ask who made the corpus"),
    }


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return list(value) if isinstance(value, tuple) else value
