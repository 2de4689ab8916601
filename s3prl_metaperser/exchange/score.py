"""Predictions of any system as ordinary results of the benchmark, and as answers in words."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from s3prl_metaperser.config.options import merged
from s3prl_metaperser.errors import UserError, listed
from s3prl_metaperser.evaluation.collect import RESULT
from s3prl_metaperser.evaluation.controls import control_of
from s3prl_metaperser.evaluation.decided import UNADAPTED
from s3prl_metaperser.evaluation.meta_testing import EpisodeResult
from s3prl_metaperser.evaluation.result import FIRST_TASK, Result
from s3prl_metaperser.evaluation.result_keys import Control, EvaluatedCell
from s3prl_metaperser.exchange.beside import Place, places, results_beside
from s3prl_metaperser.exchange.folder import TWIN, Folder, Part
from s3prl_metaperser.exchange.predictions import Predictions
from s3prl_metaperser.exchange.scoring import Answers, Rated, Rates, Row, row_of
from s3prl_metaperser.exchange.words import Vocabulary
from s3prl_metaperser.grid.definition import slug
from s3prl_metaperser.methods import FINETUNED_SYSTEMS, SYSTEMS
from s3prl_metaperser.protocol.loss import class_balanced_loss
from s3prl_metaperser.run.result_files import write_result
from s3prl_metaperser.storage.atomic import write_json
from s3prl_metaperser.storage.hashing import file_hash

#: What the row without labelled clips is called, behind the system's own name.
ZERO_SHOT = ":zero-shot"
#: So many ids are named in an error.
NAMED = 5
SUMMARY = "scores.json"
_NAME = re.compile(r"[\w.-]+( [\w.-]+)*", re.ASCII)


@dataclass(frozen=True)
class Given:
    """What goes with the predictions.

    Attributes:
        name: of the system, in tables.
        beside: a folder of results beside whose systems it shall stand.
        languages, synonyms: as :class:`.Vocabulary` takes them.
        missing: ``error``, or ``na``: a query without a prediction is an answer that says nothing.
    """

    name: str
    beside: Path | None = None
    languages: Collection[str] | None = None
    synonyms: Path | None = None
    missing: str = "error"


@dataclass(kw_only=True)
class Variant(Answers):
    """The answers with labelled clips, or without, to all folds of one setting.

    Attributes:
        queries: how many; of them
        in_words: answers in words,
        missing: without a prediction,
        scaled: probabilities that were scaled to a sum of 1.
    """

    name: str
    files: list[Path] = field(default_factory=list)
    queries: int = 0
    in_words: int = 0
    missing: int = 0
    scaled: int = 0


@dataclass(frozen=True)
class Setting:
    """One corpus, scenario and K.

    Attributes:
        variants: with labelled clips and without, as far as there are answers.
        gain: what the labelled clips gain, paired; empty without both.
    """

    title: str
    variants: tuple[Variant, ...]
    gain: Rates


@dataclass(frozen=True)
class Scores:
    """What came out.

    Attributes:
        not_answered: folds without a single answer.
    """

    predictions: Predictions
    settings: tuple[Setting, ...]
    not_answered: tuple[str, ...]


def score(folder: Folder, predictions: Predictions, out: Path, given: Given) -> Scores:
    """Score predictions, and write a result file for each fold (and each upstream, scope and protocol ``beside``).

    Raises:
        UserError: a name that tables would take for another system; ids that no query has, or queries without an
            answer; no result ``beside`` has these episodes; as :func:`.row_of`.
    """
    _check_name(given.name)
    _check_ids(folder, predictions)
    beside = results_beside(given.beside) if given.beside is not None else None
    rows = {twin: _rows(folder, predictions, given, twin) for twin in (False, True)}
    answered = sorted({*rows[False], *rows[True]})
    if not answered:
        raise UserError(f"{predictions.path}: no prediction. Answer the prompts in {folder.prompts} first.")
    parts = folder.card.parts
    where = {at: places(parts[at], beside, given.beside) for at in answered}
    settings: dict[str, tuple[Variant, Variant]] = {}
    for at in answered:
        title = f"{parts[at].corpus} {parts[at].scenario}, K={parts[at].shots}"
        new = Variant(name=given.name), Variant(name=given.name + ZERO_SHOT)
        own, twin = settings.setdefault(title, new)
        alone = _tested(folder, at, rows[True][at], twin) if at in rows[True] else None
        tested = _tested(folder, at, rows[False][at], own) if at in rows[False] else None
        for variant, results in ((own, tested), (twin, alone)):
            if results is not None:
                controls = None
                if variant is own and alone is not None:
                    controls = (control_of(UNADAPTED, 0, alone, parts[at].label_set, parts[at].smoothing),)
                _write(out, at, parts[at], where[at], variant, results, predictions, controls)
    scores = Scores(
        predictions,
        tuple(
            Setting(title, tuple(each for each in (own, twin) if each.scored), own.gain_over(twin))
            for title, (own, twin) in settings.items()
        ),
        tuple(str(part) for at, part in enumerate(parts) if at not in answered),
    )
    write_json(out / SUMMARY, as_json(scores))
    return scores


def _write(
    out: Path,
    at: int,
    part: Part,
    where: Sequence[Place],
    variant: Variant,
    tested: Sequence[EpisodeResult],
    predictions: Predictions,
    controls: tuple[Control, ...] | None,
) -> None:
    """A result file for each place; they have the same numbers."""
    hashed = file_hash(predictions.path)
    for place in where:
        doubts = (*part.doubts, *predictions.doubts.get(str(part), ()))
        result = _result(part, place, variant.name, tested, hashed, controls, doubts)
        variant.files.append(write_result(out / _folder(result), RESULT, result))
    variant.scored |= {f"{at} {rater}": found for rater, found in result.scored.items()}


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise UserError(f"--name {name!r}: expected letters, digits, dots, hyphens and underscores.")
    if any(registry.knows(name) for registry in (SYSTEMS, FINETUNED_SYSTEMS)):
        raise UserError(f"--name {name}: a system of the benchmark has this name. Choose another.")


def _check_ids(folder: Folder, predictions: Predictions) -> None:
    known = {query.id + end for part in folder.card.parts for query in part.queries() for end in ("", TWIN)}
    if extra := [name for name in predictions.answers if name not in known]:
        line = predictions.lines[extra[0]]
        raise UserError(
            f"{predictions.path}:{line}: {len(extra)} id(s) that no prompt in {folder.path} has: "
            f"{listed(extra, NAMED)}. Are they answers to other episodes?"
        )


def _rows(folder: Folder, predictions: Predictions, given: Given, twin: bool) -> dict[int, list[tuple[Row, bool]]]:
    """Fold -> what is scored of each query, and whether there is an answer; folds without any are left out."""
    found: dict[int, list[tuple[Row, bool]]] = {}
    missing: list[str] = []
    for at, part in enumerate(folder.card.parts):
        ids = [(query, query.id + TWIN * twin) for query in part.queries()]
        if not any(name in predictions.answers for _, name in ids):
            continue
        missing += [name for _, name in ids if name not in predictions.answers]
        words, known = Vocabulary(part.label_set, given.languages, given.synonyms), folder.answers[at]
        found[at] = []
        for query, name in ids:
            answer, counts = predictions.answers.get(name), known[query.rater][query.utterance]
            try:
                found[at].append((row_of(name, answer, counts, words, part.smoothing), answer is not None))
            except UserError as error:
                raise UserError(f"{predictions.path}:{predictions.lines[name]}: {error}") from None
    if missing and given.missing == "error":
        raise UserError(
            f"{predictions.path}: {len(missing)} prompt(s) of folds that it answers have no prediction: "
            f"{listed(missing, NAMED)}. Answer them too (the file is appended to), or count them as answers that say "
            "nothing: --missing na."
        )
    return found


def _tested(folder: Folder, at: int, rows: Sequence[tuple[Row, bool]], variant: Variant) -> list[EpisodeResult]:
    """The predictions by episode; counts and rates go to the variant."""
    part, found = folder.card.parts[at], []
    weights = np.asarray(part.class_weights).astype(np.float32).astype(np.float64)
    left = iter(rows)
    for each in part.lists:
        for episode in each.episodes:
            mine = list(itertools.islice(left, len(episode.query)))
            probabilities = np.stack([row.probabilities for row, _ in mine])
            counts = np.stack([folder.answers[at][each.rater][utterance] for utterance in episode.query])
            targets = part.label_set.target(counts, part.smoothing).astype(np.float32)
            loss = class_balanced_loss(probabilities, targets, weights)
            found.append(EpisodeResult(episode.seed, episode.query, probabilities, counts, loss))
            rates = [row.rates for row, _ in mine if row.rates is not None]
            if len(rates) == len(mine):
                variant.rated.setdefault(f"{at} {each.rater}", []).append(Rated(episode.query, np.array(rates).T))
            variant.in_words += len(rates)
    variant.queries += len(rows)
    variant.missing += sum(not there for _, there in rows)
    variant.scaled += sum(row.scaled for row, _ in rows)
    return found


def _result(
    part: Part,
    place: Place,
    name: str,
    tested: Sequence[EpisodeResult],
    hashed: str,
    controls: tuple[Control, ...] | None,
    doubts: tuple[str, ...],
) -> Result:
    options = merged(part.options, {"downstream_expert": dict(place.options)})
    evalrc = options["downstream_expert"]["evalrc"]
    first = part.lists[0]
    return Result.of(
        task=FIRST_TASK,
        cell=EvaluatedCell(
            corpus=part.corpus,
            upstream=place.upstream,
            scope=place.scope,
            scenario=part.scenario,
            fold=part.fold,
            system=name,
            split="test",
            shots=first.shots,
            queries=first.queries,
            seeds=tuple(episode.seed for episode in first.episodes),
            steps=evalrc["steps"],
            protocol=place.protocol,
            standardized=place.standardized,
            training_seed=place.training_seed,
        ),
        label_set=part.label_set,
        raters=part.raters,
        asked=part.lists,
        tested=tested,
        hashes={
            "corpus": part.hashes.corpus,
            "audio": part.hashes.audio,
            "task": hashed,
            "features": place.features,
            "upstream_checkpoint": place.checkpoint,
        },
        options=options,
        selected_step=0,
        doubts=doubts,
        engine="predictions of another system",
        seconds=0.0,
        tuned=place.tuned,
        controls=controls,
    )


def _folder(result: Result) -> Path:
    cell = result.cell
    unusual = "" if cell.protocol == "paper" else f"-{cell.protocol}"
    row = f"{slug(cell.system)}-k{cell.shots}{unusual}-seed{cell.training_seed}"
    return Path(f"{slug(cell.corpus)}-{slug(cell.upstream)}-{cell.scope}", cell.scenario, row, cell.fold)


def as_json(scores: Scores) -> dict[str, Any]:
    """For ``scores.json``: metrics as result files have them, over all folds, and the rates of answers in words."""
    return {
        "predictions": str(scores.predictions.path),
        "repeated_lines": scores.predictions.repeated,
        "broken_last_line": scores.predictions.broken,
        "folds_without_answers": list(scores.not_answered),
        "settings": {each.title: _setting_json(each) for each in scores.settings},
    }


def _setting_json(setting: Setting) -> dict[str, Any]:
    systems = {}
    for each in setting.variants:
        found = each.intervals().as_json()
        systems[each.name] = {
            **{name: getattr(each, name) for name in ("queries", "in_words", "missing", "scaled")},
            **{**found, "rates": found["rates"] or None},
            "files": [str(path) for path in each.files],
        }
    return {"systems": systems, "gain_of_labelled_clips": setting.gain.as_json()}
