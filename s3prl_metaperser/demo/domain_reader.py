"""The ten demo corpora as one corpus of domains, made on first use and read by the readers of the real corpora."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from s3prl_metaperser.config.validator import Positive, Whole
from s3prl_metaperser.corpora import together
from s3prl_metaperser.corpora.acted.layout import Clip
from s3prl_metaperser.corpora.base import Corpus, Rating, Utterance
from s3prl_metaperser.corpora.emotions import ACTED, COMMON, FIVE
from s3prl_metaperser.corpora.reader import Reader
from s3prl_metaperser.demo.domain_files import LAYOUTS
from s3prl_metaperser.demo.domain_script import script
from s3prl_metaperser.demo.domains import VARIANTS, Domain

NAME = "demo_corpora"
#: A model that was never misled: it learns where there is no tone, and is tested where another emotion's is heard.
ORACLE, MISLEADING, CLEAN = "oracle", "spurious", "identical"
Variant = Literal["shifted", "identical", "spurious", "oracle"]


def read(root: Path, *, variant: Variant = "shifted", seed: Whole = 0, utterances: Positive = 150) -> Corpus:
    """Read the demo corpora at ``root``, making them first where they are absent (with a progress bar).

    Args:
        root: a new or empty folder, or demo corpora of the same settings.
        variant: what differs between the corpora; ``oracle``: the corpora with a turned tone, which are targets alone,
            are those of ``spurious``, and the others those of ``identical``.
        seed: of every draw.
        utterances: of each corpus.

    Raises:
        UserError: a wrong argument, something else at ``root``, or no praat-parselmouth.
    """
    from s3prl_metaperser.demo.write_domains import write_demo_corpora

    if variant != ORACLE:
        corpus = stored(write_demo_corpora(Path(root), variant, seed=seed, utterances=utterances))
    else:
        turned = {domain.name: domain.turned for domain in VARIANTS[MISLEADING][1]}
        roots: dict[str, str] = {}
        for each in (CLEAN, MISLEADING):
            place = write_demo_corpora(Path(root) / each, each, seed=seed, utterances=utterances)
            roots |= {name: str(place / name) for name in turned if turned[name] == (each == MISLEADING)}
        corpus = together.read(Path(root) / CLEAN, roots=roots)
    return dataclasses.replace(corpus, name=NAME if variant == "shifted" else f"{NAME} ({variant})")


def stored(root: Path) -> Corpus:
    """The demo corpora at ``root``, whatever their settings."""
    return dataclasses.replace(together.read(root), name=NAME)


def home(cache: Path, options: Mapping[str, Any]) -> Path:
    """Where the corpora of these options are by default."""
    return cache / NAME / f"{options['variant']}-{options['utterances']}-seed{options['seed']}"


def labels_only(options: Mapping[str, Any]) -> Corpus:
    """The demo corpora without their audio."""
    nowhere = Path("no-audio")
    corpora = [
        _without_audio(domain, nowhere, seed=options["seed"], utterances=options["utterances"])
        for domain in VARIANTS[CLEAN if options["variant"] == ORACLE else options["variant"]][1]
    ]
    return dataclasses.replace(together.joined(nowhere, corpora), name=NAME)


def _without_audio(domain: Domain, nowhere: Path, *, seed: int, utterances: int) -> Corpus:
    """One of them, in the five emotions, as its reader gives it but for the audio."""
    layout = next((module.LAYOUT for module in LAYOUTS if module.LAYOUT.name == domain.name), None)
    made, ratings = [], []
    for each in script(domain, seed=seed, utterances=utterances):
        if each.emotion in COMMON:
            found = layout.understood(Path(each.path)) if layout else None
            name, speaker = (
                (found.id, found.speaker) if isinstance(found, Clip) else (Path(each.path).stem, each.speaker)
            )
            made.append(Utterance(name, nowhere, speaker, "", math.nan))
            ratings.append(Rating(name, ACTED, (each.emotion,)))
    return Corpus(domain.name, nowhere, FIVE, tuple(made), tuple(ratings))


READER = Reader(
    read,
    home=home,
    stored=stored,
    labels_only=labels_only,
    terms="synthetic speech, made by s3prl_metaperser (Apache-2.0); no evidence about people",
    redistributable=True,
)
