"""The initialisation that systems start from: trained on the training raters' pooled (consensus) labels.

With a fine-tuned upstream this is SSL-E (section 2.3.1), upstream and head together; with a frozen one its twin, layer
weights and head alone. It is trained once for a task, kept in the cache, and shared by every system that starts from
it. SSL-E's progress is saved, so that an interrupted run resumes to the same bits.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from s3prl_metaperser import parallel
from s3prl_metaperser.errors import UserError, one_line
from s3prl_metaperser.methods.facts import HELD_OUT
from s3prl_metaperser.methods.learner import HeadLearner, new_learner
from s3prl_metaperser.methods.movement import Watched
from s3prl_metaperser.methods.task import TrainingTask
from s3prl_metaperser.progress import tqdm
from s3prl_metaperser.protocol.loader import LabelTable
from s3prl_metaperser.seeding import numpy_generator
from s3prl_metaperser.storage.checkpoints import load_checked, save_checkpoint
from s3prl_metaperser.storage.json_files import parse_json
from s3prl_metaperser.storage.locks import PATIENCE, held
from s3prl_metaperser.storage.provenance import digest, refuse
from s3prl_metaperser.storage.sources import code_of
from s3prl_metaperser.storage.tensor_files import read_said, read_tensors, write_tensors
from s3prl_metaperser.upstream.memory import ADAPT_LESS
from s3prl_metaperser.upstream.store import CODE as FEATURES
from s3prl_metaperser.upstream.store import WITHIN as FEATURES_WITHIN

PROGRESS = "progress.ckpt"
#: Modules that train it, and where what they import counts as well; with the code of features it is a part of its key.
CODE, WITHIN = ("methods.initialisation",), ("methods", "meta", "protocol", "seeding")
AGAIN = "Delete it to train it again."


@dataclass(frozen=True)
class Recipe:
    """How the initialisation of a scope is made.

    Attributes:
        name: for messages.
        version: counted up to now; the code itself is a part of the key (:func:`.sources.code_of`).
        file: its name in the cache; ``{key}`` is of all that it depends on.
        lock: its lock's name.
        large: whether gradients are clipped, progress is saved, and a part of the validation rater's labels chooses.
    """

    name: str
    version: int
    file: str
    lock: str
    large: bool


_FROZEN = Recipe("consensus initialisation", 1, "{key}.safetensors", "{key}.lock", large=False)
_FINE_TUNED = Recipe("SSL-E", 2, "{key}/ssl-e.safetensors", "{key}/.lock", large=True)


def recipe_of(task: TrainingTask) -> Recipe:
    """The recipe of the task's scope."""
    return _FROZEN if task.model is None else _FINE_TUNED


def initialised(task: TrainingTask) -> HeadLearner:
    """A learner with the initialisation of this task, which is trained first where the cache has none; or with the
    model that another task has trained, where that is the start.

    With a fine-tuned upstream the task's own model is filled.

    Raises:
        UserError: training diverges, memory runs out, or a file in the cache cannot be read.
    """
    learner = new_learner(task, "consensus", task.seed)
    if task.start is not None:
        task.start.fill(learner.module)
        return learner
    recipe, path = recipe_of(task), initialisation_file(task)
    progress = path.parent / PROGRESS if recipe.large else None
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = held(_cached(task, recipe.lock), f"{recipe.name} {path.name}", wait=PATIENCE)
    with lock if parallel.is_leader() else contextlib.nullcontext():
        if not parallel.gather(path.exists())[0]:
            tensors, record = train_on_consensus(task, learner, progress)
            if parallel.is_leader():
                record["made_from"] = json.dumps(initialisation_parts(task))
                write_tensors(path, tensors, record)
        if parallel.is_leader() and progress:  # also where the process that finished was killed before it came here
            progress.unlink(missing_ok=True)
        parallel.wait()
    _load(path, task, learner)
    return learner


def initialisation_file(task: TrainingTask) -> Path:
    """Where in the cache it is kept; nothing of meta-testing is in the key, so that all K share it."""
    return _cached(task, recipe_of(task).file)


def _cached(task: TrainingTask, name: str) -> Path:
    return task.cache / "initialisation" / name.format(key=digest(initialisation_parts(task))[:24])


def initialisation_parts(task: TrainingTask) -> dict[str, Any]:
    """All that the initialisation depends on, as parts for :mod:`.storage.provenance`; nothing of meta-testing."""
    options, recipe = task.options.downstream_expert, recipe_of(task)
    chosen = {"initrc": dataclasses.asdict(options.initrc), "projector_dim": options.modelrc.projector_dim}
    clipped = {"gradient_clipping": task.options.runner.gradient_clipping} if recipe.large else {}
    source = task.learned_from or {"task": task.identity}
    made_by = {"recipe": recipe.version, "code": code_of((*CODE, *FEATURES), (*WITHIN, *FEATURES_WITHIN))}
    return {**made_by, "seed": task.seed, **chosen, **clipped, **source}


def train_on_consensus(
    task: TrainingTask, learner: HeadLearner, progress: Path | None = None
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Minimise the class-balanced loss on consensus labels; keep the step that suits the validation rater best.

    Args:
        learner: trained in place.
        progress: where to save and resume.

    Returns:
        The parameters, on the CPU, and what was chosen (``step``, ``validation_loss``), as text.
    """
    options, recipe, parameters = task.options.downstream_expert.initrc, recipe_of(task), learner.parameters()
    optimizer = torch.optim.AdamW(parameters.values(), lr=options.lr, weight_decay=options.weight_decay)
    watched, held_out = Watched(optimizer), _held_out(task) if recipe.large else task.validation
    step, best = 0, dict[str, Any](loss=math.inf, step=0, parameters={})
    if progress is not None and progress.exists():
        step, best = _resume(progress, parameters, optimizer)
    order = shuffled_batches(task.seed, len(task.consensus.utterances), options.batch_size, skip=step)
    bar = tqdm(
        total=options.total_steps, initial=step, desc=recipe.name, dynamic_ncols=True, disable=not parallel.is_leader()
    )
    with bar, learner.training():
        while step < options.total_steps:
            step += 1
            value = _step(task, learner, watched, next(order).numpy(), step)
            bar.set_postfix(loss=f"{value:.4f}", best=f"{best['loss']:.4f}@{best['step']}", refresh=False)
            bar.update()
            if step % options.eval_step == 0 or step == options.total_steps:
                watched.check(recipe.name, "Raise initrc.lr or runner.gradient_clipping.")
                best = _better(task, learner, held_out, step, best)
                if progress is not None and parallel.is_leader():
                    now = {name: value.detach().cpu() for name, value in parameters.items()}
                    content = {"step": step, "best": best, "optimizer": optimizer.state_dict(), "parameters": now}
                    save_checkpoint(progress, content)
    if not best["parameters"]:
        raise UserError(f"Training of {recipe.name} diverges: its validation loss is NaN or infinite. Lower initrc.lr.")
    return best["parameters"], {"step": str(best["step"]), "validation_loss": repr(best["loss"])}


def _better(
    task: TrainingTask, learner: HeadLearner, held_out: LabelTable, step: int, best: dict[str, Any]
) -> dict[str, Any]:
    """The better of ``best`` and the current learner."""
    with learner.explaining(f"{recipe_of(task).name} step {step}, validation,"):
        loss = learner.loss_on(task, held_out)
    if loss >= best["loss"] or not math.isfinite(loss):
        return best
    parameters = {name: p.detach().cpu().clone().contiguous() for name, p in learner.parameters().items()}
    return {"loss": loss, "step": step, "parameters": parameters}


def _step(task: TrainingTask, learner: HeadLearner, watched: Watched, chosen: np.ndarray, step: int) -> float:
    recipe, parameters = recipe_of(task), learner.parameters()
    where = f"{recipe.name} step {step}"
    inputs, weighted = task.samples(task.consensus, chosen)
    losses = learner.losses(inputs, weighted, "ssl-e", task.seed, step)
    watched.optimizer.zero_grad(set_to_none=True)
    total = 0.0
    with learner.explaining(where):
        for _, loss in parallel.share(losses):
            share = loss(parameters, 0)
            share.backward()
            total += share.item()
    if recipe.large:
        parallel.sum_gradients(parameters.values())
        total = parallel.sum_value(total)
        norm = torch.nn.utils.clip_grad_norm_(parameters.values(), task.options.runner.largest_norm)
        if not (math.isfinite(total) and math.isfinite(norm.item())):
            raise UserError(f"{where} gives a loss of {total} and a gradient norm of {norm}. Lower initrc.lr.")
    with learner.explaining(f"{where}, the optimiser,", ADAPT_LESS):
        watched.step()
    return total


def _held_out(task: TrainingTask) -> LabelTable:
    """Labels of the validation rater: all, or as many as a few episodes have, the same for every K and protocol."""
    rated = sorted(task.validation.utterances)
    drawn = numpy_generator("ssl-e held out", task.seed).permutation(len(rated))[:HELD_OUT]
    return task.validation.select([rated[index] for index in sorted(drawn)])


def shuffled_batches(seed: int, size: int, batch: int, skip: int = 0) -> Iterator[torch.Tensor]:
    """Endless batches of indices below ``size``, reshuffled each epoch; the first ``skip`` are left out."""
    epoch, first = divmod(skip, -(-size // batch))
    while True:
        order = numpy_generator("consensus batches", seed, epoch).permutation(size)
        for start in range(first * batch, size, batch):
            yield torch.from_numpy(np.ascontiguousarray(order[start : start + batch]))
        epoch, first = epoch + 1, 0


def _resume(
    path: Path, parameters: Mapping[str, torch.Tensor], optimizer: torch.optim.Optimizer
) -> tuple[int, dict[str, Any]]:
    try:
        content = load_checked(path)
        _fill(parameters, content["parameters"])
        optimizer.load_state_dict(content["optimizer"])
        return content["step"], content["best"]
    except Exception as error:  # damaged bytes make torch and pickle raise nearly anything
        raise UserError(
            f"Cannot resume from {path} ({one_line(error)}). Delete it to restart {_FINE_TUNED.name}."
        ) from None


def _load(path: Path, task: TrainingTask, learner: HeadLearner) -> None:
    said, _ = read_said(path, AGAIN)
    check_made_from(path, said, initialisation_parts(task))
    stored, parameters = read_tensors(path, AGAIN), learner.parameters()
    try:
        _fill(parameters, stored)
    except (KeyError, RuntimeError) as error:
        raise UserError(f"Cannot use {path} ({error}). {AGAIN}") from None


def _fill(parameters: Mapping[str, torch.Tensor], values: Mapping[str, torch.Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(values[name])


def check_made_from(path: Path, metadata: Mapping[str, str] | None, parts: Mapping[str, Any]) -> None:
    """Refuse a stored initialisation that was made from other inputs.

    Raises:
        UserError: with the difference.
    """
    try:
        stored = parse_json((metadata or {})["made_from"])
    except (KeyError, ValueError):
        raise UserError(f"{path} does not record what it was made from. {AGAIN}") from None
    if stored != json.loads(json.dumps(parts)):
        raise refuse(str(path), stored, parts, AGAIN)
