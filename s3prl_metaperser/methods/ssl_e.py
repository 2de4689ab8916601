"""SSL-E: upstream and head trained on the training raters' pooled labels (section 2.3.1).

It is trained once for a task and shared by every system that starts from it. Its progress is saved, so that an
interrupted run goes on from there to the same bits.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from tqdm import tqdm

from s3prl_metaperser import parallel
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.methods.base import TrainingTask
from s3prl_metaperser.methods.facts import HELD_OUT
from s3prl_metaperser.methods.initialisation import check_made_from, initialisation_parts, shuffled_batches
from s3prl_metaperser.protocol.loader import LabelTable
from s3prl_metaperser.protocol.loss import class_balanced_loss, weighted_targets
from s3prl_metaperser.seeding import numpy_generator
from s3prl_metaperser.storage.atomic import replacing
from s3prl_metaperser.storage.checkpoints import check_bytes, save_checkpoint
from s3prl_metaperser.storage.provenance import digest
from s3prl_metaperser.upstream.finetuning import FineTunedModel
from s3prl_metaperser.upstream.memory import ADAPT_LESS, explaining_memory
from s3prl_metaperser.upstream.micro_batches import micro_batches, micro_losses

RECIPE = 2
PROGRESS = "progress.ckpt"


def fine_tuned_initialisation(task: TrainingTask) -> None:
    """Load SSL-E's parameters into ``task.model``, training them first where the cache has none.

    Raises:
        UserError: training diverges, memory runs out, or a file in the cache cannot be read.
    """
    done = initialisation_file(task)
    folder = done.parent
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    if parallel.is_leader():
        lock.acquire()
    try:
        if not parallel.gather(done.exists())[0]:
            best = _train(task, folder)
            if parallel.is_leader():
                with replacing(done) as partial:
                    save_file(best, partial, metadata={"made_from": json.dumps(_parts(task))})
        if parallel.is_leader():  # also where the process that finished was killed before it came here
            (folder / PROGRESS).unlink(missing_ok=True)
        parallel.wait()
    finally:
        if parallel.is_leader():
            lock.release()
    _load(done, task)


def initialisation_file(task: TrainingTask) -> Path:
    """Where in the cache SSL-E of this task is kept; nothing of meta-testing is in the key, so all K share it."""
    return task.cache / "initialisation" / digest(_parts(task))[:24] / "ssl-e.safetensors"


def _parts(task: TrainingTask) -> dict[str, Any]:
    return initialisation_parts(task, RECIPE, gradient_clipping=task.options.runner.gradient_clipping)


def _train(task: TrainingTask, folder: Path) -> dict[str, torch.Tensor]:
    """The parameters with the lowest zero-shot loss on utterances of the validation rater."""
    options, model = task.options.downstream_expert.initrc, task.model
    adapted = model.named_adapted()
    optimizer = torch.optim.AdamW(adapted.values(), lr=options.lr, weight_decay=options.weight_decay)
    held_out = _held_out(task)
    step, best = 0, {"loss": math.inf, "step": 0, "parameters": {}}
    progress = folder / PROGRESS
    if progress.exists():
        step, best = _resume(progress, model, optimizer)
    order = shuffled_batches(task.seed, len(task.consensus.utterances), options.batch_size, skip=step)
    model.train(task.options.downstream_expert.tunerc.dropout)
    quiet = not parallel.is_leader()
    with tqdm(total=options.total_steps, initial=step, desc="SSL-E", dynamic_ncols=True, disable=quiet) as bar:
        while step < options.total_steps:
            step += 1
            value = _step(task, optimizer, next(order).numpy(), step)
            bar.set_postfix(loss=f"{value:.4f}", best=f"{best['loss']:.4f}@{best['step']}")
            bar.update()
            if step % options.eval_step == 0 or step == options.total_steps:
                best = _evaluated(task, held_out, step, best)
                if parallel.is_leader():
                    now = {name: p.detach().cpu() for name, p in adapted.items()}
                    content = {"step": step, "best": best, "optimizer": optimizer.state_dict(), "parameters": now}
                    save_checkpoint(progress, content)
    model.eval()
    if not best["parameters"]:
        raise UserError("SSL-E diverges: its validation loss is NaN or infinite. Lower initrc.lr.")
    return best["parameters"]


def _evaluated(task: TrainingTask, held_out: LabelTable, step: int, best: dict[str, Any]) -> dict[str, Any]:
    """The better of ``best`` and the model as it is."""
    with explaining_memory(f"SSL-E step {step}, validation,"):
        loss = zero_shot_loss(task, held_out)
    if loss >= best["loss"] or not math.isfinite(loss):
        return best
    parameters = {name: p.detach().cpu().clone() for name, p in task.model.named_adapted().items()}
    return {"loss": loss, "step": step, "parameters": parameters}


def _step(task: TrainingTask, optimizer: torch.optim.Optimizer, chosen, step: int) -> float:
    tunerc, adapted = task.options.downstream_expert.tunerc, task.model.named_adapted()
    waves = task.features[task.consensus.rows[chosen]]
    targets = torch.from_numpy(task.consensus.targets[chosen]).to(task.device)
    weighted = weighted_targets(targets, task.class_weights)
    losses = micro_losses(task.model, waves, weighted, tunerc.micro_batch_seconds, "ssl-e", task.seed, step)
    optimizer.zero_grad(set_to_none=True)
    total = 0.0
    with explaining_memory(f"SSL-E step {step}"):
        for _, loss in parallel.share(losses):
            share = loss(adapted, 0)
            share.backward()
            total += share.item()
    parallel.sum_gradients(adapted.values())
    total = parallel.sum_value(total)
    norm = torch.nn.utils.clip_grad_norm_(adapted.values(), task.options.runner.gradient_clipping)
    if not (math.isfinite(total) and math.isfinite(norm.item())):
        raise UserError(f"SSL-E step {step} gives a loss of {total} and a gradient norm of {norm}. Lower initrc.lr.")
    with explaining_memory(f"SSL-E step {step}, the optimiser,", ADAPT_LESS):
        optimizer.step()
    return total


def _held_out(task: TrainingTask) -> LabelTable:
    """Labels of the validation rater: all, or as many as a few episodes have, the same for every K and protocol."""
    rated = sorted(task.validation.utterances)
    drawn = numpy_generator("ssl-e held out", task.seed).permutation(len(rated))[:HELD_OUT]
    return task.validation.select([rated[index] for index in sorted(drawn)])


def zero_shot_loss(task: TrainingTask, labels: LabelTable) -> float:
    """Class-balanced loss of the model as it is, over labelled utterances; shared among processes."""
    seconds = task.options.downstream_expert.tunerc.micro_batch_seconds
    lengths = [int(task.features.samples(row)) for row in labels.rows]
    training = task.model.training
    task.model.eval()
    total = 0.0
    weights = task.class_weights.detach().cpu().double().numpy()
    with torch.no_grad():
        for _, group in parallel.share(micro_batches(lengths, seconds)):
            logits = task.model(task.features[labels.rows[group]])
            probabilities = torch.softmax(logits.float(), -1).cpu().numpy()
            total += len(group) * class_balanced_loss(probabilities, labels.targets[group], weights)
    task.model.train(training)
    return parallel.sum_value(total) / len(labels.rows)


def _resume(path: Path, model: FineTunedModel, optimizer) -> tuple[int, dict[str, Any]]:
    try:
        check_bytes(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
        with torch.no_grad():
            for name, parameter in model.named_adapted().items():
                parameter.copy_(content["parameters"][name])
        optimizer.load_state_dict(content["optimizer"])
        return content["step"], content["best"]
    except Exception as error:  # damaged bytes make torch and pickle raise nearly anything
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path} cannot be gone on from ({reason}). Delete it; SSL-E begins again.") from None


def _load(path: Path, task: TrainingTask) -> None:
    try:
        with safe_open(path, framework="pt") as file, torch.no_grad():
            check_made_from(path, file.metadata(), _parts(task))
            for name, parameter in task.model.named_adapted().items():
                parameter.copy_(file.get_tensor(name))
    except (SafetensorError, OSError, RuntimeError) as error:
        raise UserError(f"{path} cannot be used ({error}). Delete it; it will be trained again.") from None
