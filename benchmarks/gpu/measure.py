"""Parts of ``run.sh``: correctness, memory, time, features, the paper's step; each in a process of its own.

A part that fails, runs out of memory or out of time is written down as such and the next one begins; the result is
replaced after every part, so that whatever stops the whole leaves all parts that were done.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parent)]

import others
import torch
from encoder import Encoder, batch_of, loss, loss64
from others import Gradient

from s3prl_metaperser import meta
from s3prl_metaperser.meta.adjoint import kept_bytes
from s3prl_metaperser.upstream.peak_memory import MEMORY_ENVIRONMENT, peak_memory

RATE = 1e-3
#: What torch says on a GPU, and on a CPU; a process that the system has killed says nothing.
OUT_OF_MEMORY = ("OutOfMemoryError", "not enough memory", "can't allocate memory", "MemoryError")
Engine = Callable[[Encoder, Any, Any], Gradient]


# ------------------------------------------------------------------ engines: model, batch, rates -> gradient by name


def _ours(**options: Any) -> Engine:
    return lambda model, batch, rates: others.adjoint(model, batch, None, loss, rates, **options)


def _theirs(engine: Any) -> Engine:
    return lambda model, batch, rates: engine(model, batch, batch, loss, rates)


def _checkpointed(model: Encoder, batch: Any, rates: Any) -> Gradient:
    with model.checkpointing():
        return others.unrolled(model, batch, batch, loss, rates)


ENGINES: dict[str, Engine] = {
    "adjoint": _ours(),
    "adjoint, two graphs kept": _ours(keep_graphs=2),
    "adjoint, micro-batches of 2": _ours(micro_batch=2),
    "adjoint, micro-batches of 4": _ours(micro_batch=4),
    "adjoint, micro-batches of 8": _ours(micro_batch=8),
    "adjoint, micro-batches of 4, path on the CPU": _ours(micro_batch=4, keep="cpu"),
    "unrolled": _theirs(others.unrolled),
    "unrolled, checkpointed": _checkpointed,
    **{name: _theirs(engine) for name, engine in others.PEERS.items()},
}
adjoint = ENGINES["adjoint"]
OWN = [name for name in ENGINES if name not in others.PEERS]


# ------------------------------------------------------------------ parts


def correctness(device: str, size: str, **_: Any) -> dict[str, Any]:
    """Outer gradient against finite differences in float64, the CPU's float32, and bfloat16's error."""
    torch.backends.cudnn.allow_tf32 = False  # cuDNN's convolutions round float32 otherwise, which a CPU does not
    model = Encoder("tiny").to(device)
    batch = batch_of(model, 3, 0.4)
    checked = meta.check(model, loss64, batch, rate=0.05, show=False)
    rates = meta.learned_rates(model, 2, 0.05)
    here = adjoint(model, batch, rates)
    there = adjoint(Encoder("tiny"), tuple(part.cpu() for part in batch), meta.learned_rates(Encoder("tiny"), 2, 0.05))
    textbook = ENGINES["unrolled"](model, batch, rates)
    with autocast(device, "bf16"):
        half = adjoint(model, batch, rates)
    return {
        "finite differences, float64, worst tensor": checked.worst,
        "against the CPU, float32": difference(here, {name: value.to(device) for name, value in there.items()}),
        "against the unrolled graph, float32": difference(here, textbook),
        "bfloat16 autocast against float32": difference(half, here),
    }


def exactness(device: str, steps: int, **_: Any) -> dict[str, Any]:
    """The adjoint's gradient in float64 against finite differences, the unrolled graph's and other packages'."""
    return {"models": {name: others.compared(name, device, steps) for name in others.MODELS}}


def memory(
    device: str, size: str, engine: str, steps: int, shots: int, seconds: float, precision: str, **_: Any
) -> dict[str, Any]:
    """Peak bytes of one outer step above the loaded model."""
    model, batch, rates = prepared(device, size, steps, shots, seconds)
    with peak_memory(torch.device(device)) as peak, autocast(device, precision):
        ENGINES[engine](model, batch, rates)
    own = {name: p for name, p in model.named_parameters() if p.requires_grad}
    return {
        "peak_bytes": peak.bytes,
        "kept_bytes": kept_bytes(own, rates, [True] * steps),
        **parameters(model),
    }


def times(
    device: str,
    size: str,
    engines: list[str],
    steps: int,
    shots: int,
    seconds: float,
    precision: str,
    rounds: int,
    **_: Any,
) -> dict[str, Any]:
    """Seconds of an outer step by each engine, rounds interleaved; how far the adjoint is from the unrolled graph."""
    model, batch, rates = prepared(device, size, steps, shots, seconds)
    found: dict[str, list[float]] = {engine: [] for engine in engines}
    gradients: dict[str, Gradient] = {}
    for turn in range(rounds + 1):  # the first warms up
        for engine in engines:
            begun = now(device)
            with autocast(device, precision):
                gradient = ENGINES[engine](model, batch, rates)
            if turn:
                found[engine].append(now(device) - begun)
            elif engine in ("unrolled", "adjoint"):
                gradients[engine] = {name: value.cpu() for name, value in gradient.items()}
            del gradient
    result: dict[str, Any] = {"seconds": found, "median": {e: statistics.median(v) for e, v in found.items()}}
    if len(gradients) == 2:
        result["adjoint against unrolled"] = difference(gradients["adjoint"], gradients["unrolled"])
    return {**result, **parameters(model)}


def features(device: str, size: str, shots: int, seconds: float, rounds: int, **_: Any) -> dict[str, Any]:
    """Feature extraction in float32 and bfloat16: clips a second, and bfloat16's error over the spread of its layer."""
    model = Encoder(size).to(device).eval()
    frames, _targets = batch_of(model, shots, seconds)
    found, means = {}, {}
    for precision in ("fp32", "bf16"):
        taken = []
        for turn in range(rounds + 1):
            begun = now(device)
            with torch.no_grad(), autocast(device, precision):
                means[precision] = model.states(frames).float()
            if turn:
                taken.append(now(device) - begun)
        found[precision] = shots / statistics.median(taken)
    apart = (means["bf16"] - means["fp32"]).abs().amax((0, 2)) / means["fp32"].std((0, 2)).clamp_min(1e-12)
    return {"clips_per_second": found, "bf16_error": apart.max().item()}


def training_step(
    device: str, size: str, steps: int, shots: int, seconds: float, raters: int, **_: Any
) -> dict[str, Any]:
    """The paper's one training step: outer gradients of the raters and AdamW; peak of the whole, model included."""
    torch.manual_seed(0)
    with peak_memory(torch.device(device)) as peak:
        model = Encoder(size).to(device)
        rates = meta.learned_rates(model, steps, RATE)
        optimizer = torch.optim.AdamW([*(p for p in model.parameters() if p.requires_grad), rates.values], lr=9e-5)
        begun, value = now(device), 0.0
        for rater in range(raters):
            batch = batch_of(model, shots, seconds, seed=rater)
            found = meta.outer_gradient(model, batch, None, loss, rates, micro_batch=4)
            found.add_to(model, rates, weight=1 / raters)
            value += found.loss / raters
        optimizer.step()
        taken = now(device) - begun
    return {"peak_bytes": peak.bytes, "seconds": taken, "raters": raters, "loss": value, **parameters(model)}


def shortage(device: str, **_: Any) -> dict[str, Any]:
    """Asks for more memory than there is: of ``--tiny`` alone, to show that the next part begins."""
    return {"bytes": torch.empty(1 << 50, dtype=torch.uint8, device=device).nbytes}


PARTS = {f.__name__: f for f in (correctness, exactness, memory, times, features, training_step, shortage)}


def plan(size: str, device: str) -> list[dict[str, Any]]:
    """What is measured, most important first."""
    peers = list(others.installed())
    where = {"device": device}
    exact = {"part": "exactness", **where, "steps": 3}
    if size == "tiny":
        small = {**where, "size": "tiny", "shots": 4, "seconds": 0.4, "precision": "fp32", "rounds": 1}
        return [
            {"part": "correctness", **small},
            {"part": "shortage", **where},
            exact,
            *({"part": "memory", **small, "engine": engine, "steps": 2} for engine in ("adjoint", "unrolled")),
            {"part": "times", **small, "engines": [*OWN, *peers], "steps": 2},
            {"part": "features", **small},
            {"part": "training_step", **small, "steps": 2, "raters": 2},
        ]
    if size == "small":
        small = {**where, "size": "reduced", "shots": 8, "seconds": 2.0, "precision": "fp32", "rounds": 3}
        few = ["adjoint", "adjoint, micro-batches of 2", "unrolled", "unrolled, checkpointed", *peers[:1]]
        engines = [*few, "adjoint, two graphs kept", *peers[1:]]
        many = [few[1], "adjoint, micro-batches of 8", "unrolled"]
        full = {**small, "size": "base", "shots": 4}
        return [
            {"part": "correctness", **small},
            exact,
            *({"part": "memory", **small, "shots": 32, "engine": e, "steps": 5} for e in many),
            {"part": "times", **small, "shots": 32, "rounds": 2, "engines": many[1:], "steps": 5},
            *({"part": "memory", **small, "engine": engine, "steps": 5} for engine in engines),
            {"part": "times", **small, "engines": engines, "steps": 5},
            *({"part": "memory", **small, "engine": engine, "steps": s} for s in (1, 2, 10) for engine in few),
            *({"part": "times", **small, "rounds": 2, "engines": few, "steps": s} for s in (1, 2, 10)),
            *({"part": "memory", **full, "engine": e, "steps": s} for s in (5, 1, 2) for e in ("adjoint", "unrolled")),
        ]
    base = {**where, "size": "base", "shots": 32, "seconds": 4.5, "precision": "fp32", "rounds": 3}
    ours = "adjoint, micro-batches of 4"
    return [
        {"part": "correctness", **base},
        exact,
        {"part": "training_step", **base, "steps": 5, "raters": 1},
        {"part": "memory", **base, "engine": ours, "steps": 5},
        {"part": "memory", **base, "engine": "unrolled", "steps": 5},
        {"part": "times", **base, "engines": [ours, "adjoint"], "steps": 5},
        *(
            {"part": "memory", **base, "shots": 8, "engine": e, "steps": 5}
            for e in ("adjoint", "unrolled", "unrolled, checkpointed")
        ),
        {
            "part": "times",
            **base,
            "shots": 8,
            "engines": ["adjoint", "unrolled", "unrolled, checkpointed", *peers],
            "steps": 5,
        },
        *({"part": "memory", **base, "engine": ours, "steps": s} for s in (1, 2, 10)),
        {"part": "memory", **base, "engine": "adjoint, micro-batches of 4, path on the CPU", "steps": 10},
        {"part": "memory", **base, "engine": "adjoint", "steps": 5},
        {"part": "memory", **base, "engine": ours, "steps": 5, "precision": "bf16"},
        {"part": "times", **base, "engines": [ours], "steps": 5, "precision": "bf16"},
        {"part": "training_step", **base, "steps": 5, "raters": 9},
        {"part": "features", **base},
        *(
            {"part": "memory", **base, "shots": 8, "engine": e, "steps": s}
            for s in (1, 2)
            for e in ("unrolled", *peers)
        ),
        {"part": "training_step", **base, "size": "large", "steps": 5, "raters": 1},
        {"part": "memory", **base, "size": "large", "shots": 8, "engine": "unrolled", "steps": 5},
        {"part": "memory", **base, "size": "large", "shots": 8, "engine": "adjoint", "steps": 5},
    ]


# ------------------------------------------------------------------ what parts share


def prepared(device: str, size: str, steps: int, shots: int, seconds: float) -> tuple[Encoder, Any, Any]:
    model = Encoder(size).to(device)
    return model, batch_of(model, shots, seconds), meta.learned_rates(model, steps, RATE)


def parameters(model: Encoder) -> dict[str, int]:
    return {"adapting": sum(p.numel() for p in model.parameters() if p.requires_grad)}


def autocast(device: str, precision: str) -> Any:
    return torch.autocast(torch.device(device).type, torch.bfloat16) if precision == "bf16" else nullcontext()


def difference(one: Gradient, other: Gradient) -> float:
    """``||one - other|| / ||other||`` over everything, in float64."""
    apart = sum((one[n].double() - other[n].double()).square().sum().item() for n in other)
    return (apart / sum(other[n].double().square().sum().item() for n in other)) ** 0.5


def now(device: str) -> float:
    if device != "cpu":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def limit(gigabytes: float, device: str) -> None:
    """This process may have so much and no more, so that what does not fit leaves the machine's other work alone."""
    if device == "cpu":
        resource.setrlimit(resource.RLIMIT_DATA, (int(gigabytes * 1e9),) * 2)
    else:
        torch.cuda.set_per_process_memory_fraction(gigabytes * 1e9 / torch.cuda.get_device_properties(0).total_memory)


def machine(device: str) -> dict[str, Any]:
    """The card, without the machine's name."""
    found: dict[str, Any] = {"device": f"CPU, {os.cpu_count()} cores", "torch": torch.__version__}
    if device != "cpu":
        properties = torch.cuda.get_device_properties(0)
        found |= {"device": properties.name, "bytes": properties.total_memory, "cuda": torch.version.cuda}
    return found


# ------------------------------------------------------------------ the whole


def in_own_process(job: dict[str, Any], seconds: float, gigabytes: float | None) -> dict[str, Any]:
    """One part; what went wrong is in ``error``."""
    command = [sys.executable, "-W", "ignore", __file__, "--job", json.dumps(job)]
    command += [] if gigabytes is None else ["--gigabytes", str(gigabytes)]
    # an allocator whose peaks mean something is a third slower
    ours = MEMORY_ENVIRONMENT if job["device"] == "cpu" and job["part"] in ("memory", "training_step") else {}
    begun = time.monotonic()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, env={**os.environ, **ours})
    except subprocess.TimeoutExpired:
        return {**job, "error": f"out of time after {seconds:.0f} s"}
    taken = {"wall_seconds": round(time.monotonic() - begun, 1)}
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"ended with status {done.returncode}"]
        out = done.returncode == -signal.SIGKILL or any(sign in line for line in lines for sign in OUT_OF_MEMORY)
        return {**job, **taken, "error": "out of memory" if out else lines[-1][:300]}
    return {**job, **taken, **json.loads(done.stdout.splitlines()[-1])}


def write(out: Path, result: dict[str, Any]) -> None:
    for name, text in (("gpu.json", json.dumps(result, indent=1) + "\n"), ("gpu.md", table(result))):
        draft = out / f"{name}.part"
        draft.write_text(text)
        draft.replace(out / name)


def table(result: dict[str, Any]) -> str:
    """The figures as one table; ratios to the unrolled graph stand where both were measured."""
    lines = [f"{result['machine']['device']}, torch {result['machine']['torch']}, {result['date']}", ""]
    lines += ["| part | of | figures |", "|---|---|---|"]
    for row in result["parts"]:
        keys = ("size", "engine", "steps", "shots", "precision", "raters")
        what = ", ".join(f"{key} {row[key]}" for key in keys if key in row)
        if "error" in row:
            figures = f"**{row['error']}**"
        elif row["part"] == "memory":
            figures = f"{row['peak_bytes'] / 1e9:.3f} GB above the model ({row['kept_bytes'] / 1e9:.3f} kept)"
        elif row["part"] == "times":
            figures = "; ".join(f"{engine} {value:.3f} s" for engine, value in row["median"].items())
        elif row["part"] == "exactness":
            figures = "; ".join(f"{name}: {_exactness(of)}" for name, of in row["models"].items())
        elif row["part"] == "training_step":
            figures = f"{row['peak_bytes'] / 1e9:.3f} GB with the model, {row['seconds']:.2f} s"
        elif row["part"] == "features":
            rate = row["clips_per_second"]
            figures = (
                f"fp32 {rate['fp32']:.1f}, bf16 {rate['bf16']:.1f} clips a second; bf16's error {row['bf16_error']:.1e}"
            )
        else:
            figures = "; ".join(
                f"{key} {value[1] if isinstance(value, list) else value:.1e}"
                for key, value in row.items()
                if key.startswith(("finite", "against", "bfloat"))
            )
        lines.append(f"| {row['part']} | {what} | {figures} |")
    return "\n".join([*lines, "", *ratios(result["parts"])]) + "\n"


def _exactness(of: dict[str, Any]) -> str:
    differences = of["from_finite_differences"].items()
    shown = ", ".join(f"{engine} {value:.1e}" for engine, value in differences) + " from finite differences"
    apart = of["from_adjoint"].items()
    return shown + "".join(
        f", {engine} {value if isinstance(value, str) else f'{value:.1e} from the adjoint'}" for engine, value in apart
    )


def ratios(parts: list[dict[str, Any]]) -> list[str]:
    """Memory and time of the adjoint against the unrolled graph, at the same sizes."""
    found = []
    bytes_of = {
        (r["size"], r["shots"], r["steps"], r["engine"]): r["peak_bytes"]
        for r in parts
        if r["part"] == "memory" and "error" not in r and r["precision"] == "fp32"
    }
    for (size, shots, steps, engine), used in bytes_of.items():
        if engine.startswith("adjoint"):
            for other in ("unrolled", "unrolled, checkpointed", *others.PEERS):
                if more := bytes_of.get((size, shots, steps, other)):
                    found.append(f"- memory, {size}, K={shots}, S={steps}: {other} / {engine} = {more / used:.2f}")
    for row in parts:
        if row["part"] == "times" and "error" not in row and "unrolled" in row["seconds"]:
            for engine, seconds in row["seconds"].items():
                ratio = statistics.median(a / b for a, b in zip(seconds, row["seconds"]["unrolled"], strict=True))
                where = f"{row['size']}, K={row['shots']}, S={row['steps']}"
                found += [f"- time, {where}: {engine} / unrolled = {ratio:.2f}"] if engine != "unrolled" else []
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--out", type=Path, help="folder of gpu.json and gpu.md")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--tiny", action="store_true", help="a tiny model, seconds: does it run?")
    size.add_argument("--small", action="store_true", help="a reduced model at K = 8 x 2 s, for a CPU; set --minutes")
    parser.add_argument(
        "--minutes", type=float, default=8.7, help="when no part begins any more, and those that run end"
    )
    parser.add_argument(
        "--gigabytes", type=float, help="a part may have so much memory and no more; by default what there is"
    )
    parser.add_argument("--only", nargs="*", choices=PARTS, help="only these parts")
    parser.add_argument("--job", type=json.loads, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.job:
        if chosen.gigabytes is not None:
            limit(chosen.gigabytes, chosen.job["device"])
        print(json.dumps(PARTS[chosen.job["part"]](**{k: v for k, v in chosen.job.items() if k != "part"})))
        return
    device = "cuda" if torch.cuda.is_available() else "cpu"
    size_of_it = "tiny" if chosen.tiny else "small" if chosen.small else "whole"
    if device == "cpu" and size_of_it == "whole":
        raise SystemExit("There is no CUDA device. Give --tiny or --small to try the script on a CPU.")
    end = time.monotonic() + 60 * chosen.minutes
    jobs = [job for job in plan(size_of_it, device) if not chosen.only or job["part"] in chosen.only]
    result = {"date": datetime.date.today().isoformat(), "machine": machine(device), "size": size_of_it}
    result |= {"packages": sorted(others.installed()), "parts": []}
    for number, job in enumerate(jobs):
        left = end - time.monotonic()
        begins = left > 5
        late = {**job, "error": "not begun: out of time"}
        result["parts"].append(in_own_process(job, left, chosen.gigabytes) if begins else late)
        write(chosen.out, result)
        row = result["parts"][-1]
        print(f"{number + 1} of {len(jobs)}  {row['part']}  {row.get('error', 'done')}", flush=True)
    print(table(result))


if __name__ == "__main__":
    main()
