"""Weights of emotion2vec from the checkpoints in which they are given away; nothing in them is run.

They are fairseq's and FunASR's: a file of torch's whose ``model`` is the state dict, or the folder with that one file.
What a model takes is read from the shapes of its weights. What only training uses is left out; everything else that is
not known here is refused by its name, because features without it would be another model's.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from s3prl_metaperser.errors import UserError, listed, shown
from s3prl_metaperser.upstream.own import ModelTensors

#: (size of the kernel, stride) of the convolutions over the waveform, as in wav2vec 2.0.
CONVOLUTIONS = ((10, 5), (3, 2), (3, 2), (3, 2), (3, 2), (2, 2), (2, 2))
_WHAT = "one emotion2vec model"
#: Parts that only training uses: the decoder, the teacher, and the classifier of emotion2vec+.
_UNUSED = re.compile(r"modality_encoders\.AUDIO\.decoder\.|_ema$|_ema\.|recon_proj\.|proj\.(weight|bias)$")
_AUDIO = r"^modality_encoders\.AUDIO\."
_NAMES = (
    (rf"{_AUDIO}local_encoder\.conv_layers\.(\d+)\.0\.", r"feature_extractor.layers.\1.conv."),
    (rf"{_AUDIO}local_encoder\.conv_layers\.(\d+)\.2\.1\.", r"feature_extractor.layers.\1.norm."),
    (rf"{_AUDIO}project_features\.1\.", "layer_norm."),
    (rf"{_AUDIO}project_features\.2\.", "post_extract_proj."),
    (rf"{_AUDIO}context_encoder\.norm\.", "encoder.layer_norm."),
    (rf"{_AUDIO}(extra_tokens|alibi_scale)$", r"encoder.\1"),
)
_POSITION = re.compile(rf"{_AUDIO}relative_positional_encoder\.(\d+)\.0\.")
_PRENET, _BLOCK = re.compile(rf"{_AUDIO}context_encoder\.blocks\.(\d+)\."), re.compile(r"^blocks\.(\d+)\.")


@dataclass(frozen=True)
class ModelWeights(ModelTensors):
    """A model's weights by their names in :class:`.emotion2vec.Encoder`.

    Attributes:
        normalize: whether waveforms are scaled to mean 0 and variance 1, each by itself.
    """

    what: ClassVar[str] = _WHAT
    normalize: bool

    @property
    def channels(self) -> int:
        """Of the convolutions over the waveform."""
        return self.shape("feature_extractor.layers.0.conv.weight", 3)[0]

    @property
    def size(self) -> int:
        """D, of a hidden state."""
        return self.shape("post_extract_proj.weight", 2)[0]

    @property
    def inner(self) -> int:
        """Size of the feed-forward part."""
        return self.shape("encoder.layers.0.mlp.fc1.weight", 2)[0]

    @property
    def tokens(self) -> int:
        """How many learned tokens stand before the frames."""
        return self.shape("encoder.extra_tokens", 3)[1]

    @property
    def scales(self) -> torch.Size:
        """Of the learned scales of distance: [1 or layers, 1, heads, 1, 1]."""
        return self.shape("encoder.alibi_scale", 5)

    @property
    def positions(self) -> list[torch.Size]:
        """Of the positional convolutions' weights, each [D, D / groups, kernel]."""
        found = [name for name in self.tensors if re.fullmatch(r"encoder\.pos_conv\.\d+\.weight", name)]
        return [self.shape(f"encoder.pos_conv.{number}.weight", 3) for number in range(len(found))]

    def __post_init__(self) -> None:
        if self.size % self.scales[2] or self.scales[0] not in (1, self.layers):
            raise self.refused(f"encoder.alibi_scale is {list(self.scales)}, with {self.layers} blocks of {self.size}")
        for shape in self.positions:
            if shape[0] % shape[1]:
                raise self.refused(f"encoder.pos_conv has a weight {list(shape)}")


def read_model(path: Path) -> ModelWeights:
    """Weights from a checkpoint, or the folder with one.

    Raises:
        UserError: no such checkpoint, damaged, or with weights that are not known here; the message names them.
    """
    if path.is_dir():
        files = sorted(path.glob("*.pt"))
        if len(files) != 1:
            found = ", ".join(file.name for file in files) or "none"
            raise UserError(f"-k {path}: a folder of emotion2vec has one .pt file, here are: {found}. Give the file.")
        path = files[0]
    content = _content(path)
    state: Any = content
    for key in ("state_dict", "model_state_dict", "model"):
        state = state[key] if isinstance(state, Mapping) and key in state else state
    if not isinstance(state, Mapping):
        raise UserError(f"-k {path}: it has no state dict (`model`), as checkpoints of emotion2vec have.")
    return ModelWeights(path, _ours(path, state), _normalize(content))


def _content(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        why = next((line for line in str(error).splitlines() if "GLOBAL" in line), str(error).splitlines()[0])
        raise UserError(
            f"-k {path} cannot be read without running what is in it ({shown(why.strip(), 120)}). Where you trust it: "
            "torch.save({'model': torch.load(FILE, weights_only=False)['model']}, 'weights.pt'), and give that."
        ) from None
    except (RuntimeError, ValueError, EOFError, KeyError, OSError) as error:
        raise UserError(
            f"-k {path} cannot be read as a checkpoint of emotion2vec ({shown(str(error).splitlines()[0], 120)}). Give "
            "its .pt file, or the folder with it."
        ) from None


def _normalize(content: Any) -> bool:
    """What fairseq's configuration says of the waveform; published models have it scaled."""
    cfg = content.get("cfg") if isinstance(content, Mapping) else None
    task = cfg.get("task") if isinstance(cfg, Mapping) else None
    said = task.get("normalize") if isinstance(task, Mapping) else None
    return said if isinstance(said, bool) else True


def _ours(path: Path, state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Tensors under the names that :class:`.emotion2vec.Encoder` has for them."""
    known = {str(name).removeprefix("d2v_model."): value for name, value in state.items()}
    known = {name: value for name, value in known.items() if not _UNUSED.match(name)}
    prenet = len({match[1] for name in known if (match := _PRENET.match(name))})
    found, unknown = {}, []
    for name, value in known.items():
        ours = name
        for pattern, replacement in _NAMES:
            ours = re.sub(pattern, replacement, ours)
        ours = _POSITION.sub(lambda match: f"encoder.pos_conv.{int(match[1]) - 1}.", ours)
        ours = _PRENET.sub(r"encoder.layers.\1.", ours)
        ours = _BLOCK.sub(lambda match: f"encoder.layers.{int(match[1]) + prenet}.", ours)
        if ours == name or not isinstance(value, Tensor):
            unknown.append(name)
        else:
            found[ours] = value
    if unknown or not found:
        raise UserError(
            f"-k {path}: these are not the weights of {_WHAT}: "
            + (f"{len(unknown)} unknown ({listed(sorted(unknown))})." if unknown else "there are none in it.")
        )
    return found
