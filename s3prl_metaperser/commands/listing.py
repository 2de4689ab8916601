"""``metaperser list``: the registered corpora, label sets, metrics, systems and tasks, the grids and the upstreams."""

from __future__ import annotations

import argparse
import importlib

from s3prl_metaperser.errors import unknown_name
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
    "forms": [("to publish in (docs/publishing.md):\n", "exchange.publishing:FORMS")],
}
_FILES = {"grids": lambda part: _grids(part), "upstreams": lambda part: _upstreams(part)}


def add(commands) -> None:
    parser = commands.add_parser(
        "list", help="list corpora, forms, grids, label sets, metrics, systems, tasks or upstreams"
    )
    parser.add_argument("what", choices=sorted([*_SHOWN, *_FILES]))
    parser.add_argument("part", nargs="?", default="", metavar="PART", help="only names with this in them, as wav2vec")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    what, part = arguments.what, arguments.part
    print("\n".join(_FILES[what](part) if what in _FILES else _registered(what, part)))
    return 0


def _registered(what: str, part: str) -> list[str]:
    lines, known = [], []
    for title, target in _SHOWN[what]:
        module, _, attribute = target.partition(":")
        registry = getattr(importlib.import_module(f"s3prl_metaperser.{module}"), attribute)
        names = [name for name in registry.names() if part.lower() in name.lower()]
        known += registry.names()
        width = max(22, *map(len, registry.names()))
        if names:
            lines += [title.rstrip("\n")] * bool(title)
        lines += [
            f"{name:<{width}} {registry.summary(name) or getattr(registry.get(name), 'title', '')}" for name in names
        ]
    if not lines:
        raise unknown_name(f"name among the {what}", part, dict.fromkeys(known))
    return lines


def _grids(part: str) -> list[str]:
    from s3prl_metaperser.config.yaml_files import read_yaml
    from s3prl_metaperser.grid.definition import known_grids

    found = {name: path for name, path in known_grids().items() if part.lower() in name}
    if not found:
        raise unknown_name("grid", part, known_grids())
    said = {name: " ".join((read_yaml(path).get("description") or "").split()) for name, path in found.items()}
    width = max(22, *map(len, said))
    return [*(f"{name:<{width}} {text}" for name, text in said.items()), "", "to run one: metaperser run NAME"]


def _upstreams(part: str) -> list[str]:
    from s3prl_metaperser.upstream.catalogue import GROUPS, catalogue

    found = catalogue(part)
    width = max(22, *(len(known.name) for known in found))
    lines: list[str] = []
    for group, _ in GROUPS:
        mine = [known for known in found if known.group == group]
        if mine:
            lines += [*[""] * bool(lines), f"{group}:"]
        for known in mine:
            size = "" if known.millions is None else f"{known.millions} M"
            licence = known.licence.short if known.licence else "not known" * known.weights.startswith("downloaded")
            said = f"{known.name:<{width}} {size:>6}  {known.weights:<33} {licence:<20} {known.summary}"
            lines.append(said.rstrip())
    licences = dict.fromkeys(known.licence for known in found if known.licence)
    lines += ["", "Sizes in millions of parameters, where they are known. Licences are of the weights:"]
    return [*lines, *(f"  {licence}" for licence in licences), "  not known: ask who made them"]
