#!/usr/bin/env python
"""One outer step of second-order MAML with LSLR over the weighted-sum head: the closed form, the loop, and peers.

    OMP_NUM_THREADS=1 python benchmarks/speed/meta_step.py [--json FILE] [--growth]

All engines get the same tensors in one run, in interleaved rounds on one thread; medians are shown. The floor is S + 1
plain supervised passes (forward and backward) over the same samples in their fastest layout: what such a step contains.
The peer ``higher`` is measured where it is installed; the largest relative difference of gradients from the loop's, in
float64, stands beside each time.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from torch import Tensor, nn

from s3prl_metaperser.loss import soft_cross_entropy
from s3prl_metaperser.meta import closed_form
from s3prl_metaperser.meta.inner_loop import adapt, expand
from s3prl_metaperser.meta.rates import InnerRates
from s3prl_metaperser.model import PARAMETERS, Head, pooled_logits

SIZES = {"raters": 9, "shots": 32, "steps": 5, "layers": 13, "features": 768, "projector": 256, "classes": 9}


class Problem:
    """Parameters, rates, features [A, K, L, D] and weighted targets [A, K, C] of one outer step."""

    def __init__(self, sizes: dict[str, int], dtype: torch.dtype):
        generator = torch.Generator().manual_seed(0)
        self.sizes = sizes
        self.head = Head(sizes["layers"], sizes["features"], sizes["projector"], sizes["classes"], generator).to(dtype)
        self.rates = InnerRates(PARAMETERS, sizes["steps"], 0.02, learned=True).to(dtype)
        shape = sizes["raters"], sizes["shots"]
        self.features = torch.randn(*shape, sizes["layers"], sizes["features"], generator=generator).to(dtype)
        self.targets = torch.rand(*shape, sizes["classes"], generator=generator).to(dtype)
        self.major = closed_form.layer_major(self.features)
        flat = self.features.flatten(0, 1)
        self.flat = flat.transpose(0, 1).reshape(sizes["layers"], -1)  # [L, A * K * D]
        self.wanted = [*self.head.parameters(), self.rates.values]

    def parameters(self) -> dict[str, Tensor]:
        return dict(self.head.named_parameters())


def supervised_passes(problem: Problem, orders: list[bool]) -> None:
    """The floor: S + 1 passes with shared parameters, layers mixed by one matrix-vector product."""
    parameters, targets = problem.parameters(), problem.targets.flatten(0, 1)
    mixing, projector, bias, classifier, classifier_bias = (parameters[name] for name in PARAMETERS)
    for _ in range(len(orders) + 1):
        mixed = torch.mv(problem.flat.t(), torch.softmax(mixing, -1)).view(len(targets), -1)
        logits = torch.addmm(classifier_bias, torch.addmm(bias, mixed, projector.T), classifier.T)
        soft_cross_entropy(logits, targets).backward()


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


class _Module(nn.Module):
    """The head as a module whose every tensor is in use, as peers want it."""

    def __init__(self, head: Head):
        super().__init__()
        self.head = head

    def forward(self, features: Tensor) -> Tensor:
        return pooled_logits(dict(self.head.named_parameters()), features)


def with_higher(problem: Problem, orders: list[bool]) -> list[Tensor]:
    """``higher``: a differentiable SGD with a group, and so a rate, for each tensor."""
    import higher

    module, total = _Module(problem.head), torch.zeros((), dtype=problem.features.dtype)
    for rater in range(problem.sizes["raters"]):
        groups = [{"params": [p], "lr": 0.0} for p in module.parameters()]
        start = torch.optim.SGD(groups, lr=0.0)
        with higher.innerloop_ctx(module, start, copy_initial_weights=False) as (fast, optimizer):
            for step in range(len(orders)):
                loss = soft_cross_entropy(fast(problem.features[rater]), problem.targets[rater])
                row = problem.rates.values[step]
                optimizer.step(loss, override={"lr": [row[index] for index in range(len(PARAMETERS))]})
            total = total + soft_cross_entropy(fast(problem.features[rater]), problem.targets[rater])
    return list(torch.autograd.grad(total / problem.sizes["raters"], problem.wanted))


def engines() -> dict[str, Callable]:
    """Name -> engine; peers where they are installed."""
    found = {"floor": supervised_passes, "closed form": closed, "loop": loop}
    if importlib.util.find_spec("higher"):
        found["higher"] = with_higher
    return found


def measure(sizes: dict[str, int], rounds: int, chosen: dict[str, Callable]) -> dict[str, float]:
    """Engine -> median seconds, rounds interleaved; ``(first order)`` rows where an engine has one."""
    problem = Problem(sizes, torch.float32)
    runs = {name: (engine, [True] * sizes["steps"]) for name, engine in chosen.items()}
    for name in ("closed form", "loop"):
        if name in chosen:
            runs[f"{name} (first order)"] = (chosen[name], [False] * sizes["steps"])
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, (engine, orders) in runs.items():
            begun = time.perf_counter()
            engine(problem, orders)
            if number:  # the first round warms up
                times[name].append(time.perf_counter() - begun)
    return {name: statistics.median(values) for name, values in times.items()}


def agreement(sizes: dict[str, int], chosen: dict[str, Callable]) -> dict[str, float]:
    """Engine -> largest relative difference of a gradient from the loop's, float64, second order."""
    problem, orders = Problem(sizes, torch.float64), [True] * sizes["steps"]
    reference, found = loop(problem, orders), {}
    for name, engine in chosen.items():
        if name not in ("floor", "loop"):
            pairs = zip(engine(problem, orders), reference, strict=True)
            found[name] = max(((a - b).norm() / b.norm()).item() for a, b in pairs)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--growth", action="store_true", help="time against raters, shots and steps, three sizes each")
    parser.add_argument("--tiny", action="store_true", help="a problem of seconds, to try the script")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    sizes = {**SIZES, **({"features": 16, "layers": 3, "projector": 8} if chosen.tiny else {})}
    times, close = measure(sizes, chosen.rounds, engines()), agreement(sizes, engines())
    print(f"{'engine':<28}{'ms':>8}{'x floor':>9}   gradients differ from the loop's by")
    for name, seconds in times.items():
        apart = f"{close[name]:.1e}" if name in close else ""
        print(f"{name:<28}{1000 * seconds:>8.1f}{seconds / times['floor']:>9.2f}   {apart}")
    content = {"sizes": sizes, "seconds": times, "agreement": close, "torch": torch.__version__}
    content["python"], content["machine"] = platform.python_version(), platform.machine()
    if chosen.growth:
        content["growth"] = {}
        for axis, values in {"raters": (3, 9, 27), "shots": (8, 32, 128), "steps": (2, 5, 12)}.items():
            rows = {v: measure({**sizes, axis: v}, 5, {"closed form": closed})["closed form"] for v in values}
            content["growth"][axis] = rows
            print(f"{axis}: " + ", ".join(f"{value} {1000 * seconds:.1f} ms" for value, seconds in rows.items()))
    if chosen.json:
        chosen.json.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
