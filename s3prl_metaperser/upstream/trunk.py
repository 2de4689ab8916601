"""The trunk of a ResNet18 that was trained on log-mel frames, as an upstream: ``-u logmel_resnet18``, with
``-k EXPDIR/dev-best.ckpt``.

Its frames are the last stage's channels, averaged over bands: [T', H] with one every 32 log-mel frames. Their mean over
time is what the network's classifier saw.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from s3prl_metaperser.errors import UserError
from s3prl_metaperser.seeding import torch_generator
from s3prl_metaperser.storage.checkpoints import read_checkpoint
from s3prl_metaperser.upstream.logmel import HOP, LogMel
from s3prl_metaperser.upstream.logmel import expert as logmel
from s3prl_metaperser.upstream.own import OwnUpstream
from s3prl_metaperser.upstream.resnet18 import STRIDE, Trunk


def tested_network(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The network in a checkpoint of domain generalisation that is tested: the last one, or an average."""
    return content.get("Tested") or content["Downstream"]


def expert(ckpt: str, model_config: str | None = None) -> LogMelTrunk:
    """The upstream of a checkpoint.

    Args:
        model_config: as ``-u logmel`` was given it in training.

    Raises:
        UserError: it holds no ResNet18 on log-mel frames.
    """
    path = Path(ckpt)
    if path.is_dir():
        raise UserError(f"-k {path} is a folder: name the checkpoint in it, such as dev-best.ckpt.")
    content = read_checkpoint(path)
    model = content["Config"].get("downstream_expert", {}).get("modelrc", {})
    if model.get("network") != "resnet18" or getattr(content["Args"], "upstream", None) != "logmel":
        raise UserError(f"-k {path} holds no ResNet18 on log-mel frames (modelrc.network: resnet18 with -u logmel).")
    trunk = Trunk(1, torch_generator("trunk"), channels=model["channels"])
    tensors = {name: value for name, value in tested_network(content).items() if not name.startswith("classifier.")}
    try:
        trunk.load_state_dict(tensors)
    except RuntimeError as error:
        raise UserError(f"-k {path} holds another network than it says: {' '.join(str(error).split())}") from None
    return LogMelTrunk(logmel(model_config), trunk)


class LogMelTrunk(OwnUpstream):
    """An upstream as s3prl has them.

    Args:
        front_end: from waveforms to frames.
        trunk: from frames to maps.
    """

    samples = HOP * STRIDE

    def __init__(self, front_end: LogMel, trunk: Trunk) -> None:
        super().__init__()
        self.front_end, self.trunk = front_end, trunk
        self.eval()

    def states(self, wave: Tensor) -> list[Tensor]:
        return [self.trunk.maps(self.front_end.frames(wave)[None, None])[0].mean(-1).T]
