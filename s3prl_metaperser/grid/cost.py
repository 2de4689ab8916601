"""What a cell costs, counted without torch: passes through a fine-tuned upstream, and bytes on disk.

The unit of time is one training step of the upstream on 32 utterances: forward and backward. A forward pass is a third
of it. The exact second-order outer step of one rater with S inner steps is S gradients, S Hessian-vector products, each
as much as three gradients, and the outer loss's gradient: 4 S + 1 (benchmarks/speed/results has what was measured of
this, on a CPU). A first-order outer step is S + 1. What is not a pass through the upstream is left out.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from s3prl_metaperser.errors import UserError
from s3prl_metaperser.grid.cells import Cell
from s3prl_metaperser.methods.facts import HELD_OUT
from s3prl_metaperser.methods.tuning import number_of_choices
from s3prl_metaperser.s3prl_stack.hub import load_upstream_config
from s3prl_metaperser.upstream.memory_plan import shape_of

_pinned = functools.cache(load_upstream_config)
UNIT, FORWARD = 32, 1 / 3
FLOAT = 4
#: Bytes of a result file for each class of each query utterance, and for each adaptation step on record; measured.
RESULT_BYTES, TRAJECTORY_BYTES = 41, 12


@dataclass(frozen=True)
class Sizes:
    """What a corpus adds to the cost of its cells.

    Attributes:
        raters: that are trained on.
        utterances: None where the corpus is not at hand.
    """

    classes: int
    raters: int
    utterances: int | None = None


def initialisation_passes(cell: Cell) -> float:
    """SSL-E of the cell's scenario and fold."""
    initrc = cell.options.downstream_expert.initrc
    looks = initrc.total_steps / initrc.eval_step
    return initrc.total_steps * initrc.batch_size / UNIT + looks * FORWARD * HELD_OUT / UNIT


def passes(cell: Cell, sizes: Sizes) -> float:
    """Training after the initialisation until the best step is known, and meta-testing with the protocol's choices."""
    facts, expert, runner = cell.facts, cell.options.downstream_expert, cell.options.runner
    evalrc, initrc, metarc = expert.evalrc, expert.initrc, expert.metarc
    if not facts.learns:
        return 0.0

    def tested(seeds: int, steps: int, adaptations: float = facts.adaptations) -> float:
        adapts = facts.adapts_by in ("optimizer", "rates")  # a classifier on fixed embeddings runs no upstream
        adapted = adaptations * steps * evalrc.shots / UNIT if adapts else 0.0
        return seeds * (adapted + FORWARD * (evalrc.shots + evalrc.queries) / UNIT)

    found = tested(evalrc.seeds, evalrc.steps)
    if facts.adapts_by:
        in_steps = facts.adapts_by not in ("numbers", "sharpness")
        found += sum(tested(evalrc.seeds, steps) for steps in evalrc.trajectory if in_steps)
        if evalrc.protocol == "tuned":
            found += number_of_choices("finetuned") * tested(evalrc.validation_seeds, evalrc.steps)
    looks = 1.0
    if facts.trains == "episodes":
        annealed = metarc.annealed_fraction if metarc.derivative_annealing else 0.0
        steps = metarc.inner_steps
        rater = (annealed * (steps + 1) + (1 - annealed) * (4 * steps + 1)) * metarc.shots / UNIT
        found += runner.total_steps * sizes.raters * rater
        looks = runner.total_steps / runner.eval_step
    elif facts.trains == "batches":
        found += initrc.total_steps * initrc.batch_size / UNIT
        looks = initrc.total_steps / initrc.eval_step
    return found + looks * tested(evalrc.validation_seeds, evalrc.steps, 1.0)


def cell_bytes(cell: Cell, sizes: Sizes) -> int | None:
    """A finished cell's folder; None where the upstream's size is not on record."""
    parameters = _parameters(cell, sizes)
    if parameters is None:
        return None
    facts, evalrc = cell.facts, cell.options.downstream_expert.evalrc
    checkpoint = FLOAT * parameters * facts.learns * (3 if facts.trains else 1)  # with AdamW's two moments
    result = sizes.classes * RESULT_BYTES + len(evalrc.trajectory) * TRAJECTORY_BYTES
    return checkpoint * (1 + cell.options.runner.max_keep) + evalrc.seeds * evalrc.queries * result


def initialisation_bytes(cell: Cell, sizes: Sizes) -> int | None:
    """A shared initialisation in the cache."""
    parameters = _parameters(cell, sizes)
    return None if parameters is None else FLOAT * parameters


def features_bytes(cell: Cell, sizes: Sizes) -> int | None:
    """The feature store of a frozen upstream in the cache."""
    if cell.finetuned:
        return 0
    pinned = _pinned(cell.upstream.name)
    if pinned is None or sizes.utterances is None:
        return None
    size = 2 if cell.options.downstream_expert.modelrc.feature_dtype == "float16" else FLOAT
    return sizes.utterances * pinned.layers * _pooled(cell, pinned.dim) * size


def _pooled(cell: Cell, size: int) -> int:
    """Features of a layer after pooling (:func:`.pooling.pooled_size`, whose module imports torch)."""
    return size if cell.options.downstream_expert.modelrc.pooling == "mean" else 2 * size + 1


def _parameters(cell: Cell, sizes: Sizes) -> int | None:
    """Those that are trained: the upstream's with ``-f``, else layer weights, projector and classifier."""
    pinned = _pinned(cell.upstream.name)
    if pinned is None:
        return None
    if cell.finetuned:
        try:
            return shape_of(cell.upstream.name).parameters(train_front_end=True)
        except UserError:
            return None
    hidden = cell.options.downstream_expert.modelrc.projector_dim
    layers = pinned.layers if cell.upstream.layer is None else 1
    return layers + (pinned.dim + 1) * hidden + (hidden + 1) * sizes.classes
