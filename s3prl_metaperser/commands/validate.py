"""``metaperser validate``: check a corpus, or with ``--all`` a folder of results."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from s3prl_metaperser.commands.common import add_corpus_options, add_named_corpus, label_options, named_corpus
from s3prl_metaperser.errors import UserError, printable_json
from s3prl_metaperser.storage.paths import user_path

if TYPE_CHECKING:
    from s3prl_metaperser.corpora import Corpus


def add(commands) -> None:
    parser = commands.add_parser("validate", help="check a corpus, or (--all) every number in a folder of results")
    add_named_corpus(parser, "the corpus's folder")
    parser.add_argument("--all", metavar="DIR", help="check the results below DIR, of that corpus")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--no-audio", action="store_true", help="skip decoding the audio files")
    add_corpus_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    name = named_corpus(arguments)
    if arguments.all is not None:
        return _results(arguments, name)
    if name is None or not arguments.root:
        raise UserError("Name a corpus with --corpus and --root, or a folder of results with --all.")
    from s3prl_metaperser.corpora import load_corpus
    from s3prl_metaperser.corpora.emotions import has_listeners
    from s3prl_metaperser.corpora.validate import exit_status, format_report, validation_report

    corpus = load_corpus(name, arguments.root, **label_options(arguments))
    report = validation_report(corpus, decode_audio=not arguments.no_audio)
    if arguments.json:
        print(printable_json(report))
    else:
        print(format_report(corpus, report))
        if has_listeners(corpus):
            print("\n".join(["", *_card(corpus)]))
    return exit_status(report)


def _card(corpus: Corpus) -> list[str]:
    """What the ratings say, in ten lines."""
    from s3prl_metaperser.evaluation.corpus_card import corpus_card
    from s3prl_metaperser.report.corpus_card import first_lines

    return [
        "What the ratings say (`metaperser card`, with the same options, says more)",
        *first_lines(corpus_card(corpus)),
    ]


def _results(arguments: argparse.Namespace, name: str | None) -> int:
    from s3prl_metaperser.audit import audit
    from s3prl_metaperser.errors import printable
    from s3prl_metaperser.report.write import open_evaluated_corpus

    corpus = open_evaluated_corpus(name, arguments.root, label_options(arguments))
    found = audit(user_path(arguments.all), corpus)
    print(printable_json(found.as_json()) if arguments.json else printable(str(found)))
    return found.status
