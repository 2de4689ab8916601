"""The demo corpus, made on first use: real audio files in IEMOCAP's layout, read by the IEMOCAP reader; a crowd as
ratings.csv, read by the reader of own corpora."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from s3prl_metaperser.config.validator import Positive, Whole
from s3prl_metaperser.corpora import iemocap, ratings_csv
from s3prl_metaperser.corpora.base import Corpus, Rating, Suggestions, Utterance
from s3prl_metaperser.corpora.label_set import LabelSet
from s3prl_metaperser.corpora.reader import Reader
from s3prl_metaperser.demo import crowd, scales
from s3prl_metaperser.demo.raters import WITHOUT_TABLES, draw_ratings, intended_prior, rater_models
from s3prl_metaperser.demo.script import Turn, write_script
from s3prl_metaperser.demo.write import EMOTION, crowd_file


def read(
    root: Path,
    *,
    seed: Whole = 0,
    utterances: Positive = 600,
    raters: Literal[
        "paper", "identical", "opposed", "misspecified", "crowd", "crowd-strong", "crowd-identical"
    ] = "paper",
    answer: Literal["emotion", "arousal", "valence", "dominance"] = "emotion",
) -> Corpus:
    """Read the demo corpus at ``root``, making it first where it is absent (with a progress bar).

    Args:
        root: a new or empty folder, or a demo corpus of the same settings.
        seed: of every draw.
        utterances: how many, over five sessions of two speakers.
        raters: ``paper``, ``identical``, ``opposed`` or ``misspecified``; ``crowd``, ``crowd-strong`` or
            ``crowd-identical``.
        answer: what raters are asked: the ``emotion``, or on a scale from 1 to 7 the ``arousal``, ``valence`` or
            ``dominance``.

    Raises:
        UserError: a wrong argument, something else at ``root``, or no praat-parselmouth.
    """
    from s3prl_metaperser.demo import write_demo_corpus

    return stored(write_demo_corpus(Path(root), seed=seed, utterances=utterances, raters=raters, answer=answer))


def stored(root: Path) -> Corpus:
    """The demo corpus at ``root``, whatever its settings."""
    read_it = ratings_csv.read if (root / "ratings.csv").exists() else iemocap.read_layout
    return dataclasses.replace(read_it(root), name="demo", drawn=True)


def home(cache: Path, options: Mapping[str, Any]) -> Path:
    """Where the corpus of these options is by default."""
    asked = "" if _asked(options) == EMOTION else f"{_asked(options)}-"
    return cache / "demo" / f"{options['raters']}-{asked}{options['utterances']}-seed{options['seed']}"


def labels_only(options: Mapping[str, Any]) -> Corpus:
    """The demo corpus without its audio: drawing its labels takes no synthesis."""
    if _asked(options) != EMOTION:
        return _scale_labels(options)
    if options["raters"] in crowd.POPULATIONS:
        return _crowd_labels(options)
    turns = write_script(intended_prior(options["raters"]), seed=options["seed"], utterances=options["utterances"])
    drawn = draw_ratings(rater_models(options["raters"]), turns, seed=options["seed"])
    ratings = [
        Rating(name, rater, iemocap.LABEL_SET.in_order(ticks))  # the order in which the reader finds them
        for name, chosen in drawn.items()
        for rater, ticks in chosen.items()
    ]
    names = {turn.utterance: turn.utterance for turn in turns}
    return _without_audio(iemocap.LABEL_SET, turns, names, ratings, iemocap.SUGGESTED)


def _asked(options: Mapping[str, Any]) -> str:
    """What raters are asked; options of before do not say it."""
    return options.get("answer", EMOTION)


def _crowd_labels(options: Mapping[str, Any]) -> Corpus:
    seed = options["seed"]
    turns = write_script(crowd.intended_prior(), seed=seed, utterances=options["utterances"])
    answers = crowd.draw_answers(crowd.raters_of(options["raters"], len(turns), seed=seed), turns, seed=seed)
    names = {turn.utterance: str(PurePosixPath(crowd_file(turn)).with_suffix("")) for turn in turns}
    ratings = [Rating(names[u], rater, (label,)) for u, given in answers.items() for rater, label in given.items()]
    return _without_audio(crowd.LABEL_SET, turns, names, ratings, Suggestions())


def _scale_labels(options: Mapping[str, Any]) -> Corpus:
    asked = _asked(options)
    made = scales.scaled(asked, options["raters"], utterances=options["utterances"], seed=options["seed"])
    names = {turn.utterance: str(PurePosixPath(crowd_file(turn)).with_suffix("")) for turn in made.turns}
    answers = ((names[u], rater, level) for u, given in made.answers.items() for rater, level in given.items())
    ratings = [Rating(name, rater, (str(level),), float(level)) for name, rater, level in answers]
    return _without_audio(scales.LABEL_SETS[asked], made.turns, names, ratings, Suggestions())


def _without_audio(
    label_set: LabelSet, turns: list[Turn], names: Mapping[str, str], ratings: list[Rating], suggested: Suggestions
) -> Corpus:
    """The corpus as its reader gives it, but for the audio.

    Args:
        names: utterance of a turn -> its id in the corpus.
    """
    nowhere = Path("no-audio")
    made = [Utterance(names[t.utterance], nowhere, t.speaker, f"Ses{t.session:02d}", math.nan) for t in turns]
    return Corpus(
        "demo",
        nowhere,
        label_set,
        tuple(sorted(made, key=lambda u: u.id)),
        tuple(sorted(ratings, key=lambda r: (r.utterance, r.rater))),
        suggested=suggested,
        drawn=True,
    )


def caveat(options: Mapping[str, Any]) -> str:
    """How the labels came about, which decides what a system's win on them says."""
    raters = options.get("raters", "paper")
    if raters in crowd.POPULATIONS or _asked(options) != EMOTION:
        return "Everybody's labels are drawn from an own formula of arousal, valence and dominance."
    if raters in WITHOUT_TABLES:
        return "No table describes anybody: labels depend on speaker and loudness, too; models of tables are wrong."
    return (
        "Everybody's labels are drawn from one own table, P(class | intended emotion), as Dawid and Skene's model has "
        "it: a win of a system that fits such tables is partly by construction."
    )


READER = Reader(
    read,
    home=home,
    stored=stored,
    labels_only=labels_only,
    drawn_by="seed",
    caveat=caveat,
    terms="synthetic speech and synthetic raters, made by s3prl_metaperser (Apache-2.0); no evidence about people",
    redistributable=True,
)
