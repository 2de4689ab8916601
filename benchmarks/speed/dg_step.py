#!/usr/bin/env python
"""One step of MLDG and DA-MLDG through ResNet18, beside plain passes over the same samples.

    OMP_NUM_THREADS=1 python benchmarks/speed/dg_step.py --json result.json     # minutes, 4 GB
    python benchmarks/speed/dg_step.py --tiny                                   # seconds: does it run?

A batch has four domains, of which one is the meta-test set V, of two-second log-mel frames [198, 64]; weights are
random, batch normalisation is in training mode. All steps take their turns in interleaved rounds; processor time is
shown, as a multiple of two plain passes (forward and backward) over the batch, and over the meta-train set S' alone.

Memory is the resident set's peak within one step above the model, each step in a process of its own (see the README of
``results``).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from timing import about, interleaved, medians, ratio

from s3prl_metaperser.generalise.meta_step import Margin, Problem, Samples, outer_gradient, unrolled_gradient
from s3prl_metaperser.generalise.resnet18 import ResNet18

SIZES = {"domains": 4, "per_domain": 8, "frames": 198, "bands": 64, "channels": 64, "classes": 5}
FLOOR, TRAIN_FLOOR = "two plain passes", "two plain passes over S'"


def problem(sizes: dict[str, int], margin: Margin | None = None, dtype: torch.dtype = torch.float32) -> Problem:
    """The last domain is V."""
    generator = torch.Generator().manual_seed(0)
    network = ResNet18(1, sizes["classes"], generator, channels=sizes["channels"]).to(dtype).train()
    sets = []
    for domains in (sizes["domains"] - 1, 1):
        size = domains * sizes["per_domain"]
        inputs = torch.randn(size, 1, sizes["frames"], sizes["bands"], generator=generator).to(dtype)
        labels = torch.randint(sizes["classes"], (size,), generator=generator)
        sets.append(Samples(inputs, labels, torch.full((size,), 1 / size)))
    return Problem(network, *sets, 0.01, margin)


def plain(case: Problem, *parts: Samples) -> None:
    """Two passes over these samples as one batch, each as an ordinary training step has it."""
    inputs = torch.cat([part.inputs for part in parts if isinstance(part.inputs, torch.Tensor)])
    labels = torch.cat([part.labels for part in parts])
    for _ in range(2):
        case.network.zero_grad()
        torch.nn.functional.cross_entropy(case.network(inputs), labels).backward()


def steps_of(sizes: dict[str, int]) -> dict[str, Callable[[], Any]]:
    """What is measured, by name."""
    mldg, detached, attached = (problem(sizes, margin) for margin in (None, Margin(), Margin(attached=True)))
    return {
        FLOOR: lambda: plain(mldg, mldg.train, mldg.test),
        TRAIN_FLOOR: lambda: plain(mldg, mldg.train),
        "MLDG": lambda: outer_gradient(mldg),
        "DA-MLDG": lambda: outer_gradient(detached),
        "DA-MLDG, attached": lambda: outer_gradient(attached),
        "MLDG, first order": lambda: outer_gradient(mldg, second_order=False),
        "MLDG, unrolled graph": lambda: unrolled_gradient(mldg),
        "DA-MLDG, unrolled graph": lambda: unrolled_gradient(detached),
    }


def agreement(sizes: dict[str, int]) -> dict[str, float]:
    """Step -> relative distance of its gradient from the unrolled graph's, float64 and a tenth of the frames."""
    small, found = {**sizes, "frames": max(8, sizes["frames"] // 10), "channels": max(2, sizes["channels"] // 8)}, {}
    for name, margin in (("MLDG", None), ("DA-MLDG", Margin()), ("DA-MLDG, attached", Margin(attached=True))):
        case = problem(small, margin, torch.float64)
        one, other = (
            torch.cat([value.flatten() for value in engine(case).gradient.values()])
            for engine in (outer_gradient, unrolled_gradient)
        )
        found[name] = ((one - other).norm() / other.norm()).item()
    return found


def memory(sizes: dict[str, int], names: list[str]) -> dict[str, int]:
    """Step -> peak bytes above the model, measured in a process for each."""
    from subject import MEMORY_ENVIRONMENT  # imports s3prl, which times alone do not need

    found = {}
    for name in names:
        command = [sys.executable, "-W", "ignore", __file__, "--step", name]
        command += [text for key, value in sizes.items() for text in (f"--{key}", str(value))]
        done = subprocess.run(command, env={**os.environ, **MEMORY_ENVIRONMENT}, stdout=-1, text=True, check=True)
        found[name] = int(done.stdout.splitlines()[-1])
    return found


def peak_of(sizes: dict[str, int], name: str) -> int:
    """Bytes of one step after a first one has warmed up."""
    from subject import peak_memory

    step = steps_of(sizes)[name]
    step()
    with peak_memory(torch.device("cpu")) as peak:
        step()
    return peak.bytes


def show(result: dict[str, Any]) -> None:
    """Times and memory as text."""
    print(f"{'step':<28}{'ms':>8}{'x batch':>9}{'x S_':>8}{'MB':>8}   gradient off the unrolled graph's by")
    for name, seconds in medians(result["seconds"]).items():
        apart = f"{result['relative_error'][name]:.1e}" if name in result["relative_error"] else ""
        times = f"{result['to_batch'][name]:>9.2f}{result['to_train'][name]:>8.2f}"
        bytes_ = result["memory"].get(name)
        print(f"{name:<28}{1000 * seconds:>8.0f}{times}{bytes_ / 1e6 if bytes_ else 0:>8.0f}   {apart}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tiny", action="store_true", help="a problem of seconds, to try the script")
    parser.add_argument("--no-memory", action="store_true", help="times alone")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    for name, value in SIZES.items():
        parser.add_argument(f"--{name}", type=int, default=value, help="[%(default)s]")
    chosen = parser.parse_args()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    sizes = {name: getattr(chosen, name) for name in SIZES}
    if chosen.tiny:
        sizes |= {"per_domain": 2, "frames": 30, "channels": 4}
        chosen.rounds = 1
    if chosen.step:
        print(peak_of(sizes, chosen.step))
        return
    steps = steps_of(sizes)
    seconds = interleaved(steps, chosen.rounds)
    result = {
        **about(),
        "sizes": sizes,
        "rounds": chosen.rounds,
        "seconds": seconds,
        "to_batch": {name: round(ratio(seconds, name, FLOOR), 3) for name in seconds},
        "to_train": {name: round(ratio(seconds, name, TRAIN_FLOOR), 3) for name in seconds},
        "memory": {} if chosen.no_memory else memory(sizes, list(steps)),
        "relative_error": agreement(sizes),
    }
    show(result)
    if chosen.json:
        chosen.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
