"""``metaperser episodes``: the benchmark's frozen episodes as prompts for any other system."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from s3prl_metaperser.commands.common import names
from s3prl_metaperser.storage.paths import user_path

if TYPE_CHECKING:
    from s3prl_metaperser.run.workspace import Workspace


def add_asked(parser: argparse.ArgumentParser) -> None:
    """What says whose episodes: a grid, an experiment, or options."""
    parser.add_argument(
        "what",
        nargs="?",
        metavar="GRID|EXPDIR",
        help="a grid (YAML), or an experiment folder; without either the options below and config.yaml's",
    )
    parser.add_argument("--corpus", metavar="NAME", help="a registered corpus: see `metaperser list corpora`")
    parser.add_argument("--root", metavar="DIR", help="the corpus's folder")
    parser.add_argument("--folds", type=names, default=(), metavar="A,B", help="folds, each of a test rater; or: all")
    parser.add_argument("--only", metavar="CONDITIONS", help="which cells of a grid, such as 'scenario=seen,shots=8'")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="OPTION=VALUE",
        help="change an option, such as downstream_expert.evalrc.shots=8; may be given several times",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the paraphrases [%(default)s]")
    parser.add_argument("--about", default="", metavar="TEXT", help="what is labelled [the emotion]")
    parser.add_argument("--instructions", metavar="FILE", help="other words for the instructions, a YAML file")
    parser.add_argument("--licence", metavar="TEXT", help="of audio that you may pass on, if its reader knows none")


def asked(arguments: argparse.Namespace) -> list[Workspace]:
    """The folds that the command line asks for."""
    from s3prl_metaperser.exchange.asked import workspaces

    what: Path | None = user_path(arguments.what) if arguments.what else None
    given = {name: getattr(arguments, name) for name in ("corpus", "root", "only", "folds")}
    return workspaces(what, **given, changes=arguments.set)


def add(commands) -> None:
    parser = commands.add_parser("episodes", help="frozen episodes as prompts, to benchmark any other system on them")
    add_asked(parser)
    parser.add_argument("--format", choices=("chat", "jsonl", "parquet"), default="chat", help="[%(default)s]")
    parser.add_argument(
        "--no-twins", action="store_true", help="leave out the same queries without labelled clips (K=0)"
    )
    parser.add_argument("--bundle", action="store_true", help="copy the audio into DIR, where its licence allows that")
    parser.add_argument("--out", required=True, metavar="DIR", help="a new or empty folder")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from s3prl_metaperser.exchange.episodes import Writing, write_episodes
    from s3prl_metaperser.exchange.prompts import Wording
    from s3prl_metaperser.run.shown_commands import metaperser

    how = Writing(
        form=arguments.format,
        seed=arguments.seed,
        twins=not arguments.no_twins,
        bundle=arguments.bundle,
        licence=arguments.licence,
        about=arguments.about,
        wording=Wording.read(user_path(arguments.instructions)) if arguments.instructions else None,
    )
    out = user_path(arguments.out)
    folder, count = write_episodes(asked(arguments), out, how)
    for part in folder.card.parts:
        print(f"{part}: {len(part.raters.tested)} listener(s), {sum(1 for _ in part.queries())} queries")
    print(f"{out / folder.prompts.name}: {count} prompts; audio {'beside it' if how.bundle else 'by path'}")
    scoring = metaperser("score", "PREDICTIONS.jsonl", "--episodes", out, "--out", "RESULTS")
    print(f"next: answer them, one JSON object a line, into PREDICTIONS.jsonl, then {scoring}")
    return 0
