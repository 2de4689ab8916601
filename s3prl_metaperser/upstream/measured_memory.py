"""``metaperser plan UPSTREAM --measure``: what one micro-batch of the exact outer step takes on this machine's device.

Peaks of two outer steps with S = 1 are taken, of one and of two utterances of the greatest length; their difference is
what an utterance takes. All of it runs in a process of its own, so that nothing else is in the figures.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

from s3prl_metaperser.errors import UserError
from s3prl_metaperser.upstream.memory_plan import Measured, Setting
from s3prl_metaperser.upstream.peak_memory import MEMORY_ENVIRONMENT, peak_memory

_PROJECTOR, _CLASSES, _RATE = 256, 9, 16000


def measured(
    upstream: str, ckpt: str | None, model_config: str | None, device: str | None, setting: Setting
) -> Measured:
    """Build the upstream and measure a micro-batch in a fresh process.

    Args:
        upstream: a hub name, ``ckpt`` and ``model_config`` as s3prl's ``-k`` and ``-g``.
        device: "cuda" or "cpu"; by default CUDA where there is one.

    Raises:
        UserError: it cannot be built or measured here; the message says why.
    """
    job = {"upstream": upstream, "ckpt": ckpt, "model_config": model_config, "device": device, **vars(setting)}
    command = [sys.executable, "-W", "ignore", "-m", __name__, json.dumps(job)]
    done = subprocess.run(command, env={**os.environ, **MEMORY_ENVIRONMENT}, capture_output=True, text=True)
    lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines() or ["it ended without a word"]
    if done.returncode:
        raise UserError(f"{upstream} could not be measured: {lines[-1].removeprefix('error: ')}")
    return Measured(**json.loads(lines[-1]))


def _measure(upstream: str, ckpt: str | None, model_config: str | None, device: str | None, **setting: Any) -> Measured:
    import torch

    from s3prl_metaperser.meta.adjoint import outer_gradient
    from s3prl_metaperser.meta.model import Head
    from s3prl_metaperser.meta.rates import InnerRates
    from s3prl_metaperser.s3prl_stack.hub import build_upstream
    from s3prl_metaperser.upstream.batching import hidden_states
    from s3prl_metaperser.upstream.finetuning import FineTunedModel
    from s3prl_metaperser.upstream.memory import explaining_memory
    from s3prl_metaperser.upstream.micro_batches import micro_losses

    how = Setting(**setting)
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    built = build_upstream(upstream, ckpt, model_config, device=str(where))
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(round(how.longest * _RATE), generator=generator) * 0.1
    with torch.no_grad():
        layers, _, dim = hidden_states(built, [noise[:_RATE].to(where)])[0].shape
    options = SimpleNamespace(
        adapt="all" if how.top is None else f"top:{how.top}",
        train_front_end=how.train_front_end,
        bf16=how.bf16,
        activation_checkpointing=how.activation_checkpointing,
        dropout=False,
    )
    model = FineTunedModel(built, Head(layers, dim, _PROJECTOR, _CLASSES, generator).to(where), options)
    parameters = model.named_adapted()
    rates = InnerRates(list(parameters), 1, 1e-3, learned=True).to(where)

    def peak_of(clips: int, second_order: bool) -> int:
        losses = micro_losses(
            model, [noise] * clips, torch.full((clips, _CLASSES), 1 / _CLASSES), clips * how.longest + 1
        )
        with torch.no_grad():
            losses[0](parameters, 0)  # the frozen front-end runs once, before
        with peak_memory(where) as peak:
            outer_gradient(parameters, rates, losses, [second_order])
        return peak.bytes

    found = {}
    with explaining_memory("Measuring a micro-batch", "Lower --longest, or adapt fewer layers (--top N)."):
        peak_of(1, True)
        for second_order in (True, False):
            found[second_order] = max(peak_of(2, second_order) - peak_of(1, second_order), 0)
    return Measured(
        adapting=sum(p.numel() for p in parameters.values()),
        total=sum(p.numel() for p in model.parameters()),
        clip_bytes=found[True],
        gradient_clip_bytes=found[False],
        longest=how.longest,
        device=torch.cuda.get_device_name(where) if where.type == "cuda" else "this CPU",
    )


if __name__ == "__main__":
    try:
        print(json.dumps(vars(_measure(**json.loads(sys.argv[1])))))
    except UserError as error:
        sys.exit(f"error: {error}")
