"""``metaperser demo-corpora``: write the ten demo corpora of domain generalisation."""

from __future__ import annotations

import argparse

from s3prl_metaperser.run.shown_commands import metaperser
from s3prl_metaperser.storage.paths import user_path


def add(commands) -> None:
    parser = commands.add_parser(
        "demo-corpora", help="write ten demo corpora: synthetic speech in the layouts of ten corpora of acted speech"
    )
    parser.add_argument("folder", metavar="DIR", help="a new folder")
    parser.add_argument("--variant", default="shifted", help="shifted, identical or spurious [%(default)s]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--utterances", type=int, default=150, metavar="N", help="of each corpus [%(default)s]")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from s3prl_metaperser.demo import roots, write_demo_corpora

    folder = write_demo_corpora(
        user_path(arguments.folder), arguments.variant, seed=arguments.seed, utterances=arguments.utterances
    )
    places = roots(folder)
    print(f"{folder}: {len(places)} demo corpora ({', '.join(places)}); demo.json describes them and their ceilings")
    name = next(iter(places))
    print(f"next: {metaperser('validate', name, '--root', places[name], '--option', 'answers=acted')}")
    return 0
