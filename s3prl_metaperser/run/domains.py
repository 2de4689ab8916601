"""One cell of domain generalisation, from its options to its result."""

from __future__ import annotations

from collections.abc import Callable

from s3prl_metaperser.errors import UserError
from s3prl_metaperser.evaluation.result import Result
from s3prl_metaperser.run.cell import Record, fit_for_this_machine, refuse_several_processes, seed_everything
from s3prl_metaperser.run.domain_cell import OpenDomains
from s3prl_metaperser.run.domain_testing import evaluate_domains
from s3prl_metaperser.run.domain_training import DomainTraining, load
from s3prl_metaperser.run.experiment import BEST, one_writer, write_yaml
from s3prl_metaperser.run.opened import Checkpoint
from s3prl_metaperser.run.settings import CellOptions
from s3prl_metaperser.run.workspace import Workspace
from s3prl_metaperser.storage.paths import steps_of


def run_cell(
    cell: CellOptions,
    open_workspace: Callable[..., Workspace] = Workspace,
    record: Record | None = None,
    past: Checkpoint | None = None,
) -> Result:
    """Train a cell, resuming from the last checkpoint in its folder, and test it on its target.

    Args:
        cell: what to run and where; with ``trains`` off a checkpoint is tested.
        open_workspace: how corpus and features are come by; a process with many cells shares them.
        record: filled in with how it went.
        past: a checkpoint to resume from, to take parameters from, or to test; by default the last one in the folder.

    Returns:
        What is also written to ``result_test.json`` in the cell's folder.

    Raises:
        UserError: whatever is at fault; what was reached is kept, and the same call resumes from there.
    """
    record = record if record is not None else Record()
    refuse_several_processes(cell)
    with one_writer(cell.folder):
        with record.timed("preparation"):
            fit_for_this_machine()
            seed_everything(cell.seed)
            opened = OpenDomains(cell, open_workspace)
            write_yaml(cell.folder, cell.as_arguments(), opened.options.as_config())
            record.outer_steps = opened.total_steps
        if past is None and (states := steps_of(cell.folder)):
            past = Checkpoint.read(states[-1][1])
        if cell.trains:
            record.resumed_at = past.step if past is not None and past.resumed else 0
            with record.timed("training"):
                DomainTraining(opened, past).run()
            past = Checkpoint.read(cell.folder / BEST)
        if past is None:
            raise UserError("Nothing to evaluate: name an experiment with -e EXPDIR or a checkpoint with -i FILE.")
        with record.timed("evaluation"):
            load(opened, past)
            return evaluate_domains(opened, past)
