"""Cells in batches for an engine that runs processes: every cell in one job, and what a job needs first.

A job is one call of ``metaperser run`` with ``--only``. All folds and all K of a frozen system are one job, so that
torch and s3prl are imported once for all of them; a fine-tuned cell takes hours, and each is a job of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from s3prl_metaperser.errors import UserError
from s3prl_metaperser.grid.cells import Cell
from s3prl_metaperser.grid.definition import slug
from s3prl_metaperser.grid.stages import Stage, stages
from s3prl_metaperser.upstream.memory_plan import SHOTS, Shape, estimate, shape_of

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
        """Whether the whole model adapts."""
        return self.cells[0].finetuned

    @property
    def only(self) -> str:
        """``--only`` that names these cells of the grid, and no others."""
        return _only(self.cells)

    @property
    def stages(self) -> list[Stage]:
        """What it makes for others."""
        return [stage for stage in stages(self.cells) if stage.kind == self.kind]

    def identity(self, fingerprints: dict[str, str]) -> dict[str, Any]:
        """What its outcome depends on, as plain JSON values: a job whose identity changed runs again.

        Args:
            fingerprints: corpus -> hash of its labels.
        """
        if self.kind == "system":
            made = {cell.path: cell.identity for cell in self.cells}
        else:
            made = {stage.what: stage.key for stage in self.stages}
        corpora = sorted({cell.corpus for cell in self.cells})
        return {self.kind: made, "corpora": {name: fingerprints.get(name) for name in corpora}}


def jobs_of(cells: Sequence[Cell], folds_per_job: int | None = None) -> list[Job]:
    """The jobs of these cells; those that others need come first.

    Args:
        folds_per_job: folds that one process goes through; by default all of a frozen system, one of a fine-tuned one.

    Raises:
        UserError: a name that ``--only`` cannot say.
    """

    def folds_of(members: Sequence[Cell]) -> list[tuple[Cell, ...]]:
        names = list(dict.fromkeys(cell.fold for cell in members))
        size = folds_per_job or (1 if members[0].finetuned else len(names))
        chunks = [names[start : start + size] for start in range(0, len(names), size)]
        return [tuple(cell for cell in members if cell.fold in chunk) for chunk in chunks]

    for cell in cells:
        if any(sign in cell.upstream.label for sign in ",|="):
            raise UserError(
                f"The upstream {cell.upstream.label!r} has one of the signs , | = in its name, which --only cannot "
                "say. Rename its checkpoint's file."
            )
    found = [
        _job("features", members, (), ()) for members in _grouped(cells, lambda c: (c.upstream.label, c.scope)).values()
    ]
    initialised = [cell for cell in cells if cell.initialisation is not None]
    for members in _grouped(initialised, lambda c: (c.upstream.label, c.scope, c.scenario)).values():
        found += [_job("initialisation", chunk, (members[0].scenario,), found) for chunk in folds_of(members)]
    before = tuple(found)
    for members in _grouped(cells, _system).values():
        title = (members[0].scenario, members[0].system)
        found += [_job("system", chunk, title, before) for chunk in folds_of(members)]
    return found


def resources(job: Job, on_gpu: bool) -> dict[str, int]:
    """What a fine-tuned job takes: ``threads``, ``gpu`` and ``mem_mb``; a frozen one takes one thread.

    Args:
        on_gpu: whether fine-tuning runs on a GPU: the activations are then not in the machine's memory.
    """
    if not job.finetuned or job.kind == "features":  # of a fine-tuned upstream: its checkpoint is looked at, not run
        return {"threads": 1}
    found = {"threads": FINETUNED_THREADS, "gpu": int(on_gpu)}
    return {**found, "mem_mb": max(_memory_mb(cell, on_gpu) for cell in job.cells)}


def _memory_mb(cell: Cell, on_gpu: bool) -> int:
    """MiB of main memory; of an upstream whose size is not known, as much as for a Large one."""
    try:
        shape = shape_of(cell.upstream.name)
    except UserError:
        shape = _LARGE
    expert = cell.options.downstream_expert
    tunerc = expert.tunerc
    if on_gpu:
        return PROCESS_MB + round(HOST_COPIES * 4 * shape.parameters(train_front_end=True) / 2**20)
    plan = estimate(
        shape,
        tunerc.micro_batch_seconds,
        shots=max(expert.metarc.shots, SHOTS),
        inner_steps=expert.metarc.inner_steps,
        longest=tunerc.longest_seconds,
        train_front_end=tunerc.train_front_end,
        activation_checkpointing=tunerc.activation_checkpointing,
    )
    return PROCESS_MB + round(plan.total / 2**20)


def _system(cell: Cell) -> Hashable:
    axes = (cell.upstream.label, cell.scope, cell.scenario, cell.system)
    return (*axes, cell.shots, cell.protocol) if cell.finetuned else axes


def _job(kind: Kind, cells: Iterable[Cell], title: Sequence[str], before: Iterable[Job]) -> Job:
    cells = tuple(cells)
    first = cells[0]
    name = slug("-".join((first.upstream.label, *title)))
    wanted = {cell.features for cell in cells}
    if kind == "system":
        wanted |= {cell.initialisation for cell in cells if cell.initialisation is not None}
    needs = tuple(job.name for job in before if any(stage.key in wanted for stage in job.stages))
    return Job(kind, f"{name}-{hashlib.sha256(f'{kind} {_only(cells)}'.encode()).hexdigest()[:8]}", cells, needs)


def _only(cells: Sequence[Cell]) -> str:
    axes: dict[str, Callable[[Cell], Any]] = {
        "upstream": lambda cell: cell.upstream.label,
        **{key: (lambda cell, key=key: getattr(cell, key)) for key in ("scope", "scenario", "system", "fold")},
        **{key: (lambda cell, key=key: getattr(cell, key)) for key in ("shots", "protocol")},
    }
    values = {key: "|".join(dict.fromkeys(str(of(cell)) for cell in cells)) for key, of in axes.items()}
    return ",".join(f"{key}={value}" for key, value in values.items())


def _grouped(cells: Iterable[Cell], key: Callable[[Cell], Hashable]) -> dict[Hashable, list[Cell]]:
    found: dict[Hashable, list[Cell]] = {}
    for cell in cells:
        found.setdefault(key(cell), []).append(cell)
    return found
