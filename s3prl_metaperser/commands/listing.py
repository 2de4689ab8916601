"""``metaperser list``: the registered corpora, label sets, metrics, systems, tasks and upstreams."""

from __future__ import annotations

import argparse
import importlib

from s3prl_metaperser.generalise import AVERAGES, BASELINE
from s3prl_metaperser.methods import DEFAULT_SYSTEM

_AVERAGED = " and ".join(f"{BASELINE}+{name}" for name in AVERAGES)
#: What can be listed -> (title, registry).
_SHOWN = {
    "corpora": [("", "corpora:CORPORA")],
    "labels": [("", "corpora.label_sets:LABEL_SETS")],
    "metrics": [("", "evaluation.metrics:METRICS")],
    "systems": [
        ("frozen upstream:\n", "methods:SYSTEMS"),
        ("fine-tuned upstream (-f):\n", "methods:FINETUNED_SYSTEMS"),
        (f"on top of any of them, as in {DEFAULT_SYSTEM}+map (docs/output_only.md):\n", "methods:OUTPUTS"),
        (f"of domain generalisation, also {_AVERAGED} (docs/domain_generalisation.md):\n", "generalise:GENERALISERS"),
    ],
    "tasks": [("", "tasks:TASKS")],
}


def add(commands) -> None:
    parser = commands.add_parser("list", help="list corpora, label sets, metrics, systems, tasks or upstreams")
    parser.add_argument("what", choices=[*_SHOWN, "upstreams"])
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    if arguments.what == "upstreams":
        from s3prl_metaperser.s3prl_stack.hub_index import hub_index, load_upstream_config

        for name, entry in hub_index().items():
            pinned = load_upstream_config(name)
            print(f"{name:<40} {pinned.notes if pinned else entry.summary}".rstrip())
        return 0
    for title, target in _SHOWN[arguments.what]:
        module, _, name = target.partition(":")
        registry = getattr(importlib.import_module(f"s3prl_metaperser.{module}"), name)
        print(title, end="")
        width = max(22, *map(len, registry.names()))
        for name in registry.names():
            print(f"{name:<{width}} {registry.summary(name) or getattr(registry.get(name), 'title', '')}")
    return 0
