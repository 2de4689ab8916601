#!/usr/bin/env python
"""How many training raters does personalising need? The systems of crowd_raters.yaml by their number, as tables.

    python benchmarks/crowd_raters.py --results result/crowd_raters                 # three crowds; what is done stays
    python benchmarks/crowd_raters.py --results result/crowd_raters --tables-only
    python benchmarks/crowd_raters.py --counts 10 100 650 --seeds 0

In the first reading everything is learned from n raters, so that more raters are more ratings, too. In the second the
initialisation learns from all raters and outer steps from n of them, which tells what the number of raters is worth to
meta-learning. Test and validation raters and their episodes are the same throughout: all differences are paired.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from s3prl_metaperser.cli import main as metaperser
from s3prl_metaperser.evaluation.collect import group, load_results, result_files
from s3prl_metaperser.evaluation.metrics import METRICS
from s3prl_metaperser.evaluation.statistics import Interval, Scored, intervals, paired_intervals

GRID = Path(__file__).with_suffix(".yaml")
#: Reading -> the option that has the number of raters, and what is said of it.
READINGS = {
    "all": ("downstream_expert.datarc.pools.train", "everything learned from n raters"),
    "meta": ("downstream_expert.metarc.raters", "the initialisation from all raters, outer steps from n"),
}
#: Systems whose outer steps `metarc.raters` concerns, and the one that differences are to.
META, FEW = ("Meta-PerSER", "Meta-PerSER:all", "Meta-Rates"), "Linear-Few"
SHOWN = ("nats", "accuracy")
Tested = Mapping[str, Mapping[str, Sequence[Scored]]]  # system -> rater -> episodes


def folder_of(results: Path, seed: int, reading: str, count: int) -> Path:
    """Where the results of one point of the curve are."""
    return results / f"seed{seed}" / f"{reading}-n{count}"


def run(results: Path, seed: int, reading: str, count: int) -> int:
    """One point of the curve; the exit status."""
    sets = [f"downstream_expert.datarc.demo.seed={seed}", f"{READINGS[reading][0]}={count}"]
    command = ["run", str(GRID), "--results", str(folder_of(results, seed, reading, count))]
    command += [part for one in sets for part in ("--set", one)]
    return metaperser([*command, *(["--only", f"system={'|'.join(META)}"] if reading == "meta" else [])])


def tested(folder: Path) -> Tested:
    """The test episodes of each system of one point; nothing where it has not been run."""
    there = folder.is_dir() and result_files(folder)
    return {cell.system: raters for cell, raters in group(load_results(folder)).items()} if there else {}


def shown(metric: str, span: Interval, sign: str = "") -> str:
    """A mean with its interval, in the metric's unit."""
    mean, low, high = (METRICS.get(metric).shown(value, sign) for value in (span.mean, span.low, span.high))
    return f"{mean} [{low}, {high}]"


def tables(results: Path, seed: int, counts: Sequence[int]) -> None:
    """Means and differences to fine-tuning of one crowd, in Markdown."""
    points = {
        (reading, count): tested(folder_of(results, seed, reading, count)) for reading in READINGS for count in counts
    }
    everyone = max(counts)
    points["meta", everyone] = {name: own for name, own in points["all", everyone].items() if name in META}
    for reading, (_, what) in READINGS.items():
        names = list(dict.fromkeys(name for count in counts for name in points[reading, count]))
        for metric in SHOWN:
            print(f"\nCrowd {seed}, {METRICS.get(metric).title}: {what}\n")
            print(f"| system | {' | '.join(f'n={count}' for count in counts)} |\n|---|{'---|' * len(counts)}")
            for name in names:
                cells = [points[reading, count].get(name) for count in counts]
                print(f"| {name} | {' | '.join(shown(metric, intervals(c)[metric]) if c else '' for c in cells)} |")
            for name in (name for name in names if name in META):
                row = []
                for count in counts:
                    own = points[reading, count].get(name)
                    few = points["all", count if reading == "all" else everyone].get(FEW)
                    row.append(shown(metric, paired_intervals(own, few)[metric], "+") if own and few else "")
                print(f"| {name} minus {FEW} | {' | '.join(row)} |")


def main() -> int:
    """Run what is missing, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path("result/crowd_raters"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the crowd [0 1 2]")
    parser.add_argument("--counts", type=int, nargs="+", default=[10, 30, 100, 300, 650], help="n; the last: everybody")
    parser.add_argument("--tables-only", action="store_true")
    chosen = parser.parse_args()
    failed = 0
    for seed in chosen.seeds:
        if not chosen.tables_only:
            wanted = [("all", count) for count in chosen.counts]
            wanted += [("meta", count) for count in chosen.counts if count != max(chosen.counts)]
            failed += sum(run(chosen.results, seed, *point) != 0 for point in wanted)
        tables(chosen.results, seed, chosen.counts)
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
