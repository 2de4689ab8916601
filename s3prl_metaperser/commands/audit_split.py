"""``metaperser audit-split``: what the parts of somebody else's split share, before numbers on it are believed."""

from __future__ import annotations

import argparse

from s3prl_metaperser.commands.common import add_option, label_options, names


def add(commands) -> None:
    parser = commands.add_parser(
        "audit-split", help="check another's split: recordings, speakers, sessions, raters and sound in two parts"
    )
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE|DIR|PART=FILE",
        help="a split as it is published (EmoBox JSONL, SpeechBrain JSON, EMO-SUPERB CSV, LeWiDi JSON, lists): its "
        "folder, its files, or the files with their parts, such as train=a.txt test=b.txt",
    )
    parser.add_argument("--audio", metavar="DIR", help="compare what is heard in the files below DIR, too")
    parser.add_argument("--corpus", metavar="NAME", help="read speakers, sessions and raters with this corpus's reader")
    parser.add_argument("--root", metavar="DIR", help="the corpus's folder")
    parser.add_argument(
        "--allow",
        type=names,
        default=(),
        metavar="A,B",
        help="what parts may share: doubles, recordings, audio, speakers, sessions, raters",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_option(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from s3prl_metaperser.corpora import load_corpus
    from s3prl_metaperser.errors import UserError, printable, printable_json, unknown_name
    from s3prl_metaperser.exchange.split_audit import KINDS, audit_split
    from s3prl_metaperser.exchange.split_files import read_splits
    from s3prl_metaperser.storage.paths import user_path

    for kind in arguments.allow:
        if kind not in KINDS:
            raise unknown_name("kind after --allow", kind, KINDS)
    if bool(arguments.corpus) != bool(arguments.root):
        raise UserError("Name a corpus by both --corpus NAME and --root DIR.")
    audio = user_path(arguments.audio) if arguments.audio else None
    if audio is not None and not audio.is_dir():
        raise UserError(f"--audio {audio}: there is no such folder.")
    splits = read_splits(arguments.files)
    given = (arguments.corpus, arguments.root)
    corpus = load_corpus(*given, **label_options(arguments)) if arguments.corpus else None
    found = [audit_split(split, corpus, audio, arguments.allow) for split in splits]
    leaks = sum(len(each.leaks) for each in found)
    if arguments.json:
        print(printable_json({"splits": [each.as_json() for each in found], "leaks": leaks}))
    else:
        splits_of = f"{len(found)} split{'s' * (len(found) > 1)}"
        print(printable("\n\n".join(map(str, found))))
        print(f"\n{leaks} leak{'s' * (leaks != 1)} in {splits_of}" if leaks else f"\nno leaks in {splits_of}")
    return 1 if leaks else 0
