"""``metaperser doctor``: check this installation and suggest fixes."""

from __future__ import annotations

import argparse
import json


def add(commands) -> None:
    parser = commands.add_parser("doctor", help="check this installation and suggest fixes")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from s3prl_metaperser.errors import printable
    from s3prl_metaperser.s3prl_plugin.doctor import as_json, as_text, examine, status

    found = examine()
    print(json.dumps(as_json(found), indent=1) if arguments.json else printable(as_text(found)))
    return status(found)
