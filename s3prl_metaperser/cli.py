"""``metaperser``: what s3prl's launcher has no place for. Imports are inside the commands, so that help is instant."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from s3prl_metaperser import __version__
from s3prl_metaperser.errors import UserError


def build_parser() -> argparse.ArgumentParser:
    """The command line of ``metaperser``."""
    parser = argparse.ArgumentParser(
        prog="metaperser",
        description="Few-shot, listener-personalised speech emotion recognition: corpora and lists. Training and "
        "evaluation go through run_downstream.py -d personalized_emotion.",
    )
    parser.add_argument("--version", action="version", version=f"metaperser {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    validate = commands.add_parser("validate", help="read a corpus, say what was found and what is wrong with it")
    validate.add_argument("--corpus", required=True, help="a registered corpus: see `metaperser list corpora`")
    validate.add_argument("--root", required=True, help="its folder")
    validate.add_argument("--json", action="store_true", help="print one JSON object")
    validate.add_argument("--no-audio", action="store_true", help="do not decode the audio files")
    validate.set_defaults(run=_validate)

    demo = commands.add_parser("demo-corpus", help="write the demo corpus: synthetic speech and raters of known truth")
    demo.add_argument("folder", metavar="DIR", help="a new folder")
    demo.add_argument("--seed", type=int, default=0)
    demo.add_argument("--utterances", type=int, default=600, metavar="N")
    demo.add_argument("--raters", default="paper", help="paper, identical or opposed")
    demo.set_defaults(run=_demo_corpus)

    listing = commands.add_parser("list", help="list what can be chosen by name")
    listing.add_argument("what", choices=["corpora", "systems", "upstreams"])
    listing.set_defaults(run=_list)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit status: 0 well, 1 problems were found, 2 the command cannot be done."""
    arguments = build_parser().parse_args(argv)
    try:
        return arguments.run(arguments)
    except UserError as error:
        print(f"metaperser: error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except KeyboardInterrupt:
        print("\nmetaperser: interrupted", file=sys.stderr)
        return 130


def _validate(arguments: argparse.Namespace) -> int:
    from s3prl_metaperser.corpora import load_corpus
    from s3prl_metaperser.corpora.validate import exit_status, format_report, validation_report

    corpus = load_corpus(arguments.corpus, Path(arguments.root).expanduser())
    report = validation_report(corpus, decode_audio=not arguments.no_audio)
    print(json.dumps(report, indent=1, ensure_ascii=False) if arguments.json else format_report(corpus, report))
    return exit_status(report)


def _demo_corpus(arguments: argparse.Namespace) -> int:
    from s3prl_metaperser.demo import write_demo_corpus

    folder = write_demo_corpus(
        Path(arguments.folder).expanduser(),
        seed=arguments.seed,
        utterances=arguments.utterances,
        raters=arguments.raters,
    )
    print(f"{folder}: demo corpus in IEMOCAP's layout; demo.json in it says how it was made and what its ceilings are")
    print(f"next: metaperser validate --corpus iemocap --root {folder}")
    return 0


def _list(arguments: argparse.Namespace) -> int:
    if arguments.what == "upstreams":
        from s3prl_metaperser.upstream.hub import load_upstream_config, upstream_names

        for name in upstream_names():
            pinned = load_upstream_config(name)
            print(f"{name:<40} {pinned['notes']}" if pinned else name)
        return 0
    if arguments.what == "systems":
        from s3prl_metaperser.methods import SYSTEMS as registry
    else:
        from s3prl_metaperser.corpora import CORPORA as registry
    for name in registry.names():
        print(f"{name:<14} {registry.summary(name)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
