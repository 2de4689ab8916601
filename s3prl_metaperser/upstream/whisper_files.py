"""Weights of Whisper's encoder from the three forms in which they are given away; nothing in them is run.

- OpenAI's checkpoint, a file: ``dims`` and ``model_state_dict``.
- Hugging Face's folder: ``config.json`` and safetensors, or ``pytorch_model.bin``.
- CTranslate2's ``model.bin``, or its folder (faster-whisper's models), in float32 or float16.

All become tensors under the names of :class:`.whisper.Encoder`, which are Hugging Face's with other beginnings.
"""

from __future__ import annotations

import pickle
import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from s3prl_metaperser.errors import UserError, shown
from s3prl_metaperser.s3prl_stack.weights_files import read_settings
from s3prl_metaperser.upstream.own import ModelTensors

_CONFIG, _EXTRACTOR, _CT2 = "config.json", "preprocessor_config.json", "model.bin"
_CT2_NAME = b"WhisperSpec\0"
#: CTranslate2's number of a type -> the type; others are quantised.
_CT2_TYPES: dict[int, np.dtype[Any]] = {
    0: np.dtype("<f4"),
    1: np.dtype("i1"),
    2: np.dtype("<i2"),
    3: np.dtype("<i4"),
    4: np.dtype("<f2"),
}
#: What the audio front-end of every Whisper is.
_FRONT_END = {"sampling_rate": 16_000, "n_fft": 400, "hop_length": 160, "do_normalize": False, "dither": 0.0}
_OURS = (
    (r"conv", "feature_extractor.conv"),
    (r"embed_positions\.weight", "encoder.positions"),
    (r"layers\.", "encoder.layers."),
    (r"layer_norm\.", "encoder.layer_norm."),
)
_OPENAI = (
    *((r"^positional_embedding$", "embed_positions.weight"), (r"^ln_post\.", "layer_norm."), (r"^blocks\.", "layers.")),
    *((r"\.attn\.query\.", ".self_attn.q_proj."), (r"\.attn\.key\.", ".self_attn.k_proj.")),
    *((r"\.attn\.value\.", ".self_attn.v_proj."), (r"\.attn\.out\.", ".self_attn.out_proj.")),
    *((r"\.attn_ln\.", ".self_attn_layer_norm."), (r"\.mlp_ln\.", ".final_layer_norm.")),
    *((r"\.mlp\.0\.", ".fc1."), (r"\.mlp\.2\.", ".fc2.")),
)
_CT2_NAMES = (
    *((r"^position_encodings/encodings$", "embed_positions/weight"), (r"^layer_(\d+)/", r"layers/\1/")),
    *(
        (r"/self_attention/linear_1/", "/self_attn/out_proj/"),
        (r"/self_attention/layer_norm/", "/self_attn_layer_norm/"),
    ),
    *((r"/ffn/layer_norm/", "/final_layer_norm/"), (r"/ffn/linear_0/", "/fc1/"), (r"/ffn/linear_1/", "/fc2/")),
    *((r"/gamma$", "/weight"), (r"/beta$", "/bias"), (r"/", ".")),
)


@dataclass(frozen=True)
class EncoderWeights(ModelTensors):
    """An encoder's weights by their names in :class:`.whisper.Encoder`.

    Attributes:
        heads: of attention.
    """

    what: ClassVar[str] = "one Whisper encoder"
    heads: int

    @property
    def mels(self) -> int:
        """Bands of the spectrogram."""
        return self.shape("feature_extractor.conv1.weight", 3)[1]

    @property
    def size(self) -> int:
        """D, of a hidden state."""
        return self.shape("feature_extractor.conv1.weight", 3)[0]

    @property
    def positions(self) -> int:
        """The most frames that it takes."""
        return self.shape("encoder.positions", 2)[0]

    @property
    def inner(self) -> int:
        """Size of the feed-forward part."""
        return self.shape("encoder.layers.0.fc1.weight", 2)[0]

    def __post_init__(self) -> None:
        if self.size % self.heads:
            raise UserError(f"-k {self.source}: {self.heads} heads do not divide its {self.size} features.")


def read_encoder(path: Path) -> EncoderWeights:
    """Weights from a file or folder; which form it has is seen from its content.

    Raises:
        UserError: none of the three forms, damaged, quantised, or not what its own configuration says.
    """
    if path.is_dir():
        if (path / _CONFIG).is_file() and "model_type" in (config := read_settings(path / _CONFIG)):
            return _hugging_face(path, config)
        if (path / _CT2).is_file():
            return _ctranslate2(path / _CT2)
        files = sorted(file.name for file in path.glob("*.pt"))
        way = f"Give the file: -k {path / files[0]}." if files else "Give OpenAI's .pt file, or one of these folders."
        raise UserError(
            f"-k {path}: neither a folder of Hugging Face's ({_CONFIG} and weights) nor of CTranslate2's ({_CT2}). "
            f"{way}"
        )
    with path.open("rb") as file:
        start = file.read(32)
    if _CT2_NAME[:-1] in start:
        return _ctranslate2(path)
    if start[8:9] == b"{":  # safetensors
        raise UserError(f"-k {path}: these are weights without their configuration. Give the folder: -k {path.parent}.")
    return _openai(path)


# ------------------------------------------------------------------ the three forms


def _openai(path: Path) -> EncoderWeights:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError) as error:
        vectors = " Vectors by name are -u embeddings." if path.suffix == ".npz" else ""
        raise UserError(
            f"-k {path} cannot be read as a checkpoint of Whisper ({shown(str(error).splitlines()[0], 120)}). Give "
            f"OpenAI's .pt file, or a folder of Hugging Face's or CTranslate2's.{vectors}"
        ) from None
    dims, state = (content.get(key) if isinstance(content, dict) else None for key in ("dims", "model_state_dict"))
    if not isinstance(dims, dict) or not isinstance(state, dict):
        folder = f" Of Hugging Face's give the folder: -k {path.parent}." if (path.parent / _CONFIG).is_file() else ""
        raise UserError(
            f"-k {path}: it has no dims and model_state_dict, as OpenAI's checkpoints of Whisper have.{folder}"
        )
    found = EncoderWeights(path, _ours(path, _encoder(path, state), _OPENAI), _heads(path, dims.get("n_audio_head")))
    _compare(found, dims, mels="n_mels", positions="n_audio_ctx", size="n_audio_state", layers="n_audio_layer")
    return found


def _hugging_face(folder: Path, config: Mapping[str, Any]) -> EncoderWeights:
    if config["model_type"] != "whisper":
        raise UserError(f"-k {folder}: {_CONFIG} describes a model of type {shown(config['model_type'])}, not whisper.")
    for key, wanted in (("activation_function", "gelu"), ("scale_embedding", False)):
        if config.get(key, wanted) != wanted:
            raise UserError(f"-k {folder}: {_CONFIG} says {key}: {shown(config[key])}; only {wanted} is known here.")
    state = _pretrained(folder)
    heads = _heads(folder, config.get("encoder_attention_heads"))
    found = EncoderWeights(folder, _ours(folder, _encoder(folder, state)), heads)
    names = {"mels": "num_mel_bins", "positions": "max_source_positions", "size": "d_model"}
    _compare(found, config, **names, layers="encoder_layers", inner="encoder_ffn_dim")
    if (folder / _EXTRACTOR).is_file():
        extractor = read_settings(folder / _EXTRACTOR)
        for key, value in {**_FRONT_END, "feature_size": found.mels}.items():
            if extractor.get(key, value) != value:
                raise UserError(f"{folder / _EXTRACTOR} says {key}: {shown(extractor[key])}; Whisper has {value} here.")
    return found


def _pretrained(folder: Path) -> dict[str, Any]:
    """The state dict of a folder, from the files that ``from_pretrained`` would take."""
    for name in ("model.safetensors", "pytorch_model.bin"):
        files = [folder / name]
        if (index := folder / f"{name}.index.json").is_file() and not files[0].is_file():
            parts = read_settings(index).get("weight_map")
            files = (
                [folder / Path(str(part)).name for part in sorted(set(parts.values()))]
                if isinstance(parts, dict)
                else []
            )
        if not files or not files[0].is_file():
            continue
        state: dict[str, Any] = {}
        for file in files:
            try:
                read = (
                    torch.load(file, map_location="cpu", weights_only=True)
                    if file.suffix == ".bin"
                    else load_file(file)
                )
            except (SafetensorError, OSError) as error:
                raise UserError(f"{file} cannot be read ({error}). Copy the folder again.") from None
            state |= read
        return state
    raise UserError(f"-k {folder}: the folder has no weights (model.safetensors or pytorch_model.bin).")


def _ctranslate2(path: Path) -> EncoderWeights:
    try:
        with path.open("rb") as file:
            values = _variables(file)
    except (struct.error, ValueError, UnicodeDecodeError):
        raise UserError(f"-k {path}: the file is cut off or damaged. Copy or download it again.") from None
    values = {name.removeprefix("encoder/"): value for name, value in values.items() if name.startswith("encoder/")}
    heads = values.get("num_heads")
    values = {name: value for name, value in values.items() if value.ndim}  # a single number is a setting
    quantised = sorted(name for name, value in values.items() if value.dtype.kind != "f")
    if quantised:
        raise UserError(
            f"-k {path}: its weights are quantised ({quantised[0]}), which changes features. Convert the model again "
            "with --quantization float16 or float32."
        )
    tensors = {name: torch.from_numpy(value.copy()) for name, value in values.items()}
    for name in [name for name in tensors if "/self_attention/linear_0/" in name]:
        layer, _, kind = name.partition("/self_attention/linear_0/")
        for part, value in zip("qkv", tensors.pop(name).chunk(3), strict=True):
            tensors[f"{layer}/self_attn/{part}_proj/{kind}"] = value
    for name in [name for name in tensors if name.endswith("/k_proj/bias")]:
        if tensors.pop(name).count_nonzero():
            raise UserError(f"-k {path}: {name} is not zero, as it is in every Whisper.")
    found = EncoderWeights(path, _ours(path, tensors, _CT2_NAMES), 1)
    # files of before num_heads was stored: every Whisper has heads of 64
    return replace(found, heads=_heads(path, found.size // 64 if heads is None else int(heads)))


def _variables(file: BinaryIO) -> dict[str, np.ndarray]:
    """All that a CTranslate2 file holds, by name; see its ``ModelSpec`` for the form.

    Raises:
        struct.error, ValueError: the file ends too early, or holds a type that is not known.
    """

    def number(form: str) -> int:
        return struct.unpack(f"<{form}", file.read(struct.calcsize(form)))[0]

    def text() -> str:
        return _exactly(file, number("H")).rstrip(b"\0").decode()

    version, name, _ = number("I"), text(), number("I")
    if version < 3 or name.encode() != _CT2_NAME[:-1]:
        raise ValueError(name)
    found: dict[str, np.ndarray] = {}
    for _ in range(number("I")):
        name, dimensions = text(), number("B")
        shape = [number("I") for _ in range(dimensions)]
        kind, size = number("B"), number("I")
        values = np.frombuffer(_exactly(file, size), _CT2_TYPES.get(kind, np.dtype(np.uint8)))
        found[name] = values.reshape(shape) if kind in _CT2_TYPES else values
    for _ in range(number("I")):
        alias, of = text(), text()
        if of not in found:
            raise ValueError(of)
        found[alias] = found[of]
    return found


def _exactly(file: BinaryIO, size: int) -> bytes:
    content = file.read(size)
    if len(content) != size:
        raise ValueError("cut off")
    return content


# ------------------------------------------------------------------ what they share


def _encoder(path: Path, state: Mapping[str, Any]) -> dict[str, Tensor]:
    """The encoder's part of a state dict, without what stands before its names."""
    for prefix in ("model.encoder.", "encoder."):
        found = {name.removeprefix(prefix): value for name, value in state.items() if str(name).startswith(prefix)}
        if found and all(isinstance(value, Tensor) for value in found.values()):
            return found
    names = ", ".join(str(name) for name in list(state)[:3])
    raise UserError(
        f"-k {path}: no weights of an encoder in it, only {names}, ... Give a Whisper model, not a part of it."
    )


def _ours(path: Path, tensors: Mapping[str, Tensor], names: Iterable[tuple[str, str]] = ()) -> dict[str, Tensor]:
    """Tensors under the names that :class:`.whisper.Encoder` has for them."""
    found = {}
    for name, value in tensors.items():
        for pattern, replacement in names:
            name = re.sub(pattern, replacement, name)
        for pattern, replacement in _OURS:
            if re.match(pattern, name):
                name = re.sub(pattern, replacement, name, count=1)
                break
        if name in found:
            raise UserError(f"-k {path}: two weights are {name}.")
        found[name] = value
    return found


def _heads(path: Path, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UserError(f"-k {path}: it does not say how many heads the encoder has ({shown(value)}).")
    return value


def _compare(found: EncoderWeights, said: Mapping[str, Any], **names: str) -> None:
    """Refuse weights of another shape than their configuration says."""
    for attribute, key in names.items():
        if said.get(key, getattr(found, attribute)) != getattr(found, attribute):
            raise UserError(
                f"-k {found.source}: its configuration says {key}: {shown(said[key])}, its weights have "
                f"{getattr(found, attribute)}. They do not belong together; copy or convert the model again."
            )
