"""``metaperser plan UPSTREAM``: memory of fine-tuning, and the micro-batch that fits."""

from __future__ import annotations

import argparse
import json

from s3prl_metaperser.commands.common import positive


def add(commands) -> None:
    parser = commands.add_parser("plan", help="memory of fine-tuning an upstream (-f), and the micro-batch that fits")
    parser.add_argument("upstream", metavar="UPSTREAM", help="a name in s3prl's hub: see `metaperser list upstreams`")
    parser.add_argument("--shots", type=positive(int), metavar="K", help="support utterances of a rater [32]")
    parser.add_argument("--inner-steps", type=positive(int), metavar="S", help="inner steps in meta-training [5]")
    parser.add_argument("--seconds", type=positive(float), help="mean length of an utterance [4.5]")
    parser.add_argument("--longest", type=positive(float), metavar="SECONDS", help="of the longest utterance [15]")
    parser.add_argument("--memory", type=positive(float), metavar="GB", help="of your device [16, 32 and 80]")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from s3prl_metaperser.upstream.memory_report import format_plan, plan_report

    given = {"shots": arguments.shots, "inner_steps": arguments.inner_steps}
    given |= {"seconds": arguments.seconds, "longest": arguments.longest}
    setting = {key: value for key, value in given.items() if value is not None}
    report = plan_report(arguments.upstream, [arguments.memory] if arguments.memory else None, **setting)
    print(json.dumps(report, indent=1) if arguments.json else format_plan(report))
    return 0
