"""The demo corpus, made on first use: real audio files in IEMOCAP's layout, read by the IEMOCAP reader."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from s3prl_metaperser.config.validator import Positive, Whole
from s3prl_metaperser.corpora import iemocap
from s3prl_metaperser.corpora.base import Corpus, Rating, Utterance
from s3prl_metaperser.corpora.reader import Reader
from s3prl_metaperser.demo.raters import draw_ratings, intended_prior, rater_models
from s3prl_metaperser.demo.script import write_script


def read(
    root: Path,
    *,
    seed: Whole = 0,
    utterances: Positive = 600,
    raters: Literal["paper", "identical", "opposed"] = "paper",
) -> Corpus:
    """Read the demo corpus at ``root``, making it first where it is absent (with a progress bar).

    Args:
        root: a new or empty folder, or a demo corpus of the same settings.
        seed: of every draw.
        utterances: how many, over five sessions of two speakers.
        raters: ``paper``, ``identical`` or ``opposed``.

    Raises:
        UserError: a wrong argument, something else at ``root``, or no praat-parselmouth.
    """
    from s3prl_metaperser.demo import write_demo_corpus

    return stored(write_demo_corpus(Path(root), seed=seed, utterances=utterances, raters=raters))


def stored(root: Path) -> Corpus:
    """The demo corpus at ``root``, whatever its settings."""
    return dataclasses.replace(iemocap.read_layout(root), name="demo")


def home(cache: Path, options: Mapping[str, Any]) -> Path:
    """Where the corpus of these options is by default."""
    return cache / "demo" / f"{options['raters']}-{options['utterances']}-seed{options['seed']}"


def labels_only(options: Mapping[str, Any]) -> Corpus:
    """The demo corpus without its audio: drawing its labels takes no synthesis."""
    turns = write_script(intended_prior(options["raters"]), seed=options["seed"], utterances=options["utterances"])
    drawn = draw_ratings(rater_models(options["raters"]), turns, seed=options["seed"])
    nowhere = Path("no-audio")
    made = [Utterance(t.utterance, nowhere, t.speaker, f"Ses{t.session:02d}", math.nan) for t in turns]
    ratings = [
        Rating(name, rater, iemocap.LABEL_SET.in_order(ticks))  # the order in which the reader finds them
        for name, chosen in drawn.items()
        for rater, ticks in chosen.items()
    ]
    return Corpus(
        "demo",
        nowhere,
        iemocap.LABEL_SET,
        tuple(sorted(made, key=lambda u: u.id)),
        tuple(sorted(ratings, key=lambda r: (r.utterance, r.rater))),
        suggested=iemocap.SUGGESTED,
    )


READER = Reader(
    read,
    home=home,
    stored=stored,
    labels_only=labels_only,
    terms="synthetic speech and synthetic raters, made by s3prl_metaperser (Apache-2.0); no evidence about people",
)
