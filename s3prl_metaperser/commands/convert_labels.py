"""``metaperser convert-labels``: labels from one annotation tool's form to another's, with times, plays and skips."""

from __future__ import annotations

import argparse

from s3prl_metaperser.commands.common import add_option, add_rater_options, label_options
from s3prl_metaperser.storage.paths import user_path


def add(commands) -> None:
    parser = commands.add_parser("convert-labels", help="labels from one annotation tool's form to another's")
    parser.add_argument("labels_file", metavar="FILE", help="a table of ratings, or what an annotation tool exports")
    parser.add_argument("--to", required=True, metavar="NAME", help="a tool's form; a wrong name lists them")
    parser.add_argument(
        "--out", required=True, metavar="PATH", help="a new file, or a new folder where the form is one"
    )
    parser.add_argument("--root", metavar="DIR", help="folder of the audio [that of FILE]")
    parser.add_argument("--labels", metavar="NAME|FILE", help="a registered label set, or a labels.yaml")
    parser.add_argument("--all-one", action="store_true", help="all labels are one listener's, whatever the columns")
    add_rater_options(parser)
    add_option(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from s3prl_metaperser.corpora import exported_labels, writers
    from s3prl_metaperser.corpora.people import Who
    from s3prl_metaperser.errors import UserError, unknown_name
    from s3prl_metaperser.listener.ratings import NAMELESS

    known = writers()
    if arguments.to not in known:
        raise unknown_name("form of labels", arguments.to, known)
    writer, out = known[arguments.to], user_path(arguments.out)
    if out.exists():
        raise UserError(f"--out {out} is there already. Choose a new {'file' if writer.writes else 'folder'}.")
    if writer.writes and out.suffix.lower() != writer.writes:
        raise UserError(f"--out {out}: labels in the form {arguments.to} are a file *{writer.writes}. Name it so.")
    options = label_options(arguments)
    who = Who(
        options.pop("rater_column", None),
        alike=options.pop("alike_raters", "error"),
        listener=NAMELESS if arguments.all_one else None,
        all_one=arguments.all_one,
    )
    root = user_path(arguments.root) if arguments.root else None
    labels = exported_labels(user_path(arguments.labels_file), audio=root, who=who, **options)
    assert writer.write is not None
    writer.write(out, labels)
    skipped = sum(not each.parts for each in labels.given)
    print(
        f"{out}: {len(labels.given) - skipped} answers of {len(labels.people())} listener(s) to {len(labels.files())} "
        f"clips, and {skipped} skipped"
    )
    return 0
