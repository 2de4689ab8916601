"""``metaperser score``: predictions of any system on frozen episodes, as results beside the benchmark's own."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from s3prl_metaperser.commands.common import names
from s3prl_metaperser.storage.paths import user_path

if TYPE_CHECKING:
    from collections.abc import Mapping

    from s3prl_metaperser.evaluation.statistics import Interval
    from s3prl_metaperser.exchange.score import Setting


def add_words(parser: argparse.ArgumentParser) -> None:
    """How answers in words are understood."""
    parser.add_argument("--language", type=names, metavar="A,B", help="of answers in words, such as en,de [all known]")
    parser.add_argument("--synonyms", metavar="FILE", help="further words for classes, a YAML file")


def add(commands) -> None:
    parser = commands.add_parser("score", help="score any system's predictions on frozen episodes")
    parser.add_argument(
        "predictions", metavar="PREDICTIONS", help="one JSON object a line: id, answer or probabilities"
    )
    parser.add_argument("--episodes", required=True, metavar="DIR", help="the folder that `metaperser episodes` wrote")
    parser.add_argument("--out", required=True, metavar="RESULTS", help="where result files go")
    parser.add_argument("--name", metavar="NAME", help="the system's name in tables [the file's]")
    parser.add_argument("--beside", metavar="DIR", help="results of the same episodes, beside whose systems it stands")
    add_words(parser)
    parser.add_argument(
        "--missing",
        choices=("error", "na"),
        default="error",
        help="prompts without a prediction: error, or na: no answer",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from s3prl_metaperser.exchange.folder import Folder
    from s3prl_metaperser.exchange.predictions import Predictions
    from s3prl_metaperser.exchange.score import SUMMARY, Given, score

    path, out = user_path(arguments.predictions), user_path(arguments.out)
    predictions = Predictions.read(path)
    given = Given(
        name=arguments.name or path.stem,
        beside=user_path(arguments.beside) if arguments.beside else None,
        languages=arguments.language,
        synonyms=user_path(arguments.synonyms) if arguments.synonyms else None,
        missing=arguments.missing,
    )
    scores = score(Folder.read(user_path(arguments.episodes)), predictions, out, given)
    if predictions.broken:
        print(f"{path}: the last line is broken off and was left out", file=sys.stderr)
    if predictions.repeated:
        print(f"{path}: {predictions.repeated} line(s) repeat what stands there already", file=sys.stderr)
    for setting in scores.settings:
        print("\n".join(setting_table(setting)))
    if scores.not_answered:
        print(f"without an answer, and not scored: {', '.join(scores.not_answered)}")
    files = sum(len(variant.files) for setting in scores.settings for variant in setting.variants)
    print(f"{files} result file(s) below {out}, all numbers in {out / SUMMARY}")
    return 0


def setting_table(setting: Setting) -> list[str]:
    """A setting's numbers as text."""
    lines = [setting.title]
    for variant in setting.variants:
        counts = {"without a prediction": variant.missing, "scaled to a sum of 1": variant.scaled}
        said = "".join(f", {count} {what}" for what, count in counts.items() if count)
        lines.append(f"{variant.name}: {variant.queries} queries{said}")
        found = variant.intervals()
        kind = next(iter(variant.scored.values()))[0].label_set.kind
        lines += metrics_text(found.metrics, kind) + rates_text(found.rates)
    if setting.gain.metrics:
        lines.append(f"gain of the labelled clips ({' minus '.join(each.name for each in setting.variants)})")
        lines += metrics_text(setting.gain.metrics, kind, "+")
    return lines + rates_text(setting.gain.rates, "+")


def metrics_text(found: Mapping[str, Interval], kind: str, sign: str = "") -> list[str]:
    """Metrics of a kind of labels with their intervals, a line each; of differences (``sign``) where less is better."""
    from s3prl_metaperser.evaluation.metrics import METRICS

    known = [(METRICS.get(name), span) for name, span in found.items()]
    return [
        f"  {metric.heading:<34} {metric.shown(span.mean, sign):>7}   "
        f"[{metric.shown(span.low, sign)}, {metric.shown(span.high, sign)}]{metric.less if sign else ''}"
        for metric, span in known
        if kind not in metric.further
    ]


def rates_text(found: Mapping[str, Interval], sign: str = "") -> list[str]:
    """Rates of answers in words in percent, a line each."""
    titles = {"exact": "exact answers (%)", "mention": "right by mention (%)", "not_applicable": "not applicable (%)"}
    return [
        f"  {titles[name]:<34} {100 * span.mean:{sign}7.1f}   [{100 * span.low:{sign}.1f}, {100 * span.high:{sign}.1f}]"
        for name, span in found.items()
    ]
