"""From a trained network to its result on the target corpus."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import numpy as np
import torch

from s3prl_metaperser.evaluation.meta_testing import EpisodeResult
from s3prl_metaperser.evaluation.result import Result
from s3prl_metaperser.evaluation.result_keys import EvaluatedCell, Raters, Selected
from s3prl_metaperser.generalise.model import DomainModel
from s3prl_metaperser.methods.state import packed_hash
from s3prl_metaperser.protocol.episodes import Episode, EpisodeList
from s3prl_metaperser.run.domain_cell import OpenDomains
from s3prl_metaperser.run.opened import Checkpoint
from s3prl_metaperser.run.result_files import result_name, unfinished, write_result
from s3prl_metaperser.run.workspace import say
from s3prl_metaperser.s3prl_stack.trained_on import heard_before
from s3prl_metaperser.storage.provenance import digest

#: A result's curves have at most so many points.
POINTS = 100
_LEAST = 1e-12


def predicted(opened: OpenDomains, utterances: Sequence[str], model: DomainModel | None = None) -> np.ndarray:
    """Probabilities of the classes, float32 [n, C]; equal ones where a diverged network gives none.

    Args:
        model: by default the one that is tested, which may be an average.
    """
    rows = np.array([opened.rows[utterance] for utterance in utterances])
    model = opened.system.tested(opened.model) if model is None else model
    model.eval()
    opened.system.eval()
    with torch.no_grad():
        parts = [opened.system.probabilities(model, inputs).cpu().numpy() for inputs in opened.examples.whole(rows)]
    found = np.concatenate(parts)
    broken = ~np.isfinite(found).all(1)
    found[broken] = 1 / found.shape[1]
    return found


def validation_loss(opened: OpenDomains, model: DomainModel | None = None) -> float | None:
    """Mean over the sources of the mean negative log-likelihood on their held-out speakers; None without any.

    Args:
        model: as :func:`predicted`.
    """
    held = [ids for ids in opened.ids("validation").values() if ids]
    means = [_loss(opened, ids, predicted(opened, ids, model)) for ids in held]
    return sum(means) / len(means) if means else None


def _loss(opened: OpenDomains, utterances: Sequence[str], probabilities: np.ndarray) -> float:
    labels = [opened.labels[utterance] for utterance in utterances]
    return float(-np.log(np.maximum(probabilities[np.arange(len(labels)), labels], _LEAST)).mean())


def evaluate_domains(opened: OpenDomains, checkpoint: Checkpoint) -> Result:
    """Test a checkpoint, which is loaded, on the whole target; write the result file."""
    begun, split, cell = time.perf_counter(), opened.split, opened.cell
    content, ids = checkpoint.content, sorted(opened.ids("test")[opened.split.domains.target])
    probabilities = predicted(opened, ids)
    labels = np.array([opened.labels[utterance] for utterance in ids])
    speakers = {utterance.id: utterance.speaker for utterance in opened.corpus.utterances}
    counts = np.eye(len(opened.corpus.classes))[labels]
    tested = EpisodeResult(
        seed=0,
        query=tuple(ids),
        probabilities=probabilities,
        ticks=counts,
        loss=_loss(opened, ids, probabilities),
        clusters=tuple(speakers[utterance] for utterance in ids),
    )
    corpus, workspace = opened.corpus.fingerprint(), opened.workspace
    episode = Episode(seed=0, support=(), query=tuple(ids))
    whole = len(opened.corpus.all_of(split.domains.target))  # more than is tested where one corpus is taken apart
    asked = EpisodeList(corpus, scenario_of(opened), split.fold, split.fold, digest(ids), 0, whole, (episode,))
    best, parts = content.get("Best") or {}, split.as_split()
    loss = best.get("loss") if best.get("step") == checkpoint.step else None
    chosen_by = parts.validation_raters if opened.expert.generalrc.selection == "source_validation" else ()
    result = Result.of(
        task=cell.task,
        cell=EvaluatedCell(
            corpus=opened.corpus.name,
            upstream=cell.upstream.name,
            scope="finetuned" if cell.upstream.finetuned else "frozen",
            scenario=scenario_of(opened),
            fold=split.fold,
            system=cell.system,
            split="test",
            shots=0,
            queries=whole,
            seeds=(0,),
            steps=0,
            protocol=opened.expert.evalrc.protocol,
            standardized=opened.standardized is not None,
            training_seed=cell.seed,
        ),
        label_set=opened.corpus.label_set,
        raters=Raters.of((split.fold,), chosen_by, parts.train_raters),
        asked=[asked],
        tested=[tested],
        hashes={
            "corpus": corpus,
            "audio": workspace.contents.fingerprint,
            "task": digest(opened.made_from),
            "features": opened.identity.key,
            "upstream_checkpoint": opened.identity.checkpoint,
            "parameters": packed_hash(packed(opened)),
        },
        options=opened.options.as_config(),
        selected_step=checkpoint.step,
        doubts=heard_before(cell.upstream.name, cell.upstream.checkpoint, [split.domains.target])
        + unfinished(checkpoint, opened.total_steps),
        selected=Selected(loss if loss is not None and math.isfinite(loss) else None),
        engine="autograd",
        seconds=time.perf_counter() - begun,
        diverged=content.get("Diverged") or None,
        curves={name: thinned(points) for name, points in content.get("Curves", {}).items()} or None,
    )
    name = result_name("test", checkpoint, opened.options.as_config(), cell.system, cell.folder)
    path = write_result(cell.folder, name, result)
    sources = " + ".join(split.domains.sources)
    where = f"{result.cell.scenario}, {split.fold}"
    title = f"{cell.system}, {cell.upstream.name}: {sources} -> {split.domains.target} ({where})"
    print(result.table(title), flush=True)
    say(f"result file: {path}")
    return result


def scenario_of(opened: OpenDomains) -> str:
    """The scenario as tables tell it apart: with how features are standardised, where that is not by the sources."""
    statistics = opened.expert.modelrc.statistics
    if statistics == "source":
        return opened.split.scenario
    how = "not standardised" if statistics == "none" else f"z by {statistics}, transductive"
    return f"{opened.split.scenario} ({how})"


def thinned(points: Sequence[Sequence[float]]) -> tuple[tuple[float, float], ...]:
    """At most :data:`POINTS` points of a curve: means of neighbours, at the last step of each group."""
    size = math.ceil(len(points) / POINTS)
    groups = [points[start : start + size] for start in range(0, len(points), max(1, size))]
    return tuple((float(group[-1][0]), sum(value for _, value in group) / len(group)) for group in groups)


def packed(opened: OpenDomains) -> dict[str, dict[str, torch.Tensor]]:
    """The sections of a checkpoint that hold what was trained: the model, and what the system keeps beside it; and the
    average that is tested in the model's place, where there is one."""
    modules: dict[str, torch.nn.Module] = {"Downstream": opened.model, "Generaliser": opened.system}
    if (tested := opened.system.tested(opened.model)) is not opened.model:
        modules["Tested"] = tested
    return {
        section: {name: value.detach().cpu().clone() for name, value in module.state_dict().items()}
        for section, module in modules.items()
    }
