#!/usr/bin/env python
"""Bytes of activations in one micro-batch, measured: what the constants of `upstream/memory_plan.py` come from.

    OMP_NUM_THREADS=1 python benchmarks/speed/activation_memory.py --json activations.json       # 10 minutes, 4 GB

Each row is a model of random weights, audio of noise, and the peak of a gradient and of a Hessian-vector product above
the copy of the parameters that holds the gradient, or lambda. In a Hessian-vector product the plan counts one more
copy (shares that wait to be added up). ``measured / estimated`` follows where the shape is one that the plan knows
(Base's width).
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import subject
import torch

from s3prl_metaperser.meta.adjoint import outer_gradient
from s3prl_metaperser.meta.rates import InnerRates
from s3prl_metaperser.upstream.memory_plan import Shape

BASE = {"encoder_layers": 12, "encoder_embed_dim": 768, "encoder_ffn_embed_dim": 3072, "encoder_attention_heads": 12}
# half of Base's width, two blocks of its twelve: activations, not the parameters, make the peak
SMALL = {"encoder_layers": 2, "encoder_embed_dim": 384, "encoder_ffn_embed_dim": 1536, "encoder_attention_heads": 6}
# (upstream, its shape, utterances, seconds of each, options)
ROWS: list[tuple[str, dict[str, int], int, float, dict[str, bool]]] = [
    ("wav2vec2", BASE, 4, 2, {}),
    ("wav2vec2", SMALL, 4, 4, {}),
    ("wav2vec2", {**SMALL, "encoder_layers": 4}, 4, 4, {}),
    ("wav2vec2", {**SMALL, "encoder_layers": 4}, 1, 16, {}),
    ("wav2vec2", {**SMALL, "encoder_ffn_embed_dim": 768}, 4, 4, {}),
    ("wav2vec2", {**SMALL, "encoder_attention_heads": 3}, 1, 16, {}),
    ("hubert", {**SMALL, "encoder_layers": 4}, 4, 4, {}),
    ("wavlm", {**SMALL, "encoder_layers": 4}, 4, 4, {}),
    ("wavlm", {**SMALL, "encoder_layers": 4}, 1, 16, {}),
    ("wav2vec2", SMALL, 4, 1, {"train_front_end": True}),
    ("wav2vec2", {**SMALL, "encoder_layers": 4}, 4, 4, {"activation_checkpointing": True}),
    ("wav2vec2", {**SMALL, "encoder_layers": 4}, 1, 16, {"activation_checkpointing": True}),
    ("wav2vec2", {**SMALL, "encoder_layers": 4}, 4, 4, {"bf16": True}),
    ("wav2vec2", {**SMALL, "encoder_layers": 4}, 1, 16, {"bf16": True}),
    ("wav2vec2", {**BASE, "encoder_layers": 4}, 4, 4, {}),
    ("wav2vec2", BASE, 4, 4, {}),
    ("wavlm", BASE, 4, 4, {}),
]


def measured(kind: str, shape: dict[str, int], utterances: int, seconds: float, options: dict[str, bool]) -> dict:
    """Peak bytes of one micro-batch's gradient and Hessian-vector product, without the copies of the parameters."""
    model = subject.finetuned_model(kind, changes=shape, **options)
    parameters = {name: value.detach() for name, value in model.named_adapted().items()}
    copy = sum(value.nbytes for value in parameters.values())
    [loss] = subject.losses_for(model, utterances, seconds)
    if options.get("bf16"):
        loss = autocast(loss)
    with torch.no_grad():
        loss(parameters, 0)
    rates = InnerRates(list(parameters), 1, 1e-3, learned=False)
    with subject.peak_memory(subject.device_of(model)) as first_order:  # the second one also holds the first's gradient
        outer_gradient(parameters, rates, [loss, loss], [])
    with subject.peak_memory(subject.device_of(model)) as second_order:
        outer_gradient(parameters, rates, [loss], [True])
    return {
        "parameters": copy // 4,
        "first_order": first_order.bytes - copy,
        "second_order": second_order.bytes - copy,
    }


def autocast(loss: Any) -> Any:
    """What ``bf16`` does on CUDA, on this CPU."""

    def within(parameters: Any, step: int) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return loss(parameters, step)

    return within


def compared(row: dict[str, Any]) -> list[str]:
    """Measured over estimated bytes of a gradient and a Hessian-vector product, where the plan knows the shape."""
    if any(row[key] != value for key, value in BASE.items() if key != "encoder_layers"):
        return []
    shape = Shape(row["upstream"], row["encoder_layers"], row["encoder_embed_dim"])
    audio = row["utterances"] * row["seconds"], row["seconds"]
    estimated = shape.activations(*audio, second_order=False), shape.activations(*audio)
    waiting = 4 * row["parameters"]
    first, second = row["first_order"] / estimated[0], row["second_order"] / (estimated[1] + waiting)
    return [f"measured / estimated {first:.2f} {second:.2f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", help="only these, counted from 0")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--row", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 1)))
    if chosen.row is not None:
        print(json.dumps(measured(*ROWS[chosen.row])))
        return
    rows = []
    for index in chosen.rows or range(len(ROWS)):
        command = [sys.executable, "-W", "ignore", __file__, "--row", str(index)]
        done = subprocess.run(command, env={**os.environ, **subject.MEMORY_ENVIRONMENT}, stdout=-1, text=True)
        if done.returncode:
            raise SystemExit(f"row {index} ended with status {done.returncode}")
        kind, shape, utterances, seconds, options = ROWS[index]
        row = {"upstream": kind, **shape, "utterances": utterances, "seconds": seconds, **options}
        rows.append({**row, **json.loads(done.stdout.splitlines()[-1])})
        print(rows[-1], *compared(rows[-1]), flush=True)
    if chosen.json:
        result = {"date": datetime.date.today().isoformat(), "machine": subject.machine(torch.device("cpu"))}
        chosen.json.write_text(json.dumps({**result, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
