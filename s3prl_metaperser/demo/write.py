"""Writes the demo corpus, whole or not at all: in IEMOCAP's own layout, or, of a crowd, as ratings.csv."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from s3prl_metaperser.corpora.iemocap import CLASSES
from s3prl_metaperser.demo import ceilings, crowd, scales
from s3prl_metaperser.demo.crowd_card import card as crowd_card
from s3prl_metaperser.demo.layout import write_dialogs
from s3prl_metaperser.demo.raters import VARIANTS, RaterModel, draw_ratings, intended_prior, rater_models
from s3prl_metaperser.demo.rendering import render_speakers
from s3prl_metaperser.demo.scale_card import card as scale_card
from s3prl_metaperser.demo.script import SPEAKERS, Turn, write_script
from s3prl_metaperser.demo.voice import SAMPLE_RATE, deliver
from s3prl_metaperser.demo.whole import check_numbers, made_whole, versions, write_card
from s3prl_metaperser.errors import unknown_name
from s3prl_metaperser.progress import tqdm
from s3prl_metaperser.storage.csv_text import csv_text

#: (folder, utterances, path of each) -> seconds of each, once they are synthesised.
Rendered = Callable[[Path, list[Turn], dict[str, str]], dict[str, float]]
#: Changes with anything that changes what the same seed gives.
RECIPE_VERSION = 1
FEWEST, MOST = 10, 10_000
#: What is asked by default.
EMOTION = "emotion"


def write_demo_corpus(
    folder: Path,
    *,
    seed: int = 0,
    utterances: int = 600,
    raters: str = "paper",
    answer: str = EMOTION,
    progress: bool = True,
    workers: int = 2,
) -> Path:
    """Write the demo corpus into ``folder`` unless it is there already.

    The corpus is made in a folder beside and renamed at the end, so that ``folder`` is complete or absent.
    The same seed gives the same bytes, whatever the number of workers (on one machine with one version of
    praat-parselmouth and NumPy).

    Args:
        folder: new, empty, or holding a demo corpus of the same settings.
        seed: of every draw.
        utterances: 10 to 10,000, over five sessions of two speakers.
        raters: ``paper``, ``identical``, ``opposed`` or ``misspecified``; ``crowd``, ``crowd-strong`` or
            ``crowd-identical``, which have nine ratings an utterance, about forty a rater, and as many raters as that
            takes.
        answer: what raters are asked: the ``emotion``, or on a scale from 1 to 7 the ``arousal``, ``valence`` or
            ``dominance`` (written as ratings.csv).
        progress: show a progress bar.
        workers: processes that synthesise at once.

    Returns:
        ``folder``.

    Raises:
        UserError: a wrong argument, another corpus in ``folder``, or no praat-parselmouth.
    """
    settings = _settings(seed, utterances, raters, answer)

    def rendered(partial: Path, turns: list[Turn], paths: dict[str, str]) -> dict[str, float]:
        """Synthesise all utterances; utterance id -> seconds."""
        plans = [[deliver(t, paths[t.utterance], seed=seed) for t in turns if t.speaker == s] for s in SPEAKERS]
        with tqdm(total=len(turns), desc="demo corpus", unit="utterance", disable=not progress) as bar:
            samples = render_speakers(plans, partial, workers=max(1, int(workers)), done=bar.update)
        return {t.utterance: samples[paths[t.utterance]] / SAMPLE_RATE for t in turns}

    return made_whole(Path(folder), settings, lambda partial: _write(partial, settings, rendered))


def _settings(seed: int, utterances: int, raters: str, answer: str) -> dict:
    if answer not in (EMOTION, *scales.QUESTIONS):
        raise unknown_name("answer", str(answer), (EMOTION, *scales.QUESTIONS))
    if not isinstance(raters, str) or raters not in (known := {**VARIANTS, **crowd.POPULATIONS}):
        raise unknown_name("raters variant", raters, known)
    check_numbers(seed, utterances, FEWEST, MOST)
    asked = {} if answer == EMOTION else {"answer": answer}  # corpora of before say nothing of it
    return {"recipe": RECIPE_VERSION, "seed": seed, "utterances": utterances, "raters": raters, **asked}


def _write(folder: Path, settings: dict, rendered: Rendered) -> None:
    if "answer" in settings:
        return _write_scale(folder, settings, rendered)
    if settings["raters"] in crowd.POPULATIONS:
        return _write_crowd(folder, settings, rendered)
    seed, variant = settings["seed"], settings["raters"]
    prior = intended_prior(variant)
    turns = write_script(prior, seed=seed, utterances=settings["utterances"])
    models = rater_models(variant)
    ratings = draw_ratings(models, turns, seed=seed)
    paths = {t.utterance: f"Session{t.session}/sentences/wav/{t.dialog}/{t.utterance}.wav" for t in turns}
    seconds = rendered(folder, turns, paths)
    write_dialogs(folder, turns, seconds, ratings, seed=seed)
    write_card(folder, _card(settings, prior, turns, models, ratings, seconds))


def _write_crowd(folder: Path, settings: dict, rendered: Rendered) -> None:
    seed, variant = settings["seed"], settings["raters"]
    turns = write_script(crowd.intended_prior(), seed=seed, utterances=settings["utterances"])
    raters = crowd.raters_of(variant, len(turns), seed=seed)
    answers = crowd.draw_answers(raters, turns, seed=seed)
    labels = f"name: {crowd.LABEL_SET.name}\nkind: {crowd.LABEL_SET.kind}\nclasses: [{', '.join(crowd.CLASSES)}]\n"
    known = _write_own(folder, settings, rendered, turns, answers, "label", labels)
    write_card(folder, {**known, **crowd_card(variant, raters, turns, answers)})


def _write_scale(folder: Path, settings: dict, rendered: Rendered) -> None:
    seed, variant = settings["seed"], settings["raters"]
    made = scales.scaled(settings["answer"], variant, utterances=settings["utterances"], seed=seed)
    labels = f"name: {scales.LABEL_SETS[made.question].name}\nkind: ordinal\nlevels: {list(scales.LEVELS)}\n"
    known = _write_own(folder, settings, rendered, made.turns, made.answers, "value", labels)
    write_card(folder, {**known, **scale_card(made, variant, seed=seed)})


def _write_own(
    folder: Path,
    settings: dict,
    rendered: Rendered,
    turns: list[Turn],
    answers: Mapping[str, Mapping[str, str | int]],
    column: str,
    labels: str,
) -> dict:
    """Audio, ratings.csv, files.csv and labels.yaml; returns what the card has of every corpus."""
    paths = {turn.utterance: crowd_file(turn) for turn in turns}
    seconds = rendered(folder, turns, paths)
    rated = [(paths[name], rater, str(answer)) for name, given in answers.items() for rater, answer in given.items()]
    _write_csv(folder / "ratings.csv", [("file", "rater", column), *rated])
    spoken = [(paths[turn.utterance], turn.speaker, f"Ses{turn.session:02d}") for turn in turns]
    _write_csv(folder / "files.csv", [("file", "speaker", "session"), *spoken])
    (folder / "labels.yaml").write_text(labels, encoding="utf-8", newline="\n")
    return {"settings": settings, "minutes": round(sum(seconds.values()) / 60, 2), "versions": versions()}


def _write_csv(path: Path, rows: list[tuple[str, str, str]]) -> None:
    path.write_text(csv_text(rows), encoding="utf-8", newline="")


def crowd_file(turn: Turn) -> str:
    """Where an utterance of the crowd's corpus is, relative to the folder."""
    return f"wav/{turn.utterance}.wav"


def _card(
    settings: dict,
    prior: np.ndarray,
    turns: list[Turn],
    models: tuple[RaterModel, ...],
    ratings: dict[str, dict[str, tuple[str, ...]]],
    seconds: dict[str, float],
) -> dict:
    """What is true of this corpus; everything in it is plain JSON and the same for the same settings."""
    per_rater = {}
    for model in models:
        mine = [chosen[model.id] for chosen in ratings.values() if model.id in chosen]
        ticks = Counter(tick for chosen in mine for tick in chosen)
        per_rater[model.id] = {
            "table": [[round(float(p), 6) for p in row] for row in model.table],
            "tick_rate": model.tick_rate,
            "rated": len(mine),
            "ticks": {name: ticks[name] for name in CLASSES},
            "permutation": None if model.permutation is None else list(model.permutation),
        }
    return {
        "what": "Synthetic speech, known emotions, known raters, IEMOCAP's layout. No recording of a person.",
        "settings": settings,
        "variant": VARIANTS[settings["raters"]],
        "classes": list(CLASSES),
        "prior": {name: round(float(p), 6) for name, p in zip(CLASSES, prior, strict=True)},
        "minutes": round(sum(seconds.values()) / 60, 2),
        "versions": versions(),
        "ceilings": ceilings.ceilings(models, turns, ratings, seed=settings["seed"]),
        "permuted": [model.id for model in models if model.permutation is not None],
        "raters": per_rater,
        "intended": {turn.utterance: CLASSES[turn.intended] for turn in turns},
    }
