"""``metaperser validate``: read a corpus and say what is in it and what is wrong with it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def add(commands) -> None:
    parser = commands.add_parser("validate", help="read a corpus, say what was found and what is wrong with it")
    parser.add_argument("--corpus", required=True, help="a registered corpus: see `metaperser list corpora`")
    parser.add_argument("--root", required=True, help="its folder")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--no-audio", action="store_true", help="do not decode the audio files")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from s3prl_metaperser.corpora import load_corpus
    from s3prl_metaperser.corpora.validate import exit_status, format_report, validation_report

    corpus = load_corpus(arguments.corpus, Path(arguments.root).expanduser())
    report = validation_report(corpus, decode_audio=not arguments.no_audio)
    print(json.dumps(report, indent=1, ensure_ascii=False) if arguments.json else format_report(corpus, report))
    return exit_status(report)
