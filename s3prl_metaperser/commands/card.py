"""``metaperser card``: what a corpus's ratings say before anything is trained."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from s3prl_metaperser.commands.common import add_corpus_options, add_named_corpus, at_least, label_options, named_corpus
from s3prl_metaperser.storage.paths import user_path

if TYPE_CHECKING:
    from s3prl_metaperser.corpora import Corpus


_SOUNDS = (
    "clips to hear in the page; embedded where the corpus may be passed on, else played from the files where they are "
    "[%(default)s]"
)


def add(commands) -> None:
    parser = commands.add_parser("card", help="agreement in a corpus, and whether there is anybody to personalise for")
    add_named_corpus(parser, "the corpus's folder; not needed where labels can be had without (the demo)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--html", metavar="FILE", help="write one page, too")
    parser.add_argument("--sounds", type=at_least(0), default=8, metavar="N", help=_SOUNDS)
    add_corpus_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from s3prl_metaperser.corpora.emotions import has_listeners
    from s3prl_metaperser.errors import UserError, printable_json
    from s3prl_metaperser.evaluation.corpus_card import corpus_card
    from s3prl_metaperser.report.corpus_card import card_page, card_text
    from s3prl_metaperser.report.sounds import clips_to_hear
    from s3prl_metaperser.storage.atomic import write_text

    corpus = _corpus(arguments)
    if not has_listeners(corpus):
        raise UserError(
            f"A card says how listeners agree, and the labels of corpus {corpus.name!r} are nobody's perception. What "
            f"it has is said by `metaperser validate --corpus {corpus.name} --root {corpus.root}`."
        )
    card = corpus_card(corpus)
    if arguments.html:
        heard = (
            clips_to_hear(corpus, arguments.sounds, embed=_may_be_passed_on(corpus.name)) if arguments.sounds else None
        )
        write_text(user_path(arguments.html), card_page(card, heard))
        if heard and not heard.clips:
            how = "Name the corpus's folder: --root DIR"
            print(f"no clip to hear, since there is no audio in {corpus.root}. {how}", file=sys.stderr)
    print(printable_json(card.as_json()) if arguments.json else card_text(card))
    return 0


def _may_be_passed_on(name: str) -> bool:
    from s3prl_metaperser.corpora import CORPORA, reader_of

    return name in CORPORA.names() and reader_of(name).redistributable is True


def _corpus(arguments: argparse.Namespace) -> Corpus:
    from s3prl_metaperser.corpora import labels_without_audio, load_corpus, reader_of
    from s3prl_metaperser.errors import UserError
    from s3prl_metaperser.storage.paths import cache_root

    name, options = named_corpus(arguments), label_options(arguments)
    if name is None:
        raise UserError(
            "No corpus is named. Type: metaperser card CORPUS --root DIR; `metaperser list corpora` lists them."
        )
    if arguments.root:
        return load_corpus(name, arguments.root, **options)
    reader = reader_of(name)  # an unknown name is the first mistake
    home = reader.home(cache_root(), reader.checked(name, options)) if arguments.html and reader.home else None
    if home is not None and home.is_dir():  # it was made before, with its audio
        return load_corpus(name, home, **options)
    if (found := labels_without_audio(name, options)) is None:
        raise UserError(f"Corpus {name!r} needs its folder. Name it: --root DIR.")
    return found
