"""Cells in batches for an engine that runs processes: every cell in one job, and what a job needs first.

A job is one call of ``metaperser run`` with ``--stage`` and ``--only``. All folds and all K of a frozen system are one
job, so that torch and s3prl are imported once for all of them; a fine-tuned cell takes hours, and each is its own job.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from s3prl_metaperser.errors import UserError
from s3prl_metaperser.grid.cells import Cell, axis_value, only_keys
from s3prl_metaperser.grid.definition import slug
from s3prl_metaperser.grid.results import Results
from s3prl_metaperser.grid.stages import Stage, missing, stages
from s3prl_metaperser.storage.hashing import text_hash
from s3prl_metaperser.upstream.memory_plan import Setting, Shape, estimate, shape_of

Kind = Literal["features", "initialisation", "system"]
KINDS: tuple[Kind, ...] = ("features", "initialisation", "system")
#: Of a process that fine-tunes: torch, CUDA's own and the corpus in memory; a generous round number, not a measurement.
PROCESS_MB = 8192
#: Copies of the weights beside the GPU: as downloaded, as loaded, and AdamW's moments while a checkpoint is written.
HOST_COPIES = 4
FINETUNED_THREADS = 4
_LARGE = Shape("wav2vec2", 24, 1024)


@dataclass(frozen=True)
class Job:
    """One call of ``metaperser run``.

    Attributes:
        cells: that it runs, or that share what it makes.
        needs: names of jobs that come before it.
    """

    kind: Kind
    name: str
    cells: tuple[Cell, ...]
    needs: tuple[str, ...] = ()

    @property
    def finetuned(self) -> bool:
        """Whether it fine-tunes: of a fine-tuned upstream's ``features`` only the checkpoint is looked at."""
        return self.cells[0].finetuned and self.kind != "features"

    @property
    def rule(self) -> str:
        """The Snakefile's rule. Jobs that take a GPU have rules of their own, which a profile can name."""
        return f"{self.kind}_finetuned" if self.finetuned else self.kind

    @property
    def only(self) -> str:
        """``--only`` that names these cells of the grid, and no cells of other jobs."""
        return _only(self.cells)

    @property
    def stages(self) -> list[Stage]:
        """What it makes for others."""
        return [stage for stage in stages(self.cells) if stage.kind == self.kind]


def jobs_left(
    cells: Sequence[Cell], results: Results, folds_per_job: int | None = None, last: Kind = "system"
) -> list[Job]:
    """The jobs that have something to do: for cells that are not done, and for what these share where it is missing.

    Args:
        last: jobs of later kinds are left out.
    """
    todo = [cell for cell in cells if not results.is_done(cell)]
    left = {
        job.name: job
        for job in jobs_of(todo, folds_per_job)
        if KINDS.index(job.kind) <= KINDS.index(last)
        and (job.kind == "system" or missing(job.stages, results.fingerprints))
    }
    return [dataclasses.replace(job, needs=tuple(n for n in job.needs if n in left)) for job in left.values()]


def jobs_of(cells: Sequence[Cell], folds_per_job: int | None = None) -> list[Job]:
    """The jobs of these cells; those that others need come first.

    Args:
        folds_per_job: folds that one process goes through; by default all of a frozen system, one of a fine-tuned one.

    Raises:
        UserError: a name that ``--only`` cannot express.
    """
    groups: dict[tuple[Kind, Hashable, int], list[Cell]] = {}
    for kind in KINDS:
        units: dict[Hashable, dict[str, int]] = {}
        for cell in cells:
            if any(sign in cell.upstream.label for sign in ",|="):
                raise UserError(
                    f"The upstream {cell.upstream.label!r} has ',', '|' or '=' in its name, which --only cannot "
                    "express. Rename its checkpoint's file."
                )
            if kind == "initialisation" and cell.initialisation is None:
                continue
            shared = _shared(kind, cell)
            known = units.setdefault(shared, {})
            number = known.setdefault(cell.along("unit"), len(known))
            size = folds_per_job or (1 if cell.finetuned else len(cells))
            chunk = 0 if kind == "features" else number // size
            groups.setdefault((kind, shared, chunk), []).append(cell)
    jobs: list[Job] = []
    for (kind, _, _), members in groups.items():
        jobs.append(_job(kind, tuple(members), jobs))
    return jobs


def resources(job: Job, on_gpu: bool) -> dict[str, int]:
    """What a fine-tuned job takes: ``threads``, ``gpu`` and ``mem_mb``; a frozen one takes one thread.

    Args:
        on_gpu: whether fine-tuning runs on a GPU: the activations are then not in the machine's memory.
    """
    if not job.finetuned:
        return {"threads": 1}
    memory = max(_memory_mb(cell, on_gpu) for cell in job.cells)
    return {"threads": FINETUNED_THREADS, "gpu": int(on_gpu), "mem_mb": memory}


def _memory_mb(cell: Cell, on_gpu: bool) -> int:
    """MiB of main memory; an upstream of unknown size counts as a Large one."""
    try:
        shape = shape_of(cell.upstream.name)
    except UserError:
        shape = _LARGE
    if on_gpu:
        return PROCESS_MB + round(HOST_COPIES * 4 * shape.parameters(train_front_end=True) / 2**20)
    metarc, tunerc = cell.options.downstream_expert.metarc, cell.options.downstream_expert.tunerc
    plan = estimate(
        shape,
        tunerc.micro_batch_seconds,
        shots=max(metarc.shots, Setting().shots),
        inner_steps=metarc.inner_steps,
        longest=tunerc.longest_seconds,
        train_front_end=tunerc.train_front_end,
        activation_checkpointing=tunerc.activation_checkpointing,
    )
    return PROCESS_MB + round(plan.total / 2**20)


def _shared(kind: Kind, cell: Cell) -> tuple[Hashable, ...]:
    """What the cells of a job have in common, besides the folds."""
    data = (cell.upstream.label, cell.scope, cell.family)
    if kind == "features":
        return data
    if kind == "initialisation":
        return (*data, cell.along("data"))
    return (*data, cell.along("data"), cell.system, *((cell.tested,) if cell.finetuned else ()))


def _job(kind: Kind, cells: tuple[Cell, ...], before: Iterable[Job]) -> Job:
    wanted = {key for cell in cells for key in (cell.features, cell.initialisation if kind == "system" else None)}
    needs = tuple(job.name for job in before if job.kind != kind and any(stage.key in wanted for stage in job.stages))
    label, _, _, *title = _shared(kind, cells[0])
    digest = text_hash(f"{kind} {_only(cells)}")[:8]
    return Job(kind, f"{slug('-'.join(map(str, (label, *title[:2]))))}-{digest}", cells, needs)


def _only(cells: Sequence[Cell]) -> str:
    values = {key: "|".join(dict.fromkeys(axis_value(cell, key) for cell in cells)) for key in only_keys(cells)}
    return ",".join(f"{key}={value}" for key, value in values.items())
