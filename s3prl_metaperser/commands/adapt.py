"""``metaperser adapt``: adapt a model to one listener's labelled clips."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from s3prl_metaperser.commands.common import (
    add_model,
    add_option,
    add_rater_options,
    add_table_options,
    at_least,
    label_options,
    load_model,
    weights,
)
from s3prl_metaperser.run.shown_commands import metaperser
from s3prl_metaperser.storage.paths import user_path

if TYPE_CHECKING:
    from s3prl_metaperser.listener.ratings import LabelledClips

_RATINGS = "a table with columns file,rater,label or file,label; or what an annotation tool exports (also a folder)"
_FOLDS = "cross-validation folds; 0 disables [8; 4 for fine-tuned models]"
_REPORT = "write a page, too: what differs from the average listener, with clips to hear"
_SYSTEM = "the way to adapt: zero-shot, zero-shot+bias, ..., or the model's own system [chosen by cross-validation]"


def add(commands) -> None:
    parser = commands.add_parser("adapt", help="adapt a model to one listener's labelled clips")
    add_model(parser, "a model folder made by `metaperser export`")
    parser.add_argument("--ratings", required=True, metavar="FILE", help=_RATINGS)
    parser.add_argument("--out", required=True, metavar="LISTENER", help="a new or empty folder")
    parser.add_argument("--root", metavar="DIR", help="folder that file names are relative to [that of the ratings]")
    parser.add_argument("--rater", metavar="ID", help="rater to adapt to, if the file has several")
    add_rater_options(parser)
    add_table_options(parser)
    add_option(parser)
    parser.add_argument("--all-one", action="store_true", help="all labels are one listener's, whatever the columns")
    parser.add_argument("--folds", type=_folds, metavar="N", help=_FOLDS)
    parser.add_argument("--system", metavar="NAME", help=_SYSTEM)
    parser.add_argument("--seed", type=int, default=0, help="random seed, where the system draws anything [0]")
    parser.add_argument("--report", metavar="FILE.html", help=_REPORT)
    parser.set_defaults(run=run)


def _folds(text: str) -> int:
    return 0 if text.strip() == "0" else at_least(2)(text)


_folds.__name__ = "int"  # argparse: "invalid int value"


def run(arguments: argparse.Namespace) -> int:
    from s3prl_metaperser.errors import UserError
    from s3prl_metaperser.listener.folder import check_new, read_card
    from s3prl_metaperser.listener.ratings import read_ratings
    from s3prl_metaperser.run.cell import quiet_upstreams
    from s3prl_metaperser.storage.locks import beside, held

    quiet_upstreams()
    out = user_path(arguments.out)
    check_new(out)
    if arguments.report and user_path(arguments.report).is_dir():
        raise UserError(f"--report {arguments.report} is a folder. Name a file.")
    given = read_ratings(
        user_path(arguments.ratings),
        read_card(user_path(arguments.model)).label_set,
        root=user_path(arguments.root) if arguments.root else None,
        rater=arguments.rater,
        all_one=arguments.all_one,
        **label_options(arguments),
    )
    with held(beside(out), f"--out {out}"):
        return _adapt(arguments, out, given)


def _adapt(arguments: argparse.Namespace, out: Path, given: LabelledClips) -> int:
    from s3prl_metaperser.errors import printable
    from s3prl_metaperser.listener.enrolment import enrol
    from s3prl_metaperser.listener.report import listener_page
    from s3prl_metaperser.storage.atomic import write_text

    recognizer = load_model(arguments, adapted=False)
    model = recognizer.model
    if arguments.system is not None:
        model.way(arguments.system)  # an unknown one is an error before work is spent
    for reason, count in sorted(given.dropped.items()):
        print(f"left out: {count} x {reason}", file=sys.stderr)
    for problem in given.problems:
        print(printable(f"note: {problem.path}: {problem.what}"), file=sys.stderr)
    copies = given.copies()
    for clip, other in copies:
        print(printable(f"same content: {clip} and {other}"), file=sys.stderr)
    items = recognizer.items(given.clips, progress="features")
    found = enrol(
        recognizer,
        items,
        given.labels,
        system=arguments.system,
        folds=arguments.folds,
        seed=arguments.seed,
        copies=len(copies),
        progress=True,
    )
    found.save(out, given.rater)
    if arguments.report:
        before = recognizer.predict_items(items)
        text = listener_page(recognizer, found, given.rater, given.clips, given.labels, before)
        write_text(user_path(arguments.report), text, private=True)
    print(f"{out}: {found.way} for {given.rater}, K={len(items)} clips")
    if found.chosen:
        print(found.chosen.table())
    if found.fit or not found.chosen:
        print(found.fit.table() if found.fit else "cross-validation: skipped")
    for warning in found.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if arguments.report:
        print(f"report: {user_path(arguments.report).resolve().as_uri()}")
    print(f"next: {metaperser('predict', out, *weights(arguments))} FILES...")
    return 0
