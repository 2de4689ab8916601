"""What a cell of a fine-tuned upstream costs, counted in gradients, without torch.

The unit is one training step of the upstream on 32 utterances: forward and backward. A forward pass is a third of it.
The exact second-order outer step of one rater with S inner steps is S gradients, S Hessian-vector products, each as
much as three gradients, and the outer loss's gradient: 4 S + 1 (benchmarks/speed/results has what was measured of this,
on a CPU). A first-order outer step is S + 1. What is not a pass through the upstream is left out.
"""

from __future__ import annotations

from s3prl_metaperser.grid.cells import Cell
from s3prl_metaperser.methods import facts_of
from s3prl_metaperser.methods.tuning import number_of_choices

UNIT = 32
FORWARD = 1 / 3
#: Training raters of the paper's corpus: all but the test rater, the validation rater and C-E3.
TRAINING_RATERS = 9
#: Utterances that choose SSL-E's step.
HELD_OUT = 320


def initialisation(cell: Cell) -> float:
    """SSL-E of the cell's scenario and fold."""
    initrc = cell.options.downstream_expert.initrc
    looks = initrc.total_steps / initrc.eval_step
    return initrc.total_steps * initrc.batch_size / UNIT + looks * FORWARD * HELD_OUT / UNIT


def training(cell: Cell) -> float:
    """What follows the initialisation, until the best step is known."""
    options, facts = cell.options, facts_of(cell.system)
    expert, runner = options.downstream_expert, options.runner
    validation = expert.evalrc.validation_seeds * _episode(cell, expert.evalrc.steps)
    if facts.trains == "episodes":
        metarc = expert.metarc
        annealed = metarc.annealed_fraction if metarc.derivative_annealing else 0.0
        steps = metarc.inner_steps
        rater = (annealed * (steps + 1) + (1 - annealed) * (4 * steps + 1)) * metarc.shots / UNIT
        return runner.total_steps * TRAINING_RATERS * rater + runner.total_steps / runner.eval_step * validation
    if facts.trains == "batches":
        initrc = expert.initrc
        return initrc.total_steps * initrc.batch_size / UNIT + initrc.total_steps / initrc.eval_step * validation
    return validation if facts.learns else 0.0


def evaluation(cell: Cell) -> float:
    """Meta-testing, with the protocol's choices and the trajectory."""
    evalrc, facts = cell.options.downstream_expert.evalrc, facts_of(cell.system)
    if not facts.learns:
        return 0.0
    found = evalrc.seeds * _episode(cell, evalrc.steps)
    if facts.adapts_by:
        found += sum(evalrc.seeds * _episode(cell, steps) for steps in evalrc.trajectory)
        if evalrc.protocol == "tuned":
            found += number_of_choices("finetuned") * evalrc.validation_seeds * _episode(cell, evalrc.steps)
    return found


def _episode(cell: Cell, steps: int) -> float:
    evalrc = cell.options.downstream_expert.evalrc
    through_the_upstream = facts_of(cell.system).adapts_by in ("optimizer", "rates")
    adapted = steps * evalrc.shots / UNIT if through_the_upstream else 0.0
    return adapted + FORWARD * (evalrc.shots + evalrc.queries) / UNIT
