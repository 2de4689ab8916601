"""``metaperser adapt``: a model and one listener's labelled clips to a model for that listener."""

from __future__ import annotations

import argparse
import sys
from shlex import quote

from s3prl_metaperser.commands.common import add_model
from s3prl_metaperser.storage.paths import user_path


def add(commands) -> None:
    parser = commands.add_parser("adapt", help="adapt a model to one listener's labelled clips")
    add_model(parser, "MODEL", "a model folder made by `metaperser export`")
    parser.add_argument("--ratings", required=True, metavar="CSV", help="file,rater,label; the rater may be left out")
    parser.add_argument("--out", required=True, metavar="LISTENER", help="a new or empty folder")
    parser.add_argument("--root", metavar="DIR", help="the folder that files are relative to [that of the CSV file]")
    parser.add_argument("--outside", action="store_true", help="files may lie outside that folder")
    parser.add_argument("--rater", metavar="ID", help="whose labels, where the file has several raters")
    parser.add_argument("--folds", type=_folds, metavar="N", help="parts of the leave-out; 0: none [a clip; with -f 4]")
    parser.add_argument("--seed", type=int, default=0, help="of what the system draws; Meta-PerSER draws nothing [0]")
    parser.set_defaults(run=run)


def _folds(text: str) -> int:
    folds = int(text)
    if folds < 0 or folds == 1:
        raise argparse.ArgumentTypeError(f"bad value {text!r}, expected 0 (no leave-out) or at least 2 parts")
    return folds


_folds.__name__ = "int"  # argparse: "invalid int value"


def run(arguments: argparse.Namespace) -> int:
    from s3prl_metaperser.errors import printable
    from s3prl_metaperser.listener.folder import check_new
    from s3prl_metaperser.listener.leave_out import leave_out
    from s3prl_metaperser.listener.ratings import copies, read_ratings, warnings_about
    from s3prl_metaperser.listener.shell import load, quiet_upstreams

    quiet_upstreams()
    out = user_path(arguments.out)
    check_new(out)
    root = user_path(arguments.root) if arguments.root else None
    csv = user_path(arguments.ratings)
    ratings = read_ratings(csv, root=root, rater=arguments.rater, outside=arguments.outside)
    recognizer = load(arguments, adapted=False)
    for reason, count in sorted(ratings.dropped.items()):
        print(f"left out: {count} x {reason}", file=sys.stderr)
    copied = copies(ratings.clips)
    for clip, other in copied:
        print(printable(f"same content: {clip} and {other}"), file=sys.stderr)
    items = recognizer.items(ratings.clips, progress="features")
    fit = leave_out(recognizer.model, items, ratings.ticks, arguments.folds, progress=True)
    adapted = recognizer.adapt_items(items, ratings.ticks, seed=arguments.seed)
    shots = recognizer.card["adaptation"]["shots"]
    warned = [*warnings_about(ratings.ticks, recognizer.classes, shots, len(copied)), *(fit.warning() if fit else [])]
    adapted.save(out, rater=ratings.rater, warnings=warned, fit=fit.as_json() if fit else None)
    print(f"{out}: {recognizer.card['system']} adapted to {ratings.rater}, K={len(items)} clips")
    print(fit.table() if fit else "leave-out: not done")
    for warning in warned:
        print(f"warning: {warning}", file=sys.stderr)
    print(f"next: metaperser predict {quote(str(out))} FILES...")
    return 0
