"""What experts have in common: their configuration, how they log, what they say of a file, and how they read one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from s3prl_metaperser.corpora.audio import load_audio
from s3prl_metaperser.meta.model import linear
from s3prl_metaperser.seeding import torch_generator


def configuration(downstream_expert: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration, of what s3prl passes to an expert: its own field, and among all else two more."""
    also = {name: others[name] for name in ("runner", "optimizer") if name in others}
    return {"downstream_expert": downstream_expert, **also}


class Expert(nn.Module):
    """A linear head on the time means of s3prl's weighted sums, with s3prl's log and inference.

    Args:
        upstream_dim: D, size of the upstream's features.
        hidden: H, the projector's size.
        classes: C names.
        expdir: the experiment folder.
        seed: of the head.
    """

    best_score: torch.Tensor

    def __init__(self, upstream_dim: int, hidden: int, classes: Sequence[str], expdir: str | Path, seed: int):
        super().__init__()
        self.expdir, self.classes = Path(expdir), tuple(classes)
        generator = torch_generator("expert", seed)
        self.projector = linear(upstream_dim, hidden, generator)
        self.classifier = linear(hidden, len(self.classes), generator)
        self.register_buffer("best_score", torch.full((1,), float("inf")), persistent=False)

    def get_downstream_name(self) -> str:
        """s3prl's name for this run, the prefix of TensorBoard's keys."""
        raise NotImplementedError

    def logits(self, features: list[torch.Tensor]) -> torch.Tensor:
        """Logits [K, C] of the featurizer's frames, each [T, D]."""
        return torch.stack([self.classifier(self.projector(frames).mean(0)) for frames in features])

    def log_records(self, split, records, logger, global_step, **kwargs) -> list[str]:
        """Average and log each record, as s3prl does; names a checkpoint when ``dev`` loss is the lowest so far."""
        save_names = []
        for key, values in records.items():
            average = float(np.mean(values))
            logger.add_scalar(f"{self.get_downstream_name()}/{split}-{key}", average, global_step=global_step)
            with open(self.expdir / "log.log", "a", encoding="utf-8") as log:
                log.write(f"{split} {key} at step {global_step}: {average}\n")
                if split == "dev" and key == "loss" and average < self.best_score.item():
                    self.best_score.fill_(average)
                    log.write(f"New best on {split} at step {global_step}: {average}\n")
                    save_names.append(f"{split}-best.ckpt")
        return save_names

    def inference(self, features: list[torch.Tensor], filenames: list[str]) -> list[dict[str, float]]:
        """Print and return each file's class probabilities."""
        with torch.no_grad():
            probabilities = torch.softmax(self.logits(features), dim=-1).cpu().tolist()
        found = [dict(zip(self.classes, row, strict=True)) for row in probabilities]
        for name, scores in zip(filenames, found, strict=True):
            ranked = sorted(scores.items(), key=lambda item: -item[1])
            print(name + ": " + ", ".join(f"{label} {value:.3f}" for label, value in ranked))
        return found

    def load_audio(self, path: str | Path) -> torch.Tensor:
        """One file as float32 [n] at 16 kHz, for s3prl's ``-m inference``."""
        return torch.from_numpy(load_audio(Path(path)))
