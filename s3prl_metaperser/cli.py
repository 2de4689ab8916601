"""``metaperser``: what s3prl's launcher has no place for. Imports are inside the commands, so that help is instant."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
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

    plan = commands.add_parser("plan", help="memory of fine-tuning an upstream (-f), and the micro-batch that fits")
    plan.add_argument("upstream", metavar="UPSTREAM", help="a name in s3prl's hub: see `metaperser list upstreams`")
    plan.add_argument("--shots", type=_positive(int), metavar="K", help="support utterances of a rater [32]")
    plan.add_argument("--inner-steps", type=_positive(int), metavar="S", help="inner steps in meta-training [5]")
    plan.add_argument("--seconds", type=_positive(float), help="mean length of an utterance [4.5]")
    plan.add_argument("--longest", type=_positive(float), metavar="SECONDS", help="of the longest utterance [15]")
    plan.add_argument("--memory", type=_positive(float), metavar="GB", help="of your device [16, 32 and 80]")
    plan.add_argument("--json", action="store_true", help="print one JSON object")
    plan.set_defaults(run=_plan)

    report = commands.add_parser("report", help="tables, figures and one HTML page from result files")
    report.add_argument("results", metavar="RESULTS", help="a folder; every result_test.json below it is read")
    report.add_argument("--out", required=True, metavar="DIR", help="where the report goes; an earlier one is replaced")
    report.add_argument("--protocol", help="paper or tuned, where RESULTS holds both")
    report.add_argument("--corpus", help="the corpus that was evaluated, for Tables A1 and A2 (the demo is known)")
    report.add_argument("--root", help="its folder")
    report.set_defaults(run=_report)

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
        from s3prl_metaperser.methods import FINETUNED_SYSTEMS, SYSTEMS

        shown = {"frozen upstream": SYSTEMS, "fine-tuned upstream (-f)": FINETUNED_SYSTEMS}
    else:
        from s3prl_metaperser.corpora import CORPORA

        shown = {"": CORPORA}
    for title, registry in shown.items():
        if title:
            print(f"{title}:")
        for name in registry.names():
            print(f"{name:<22} {registry.summary(name)}")
    return 0


def _report(arguments: argparse.Namespace) -> int:
    from s3prl_metaperser.report.write import PAGE, open_evaluated_corpus, write_report

    corpus = open_evaluated_corpus(arguments.corpus, arguments.root)
    results, out = Path(arguments.results).expanduser(), Path(arguments.out).expanduser()
    written = write_report(results, out, corpus=corpus, protocol=arguments.protocol)
    print(f"{written.results} result files; {written.missing} of {written.rows} table rows have no result yet")
    print(f"{out / PAGE}: everything on one page; tables/ (Markdown, CSV, LaTeX) and figures/ (SVG, PNG) beside it")
    return 0


def _plan(arguments: argparse.Namespace) -> int:
    from s3prl_metaperser.upstream.memory_report import format_plan, plan_report

    given = {"shots": arguments.shots, "inner_steps": arguments.inner_steps}
    given |= {"seconds": arguments.seconds, "longest": arguments.longest}
    setting = {key: value for key, value in given.items() if value is not None}
    report = plan_report(arguments.upstream, [arguments.memory] if arguments.memory else None, **setting)
    print(json.dumps(report, indent=1) if arguments.json else format_plan(report))
    return 0


def _positive(kind: type) -> Callable[[str], float]:
    def parse(text: str) -> float:
        value = kind(text)
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text} is not positive")
        return value

    parse.__name__ = kind.__name__  # argparse: "invalid int value"
    return parse


if __name__ == "__main__":
    sys.exit(main())
