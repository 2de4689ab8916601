#!/usr/bin/env python
"""Meta-testing one fold: all episodes at once in closed form, and one after the other with the loop.

    OMP_NUM_THREADS=1 python benchmarks/speed/meta_test.py --json result.json
    OMP_NUM_THREADS=1 python benchmarks/speed/meta_test.py --layers 1 --features 80      # the demo's size
    python benchmarks/speed/meta_test.py --tiny                                          # seconds: does it run?

Ten episodes, K=32, Q=128, 50 steps with rates learned for S=5 (later steps reuse the last), from features in memory to
probabilities, through the code that evaluation and validation in training go through. The few-shot baselines, whose
optimiser takes all episodes together, are measured against themselves one episode at a time.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch
from timing import about, interleaved, medians, ratio

from s3prl_metaperser.config.options import Options
from s3prl_metaperser.evaluation.meta_testing import meta_test
from s3prl_metaperser.meta.model import PARAMETERS, Head
from s3prl_metaperser.meta.rates import InnerRates
from s3prl_metaperser.methods import SYSTEMS
from s3prl_metaperser.methods.base import EpisodeData, HeadLearner, ModelState, Support
from s3prl_metaperser.methods.tuning import overridden
from s3prl_metaperser.protocol.loader import LabelTable

SIZES = {"episodes": 10, "shots": 32, "queries": 128, "steps": 50, "layers": 13, "features": 768, "projector": 256}
CLASSES, INNER_STEPS = 9, 5


def fold(sizes: dict[str, int]) -> tuple[ModelState, list[EpisodeData]]:
    """A head with learned rates, and episodes of noise."""
    generator = torch.Generator().manual_seed(0)
    head = Head(sizes["layers"], sizes["features"], sizes["projector"], CLASSES, generator)
    rates = InnerRates(PARAMETERS, INNER_STEPS, 0.02, learned=True)

    def labels(count: int) -> LabelTable:
        targets = torch.softmax(torch.randn(count, CLASSES, generator=generator), -1).numpy()
        ticks = np.eye(CLASSES, dtype=np.int64)[targets.argmax(1)]
        return LabelTable(tuple(map(str, range(count))), np.arange(count), ticks, targets)

    episodes = []
    for seed in range(sizes["episodes"]):
        shape = sizes["layers"], sizes["features"]
        support, query = (torch.randn(n, *shape, generator=generator) for n in (sizes["shots"], sizes["queries"]))
        shown = Support(support, torch.from_numpy(labels(len(support)).targets), seed)
        episodes.append(EpisodeData(shown, query, labels(len(query))))
    return ModelState(HeadLearner(head), rates), episodes


def systems(steps: int) -> dict[str, Any]:
    """What is measured, by name; ``one by one`` goes through the same code with one episode at a time."""
    options, weights = overridden(Options(), {"evalrc.steps": steps}), torch.ones(CLASSES)
    meta = SYSTEMS.get("Meta-PerSER")
    loop = meta(overridden(options, {"metarc.engine": "loop"}), weights)
    loop.frozen_at_once = 1
    found = {"Meta-PerSER, closed form": meta(options, weights), "Meta-PerSER, loop, one by one": loop}
    for kind in map(SYSTEMS.get, ("Linear-Few", "Multi-Few")):
        alone = kind(options, weights)
        alone.frozen_at_once = 1
        found |= {f"{kind.name}, at once": kind(options, weights), f"{kind.name}, one by one": alone}
    return found


PAIRS = {
    "Meta-PerSER": ("Meta-PerSER, loop, one by one", "Meta-PerSER, closed form"),
    "Linear-Few": ("Linear-Few, one by one", "Linear-Few, at once"),
    "Multi-Few": ("Multi-Few, one by one", "Multi-Few, at once"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tiny", action="store_true", help="a problem of seconds, to try the script")
    for name, value in SIZES.items():
        parser.add_argument(f"--{name}", type=int, default=value, help="[%(default)s]")
    chosen = parser.parse_args()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    sizes = {name: getattr(chosen, name) for name in SIZES}
    if chosen.tiny:
        sizes |= {"features": 40, "layers": 2, "projector": 8, "shots": 4, "queries": 5, "steps": 3, "episodes": 3}
        chosen.rounds = 1
    (state, episodes), measured = fold(sizes), systems(sizes["steps"])
    seconds = interleaved(
        {name: lambda s=s: meta_test(s, state, episodes) for name, s in measured.items()}, chosen.rounds
    )
    probabilities = {
        name: np.concatenate([result.probabilities for result in meta_test(system, state, episodes)])
        for name, system in measured.items()
    }
    result = {
        **about(),
        "sizes": sizes,
        "rounds": chosen.rounds,
        "seconds": seconds,
        "times_as_fast": {name: round(ratio(seconds, *pair), 2) for name, pair in PAIRS.items()},
        "probabilities_apart": {
            name: float(np.abs(probabilities[one] - probabilities[other]).max()) for name, (one, other) in PAIRS.items()
        },
    }
    for name, value in medians(seconds).items():
        print(f"{name:<32}{1000 * value:>9.1f} ms")
    for name, factor in result["times_as_fast"].items():
        print(
            f"{name}: {factor:.1f} times as fast; probabilities at most {result['probabilities_apart'][name]:.1e} apart"
        )
    if chosen.json:
        chosen.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
