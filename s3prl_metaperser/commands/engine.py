"""The options and the course of ``metaperser run --engine snakemake``."""

from __future__ import annotations

import argparse
from collections import Counter

from s3prl_metaperser.commands.common import at_least, positive
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.run.shown_commands import metaperser

_OF_SNAKEMAKE = ("cores", "profile", "folds_per_job", "retries")
#: Exit statuses above mean something else.
_MOST = 99


def status_of(failed: int) -> int:
    """The exit status of a run in which so many cells failed, or parts that cells share."""
    return min(failed, _MOST)


def add_engine(parser: argparse.ArgumentParser) -> None:
    """The options that choose an engine."""
    parser.add_argument(
        "--engine",
        choices=["own", "snakemake"],
        default="own",
        help="own: cells one after another, in --jobs processes; snakemake: jobs over cores, GPUs and nodes, then the "
        "report [%(default)s]",
    )
    engine = parser.add_argument_group("with --engine snakemake")
    engine.add_argument("--cores", type=positive(int), metavar="N", help="cores of this machine [all]")
    engine.add_argument(
        "--profile", metavar="NAME", help="slurm, another of benchmarks/profiles, one of your own, or its folder"
    )
    engine.add_argument(
        "--folds-per-job", type=positive(int), metavar="N", help="folds in one process [all; 1 for fine-tuned systems]"
    )
    engine.add_argument(
        "--retries", type=at_least(0), metavar="N", help="further attempts of a failed job [1, or the profile's]"
    )


def check_engine(arguments: argparse.Namespace) -> None:
    """Refuse options of another engine.

    Raises:
        UserError: naming the option.
    """
    if arguments.engine == "snakemake":
        if arguments.jobs > 1:
            raise UserError("--jobs does not work with --engine snakemake. Use --cores N.")
        return
    for name in _OF_SNAKEMAKE:
        if getattr(arguments, name) is not None:
            raise UserError(f"--{name.replace('_', '-')} needs --engine snakemake.")


def run_with_snakemake(arguments: argparse.Namespace, opened) -> int:
    """The grid through Snakemake; the exit status says how many cells are not done after it."""
    from s3prl_metaperser.grid.engines.snakemake_engine import Settings, dry_run, run_grid

    corpus = [f"--{name}={value}" for name in ("corpus", "root") if (value := getattr(arguments, name))]
    options = [*corpus, *(f"--set={change}" for change in arguments.set)]
    settings = Settings(
        command=[str(opened.grid.path.absolute()), *options, *([] if arguments.keep_going else ["--fail-fast"])],
        report=corpus if len(corpus) == 2 else [],
        **{name: getattr(arguments, name) for name in (*_OF_SNAKEMAKE, "device", "stage", "keep_going")},
    )
    if arguments.dry_run:
        return dry_run(opened, settings)
    before = sum(opened.results.is_done(cell) for cell in opened.cells)
    status = run_grid(opened, settings)
    if arguments.stage in ("features", "initialisation"):
        return int(status != 0)
    counts = Counter(opened.results.standing(cell).state for cell in opened.cells)
    done = counts.pop("done", 0)
    rest = "".join(f", {count} {state}" for state, count in sorted(counts.items()))
    print(f"{len(opened.cells)} cells: {done} done ({done - before} now, {before} before){rest}")
    if counts["failed"]:
        print(f"why: {metaperser('status', arguments.grid, '--results', opened.results.folder)}")
    return status_of(max(len(opened.cells) - done, int(status != 0)))
