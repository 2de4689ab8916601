"""From a trained state to its result, and to the classes of one audio file."""

from __future__ import annotations

import dataclasses
import math
import sys
import time
from pathlib import Path

from s3prl_metaperser import parallel
from s3prl_metaperser.config.options import training_options
from s3prl_metaperser.errors import UserError, unknown_name
from s3prl_metaperser.evaluation.meta_testing import meta_test
from s3prl_metaperser.evaluation.metrics import METRICS
from s3prl_metaperser.evaluation.result import Result
from s3prl_metaperser.evaluation.result_keys import EvaluatedCell, Raters, Selected, Tuned
from s3prl_metaperser.evaluation.selection import select
from s3prl_metaperser.evaluation.trajectory import trajectory
from s3prl_metaperser.methods.base import ModelState, System
from s3prl_metaperser.methods.state import state_hash
from s3prl_metaperser.protocol.episodes import shrink_notes
from s3prl_metaperser.protocol.splits import in_role, named
from s3prl_metaperser.run.controls import controls
from s3prl_metaperser.run.opened import Checkpoint, OpenCell
from s3prl_metaperser.run.result_files import result_name, unfinished, write_result
from s3prl_metaperser.run.threshold import learned_threshold
from s3prl_metaperser.run.unadapted import Gains, against_unadapted
from s3prl_metaperser.run.workspace import say
from s3prl_metaperser.s3prl_stack.trained_on import heard_before
from s3prl_metaperser.storage.provenance import differences

#: Split -> whose episodes.
ROLES = {"test": "test", "dev": "validation"}


def evaluate(opened: OpenCell, checkpoint: Checkpoint | None, split: str = "test") -> Result:
    """Meta-test the fold's test rater (``test``) or validation rater (``dev``), and write the result file.

    Raises:
        UserError: an unknown split; no checkpoint, or one of another system, other data or other training options.
    """
    if split not in ROLES:
        raise unknown_name("split", split, ROLES)
    if checkpoint is None:
        raise UserError("Nothing to evaluate: name an experiment with -e EXPDIR or a checkpoint with -i FILE.")
    state, task = opened.load(checkpoint), opened.task
    if checkpoint.resumed:
        _refuse_changed_training(opened, checkpoint)
    parameters = state_hash(state)
    system, tuned = _tuned(opened, state)  # before anything of the test rater is read
    on_device = dataclasses.replace(opened.scope.prepared, values=task.features)
    threshold = learned_threshold(system, state, opened.workspace, on_device)
    episodes = opened.workspace.episodes(ROLES[split])
    data = opened.workspace.episode_data(episodes, on_device, ROLES[split])
    for note in shrink_notes(episodes):
        say(note)
    begun = time.perf_counter()
    tested = meta_test(system, state, data, progress=f"meta-testing {named(tuple(each.rater for each in episodes))}")
    seconds = time.perf_counter() - begun
    evalrc, folds = system.options.downstream_expert.evalrc, opened.workspace.split
    upstream = opened.cell.upstream
    result = Result.of(
        task=opened.cell.task,
        cell=dataclasses.replace(_cell(opened, split), steps=evalrc.steps),
        label_set=task.label_set,
        raters=Raters.of([each.rater for each in episodes], folds.validation_raters, folds.train_raters),
        asked=episodes,
        tested=tested,
        hashes={
            "corpus": opened.workspace.corpus.fingerprint(),
            "audio": opened.workspace.contents.fingerprint,
            "task": checkpoint.content.get("Task", task.identity) if checkpoint.resumed else task.identity,
            "features": opened.scope.identity.key,
            "upstream_checkpoint": opened.scope.identity.checkpoint,
            "parameters": parameters,
            **({} if opened.start is None else {"start": opened.start.sha256}),
        },
        options=opened.options.as_config(),
        selected_step=checkpoint.step,
        doubts=(
            *folds.doubts,
            *heard_before(upstream.name, upstream.checkpoint, [opened.workspace.corpus.name]),
            *unfinished(checkpoint, system.outer_steps),
        ),
        selected=_selected(opened, state, checkpoint),
        engine=system.engine(state),
        seconds=seconds,
        tuned=tuned,
        threshold=threshold,
        trajectory=trajectory(system, state, data, evalrc.trajectory, task.label_set),
        controls=controls(system, state, opened.workspace, episodes, data, on_device) if split == "test" else None,
    )
    if parallel.is_leader():
        _write(opened, checkpoint, result, against_unadapted(result, system, state, data))
    return result


def _write(opened: OpenCell, checkpoint: Checkpoint, result: Result, gains: Gains | None) -> None:
    cell, counts = result.cell, result.counts
    name = result_name(cell.split, checkpoint, opened.options.as_config(), cell.system, opened.cell.folder)
    path = write_result(opened.cell.folder, name, result)
    title = (
        f"{cell.system}, {cell.upstream} ({cell.scope}), {cell.corpus} {cell.scenario}/{cell.fold}, "
        f"{in_role('rater', result.raters.tested)}: K={counts.shots_used}, "
        f"Q={counts.queries_used}, {len(cell.seeds)} seeds, {cell.steps} steps"
    )
    said = [result.table(title)]
    if gains is not None:
        said += [str(gains), gains.bars(blocks="utf" in (sys.stdout.encoding or "").lower())]
    said += [f"{metric.title}: {metric.words}" for metric in map(METRICS.get, result.metrics) if metric.words]
    print("\n".join(filter(None, said)), flush=True)
    for name, span in result.metrics.items():
        opened.experiment.note(f"{cell.split} {name} at step {result.selected_step}: {span.mean}")
    values = {name: span.mean for name, span in result.metrics.items()} | (gains.scalars() if gains else {})
    opened.experiment.show_result(cell.split, values, result.selected_step)
    say(f"result file: {path}")


def _tuned(opened: OpenCell, state: ModelState) -> tuple[System, Tuned | None]:
    """The system as the protocol wants it, and what the validation rater chose for it."""
    if opened.options.downstream_expert.evalrc.protocol == "paper":
        return opened.system, None
    selection = select(opened.system, state, opened.task)
    chosen = ", ".join(f"{name}={value}" for name, value in selection.chosen.items()) or "nothing to choose"
    say(f"protocol tuned: {chosen} (chosen on the validation rater among {len(selection.losses)} choices)")
    return selection.system, selection.record(len(opened.task.validation_episodes))


def _selected(opened: OpenCell, state: ModelState, checkpoint: Checkpoint) -> Selected | None:
    """What is known of the checkpoint's state; nothing where it does not say what it was selected by."""
    best, initial = checkpoint.content.get("Best"), checkpoint.content.get("InitialLoss")
    if not isinstance(best, dict) or best.get("step") != checkpoint.step:
        return None
    start, rates = opened.system.initial_rate, state.rates
    learned = rates is not None and rates.values.requires_grad
    moving = rates.values[rates.values != 0] if rates is not None else None  # a system may keep some at zero
    return Selected(
        loss=_finite(best["loss"]),
        initial_loss=_finite(initial),
        rates_moved=_finite((moving / start - 1).abs().mean().item())
        if moving is not None and learned and start
        else None,
    )


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value


def _refuse_changed_training(opened: OpenCell, checkpoint: Checkpoint) -> None:
    """The result's options say how the state was trained, which evaluating does not change."""
    stored, current = (training_options(c) for c in (checkpoint.content["Config"], opened.options.as_config()))
    if found := differences(stored, current):
        raise UserError(
            f"{checkpoint.path} was trained with other options (stored -> current: {'; '.join(found)}). "
            "Evaluation does not retrain: remove them from -o, or train again."
        )


def _cell(opened: OpenCell, split: str) -> EvaluatedCell:
    evalrc, folds = opened.options.downstream_expert.evalrc, opened.workspace.split
    return EvaluatedCell(
        corpus=opened.workspace.corpus.name,
        upstream=opened.cell.upstream.name,
        scope=opened.scope.name,
        scenario=folds.scenario,
        fold=folds.fold,
        system=opened.cell.system,
        split="test" if split == "test" else "dev",
        shots=evalrc.shots,
        queries=evalrc.queries,
        seeds=tuple(range(evalrc.seeds if split == "test" else evalrc.validation_seeds)),
        steps=evalrc.steps,
        protocol=evalrc.protocol,
        standardized=opened.scope.prepared.standardized,
        training_seed=opened.cell.seed,
    )


def predict_file(opened: OpenCell, checkpoint: Checkpoint | None, path: Path) -> dict[str, float]:
    """Print and return the class probabilities of an audio file, before any adaptation.

    Equal, bit by bit, to ``metaperser predict`` on the exported experiment.
    """
    if checkpoint is None:
        raise UserError("Nothing to infer with: name an experiment with -e EXPDIR or a checkpoint with -i FILE.")
    if not path.is_file():
        raise UserError(f"-t {path}: no such audio file.")
    system, label_set = opened.system, opened.workspace.corpus.label_set
    state, smoothing = opened.load(checkpoint), opened.options.downstream_expert.datarc.smoothing
    probabilities = system.predict(state, system.unadapted(state), opened.scope.read(path))[0]
    found = dict(zip(label_set.classes, probabilities.tolist(), strict=True))
    decided = dict(zip(label_set.classes, label_set.decide(probabilities, smoothing), strict=True))
    mark = "ticked" if label_set.kind == "multi" else "chosen"
    if label_set.kind == "ordinal":
        mark = f"nearest to {label_set.value(probabilities, smoothing):.2f}"
    for name, value in sorted(found.items(), key=lambda item: -item[1]):
        print(f"{name:<12} {value:.3f}{f'  {mark}' if decided[name] else ''}")
    return found
