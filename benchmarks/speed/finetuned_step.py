#!/usr/bin/env python
"""One outer step of the fine-tuned upstream: exact adjoint, unrolled graph and `higher`, memory and time side by side.

    OMP_NUM_THREADS=1 python benchmarks/speed/finetuned_step.py --json result.json          # about 25 minutes, 6 GB
    python benchmarks/speed/finetuned_step.py --upstream wavlm --growth
    python benchmarks/speed/finetuned_step.py --tiny                                         # seconds: does it run?
    python benchmarks/speed/finetuned_step.py --device cuda --shots 32 --seconds 4.5 --inner-steps 1 2 5 \
        --micro-batch-seconds 20 --precision bf16

Random weights in the published Base models' shape; no audio and no download is needed. Memory is measured once for each
case in a process of its own, above the loaded model; times in one process in interleaved rounds, of which the median
counts (on a CPU: processor time for each thread); gradients are compared with the unrolled graph's. For `higher` beside
them: `pip install higher`.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import subject
import torch
from engines import ENGINES, Gradient, available, difference

OUT_OF_MEMORY = "out of memory"


# ------------------------------------------------------------------ what runs in a process of its own


def prepared(setting: dict[str, Any], shots: int) -> tuple[Any, list]:
    """The model and its losses, each called once, so that first-call caches are filled."""
    available(list(ENGINES))
    options = {"bf16": setting["precision"] == "bf16"}
    model = subject.finetuned_model(setting["upstream"], setting["size"], setting["device"], **options)
    losses = subject.losses_for(model, shots, setting["seconds"], setting["micro_batch_seconds"])
    with torch.no_grad():
        for loss in losses:
            loss(model.named_adapted(), 0)
    return model, losses


def memory_of(setting: dict[str, Any], engine: str, inner_steps: int, shots: int) -> dict[str, Any]:
    """Peak bytes of one outer step above the loaded model."""
    model, losses = prepared(setting, shots)
    rates = subject.rates_for(model, inner_steps)
    case = {"engine": engine, "inner_steps": inner_steps, "shots": shots, "micro_batches": len(losses)}
    try:
        with subject.peak_memory(subject.device_of(model)) as peak:
            ENGINES[engine](model, losses, rates)
    except torch.cuda.OutOfMemoryError:
        return {**case, "peak_bytes": None, "error": OUT_OF_MEMORY}
    return {**case, "peak_bytes": peak.bytes}


def times_of(setting: dict[str, Any], cases: list[list[Any]], shots: int, rounds: int) -> dict[str, Any]:
    """Seconds of each (engine, inner steps), rounds interleaved, and how far its gradient is from the oracle's."""
    model, losses = prepared(setting, shots)
    device = subject.device_of(model)
    seconds: dict[str, list[float]] = {f"{engine} {steps}": [] for engine, steps in cases}
    oracle: dict[int, Gradient] = {}
    errors: dict[str, float] = {}
    for turn in range(rounds):
        for engine, steps in sorted(cases, key=lambda case: (case[1], case[0] != "unrolled")):
            rates = subject.rates_for(model, steps)
            gc.collect()
            begun = _now(device)
            gradient = ENGINES[engine](model, losses, rates)
            seconds[f"{engine} {steps}"].append(_now(device) - begun)
            if turn == 0 and engine == "unrolled":
                oracle[steps] = gradient
            elif turn == 0 and steps in oracle:
                errors[f"{engine} {steps}"] = difference(gradient, oracle[steps])
            del gradient
        oracle.clear()
    return {
        "seconds": seconds,
        "relative_error": errors,
        "parameters": sum(p.numel() for p in model.named_adapted().values()),
        "machine": subject.machine(device),
    }


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.process_time() / torch.get_num_threads()  # other people's load on the machine does not count


def in_own_process(job: dict[str, Any], environment: dict[str, str]) -> dict[str, Any]:
    """Run one job (the arguments of one function above) in a fresh interpreter."""
    command = [sys.executable, "-W", "ignore", __file__, "--job", json.dumps(job)]
    done = subprocess.run(command, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{job} ended with status {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


# ------------------------------------------------------------------ the whole, and how it is shown


def measure(chosen: argparse.Namespace) -> dict[str, Any]:
    """Everything that was asked for, as one object (``results/README.md`` says what the keys mean)."""
    setting = {
        **{key: getattr(chosen, key) for key in ("upstream", "device", "precision", "seconds")},
        "size": "tiny" if chosen.tiny else "base",
        "micro_batch_seconds": chosen.micro_batch_seconds or chosen.shots * chosen.seconds,
    }
    names = available(chosen.engines)
    memory = []
    cases = [(engine, steps, chosen.shots) for steps in chosen.inner_steps for engine in names]
    growing = [("adjoint", chosen.inner_steps[0], shots) for shots in chosen.growth if shots != chosen.shots]
    for engine, steps, shots in cases + growing:
        job = {"what": "memory", "setting": setting, "engine": engine, "inner_steps": steps, "shots": shots}
        memory.append(in_own_process(job, subject.MEMORY_ENVIRONMENT if chosen.device == "cpu" else {}))
        print(show_memory(memory[-1]), flush=True)
    fits = [[case["engine"], case["inner_steps"]] for case in memory[: len(cases)] if case["peak_bytes"] is not None]
    job = {"what": "times", "setting": setting, "cases": fits, "shots": chosen.shots, "rounds": chosen.rounds}
    times = in_own_process(job, {})
    result = {
        "date": datetime.date.today().isoformat(),
        "setting": {**setting, "shots": chosen.shots, "rounds": chosen.rounds},
        "machine": times.pop("machine"),
        "parameters": times.pop("parameters"),
        "higher": "measured" if "higher" in names else "not installed or not asked for",
        "memory": memory,
        **times,
    }
    result["ratios"] = ratios(result, chosen.inner_steps)
    return result


def ratios(result: dict[str, Any], inner_steps: list[int]) -> dict[str, float]:
    """The claims in one number each: memory of more inner steps, time and memory against the other engines."""
    shots, first = result["setting"]["shots"], inner_steps[0]
    bytes_of = {(c["engine"], c["inner_steps"], c["shots"]): c["peak_bytes"] for c in result["memory"]}
    seconds = {key: statistics.median(values) for key, values in result["seconds"].items()}
    found: dict[str, float | None] = {}
    for (engine, steps, k), used in bytes_of.items():
        reference = bytes_of.get((engine, first, shots))
        if used and reference and (steps, k) != (first, shots):
            what = f"S={steps} to S={first}" if k == shots else f"K={k} to K={shots}"
            found[f"memory, {engine}, {what}"] = used / reference
        ours = bytes_of.get(("adjoint", steps, k))
        if used and ours and engine != "adjoint":
            found[f"memory, {engine} to adjoint, S={steps}"] = used / ours
    for key, value in seconds.items():
        engine, steps = key.split()
        if engine != "adjoint" and f"adjoint {steps}" in seconds:
            found[f"time, adjoint to {engine}, S={steps}"] = seconds[f"adjoint {steps}"] / value
    return {key: round(value, 3) for key, value in found.items()}


def show_memory(case: dict[str, Any]) -> str:
    """One case's memory in a line."""
    used = case.get("error") or f"{case['peak_bytes'] / 1e6:8.0f} MB"
    kind = f"{case['engine']:<11} S={case['inner_steps']} K={case['shots']:<3} {case['micro_batches']} micro-batches"
    return f"peak above the loaded model  {kind}  {used}"


def show(result: dict[str, Any]) -> None:
    """Times, agreement and ratios as text."""
    for key, values in result["seconds"].items():
        engine, steps = key.split()
        error = result["relative_error"].get(key)
        apart = "" if error is None else f"   gradient {error:.1e} from the unrolled graph's"
        spread = f"({min(values):.2f} to {max(values):.2f})"
        print(f"seconds of an outer step     {engine:<11} S={steps} {statistics.median(values):8.2f} {spread}{apart}")
    for key, value in result["ratios"].items():
        print(f"ratio   {key:<45} {value:.3f}")
    if result["higher"] != "measured":
        print(f"`higher`: {result['higher']}")


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    options.add_argument("--upstream", choices=subject.KINDS, default="wav2vec2")
    options.add_argument("--device", default="cpu", help="cpu or cuda")
    options.add_argument("--precision", choices=["fp32", "bf16"], default="fp32", help="bf16 is autocast, CUDA only")
    options.add_argument("--shots", type=int, default=4, metavar="K")
    options.add_argument("--seconds", type=float, default=2.0, help="length of each utterance")
    options.add_argument("--inner-steps", type=int, nargs="+", default=[1, 2], metavar="S")
    options.add_argument(
        "--micro-batch-seconds", type=float, help="padded audio per micro-batch; all K utterances in one by default"
    )
    options.add_argument("--growth", type=int, nargs="*", default=[8, 16], metavar="K", help="more K, same micro-batch")
    options.add_argument("--engines", nargs="+", choices=list(ENGINES), default=list(ENGINES))
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--tiny", action="store_true", help="a tiny upstream: only to see that this script runs")
    options.add_argument("--json", type=Path, metavar="FILE")
    options.add_argument("--job", type=json.loads, help=argparse.SUPPRESS)
    return options


def main() -> None:
    chosen = parser().parse_args()
    if chosen.device == "cpu":
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 1)))
    if chosen.job:
        run = {"memory": memory_of, "times": times_of}[chosen.job.pop("what")]
        print(json.dumps(run(**chosen.job)))
        return
    result = measure(chosen)
    show(result)
    if chosen.json:
        chosen.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
