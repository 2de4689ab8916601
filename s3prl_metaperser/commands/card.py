"""``metaperser card``: what a corpus's ratings say before anything is trained."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from s3prl_metaperser.commands.common import add_corpus_options, label_options
from s3prl_metaperser.storage.paths import user_path

if TYPE_CHECKING:
    from s3prl_metaperser.corpora import Corpus


def add(commands) -> None:
    parser = commands.add_parser("card", help="agreement in a corpus, and whether there is anybody to personalise for")
    parser.add_argument("--corpus", required=True, help="a registered corpus (`metaperser list corpora`)")
    parser.add_argument("--root", help="the corpus's folder; not needed where labels can be had without (the demo)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--html", metavar="FILE", help="write one page, too")
    add_corpus_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from s3prl_metaperser.corpora.emotions import has_listeners
    from s3prl_metaperser.errors import UserError, printable_json
    from s3prl_metaperser.evaluation.corpus_card import corpus_card
    from s3prl_metaperser.report.corpus_card import card_page, card_text
    from s3prl_metaperser.storage.atomic import write_text

    corpus = _corpus(arguments)
    if not has_listeners(corpus):
        raise UserError(
            f"A card says how listeners agree, and the labels of corpus {corpus.name!r} are nobody's perception. What "
            f"it has is said by `metaperser validate --corpus {corpus.name} --root {corpus.root}`."
        )
    card = corpus_card(corpus)
    if arguments.html:
        write_text(user_path(arguments.html), card_page(card))
    print(printable_json(card.as_json()) if arguments.json else card_text(card))
    return 0


def _corpus(arguments: argparse.Namespace) -> Corpus:
    from s3prl_metaperser.corpora import labels_without_audio, load_corpus, reader_of
    from s3prl_metaperser.errors import UserError

    name, options = arguments.corpus, label_options(arguments)
    if arguments.root:
        return load_corpus(name, arguments.root, **options)
    reader_of(name)  # an unknown name is the first mistake
    if (found := labels_without_audio(name, options)) is None:
        raise UserError(f"Corpus {name!r} needs its folder. Name it: --root DIR.")
    return found
