"""The options of one cell as plain data, with or without a command line."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from s3prl_metaperser.config.options import Options
from s3prl_metaperser.errors import UserError, shown
from s3prl_metaperser.methods import DEFAULT_SYSTEM
from s3prl_metaperser.tasks import DEFAULT_TASK

#: Defaults of s3prl's launcher arguments that a cell does not set.
_UNSET: dict[str, Any] = {
    **dict.fromkeys(("config", "override", "past_exp", "init_ckpt", "upstream_revision", "expname", "hf_hub_org")),
    **dict.fromkeys(("cache_dir", "local_rank")),
    **dict.fromkeys(("upstream_refresh", "auto_resume", "push_to_hf_hub", "verbose", "disable_cudnn"), False),
    **{"mode": "train", "evaluate_split": "test", "hub": "torch", "upstream_model_name": "model.pt", "backend": "nccl"},
}


#: NumPy takes no larger one; torch and Python do.
LARGEST_SEED = 2**32 - 1


def check_seed(seed: object) -> None:
    """Raise a UserError unless Python, NumPy and torch all take a seed."""
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= LARGEST_SEED:
        raise UserError(f"--seed {shown(seed)}: expected a whole number from 0 to {LARGEST_SEED}.")


@dataclass(frozen=True)
class UpstreamOptions:
    """An upstream and how it is used; s3prl's flags in brackets.

    Attributes:
        name: in s3prl's hub [``-u``].
        checkpoint: file, folder or address, where one is needed [``-k``].
        model_config: file, where one is needed [``-g``].
        selection: which of its outputs to use [``-s``].
        layer: use only this layer of the output [``-l``].
        normalize: normalise each frame of each layer [``--upstream_feature_normalize``].
        finetuned: whether the whole model adapts [``-f``].
        refresh: download again what is in the cache [``-r``].
    """

    name: str
    checkpoint: str | None = None
    model_config: str | None = None
    selection: str = "hidden_states"
    layer: int | None = None
    normalize: bool = False
    finetuned: bool = False
    refresh: bool = False


@dataclass(frozen=True)
class CellOptions:
    """One corpus, upstream, scenario, fold and system, and where its experiment folder is.

    Attributes:
        options: the configuration; corpus, scenario, fold and K stand in it.
        seed: of the run; each scenario and fold makes a training seed of its own from it.
        device: ``cuda``, ``cuda:N`` or ``cpu``.
        trains: whether it is trained, and not only evaluated from a checkpoint.
        arguments: the launcher's, for checkpoints; derived from the other attributes without a command line.
    """

    upstream: UpstreamOptions
    folder: Path
    options: Options = field(default_factory=Options)
    system: str = DEFAULT_SYSTEM
    seed: int = 1337
    device: str = "cpu"
    task: str = DEFAULT_TASK
    trains: bool = True
    arguments: argparse.Namespace | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", Path(self.folder))
        check_seed(self.seed)

    @property
    def scope(self) -> str:
        """``frozen`` or ``finetuned``."""
        return "finetuned" if self.upstream.finetuned else "frozen"

    def as_arguments(self) -> argparse.Namespace:
        """The launcher's arguments that run this cell; s3prl's checkpoints hold them."""
        if self.arguments is not None:
            return self.arguments
        upstream = self.upstream
        return argparse.Namespace(
            **_UNSET,
            downstream=self.task,
            downstream_variant=self.system,
            upstream=upstream.name,
            upstream_ckpt=upstream.checkpoint,
            upstream_model_config=upstream.model_config,
            upstream_feature_selection=upstream.selection,
            upstream_layer_selection=upstream.layer,
            upstream_feature_normalize=upstream.normalize,
            upstream_trainable=upstream.finetuned,
            expdir=str(self.folder),
            seed=self.seed,
            device=self.device,
        )
