"""What ``metaperser run`` has for the engine Snakemake."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

from s3prl_metaperser.commands.common import positive
from s3prl_metaperser.errors import UserError

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
    engine = parser.add_argument_group("of --engine snakemake")
    engine.add_argument("--cores", type=positive(int), metavar="N", help="cores of this machine [all]")
    engine.add_argument(
        "--profile", metavar="NAME", help="slurm, another of benchmarks/profiles, one of your own, or its folder"
    )
    engine.add_argument(
        "--folds-per-job",
        type=positive(int),
        metavar="N",
        help="folds that one process goes through [all; with -f one]",
    )
    engine.add_argument(
        "--retries", type=_count, metavar="N", help="further attempts of a failed job [1, or the profile's]"
    )


def check_engine(arguments: argparse.Namespace) -> None:
    """Refuse options of another engine.

    Raises:
        UserError: naming the option.
    """
    if arguments.engine == "snakemake":
        if arguments.jobs > 1:
            raise UserError("--jobs is for the engine own; with --engine snakemake say --cores N.")
        return
    for name in _OF_SNAKEMAKE:
        if getattr(arguments, name) is not None:
            raise UserError(f"--{name.replace('_', '-')} is for --engine snakemake.")


def run_with_snakemake(arguments: argparse.Namespace, opened) -> int:
    """The grid through Snakemake; the exit status says how many cells are not done after it."""
    from s3prl_metaperser.grid.engines.snakemake_engine import Settings, dry_run, last_words, run_grid

    settings = Settings(
        command=_command(arguments),
        report=_given(arguments, "corpus", "root") if arguments.corpus and arguments.root else [],
        device=arguments.device,
        cores=arguments.cores,
        profile=arguments.profile,
        stage=arguments.stage,
        folds_per_job=arguments.folds_per_job,
        retries=arguments.retries,
        keep_going=arguments.keep_going,
    )
    if arguments.dry_run:
        return dry_run(opened, settings)
    before = sum(opened.results.is_done(cell) for cell in opened.cells)
    status = run_grid(opened, settings)
    if arguments.stage in ("features", "initialisation"):
        if status:
            print(last_words(opened), file=sys.stderr)
        return 1 if status else 0
    counts = Counter(opened.results.standing(cell).state for cell in opened.cells)
    done = counts.pop("done", 0)
    rest = "".join(f", {count} {state}" for state, count in sorted(counts.items()))
    print(f"{len(opened.cells)} cells: {done} done ({done - before} now, {before} before){rest}")
    if counts["failed"]:
        print(f"why: metaperser status {arguments.grid} --results {opened.results.folder}")
    elif status:
        print(last_words(opened), file=sys.stderr)
    return status_of(max(len(opened.cells) - done, int(status != 0)))


def _command(arguments: argparse.Namespace) -> list[str]:
    """What every job has of the command line: which cells there are, and what they run with."""
    line = [str(Path(arguments.grid).absolute()), *_given(arguments, "corpus", "root")]
    for change in arguments.set:
        line += ["--set", change]
    return line if arguments.keep_going else [*line, "--fail-fast"]


def _given(arguments: argparse.Namespace, *names: str) -> list[str]:
    return [word for name in names if getattr(arguments, name) for word in (f"--{name}", getattr(arguments, name))]


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is negative")
    return value


_count.__name__ = "int"  # argparse: "invalid int value"
