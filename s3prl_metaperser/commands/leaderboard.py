"""``metaperser leaderboard``: many results as one static page."""

from __future__ import annotations

import argparse

from s3prl_metaperser.storage.paths import user_path


def add(commands) -> None:
    parser = commands.add_parser(
        "leaderboard", help="one static page of many results; groups that cannot be told apart are drawn as such"
    )
    parser.add_argument("folder", metavar="DIR", help="searched for result files, with all its subfolders")
    parser.add_argument("--out", required=True, metavar="FILE.html", help="the page")
    parser.add_argument("--metric", metavar="NAME", help="what systems are ordered by [the label set's first metric]")
    parser.add_argument("--title", metavar="TEXT", default="Leaderboard", help="the page's title [%(default)s]")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from s3prl_metaperser.exchange.leaderboard import boards, write_leaderboard

    out = user_path(arguments.out)
    found = boards(user_path(arguments.folder), arguments.metric)
    size = write_leaderboard(found, out, arguments.title)
    systems = sum(len(board.ranking.systems) for board in found)
    settings = f"{len(found)} setting{'s' if len(found) != 1 else ''}"
    print(f"{out}: {systems} systems in {settings}, {size / 1e6:.2f} MB")
    return 0
