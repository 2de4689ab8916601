"""``metaperser predict``: predict what a listener hears in audio files."""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path

from s3prl_metaperser.commands.common import add_model, load_model, positive
from s3prl_metaperser.storage.paths import user_path


def add(commands) -> None:
    parser = commands.add_parser("predict", help="predict labels of audio files for a listener, or zero-shot")
    add_model(parser, "a folder made by `metaperser adapt` (a listener) or `metaperser export` (zero-shot)")
    parser.add_argument(
        "files", nargs="+", metavar="FILES", help="audio files, folders (recursive), or quoted patterns"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--csv", action="store_true", help="CSV: file, probability of each class, and the answer")
    form.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--out", metavar="FILE", help="write to FILE instead of stdout")
    parser.add_argument("--batch-size", type=positive(int), default=1, metavar="N", help="clips per forward pass [1]")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from s3prl_metaperser.errors import UserError
    from s3prl_metaperser.run.cell import quiet_upstreams
    from s3prl_metaperser.storage.locks import beside, held

    if arguments.out and user_path(arguments.out).is_dir():  # before hours of predictions
        raise UserError(f"--out {arguments.out} is a folder. Name a file.")
    quiet_upstreams()
    place = user_path(arguments.out) if arguments.out else None
    with contextlib.nullcontext() if place is None else held(beside(place), f"--out {place}"):
        return _predict(arguments, place)


def _predict(arguments: argparse.Namespace, place: Path | None) -> int:
    from s3prl_metaperser.errors import printable
    from s3prl_metaperser.listener.files import predict_files
    from s3prl_metaperser.listener.model import said_of_unlike
    from s3prl_metaperser.storage.atomic import write_text

    found = predict_files(load_model(arguments), arguments.files, batch_size=arguments.batch_size)
    text = found.as_csv() if arguments.csv else found.as_json() if arguments.json else found.as_text()
    if place is not None:
        write_text(place, text)
    else:
        sys.stdout.write(text)
        sys.stdout.flush()
    for folder, what in found.passed_over:
        print(printable(f"{folder}: passed over: {what}", keep=""), file=sys.stderr)
    for what in said_of_unlike(sum(found.unlike), len(found.unlike)):
        print(f"warning: {what}", file=sys.stderr)
    for file, why in found.unreadable:
        print(f"{printable(file, keep='')}: {printable(why)}", file=sys.stderr)
    if found.unreadable:
        total = len(found.files) + len(found.unreadable)
        print(f"{len(found.unreadable)} of {total} could not be predicted", file=sys.stderr)
    return 1 if found.unreadable else 0
