"""``metaperser publish``: results, models, ratings and tasks in the forms in which others take them."""

from __future__ import annotations

import argparse

from s3prl_metaperser.commands.common import add_corpus_options, label_options, positive
from s3prl_metaperser.storage.paths import user_path


def add(commands) -> None:
    parser = commands.add_parser(
        "publish", help="write results, a model, ratings or a task in another form; nothing is sent anywhere"
    )
    parser.add_argument(
        "source", metavar="SOURCE", help="a folder of results, a model, a corpus's folder, or a task: as the form is of"
    )
    parser.add_argument("--format", required=True, metavar="NAME", help="`metaperser list forms`")
    parser.add_argument("--out", required=True, metavar="DIR", help="a new or empty folder")
    parser.add_argument("--organization", default="", metavar="NAME", help="who publishes")
    parser.add_argument("--model-id", default="", metavar="ORG/NAME", help="the model on a hub")
    parser.add_argument("--dataset-id", default="", metavar="ORG/NAME", help="the benchmark's data set on a hub")
    parser.add_argument("--licence", default="", metavar="TEXT", help="of what is published: an SPDX id, or words")
    parser.add_argument("--url", default="", metavar="URL", help="where what is published comes from")
    parser.add_argument(
        "--relationship",
        default="first_party",
        choices=("first_party", "third_party", "collaborative", "other"),
        help="of whoever evaluated to the model [%(default)s]",
    )
    parser.add_argument("--corpus", metavar="NAME", help="of ratings: the reader of the corpus in SOURCE")
    parser.add_argument("--scenario", metavar="NAME", help="of splits: the scenario [seen]")
    parser.add_argument("--fold", metavar="NAME", help="of splits: the fold [fold1]")
    parser.add_argument("--shots", type=positive(int), metavar="K", help="perseval: labels of each test user [32]")
    add_corpus_options(parser)
    parser.add_argument("-k", "--upstream_ckpt", metavar="CKPT", help="onnx: the upstream's weights")
    parser.add_argument("-g", "--upstream_model_config", metavar="FILE", help="onnx: its configuration")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from s3prl_metaperser.exchange.published import publish
    from s3prl_metaperser.exchange.publishing import Told

    given = ("organization", "model_id", "dataset_id", "licence", "url", "relationship")
    options = {name: getattr(arguments, name) for name in ("corpus", "scenario", "fold", "shots")}
    options |= {"reading": label_options(arguments)}
    options |= {"ckpt": arguments.upstream_ckpt, "model_config": arguments.upstream_model_config}
    told = Told(**{name: getattr(arguments, name) for name in given}, options=options)
    print("\n".join(publish(arguments.source, arguments.format, user_path(arguments.out), told)))
    return 0
