"""How much disk cells and what they share take, by the sizes of what is stored; without torch."""

from __future__ import annotations

from s3prl_metaperser.errors import UserError
from s3prl_metaperser.grid.cells import Cell
from s3prl_metaperser.methods import facts_of
from s3prl_metaperser.s3prl_stack.hub import load_upstream_config
from s3prl_metaperser.upstream.memory_plan import shape_of

CLASSES, FLOAT = 9, 4
#: Of a result file, for each class of each query utterance and for each ticked list of the trajectory; measured.
RESULT_BYTES, TRAJECTORY_BYTES = 41, 12


def cell_bytes(cell: Cell) -> int | None:
    """A finished cell's folder; None where the upstream's size is not on record."""
    head, model = head_parameters(cell), model_parameters(cell)
    if head is None or model is None:
        return None
    facts = facts_of(cell.system)
    parameters = (model if cell.finetuned else head) if facts.learns else 0
    checkpoint = parameters * FLOAT * (3 if facts.trains else 1)  # with AdamW's two moments
    return checkpoint * (1 + cell.options.runner.max_keep) + result_bytes(cell)


def result_bytes(cell: Cell) -> int:
    """A result file."""
    evalrc = cell.options.downstream_expert.evalrc
    points = len(evalrc.trajectory)
    return evalrc.seeds * evalrc.queries * (CLASSES * RESULT_BYTES + points * TRAJECTORY_BYTES)


def initialisation_bytes(cell: Cell) -> int | None:
    """A shared initialisation in the cache."""
    head, model = head_parameters(cell), model_parameters(cell)
    if head is None or model is None:
        return None
    return FLOAT * (model if cell.finetuned else head)


def features_bytes(cell: Cell, utterances: int) -> int | None:
    """The feature store of a frozen upstream in the cache."""
    pinned = load_upstream_config(cell.upstream.name)
    if cell.finetuned or pinned is None:
        return 0 if cell.finetuned else None
    size = 2 if cell.options.downstream_expert.modelrc.feature_dtype == "float16" else FLOAT
    return utterances * int(pinned["layers"]) * int(pinned["dim"]) * size


def head_parameters(cell: Cell) -> int | None:
    """Layer weights, projector and classifier."""
    pinned = load_upstream_config(cell.upstream.name)
    if pinned is None:
        return None
    hidden = cell.options.downstream_expert.modelrc.projector_dim
    layers = int(pinned["layers"]) if cell.upstream.layer is None else 1
    return layers + (int(pinned["dim"]) + 1) * hidden + (hidden + 1) * CLASSES


def model_parameters(cell: Cell) -> int | None:
    """Upstream and head; 0 where the upstream is frozen."""
    if not cell.finetuned:
        return 0
    try:
        return shape_of(cell.upstream.name).parameters(train_front_end=True)
    except UserError:
        return None
