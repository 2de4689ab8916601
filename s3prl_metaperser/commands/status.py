"""``metaperser status``: which cells of a grid are done, running, failed or missing."""

from __future__ import annotations

import argparse

from s3prl_metaperser.commands.common import add_grid, opened_grid
from s3prl_metaperser.errors import printable_json


def add(commands) -> None:
    parser = commands.add_parser(
        "status", help="show which cells are done, running, failed (with the reason) or missing"
    )
    add_grid(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from s3prl_metaperser.grid.status import format_status, status_report

    report = status_report(opened_grid(arguments))
    print(printable_json(report) if arguments.json else format_status(report))
    return 1 if report["counts"]["failed"] else 0
