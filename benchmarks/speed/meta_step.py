#!/usr/bin/env python
"""One outer step of second-order MAML with LSLR over the weighted-sum head: the closed form, the loop, and peers.

    OMP_NUM_THREADS=1 python benchmarks/speed/meta_step.py --growth --json result.json
    OMP_NUM_THREADS=1 python benchmarks/speed/meta_step.py --layers 1 --features 80      # the demo's size
    python benchmarks/speed/meta_step.py --tiny --growth                                 # seconds: does it run?

All engines get the same tensors in one run, in interleaved rounds (those that build no graph first); medians of
processor time are shown. The floor is S + 1 plain supervised passes (forward and backward) over the same samples in
their fastest layout: what such a step contains. The largest relative difference of an engine's gradients from the
loop's, in float64, stands beside its time.
``higher``, ``torchopt`` and ``learn2learn`` are measured where they are installed.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from peers import PEERS, installed
from timing import about, interleaved, medians, ratio
from torch import Tensor

from s3prl_metaperser.meta import closed_form
from s3prl_metaperser.meta.inner_loop import adapt, expand
from s3prl_metaperser.meta.model import PARAMETERS, Head, pooled_logits
from s3prl_metaperser.meta.rates import InnerRates
from s3prl_metaperser.protocol.loss import soft_cross_entropy

SIZES = {"raters": 9, "shots": 32, "steps": 5, "layers": 13, "features": 768, "projector": 256, "classes": 9}
#: The C library hands out memory otherwise for good once an unrolled graph was freed (closed form, first order, at the
#: demo's size: twice the time), so that what builds none is measured before, each group beside its own floor.
FLOOR_AGAIN = "floor, after graphs"
GROWTH = {"raters": (3, 9, 27), "shots": (8, 32, 128), "steps": (2, 5, 12)}
Engine = Callable[["Problem", list[bool]], list[Tensor]]


class Problem:
    """Parameters, rates, features [A, K, L, D] and weighted targets [A, K, C] of one outer step."""

    def __init__(self, sizes: dict[str, int], dtype: torch.dtype = torch.float32):
        generator = torch.Generator().manual_seed(0)
        self.sizes = sizes
        self.head = Head(sizes["layers"], sizes["features"], sizes["projector"], sizes["classes"], generator).to(dtype)
        self.rates = InnerRates(PARAMETERS, sizes["steps"], 0.02, learned=True).to(dtype)
        shape = sizes["raters"], sizes["shots"]
        self.features = torch.randn(*shape, sizes["layers"], sizes["features"], generator=generator).to(dtype)
        self.targets = torch.rand(*shape, sizes["classes"], generator=generator).to(dtype)
        self.major = closed_form.layer_major(self.features)
        self.flat = self.features.flatten(0, 1).transpose(0, 1).flatten(1)  # [L, A * K * D]
        self.wanted = [*self.head.parameters(), self.rates.values]

    def parameters(self) -> dict[str, Tensor]:
        """By name."""
        return dict(self.head.named_parameters())


def supervised_passes(problem: Problem, orders: list[bool]) -> list[Tensor]:
    """The floor: S + 1 passes with shared parameters. Of five layouts this one, layers first, is the fastest."""
    tensors, targets = list(problem.head.parameters()), problem.targets.flatten(0, 1)
    mixing, projector, bias, classifier, classifier_bias = tensors
    for _ in range(len(orders) + 1):
        mixed = (torch.softmax(mixing, -1)[None] @ problem.flat).view(len(targets), -1)
        logits = torch.addmm(classifier_bias, torch.addmm(bias, mixed, projector.T), classifier.T)
        gradients = torch.autograd.grad(soft_cross_entropy(logits, targets), tensors)
    return list(gradients)


def loop(problem: Problem, orders: list[bool]) -> list[Tensor]:
    """The project's reference."""

    def loss(parameters) -> Tensor:
        return soft_cross_entropy(pooled_logits(parameters, problem.features), problem.targets)

    adapted = adapt(loss, expand(problem.parameters(), problem.sizes["raters"]), problem.rates.at, orders)
    return list(torch.autograd.grad(loss(adapted).mean(), problem.wanted))


def closed(problem: Problem, orders: list[bool]) -> list[Tensor]:
    """The project's engine."""
    loss = closed_form.outer_loss(problem.parameters(), problem.rates, problem.major, problem.targets, orders)
    return list(torch.autograd.grad(loss, problem.wanted))


def runs_of(problem: Problem, engines: dict[str, Engine]) -> dict[str, Callable[[], Any]]:
    """What is measured: each engine to second order, and our own to first order, too."""
    steps = problem.sizes["steps"]
    runs = {name: (lambda e=engine: e(problem, [True] * steps)) for name, engine in engines.items()}
    for name in ("closed form", "loop"):
        if name in engines:
            runs[f"{name}, first order"] = lambda e=engines[name]: e(problem, [False] * steps)
    return runs


def agreement(sizes: dict[str, int], engines: dict[str, Engine]) -> dict[str, float]:
    """Engine -> largest relative difference of a gradient from the loop's, float64."""
    problem, found = Problem(sizes, torch.float64), {}
    for order in (True, False):
        orders = [order] * sizes["steps"]
        reference = loop(problem, orders)
        for name, engine in engines.items():
            if name in ("floor", "loop") or (not order and name != "closed form"):
                continue
            pairs = zip(engine(problem, orders), reference, strict=True)
            key = name if order else f"{name}, first order"
            found[key] = max(((a - b).norm() / b.norm().clamp_min(1e-300)).item() for a, b in pairs)
    return found


def growth(sizes: dict[str, int], rounds: int) -> dict[str, dict[str, Any]]:
    """Axis -> processor seconds at three sizes (interleaved), and the exponent from the smallest to the largest."""
    found = {}
    for axis, values in GROWTH.items():
        runs = {}
        for value in values:
            problem = Problem({**sizes, axis: value})
            runs[str(value)] = lambda p=problem: closed(p, [True] * p.sizes["steps"])
        seconds = medians(interleaved(runs, rounds))
        first, last = values[0], values[-1]
        exponent = math.log(seconds[str(last)] / seconds[str(first)]) / math.log(last / first)
        found[axis] = {"seconds": seconds, "exponent": round(exponent, 3)}
    return found


def show(result: dict[str, Any]) -> None:
    """Times, agreement and growth as text."""
    print(f"{'engine':<28}{'ms':>8}{'x floor':>9}   gradients differ from the loop's by")
    for name, seconds in medians(result["seconds"]).items():
        apart = f"{result['relative_error'][name]:.1e}" if name in result["relative_error"] else ""
        print(f"{name:<28}{1000 * seconds:>8.1f}{result['to_floor'][name]:>9.2f}   {apart}")
    for axis, rows in result.get("growth", {}).items():
        shown = ", ".join(f"{value}: {1000 * seconds:.1f} ms" for value, seconds in rows["seconds"].items())
        print(f"growth with {axis}: {shown}; exponent {rows['exponent']:.2f} (1 is linear)")
    for name in result["not_installed"]:
        print(f"{name}: not installed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--growth", action="store_true", help="time against raters, shots and steps, three sizes each")
    parser.add_argument("--tiny", action="store_true", help="a problem of seconds, to try the script")
    for name, value in SIZES.items():
        parser.add_argument(f"--{name}", type=int, default=value, help="[%(default)s]")
    chosen = parser.parse_args()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    sizes = {name: getattr(chosen, name) for name in SIZES}
    if chosen.tiny:
        sizes |= {"features": 16, "layers": 3, "projector": 8}
        chosen.rounds = 1
    peers = installed()
    engines = {"floor": supervised_passes, "closed form": closed, "loop": loop, **peers}
    runs = runs_of(Problem(sizes), engines)
    before = {name: run for name, run in runs.items() if name.startswith(("floor", "closed form"))}
    after = {FLOOR_AGAIN: runs["floor"], **{name: run for name, run in runs.items() if name not in before}}
    seconds = {**interleaved(before, chosen.rounds), **interleaved(after, chosen.rounds)}
    result = {
        **about(),
        "sizes": sizes,
        "rounds": chosen.rounds,
        "not_installed": [name for name in PEERS if name not in peers],
        "seconds": seconds,
        "to_floor": {
            name: round(ratio(seconds, name, "floor" if name in before else FLOOR_AGAIN), 3) for name in seconds
        },
        "relative_error": agreement(sizes, engines),
    }
    if chosen.growth:
        result["growth"] = growth(sizes, max(1, chosen.rounds // 2))
    show(result)
    if chosen.json:
        chosen.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
