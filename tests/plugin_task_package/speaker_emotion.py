"""Speaker-independent emotion recognition: learn from all speakers but one, and test on that one.

No raters and no adaptation: what all raters of an utterance answered together is its label.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np

from s3prl_metaperser.config.options import DataOptions, ExpertOptions, Options
from s3prl_metaperser.config.validator import at_least
from s3prl_metaperser.corpora.base import Corpus
from s3prl_metaperser.corpora.label_set import LabelSet
from s3prl_metaperser.errors import unknown_name
from s3prl_metaperser.evaluation.meta_testing import EpisodeResult
from s3prl_metaperser.evaluation.result import EvaluatedCell, Raters, Result
from s3prl_metaperser.methods import Facts
from s3prl_metaperser.protocol.episodes import Episode, EpisodeList
from s3prl_metaperser.protocol.splits import Split
from s3prl_metaperser.registry import Registry
from s3prl_metaperser.report.gathered import Gathered
from s3prl_metaperser.report.page import Section
from s3prl_metaperser.run.cell import Record
from s3prl_metaperser.run.scopes import open_scope
from s3prl_metaperser.run.settings import CellOptions
from s3prl_metaperser.run.workspace import Workspace
from s3prl_metaperser.storage.provenance import digest
from s3prl_metaperser.tasks import Axis, Task

# -- options: a section of its own beside the common ones ---------------------------------------------------------


@dataclass(frozen=True)
class SpeakerOptions:
    """``downstream_expert.speakerrc``."""

    held_out: str = "Ses01F"
    penalty: Annotated[float, at_least(1e-6)] = 1.0


@dataclass(frozen=True)
class OwnExpert(ExpertOptions):
    speakerrc: SpeakerOptions = field(default_factory=SpeakerOptions)


@dataclass(frozen=True)
class OwnOptions(Options):
    downstream_expert: OwnExpert = field(default_factory=OwnExpert)


# -- systems: training features [N, D] and answers [N, C], test features [M, D] -> probabilities [M, C] ------------


def majority(features: np.ndarray, answers: np.ndarray, tested: np.ndarray, options: SpeakerOptions) -> np.ndarray:
    return np.tile(answers.mean(0), (len(tested), 1))


def logistic(features: np.ndarray, answers: np.ndarray, tested: np.ndarray, options: SpeakerOptions) -> np.ndarray:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=1 / options.penalty, max_iter=200).fit(features, answers.argmax(1))
    found = 0.1 * majority(features, answers, tested, options)  # no class is impossible
    found[:, model.classes_] += 0.9 * model.predict_proba(tested)
    return found


System = Callable[[np.ndarray, np.ndarray, np.ndarray, SpeakerOptions], np.ndarray]
SYSTEMS: Registry[System] = Registry("system of speaker_emotion")
SYSTEMS.register("Majority", f"{__name__}:majority", facts=Facts(uses=(), learns=False, colour="#808080"))
SYSTEMS.register("Logistic", f"{__name__}:logistic", facts=Facts(uses=("downstream_expert.speakerrc",)))


# -- one cell: split, features, predictions, result ----------------------------------------------------------------


def leave_one_out(corpus: Corpus, data: DataOptions, held_out: str) -> Split:
    """Its ``train`` is what features are standardised with; the unit of the task stands where raters do."""
    speakers = {utterance.id: utterance.speaker for utterance in corpus.utterances}
    if held_out not in (known := sorted(set(speakers.values()))):
        raise unknown_name("speaker", held_out, known)
    return Split(
        scenario="all",
        fold=held_out,
        test_raters=(held_out,),
        validation_raters=(),
        train_raters=tuple(speaker for speaker in known if speaker != held_out),
        train=tuple(rating for rating in corpus.ratings if speakers[rating.utterance] != held_out),
        validation=(),
        test=tuple(rating for rating in corpus.ratings if speakers[rating.utterance] == held_out),
    )


def run_cell(cell: CellOptions, open_workspace: Callable[..., Workspace], record: Record) -> Result:
    begun, options = time.perf_counter(), cell.options
    assert isinstance(options, OwnOptions)
    own, evalrc = options.downstream_expert.speakerrc, options.downstream_expert.evalrc
    system = SYSTEMS.get(cell.system)
    workspace = open_workspace(options, splits=lambda corpus, data: leave_one_out(corpus, data, own.held_out))
    scope, corpus, split = open_scope(cell, options, workspace), workspace.corpus, workspace.split
    features, rows = scope.prepared.values.flatten(1).numpy().astype(np.float64), scope.prepared.rows
    counts = np.zeros((len(rows), len(corpus.classes)))  # all raters together
    for rating in corpus.ratings:
        counts[rows[rating.utterance]] += corpus.label_set.counts(rating.answer)
    learned, query = (tuple(sorted({r.utterance for r in part})) for part in (split.train, split.test))
    train, test = ([rows[utterance] for utterance in part] for part in (learned, query))
    shares = counts / counts.sum(1, keepdims=True)
    probabilities = system(features[train], shares[train], features[test], own)
    loss = float(-(shares[test] * np.log(np.maximum(probabilities, 1e-12))).sum(1).mean())
    seconds = time.perf_counter() - begun
    record.seconds |= {"preparation": 0.0, "training": round(seconds, 3), "evaluation": 0.0}
    fingerprint, episode = corpus.fingerprint(), Episode(seed=0, support=(), query=query)
    asked = EpisodeList(fingerprint, "all", own.held_out, own.held_out, digest(query), 0, len(query), (episode,))
    result = Result.of(
        task=cell.task,
        cell=EvaluatedCell(
            corpus=corpus.name,
            upstream=cell.upstream.name,
            scope="frozen",
            scenario="all",
            fold=own.held_out,
            system=cell.system,
            split="test",
            shots=0,
            queries=len(query),
            seeds=(0,),
            steps=0,
            protocol=evalrc.protocol,
            standardized=scope.prepared.standardized,
            training_seed=cell.seed,
        ),
        label_set=corpus.label_set,
        raters=Raters(own.held_out, "", split.train_raters),
        asked=[asked],
        tested=[EpisodeResult(0, query, probabilities, counts[test], loss)],
        hashes={
            "corpus": fingerprint,
            "task": digest([learned, query]),
            "features": scope.identity.key,
            "upstream_checkpoint": scope.identity.checkpoint,
        },
        options=options.as_config(),
        selected_step=0,
        engine="closed form",
        seconds=seconds,
    )
    result.write(cell.folder / "result_test.json")
    return result


# -- the task ------------------------------------------------------------------------------------------------------


def metrics(label_set: LabelSet) -> tuple[str, ...]:
    return ("nats", "brier")


def hardest(gathered: Gathered) -> list[Section]:
    """A section of the report: the speaker on whom the systems are worst."""
    losses = {result.raters.test: result.metrics["nats"].mean for result in gathered.results}
    speaker = max(losses, key=lambda name: losses[name])
    return [Section("hardest", "The hardest speaker", (f"{speaker}: {losses[speaker]:.2f} nats.",))]


TASK = Task(
    name="speaker_emotion",
    title="Speaker-independent emotion recognition",
    unit="speaker",
    axes=(
        Axis(
            *("held_out", "held_out", "downstream_expert.speakerrc.held_out", str),
            values=lambda options: tuple(f"Ses{number:02d}{sex}" for number in range(1, 6) for sex in "FM"),
            role="unit",
        ),
    ),
    systems=lambda scope: SYSTEMS,
    default_system="Logistic",
    metrics=metrics,
    sections=("verdicts", "tables", "speaker_emotion:hardest", "origin"),
    run="speaker_emotion:run_cell",
    options=OwnOptions,
)
