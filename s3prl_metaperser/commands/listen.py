"""``metaperser listen``: a local page on which one listener labels clips while the model adapts."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from s3prl_metaperser.commands.common import (
    add_model,
    add_rater_options,
    add_table_options,
    at_least,
    label_options,
    load_model,
    positive,
    weights,
)
from s3prl_metaperser.run.shown_commands import metaperser
from s3prl_metaperser.storage.paths import user_path

if TYPE_CHECKING:
    from torch import Tensor

    from s3prl_metaperser.listener.session import ListeningSession


_QUESTION = "what is asked: english, german, mandarin, or a YAML file (docs/listener.md) [%(default)s]"
_SWITCH = argparse.BooleanOptionalAction


def add(commands) -> None:
    parser = commands.add_parser("listen", help="open a local page to label clips and see the model adapt to you")
    add_model(parser, "a model folder made by `metaperser export`")
    parser.add_argument("--clips", required=True, metavar="DIR", help="a folder of audio files (recursive)")
    parser.add_argument("--ratings", metavar="CSV", help="where labels are saved and resumed from [DIR/ratings.csv]")
    parser.add_argument(
        "--rater",
        metavar="ID",
        action="append",
        help="name of the listener [the file's only rater, else: listener]; given several times, each has an address",
    )
    parser.add_argument("--question", metavar="NAME|FILE", default="english", help=_QUESTION)
    parser.add_argument("--autoplay", action=_SWITCH, help="clips play by themselves [as the question says, else no]")
    parser.add_argument("--whole", action=_SWITCH, help="take labels of clips heard to their end alone [so, else yes]")
    parser.add_argument("--next", choices=("random", "informative"), help="which clip comes next [so, else random]")
    parser.add_argument("--breaks", type=at_least(0), metavar="N", help="offer a break after N labels; 0: never [so]")
    parser.add_argument("--repeats", type=at_least(0), metavar="N", help="an earlier clip again after N labels [so]")
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
    from s3prl_metaperser.listener.question import read_question
    from s3prl_metaperser.listener.server import ListeningServer
    from s3prl_metaperser.listener.serving import serve
    from s3prl_metaperser.listener.session import ListeningSession
    from s3prl_metaperser.run.cell import quiet_upstreams

    quiet_upstreams()
    clips = user_path(arguments.clips)
    ratings = user_path(arguments.ratings) if arguments.ratings else None
    recognizer = load_model(arguments, adapted=False)
    asked = read_question(
        arguments.question,
        recognizer.label_set,
        autoplay=arguments.autoplay,
        whole=arguments.whole,
        next=arguments.next,
        break_every=arguments.breaks,
        repeat_every=arguments.repeats,
    )
    shared: dict[Path, Tensor] = {}
    sessions = [
        ListeningSession(
            recognizer,
            clips,
            ratings=ratings,
            rater=rater,
            every=arguments.every,
            asked=asked,
            shared=shared,
            weights=weights(arguments),
            all_one=arguments.all_one,
            **label_options(arguments),
        )
        for rater in dict.fromkeys(arguments.rater or [None])
    ]
    first = sessions[0]
    for name in first.left_out:
        print(f"left out: {name!r}: ratings.csv cannot hold this name", file=sys.stderr)
    for what in first.passed_over:
        print(printable(f"{clips}: passed over: {what}"), file=sys.stderr)
    if first.elsewhere:
        print(
            f"{first.elsewhere} rated file(s) in {first.file.path} are not in {clips}: kept, but not used",
            file=sys.stderr,
        )
    with ListeningServer(*sessions, port=arguments.port) as server:
        for session in sessions:
            session.worker.start()
        done = sum(len(session.view().answers) for session in sessions)
        print(f"{len(first.clips)} clips, {done} labelled; labels are saved to {first.file.path}")
        for session, url in zip(sessions, server.urls, strict=True):
            print(f"open {url}" if len(sessions) == 1 else printable(f"{session.file.rater}: open {url}"))
        print("Press Ctrl-C to stop; run the same command to continue", flush=True)
        try:
            serve(server, browser=not arguments.no_browser and len(sessions) == 1)
        finally:
            working = any(session.view().busy for session in sessions)
            print(f"\n{'finishing what it computes; Ctrl-C again to leave that' if working else ''}", flush=True)
            for session in sessions:
                session.worker.stop()
    for session in sessions:
        _tell(arguments, session, clips, several=len(sessions) > 1)
    return 0


def _tell(arguments: argparse.Namespace, session: ListeningSession, clips: Path, several: bool) -> None:
    """What one listener's session leaves, and what to type next."""
    from s3prl_metaperser.errors import printable

    done, file, rater = len(session.view().answers), session.file.path, session.file.rater
    print(printable(f"{done} labelled clips{f' of {rater}' if several else ''} in {file}"))
    for what in session.view().said_of_unlike():
        print(f"warning: {what}", file=sys.stderr)
    if found := session.agreement():
        alpha = "" if found[2] is None else f", Krippendorff's alpha {found[2]:.2f}"
        print(f"the same clip again: {found[1]} of {found[0]} answers alike{alpha}")
    if done:
        root = [] if file.parent.resolve() == clips.resolve() else ["--root", clips]
        who = ["--rater", rater] if several else []
        given = [arguments.model, "--ratings", file, *root, *who, *weights(arguments), "--out", "LISTENER"]
        print(f"next: {metaperser('adapt', *given)}")
