"""``metaperser export``: export a trained experiment as a model folder, for other machines and listeners."""

from __future__ import annotations

import argparse
import shlex
import sys

from s3prl_metaperser.run.shown_commands import launcher, metaperser
from s3prl_metaperser.storage.paths import user_path


def add(commands) -> None:
    parser = commands.add_parser("export", help="export a trained experiment as a model folder: safetensors and a card")
    parser.add_argument(
        "experiment", metavar="EXPDIR", help="an experiment folder (its dev-best.ckpt), or a checkpoint"
    )
    parser.add_argument("--out", required=True, metavar="MODEL", help="a new or empty folder")
    parser.add_argument("--licence", metavar="TEXT", help="the model's licence, for the card")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from s3prl_metaperser.listener.export import export
    from s3prl_metaperser.listener.folder import CARD, TENSORS
    from s3prl_metaperser.storage.locks import beside, held

    out = user_path(arguments.out)
    with held(beside(out), f"--out {out}"):
        card, needs = export(user_path(arguments.experiment), out, licence=arguments.licence)
    upstream = card.upstream
    print(f"{out}: {card.system} ({card.scope}), upstream {upstream.name}, {TENSORS} and {CARD}")
    if card.metrics is None:
        evaluating = launcher("-m", "evaluate", "-e", user_path(arguments.experiment))
        print(
            f"The card has no metrics: this checkpoint has no result_test.json. Make one: {evaluating}",
            file=sys.stderr,
        )
    if needs:
        print(f"to use it, the upstream's weights are also needed: {shlex.join(needs)}")
    print(f"next: {metaperser('adapt', out, '--ratings', 'my_ratings.csv', *needs, '--out', 'LISTENER')}")
    print(f"or:   {metaperser('listen', out, '--clips', 'DIR', *needs)}")
    return 0
