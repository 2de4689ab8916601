#!/usr/bin/env python
"""Is the instrument right? Systems on demo corpora whose truth is known: every fold, paired differences.

    python benchmarks/calibration.py                     # identical, opposed and paper raters, seen scenario
    python benchmarks/calibration.py --raters opposed --scenario unseen --set metarc.inner_lr=0.02

With identical raters personalisation must gain nothing; with opposed ones it must gain a lot on the raters whose tables
are permuted; with the paper's raters the table shows where Meta-PerSER stands against Linear-Few and the ceilings.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from s3prl_metaperser.s3prl_stack import compat

compat.apply()

import numpy as np
import torch
import yaml

from s3prl_metaperser.config.options import Options
from s3prl_metaperser.corpora import open_corpus
from s3prl_metaperser.evaluation.meta_testing import meta_test
from s3prl_metaperser.evaluation.metrics import metrics_for
from s3prl_metaperser.evaluation.statistics import Scored, intervals, mean_scores, paired_intervals
from s3prl_metaperser.methods import SYSTEMS
from s3prl_metaperser.run.outer_loop import fit
from s3prl_metaperser.run.workspace import Workspace
from s3prl_metaperser.s3prl_stack.hub import build_upstream, checkpoint_hash
from s3prl_metaperser.storage.resources import downstream_folder
from s3prl_metaperser.tasks import DEFAULT_TASK
from s3prl_metaperser.upstream.store import FeatureIdentity

UPSTREAM = "fbank_no_cmvn"
SHOWN = ("Random", "Linear-Zero", "Linear-Few", "Meta-PerSER")


def options_for(raters: str, scenario: str, fold: str, changes: list[str]) -> Options:
    """The shipped configuration with this cell's choices and ``--set`` applied."""
    config = yaml.safe_load((downstream_folder(DEFAULT_TASK) / "config.yaml").read_text())
    expert = config["downstream_expert"]
    expert["datarc"].update(scenario=scenario, fold=fold)
    expert["datarc"]["demo"]["raters"] = raters
    for change in changes:
        path, value = change.split("=", 1)
        section, key = path.split(".")
        owner = config if section in ("runner", "optimizer") else expert
        owner[section][key] = yaml.safe_load(value)
    return Options.from_config(config)


def run(raters: str, scenario: str, systems: list[str], changes: list[str], seed: int):
    """System -> rater -> episodes, over all folds, and the selected steps."""
    scored: dict[str, dict[str, list[Scored]]] = {name: {} for name in systems}
    steps: dict[str, list[int]] = {name: [] for name in systems}
    corpus = open_corpus(options_for(raters, scenario, "fold1", changes).downstream_expert.datarc)
    identity = FeatureIdentity(UPSTREAM, checkpoint_hash(UPSTREAM))
    for fold in ("fold1", "fold2", "fold3", "fold4", "fold5"):
        options = options_for(raters, scenario, fold, changes)
        workspace = Workspace(options, corpus)
        prepared = workspace.prepare(workspace.features(identity, lambda: build_upstream(UPSTREAM)), learned=False)
        task = workspace.task(prepared, identity, seed)
        episodes = workspace.episode_data(workspace.episodes("test"), prepared, "test")
        for name in systems:
            system = SYSTEMS.get(name)(options, task.class_weights)
            state, step = fit(system, task)
            results = meta_test(system, state, episodes)
            scored[name][workspace.split.test_raters[0]] = [
                Scored(r.query, r.probabilities, r.ticks, corpus.label_set) for r in results
            ]
            steps[name].append(step)
    return scored, steps, corpus


def report(raters: str, scenario: str, scored, steps, corpus) -> None:
    card = json.loads((corpus.root / "demo.json").read_text())
    print(f"\n## {raters} raters, {scenario}, all folds, macro-F1 by rater; mean with 95 % interval")
    names = list(next(iter(scored.values())))
    print(f"{'system':<14}" + "".join(f"{n:>8}" for n in names) + f"{'macro-F1':>24}{'micro-F1':>10}{'UA':>7}  steps")
    for system, per_rater in scored.items():
        row = [100 * mean_scores({n: per_rater[n]})["macro_f1"] for n in names]
        spans, means = intervals(per_rater, 2000), mean_scores(per_rater)
        span = spans["macro_f1"]
        interval = f"{100 * span.mean:.1f} [{100 * span.low:.1f}, {100 * span.high:.1f}]"
        others = f"{100 * means['micro_f1']:>10.1f}{100 * means['unweighted_accuracy']:>7.1f}"
        print(f"{system:<14}" + "".join(f"{v:>8.1f}" for v in row) + f"{interval:>24}{others}  {steps[system]}")
    for kind in ("consensus", "own"):
        row = [100 * card["ceilings"]["raters"][n][kind]["macro_f1"] for n in names]
        print(f"{'ceiling ' + kind:<14}"[:14] + "".join(f"{v:>8.1f}" for v in row) + f"{np.mean(row):>12.1f}")
    permuted = [n for n in names if n in card.get("permuted", [])]
    groups = {"all raters": names, **({"permuted raters": permuted} if permuted else {})}
    for title, group in groups.items():
        for one, other in (
            ("Linear-Few", "Linear-Zero"),
            ("Meta-PerSER", "Linear-Zero"),
            ("Meta-PerSER", "Linear-Few"),
        ):
            if one in scored and other in scored:
                spans = paired_intervals({n: scored[one][n] for n in group}, {n: scored[other][n] for n in group}, 2000)
                shown = ", ".join(
                    f"{m.title} {m.shown(spans[m.name].mean, '+')} "
                    f"[{m.shown(spans[m.name].low, '+')}, {m.shown(spans[m.name].high, '+')}]"
                    for m in metrics_for(corpus.label_set)
                )
                print(f"{title}: {one} - {other}: {shown}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--raters", nargs="+", default=["identical", "opposed", "paper"])
    parser.add_argument("--scenario", nargs="+", default=["seen"])
    parser.add_argument("--systems", nargs="+", default=list(SHOWN))
    parser.add_argument("--set", nargs="+", default=[], metavar="SECTION.KEY=VALUE", help="change options")
    parser.add_argument("--seed", type=int, default=1337)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    for raters in chosen.raters:
        for scenario in chosen.scenario:
            begun = time.perf_counter()
            scored, steps, corpus = run(raters, scenario, chosen.systems, chosen.set, chosen.seed)
            report(raters, scenario, scored, steps, corpus)
            print(f"({time.perf_counter() - begun:.0f} s; F1 and UA in points)", flush=True)


if __name__ == "__main__":
    main()
