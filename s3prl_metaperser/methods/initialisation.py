"""The consensus initialisation: layer weights and head trained on the training raters' pooled labels.

This is SSL-E (section 2.3.1) with a frozen upstream. It is trained once for a task, kept in the cache, and shared by
every system that starts from it.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from tqdm import tqdm

from s3prl_metaperser.errors import UserError
from s3prl_metaperser.meta.model import Head
from s3prl_metaperser.methods.base import TrainingTask, new_head
from s3prl_metaperser.protocol.loader import LabelTable
from s3prl_metaperser.protocol.loss import soft_cross_entropy, weighted_targets
from s3prl_metaperser.seeding import numpy_generator
from s3prl_metaperser.storage.atomic import replacing
from s3prl_metaperser.storage.provenance import digest, refuse

RECIPE = 1


def consensus_initialisation(task: TrainingTask) -> Head:
    """The initialisation of this task, from the cache if it is there.

    Raises:
        UserError: training diverges, or the cached file cannot be read.
    """
    path, parts = initialisation_file(task), initialisation_parts(task, RECIPE)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if path.exists():
            return _load(path, task, parts)
        head, record = train_on_consensus(task)
        record["made_from"] = json.dumps(parts)
        with replacing(path) as partial:
            save_file({k: v.detach().contiguous() for k, v in head.state_dict().items()}, partial, metadata=record)
    return head


def initialisation_file(task: TrainingTask) -> Path:
    """Where in the cache the initialisation of this task is kept."""
    return task.cache / "initialisation" / f"{digest(initialisation_parts(task, RECIPE))[:24]}.safetensors"


def initialisation_parts(task: TrainingTask, recipe: int, **more: Any) -> dict[str, Any]:
    """All that an initialisation depends on, as parts for :mod:`.storage.provenance`; nothing of meta-testing."""
    options = task.options.downstream_expert
    chosen = {"initrc": dataclasses.asdict(options.initrc), "projector_dim": options.modelrc.projector_dim, **more}
    return {"recipe": recipe, "seed": task.seed, **chosen, **(task.learned_from or {"task": task.identity})}


def check_made_from(path: Path, metadata: Mapping[str, str] | None, parts: Mapping[str, Any]) -> None:
    """Refuse a stored initialisation that says it was made from something else.

    Raises:
        UserError: with the difference.
    """
    try:
        then = json.loads((metadata or {})["made_from"])
    except (KeyError, ValueError):
        raise UserError(f"{path} does not say what it was made from. Delete it; it will be trained again.") from None
    if then != json.loads(json.dumps(parts)):
        raise refuse(str(path), then, parts, "Delete it; it will be trained again.")


def train_on_consensus(task: TrainingTask) -> tuple[Head, dict[str, str]]:
    """Minimise the class-balanced loss on consensus labels; keep the step that suits the validation rater best.

    Returns:
        The head, and what was chosen (``step``, ``validation_loss``), as text.
    """
    options = task.options.downstream_expert.initrc
    layers, features = task.features.shape[1:]
    head = new_head(task.options, layers, features, len(task.classes), "consensus", task.seed).to(task.device)
    optimizer = torch.optim.AdamW(head.parameters(), lr=options.lr, weight_decay=options.weight_decay)
    inputs, targets = samples(task, task.consensus)
    held_out = samples(task, task.validation)
    order = shuffled_batches(task.seed, len(inputs), options.batch_size)
    best = (float("inf"), 0, {})
    bar = tqdm(
        range(1, options.total_steps + 1),
        desc="consensus initialisation",
        dynamic_ncols=True,
        file=sys.stderr,
    )
    for step in bar:
        chosen = next(order)
        loss = soft_cross_entropy(head(inputs[chosen]), targets[chosen])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if step % options.eval_step == 0 or step == options.total_steps:
            with torch.no_grad():
                value = soft_cross_entropy(head(held_out[0]), held_out[1]).item()
            bar.set_postfix(validation=f"{value:.4f}")
            if value < best[0]:
                best = (value, step, {k: v.detach().clone() for k, v in head.state_dict().items()})
    if not best[2]:
        raise UserError("The consensus initialisation diverges: its validation loss is NaN. Lower initrc.lr.")
    head.load_state_dict(best[2])
    return head, {"step": str(best[1]), "validation_loss": repr(best[0])}


def samples(task: TrainingTask, labels: LabelTable) -> tuple[torch.Tensor, torch.Tensor]:
    """Features [n, L, D] and weighted targets [n, C] of labelled utterances."""
    device = task.device
    targets = torch.from_numpy(labels.targets).to(device)
    return task.features[torch.from_numpy(labels.rows).to(device)], weighted_targets(targets, task.class_weights)


def shuffled_batches(seed: int, size: int, batch: int, skip: int = 0) -> Iterator[torch.Tensor]:
    """Endless batches of indices below ``size``, reshuffled each epoch; the first ``skip`` are left out."""
    epoch, first = divmod(skip, -(-size // batch))
    while True:
        order = numpy_generator("consensus batches", seed, epoch).permutation(size)
        for start in range(first * batch, size, batch):
            yield torch.from_numpy(np.ascontiguousarray(order[start : start + batch]))
        epoch, first = epoch + 1, 0


def _load(path: Path, task: TrainingTask, parts: Mapping[str, Any]) -> Head:
    layers, features = task.features.shape[1:]
    head = new_head(task.options, layers, features, len(task.classes), "consensus", task.seed).to(task.device)
    try:
        with safe_open(path, framework="pt") as file:
            check_made_from(path, file.metadata(), parts)
            head.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118 (no iterator)
    except (SafetensorError, OSError, RuntimeError) as error:
        raise UserError(f"{path} cannot be used ({error}). Delete it; it will be trained again.") from None
    return head
