"""``metaperser listen``: a local page on which one listener labels clips while the model adapts."""

from __future__ import annotations

import argparse
import sys

from s3prl_metaperser.commands.common import (
    add_model,
    add_rater_options,
    add_table_options,
    label_options,
    positive,
    weights,
)
from s3prl_metaperser.run.shown_commands import metaperser
from s3prl_metaperser.storage.paths import user_path


def add(commands) -> None:
    parser = commands.add_parser("listen", help="open a local page to label clips and see the model adapt to you")
    add_model(parser, "a model folder made by `metaperser export`")
    parser.add_argument("--clips", required=True, metavar="DIR", help="a folder of audio files (recursive)")
    parser.add_argument("--ratings", metavar="CSV", help="where labels are saved and resumed from [DIR/ratings.csv]")
    parser.add_argument("--rater", metavar="ID", help="name of the listener [the file's only rater, else: listener]")
    add_rater_options(parser)
    add_table_options(parser)
    parser.add_argument("--all-one", action="store_true", help="all labels in the file are this listener's")
    parser.add_argument(
        "--every", type=positive(int), default=4, metavar="N", help="adapt after N labels [%(default)s]"
    )
    parser.add_argument("--port", type=int, default=8707, help="port on 127.0.0.1; 0: any free port [%(default)s]")
    parser.add_argument("--no-browser", action="store_true", help="print the address without opening a browser")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from s3prl_metaperser.listener.serving import ended_by_signals

    with ended_by_signals():
        return _run(arguments)


def _run(arguments: argparse.Namespace) -> int:
    from s3prl_metaperser.errors import printable
    from s3prl_metaperser.listener.server import ListeningServer
    from s3prl_metaperser.listener.serving import serve
    from s3prl_metaperser.listener.session import ListeningSession
    from s3prl_metaperser.listener.shell import load
    from s3prl_metaperser.run.cell import quiet_upstreams

    quiet_upstreams()
    clips = user_path(arguments.clips)
    ratings = user_path(arguments.ratings) if arguments.ratings else None
    recognizer = load(arguments, adapted=False)
    session = ListeningSession(
        recognizer,
        clips,
        ratings=ratings,
        rater=arguments.rater,
        every=arguments.every,
        all_one=arguments.all_one,
        **label_options(arguments),
    )
    for name in session.left_out:
        print(f"left out: {name!r}: ratings.csv cannot hold this name", file=sys.stderr)
    for what in session.passed_over:
        print(printable(f"{clips}: passed over: {what}"), file=sys.stderr)
    if session.elsewhere:
        print(
            f"{session.elsewhere} rated file(s) in {session.file.path} are not in {clips}: kept, but not used",
            file=sys.stderr,
        )
    with ListeningServer(session, arguments.port) as server:
        session.start()
        done = len(session.view().answers)
        print(f"{len(session.clips)} clips, {done} labelled; labels are saved to {session.file.path}")
        print(f"open {server.url}\nPress Ctrl-C to stop; run the same command to continue", flush=True)
        try:
            serve(server, browser=not arguments.no_browser)
        finally:
            busy = "finishing what it computes; Ctrl-C again to leave that" if session.view().busy else ""
            print(f"\n{busy}", flush=True)
            session.stop()
    done = len(session.view().answers)
    print(f"{done} labelled clips in {session.file.path}")
    if done:
        root = [] if session.file.path.parent.resolve() == clips.resolve() else ["--root", clips]
        given = [arguments.model, "--ratings", session.file.path, *root, *weights(arguments), "--out", "LISTENER"]
        print(f"next: {metaperser('adapt', *given)}")
    return 0
