"""``metaperser list``: the registered corpora, systems and upstreams."""

from __future__ import annotations

import argparse


def add(commands) -> None:
    parser = commands.add_parser("list", help="list corpora, systems or upstreams")
    parser.add_argument("what", choices=["corpora", "systems", "upstreams"])
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    if arguments.what == "upstreams":
        from s3prl_metaperser.s3prl_stack.hub import load_upstream_config, upstream_names

        for name in upstream_names():
            pinned = load_upstream_config(name)
            print(f"{name:<40} {pinned['notes']}" if pinned else name)
        return 0
    if arguments.what == "systems":
        from s3prl_metaperser.methods import FINETUNED_SYSTEMS, SYSTEMS

        shown = {"frozen upstream": SYSTEMS, "fine-tuned upstream (-f)": FINETUNED_SYSTEMS}
    else:
        from s3prl_metaperser.corpora import CORPORA

        shown = {"": CORPORA}
    for title, registry in shown.items():
        if title:
            print(f"{title}:")
        for name in registry.names():
            print(f"{name:<22} {registry.summary(name)}")
    return 0
