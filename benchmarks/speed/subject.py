"""What the speed benchmarks measure, and how memory is read: a random-weight upstream that adapts, and its losses."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from s3prl_metaperser.s3prl_stack import compat

compat.apply()

import torch
from random_checkpoints import UPSTREAM, make_checkpoint

from s3prl_metaperser.meta.model import Head
from s3prl_metaperser.meta.rates import InnerRates
from s3prl_metaperser.protocol.loss import weighted_targets
from s3prl_metaperser.s3prl_stack.hub import build_upstream
from s3prl_metaperser.upstream.finetuning import FineTunedModel
from s3prl_metaperser.upstream.micro_batches import micro_losses
from s3prl_metaperser.upstream.peak_memory import MEMORY_ENVIRONMENT, Peak, peak_memory  # noqa: F401

KINDS = ("wav2vec2", "hubert", "wavlm")
RATE = 16000
PROJECTOR, CLASSES = 256, 9


def finetuned_model(
    kind: str, size: str = "base", device: str = "cpu", changes: dict[str, Any] | None = None, **options: Any
) -> FineTunedModel:
    """A model from waveforms to logits on a random-weight upstream.

    Args:
        kind: one of ``KINDS``.
        size: "base" (the published Base models' shape) or "tiny".
        changes: of the upstream's configuration, e.g. ``{"encoder_layers": 6}``.
        options: of fine-tuning, where they are not the defaults (front-end frozen, fp32, no checkpointing).
    """
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = make_checkpoint(kind, Path(folder) / f"{kind}.pt", size=size, **(changes or {}))
        upstream = build_upstream(UPSTREAM[kind], str(checkpoint), device=device)
    defaults = {"adapt": "all", "train_front_end": False, "bf16": False, "activation_checkpointing": False}
    generator = torch.Generator().manual_seed(0)
    blocks = upstream.model.encoder.layers
    head = Head(len(blocks) + 1, blocks[0].embedding_dim, PROJECTOR, CLASSES, generator).to(device)
    return FineTunedModel(upstream, head, SimpleNamespace(**{**defaults, "dropout": False, **options}))


def rates_for(model: FineTunedModel, inner_steps: int) -> InnerRates:
    """Learned rates of 1e-3 for all that adapts."""
    return InnerRates(list(model.named_adapted()), inner_steps, 1e-3, learned=True).to(device_of(model))


def losses_for(model: FineTunedModel, shots: int, seconds: float, micro_batch_seconds: float | None = None) -> list:
    """Micro-batch losses of K=``shots`` utterances of noise; one micro-batch by default.

    Lengths differ by a frame each, so that the utterances share a batch as those of a corpus do. The frozen front-end
    runs at the first call and its outputs are kept, so time and memory after a first call are without it.
    """
    generator = torch.Generator().manual_seed(1)
    samples = [round(seconds * RATE) - 320 * (index % 8) for index in range(shots)]
    wavs = [torch.randn(n, generator=generator) * 0.1 for n in samples]
    targets = torch.softmax(torch.randn(shots, CLASSES, generator=generator), dim=-1)
    weighted = weighted_targets(targets, torch.ones(CLASSES))
    return micro_losses(model, wavs, weighted, micro_batch_seconds or shots * seconds + 1)


def device_of(model: FineTunedModel) -> torch.device:
    """Where the model is."""
    return next(model.parameters()).device


def machine(device: torch.device) -> dict[str, Any]:
    """A description of the machine, without its name."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {cores} cores"
    return {"device": name, "threads": torch.get_num_threads(), "torch": torch.__version__}
