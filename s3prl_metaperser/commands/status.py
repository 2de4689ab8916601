"""``metaperser status``: what of a grid is done, running, failed and missing."""

from __future__ import annotations

import argparse

from s3prl_metaperser.commands.common import add_grid, opened_grid
from s3prl_metaperser.errors import printable_json


def add(commands) -> None:
    parser = commands.add_parser("status", help="what of a grid is done, running, failed (and why) and missing")
    add_grid(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from s3prl_metaperser.grid.status import format_status, status_report

    report = status_report(opened_grid(arguments))
    print(printable_json(report) if arguments.json else format_status(report))
    return 1 if report["counts"]["failed"] else 0
