"""``metaperser list``: the registered corpora, label sets, systems and upstreams."""

from __future__ import annotations

import argparse


def add(commands) -> None:
    parser = commands.add_parser("list", help="list corpora, label sets, systems or upstreams")
    parser.add_argument("what", choices=["corpora", "labels", "systems", "upstreams"])
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    if arguments.what == "upstreams":
        from s3prl_metaperser.s3prl_stack.hub import load_upstream_config, upstream_names

        for name in upstream_names():
            pinned = load_upstream_config(name)
            print(f"{name:<40} {pinned.notes}" if pinned else name)
        return 0
    from s3prl_metaperser.corpora import CORPORA, LABEL_SETS
    from s3prl_metaperser.methods import FINETUNED_SYSTEMS, SYSTEMS
    from s3prl_metaperser.registry import Registry

    shown: dict[str, list[tuple[str, Registry]]] = {
        "corpora": [("", CORPORA)],
        "labels": [("", LABEL_SETS)],
        "systems": [("frozen upstream:\n", SYSTEMS), ("fine-tuned upstream (-f):\n", FINETUNED_SYSTEMS)],
    }
    for title, registry in shown[arguments.what]:
        print(title, end="")
        width = max(22, *map(len, registry.names()))
        for name in registry.names():
            print(f"{name:<{width}} {registry.summary(name)}")
    return 0
