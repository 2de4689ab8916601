"""``metaperser run``: run the cells of a grid that are not done yet."""

from __future__ import annotations

import argparse
import os
import sys
import time

from s3prl_metaperser.commands.common import add_grid, opened_grid, positive
from s3prl_metaperser.commands.engine import add_engine, check_engine, run_with_snakemake, status_of
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.run.shown_commands import metaperser

#: The exit status where a grid cannot be run at all; lower ones are the number of failures.
NOT_RUN = 101


def add(commands) -> None:
    parser = commands.add_parser(
        "run",
        help="run a grid: skip finished cells, resume interrupted ones",
        allow_abbrev=False,  # run_all.sh knows options by their whole names
    )
    add_grid(parser)
    parser.add_argument("--dry-run", action="store_true", help="print what would be done, and do nothing")
    parser.add_argument(
        "--stage",
        choices=["features", "initialisation", "system"],
        help="features or initialisation: only what cells share; system: the cells [all]",
    )
    parser.add_argument("--jobs", type=positive(int), default=1, metavar="N", help="processes [%(default)s]")
    parser.add_argument("--device", default="cuda", help="cuda or cpu [%(default)s; cpu where there is no CUDA]")
    going = parser.add_mutually_exclusive_group()
    going.add_argument("--keep-going", action="store_true", default=True, help="continue after a failed cell [default]")
    going.add_argument("--fail-fast", dest="keep_going", action="store_false", help="stop at the first failed cell")
    add_engine(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:  # as parallel.wanted, which would import torch
        raise UserError("A grid does not run under torchrun. Start it without, with --jobs N or several times.")
    check_engine(arguments)
    opened = opened_grid(arguments)
    if arguments.engine == "snakemake":
        return run_with_snakemake(arguments, opened)
    if arguments.dry_run:
        from s3prl_metaperser.grid.status import dry_run

        print(dry_run(opened, arguments.stage))
        return 0
    from s3prl_metaperser.run.cell import check_device

    check_device(arguments.device)
    if arguments.stage in ("features", "initialisation"):
        return _make_stages(arguments, opened)
    return _run_cells(arguments, opened)


def _make_stages(arguments: argparse.Namespace, opened) -> int:
    from s3prl_metaperser.grid.stages import missing, stages

    if arguments.jobs > 1:
        raise UserError("--jobs does not work with --stage features or initialisation, which run in one process.")
    wanted = [stage for stage in stages(opened.cells) if stage.kind == arguments.stage]
    todo = missing(wanted, opened.results.fingerprints)
    if todo:
        opened.read_corpora(missing=True)
    failed = 0
    session = None
    for number, stage in enumerate(todo, start=1):
        from s3prl_metaperser.grid.session import Session

        print(f"{number} of {len(todo)}: {stage.what}", file=sys.stderr)
        session = session or Session(arguments.device)
        try:
            session.make(stage)
        except UserError as error:
            failed += 1
            print(f"failed: {stage.what}: {error}", file=sys.stderr)
            if not arguments.keep_going:
                break
    print(f"{arguments.stage}: {len(wanted) - len(todo)} existed, {len(todo) - failed} made, {failed} failed")
    return status_of(failed)


def _run_cells(arguments: argparse.Namespace, opened) -> int:
    from s3prl_metaperser.grid.progress import Progress
    from s3prl_metaperser.grid.work import Work, in_processes, in_this_process

    states = [opened.results.standing(cell).state for cell in opened.cells]
    progress = Progress(opened.cells, done=states.count("done"))
    todo = [cell for cell, state in zip(opened.cells, states, strict=True) if state != "done"]
    if todo:
        opened.results.make()
        opened.read_corpora(missing=True)
        progress.cells = todo
        work = Work(todo, opened.results, arguments.device, arguments.keep_going, time.time())
        jobs = min(arguments.jobs, len(todo))
        with progress:
            if jobs == 1:
                in_this_process(work, progress.tell)
            else:
                in_processes(work, jobs, progress.tell)
    print(progress.summary(len(opened.cells)))
    if progress.failed:
        print(f"why: {metaperser('status', arguments.grid, '--results', opened.results.folder)}")
    return status_of(progress.failed)
