"""``metaperser demo-corpus``: write the demo corpus."""

from __future__ import annotations

import argparse

from s3prl_metaperser.run.shown_commands import metaperser
from s3prl_metaperser.storage.paths import user_path


def add(commands) -> None:
    parser = commands.add_parser(
        "demo-corpus", help="write the demo corpus: synthetic speech rated by simulated raters"
    )
    parser.add_argument("folder", metavar="DIR", help="a new folder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--utterances", type=int, default=600, metavar="N")
    parser.add_argument(
        "--raters",
        default="paper",
        help="paper, identical, opposed, misspecified, crowd, crowd-strong or crowd-identical",
    )
    parser.add_argument(
        "--answer", default="emotion", help="what raters are asked: emotion, or on a scale arousal, valence, dominance"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from s3prl_metaperser.demo import write_demo_corpus

    folder = write_demo_corpus(
        user_path(arguments.folder),
        seed=arguments.seed,
        utterances=arguments.utterances,
        raters=arguments.raters,
        answer=arguments.answer,
    )
    if (folder / "ratings.csv").exists():
        layout, check = "as ratings.csv", "validate --corpus ratings_csv --root"
    else:
        layout, check = "in IEMOCAP's layout", "validate --corpus iemocap --root"
    print(f"{folder}: demo corpus {layout}; demo.json describes how it was made and its ceilings")
    print(f"next: {metaperser(*check.split(), folder)}")
    return 0
