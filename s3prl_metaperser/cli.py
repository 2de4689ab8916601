"""The command line ``metaperser``."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from s3prl_metaperser import __version__
from s3prl_metaperser.commands import COMMANDS
from s3prl_metaperser.commands.run import NOT_RUN
from s3prl_metaperser.errors import UserError, printable, unknown_name
from s3prl_metaperser.storage.disk import system_error


class _Parser(argparse.ArgumentParser):
    """Names the nearest choices for one that there is not, as everywhere, where argparse would list them all."""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            command = isinstance(action, argparse._SubParsersAction)
            problem = unknown_name("command" if command else "value", value, map(str, action.choices))
            raise argparse.ArgumentError(None if command else action, str(problem))


def build_parser() -> argparse.ArgumentParser:
    """The command line of ``metaperser``."""
    parser = _Parser(
        prog="metaperser",
        description="Few-shot, listener-personalised speech emotion recognition: grids, reports, corpora and models. "
        "Start with `metaperser demo`.",
    )
    parser.add_argument("--version", action="version", version=f"metaperser {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit status: 0 success, 1 problems were found, 2 the command cannot be run, 130 it was interrupted. ``run``
        returns 1 to 99 for as many failures, and :data:`NOT_RUN` in place of 2.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    cannot = NOT_RUN if argv[:1] == ["run"] else 2
    parser = build_parser()
    if "_ARGCOMPLETE" in os.environ:  # a shell asks: eval "$(register-python-argcomplete metaperser)"
        from s3prl_metaperser.commands.completion import complete

        complete(parser)
    if not argv:
        parser.print_help(sys.stderr)
        return cannot
    try:
        arguments = parser.parse_args(argv)
    except SystemExit as stop:
        if stop.code == 2:
            raise SystemExit(cannot) from None
        raise
    arguments.words = argv[1:]
    try:
        return arguments.run(arguments)
    except UserError as error:
        print(printable(f"metaperser: error: {error}"), file=sys.stderr)
        return cannot
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except OSError as error:
        if (problem := system_error(error)) is None:
            raise
        print(printable(f"metaperser: error: {problem}"), file=sys.stderr)
        return cannot
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == __package__:
            raise
        print(
            f"metaperser: error: the Python package {error.name!r} is not installed for {sys.executable}. Activate the "
            "environment in which this project is installed.",
            file=sys.stderr,
        )
        return cannot
    except KeyboardInterrupt:
        print("\nmetaperser: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
