"""``metaperser export-task``: frozen episodes as a task of Dynamic-SUPERB."""

from __future__ import annotations

import argparse

from s3prl_metaperser.commands.common import at_least
from s3prl_metaperser.commands.episodes import add_asked, asked
from s3prl_metaperser.storage.paths import user_path

_SHOTS = "downstream_expert.evalrc.shots"


def add(commands) -> None:
    parser = commands.add_parser("export-task", help="frozen episodes as a task of Dynamic-SUPERB")
    add_asked(parser)
    parser.add_argument(
        "--shots", type=at_least(1), metavar="K", help="labelled clips beside the query, at most 8 [8; a grid's own]"
    )
    parser.add_argument("--no-twins", action="store_true", help="leave out the instance without labelled clips (K=0)")
    parser.add_argument("--name", metavar="TASK", help="the task's name [PersonalizedEmotionRecognition]")
    parser.add_argument("--version", default="", metavar="COMMIT", help="of the data set, once it is uploaded")
    parser.add_argument(
        "--local", action="store_true", help="copy audio that may not be passed on, for an evaluation on this machine"
    )
    parser.add_argument("--out", required=True, metavar="TASK", help="a new or empty folder")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from s3prl_metaperser.exchange.prompts import Wording
    from s3prl_metaperser.exchange.task_export import NAME, Exporting, check_shots, export_task
    from s3prl_metaperser.grid.definition import is_grid
    from s3prl_metaperser.run.shown_commands import metaperser

    of_grid = arguments.what is not None and is_grid(arguments.what)
    if arguments.shots is not None or not of_grid:
        check_shots(arguments.shots or 8)  # before a corpus is read
        arguments.set = [*arguments.set, f"{_SHOTS}={arguments.shots or 8}"]
    how = Exporting(
        name=arguments.name or NAME,
        seed=arguments.seed,
        about=arguments.about,
        wording=Wording.read(user_path(arguments.instructions)) if arguments.instructions else None,
        twins=not arguments.no_twins,
        local=arguments.local,
        licence=arguments.licence,
        version=arguments.version,
    )
    out = user_path(arguments.out)
    written = export_task(asked(arguments), out, how)
    for each in written:
        print(f"{each.name}: {each.rows} rows, {each.listeners} listener(s), {each.instructions} instructions")
    first = written[0]
    if first.left_out:
        print(f"left out: {first.left_out} queries with several labels (an answer is one word)")
    if first.repeated:
        print(f"left out: {first.repeated} queries that another fold has, too")
    if not first.parquet:
        print("no Parquet data set: pip install 's3prl-metaperser[parquet]'")
    if arguments.local:
        print(f"{out}: for this machine; its audio may not be uploaded or passed on")
    print(f"next: {metaperser('check-task', out)}")
    return 0
