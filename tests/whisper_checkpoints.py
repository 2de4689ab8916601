"""Whisper models of random weights in the three forms in which they are given away."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch

#: Of the tiny model: 2 blocks of 16 features, at most 3 s.
DIMS = {"n_mels": 80, "n_audio_ctx": 150, "n_audio_state": 16, "n_audio_head": 2, "n_audio_layer": 2}
_TYPES = {
    np.dtype("float32"): 0,
    np.dtype("int8"): 1,
    np.dtype("int16"): 2,
    np.dtype("int32"): 3,
    np.dtype("float16"): 4,
}


def hugging_face(seed: int = 0, **changes: Any) -> Any:
    """A model of Hugging Face's, in evaluation mode; the random generators stay as they were."""
    from s3prl_metaperser.s3prl_stack import compat

    compat.apply()  # transformers imports torchaudio
    from transformers import WhisperConfig, WhisperModel

    shape = {"d_model": 16, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 64}
    shape |= {"decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 32, "vocab_size": 60}
    shape |= {"max_source_positions": 150, "max_target_positions": 8, "num_mel_bins": 80}
    tokens = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"), 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = WhisperModel(WhisperConfig(**{**shape, **tokens, **changes}))
        with torch.no_grad():
            for parameter in model.encoder.parameters():  # norms and biases, too, are of no special value
                parameter += 0.2 * torch.randn(parameter.shape)
    return model.eval()


def write_hugging_face(model: Any, folder: Path) -> Path:
    """Its folder."""
    from transformers import WhisperFeatureExtractor

    model.save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=model.config.num_mel_bins, chunk_length=3).save_pretrained(folder)
    return folder


def write_openai(model: Any, file: Path, **dims: int) -> Path:
    """OpenAI's checkpoint, in half precision as they are given away if the model is."""
    names = [
        *((r"embed_positions\.weight", "positional_embedding"), (r"^encoder\.layer_norm", "encoder.ln_post")),
        *((r"\.layers\.", ".blocks."), (r"self_attn\.q_proj", "attn.query"), (r"self_attn\.k_proj", "attn.key")),
        *((r"self_attn\.v_proj", "attn.value"), (r"self_attn\.out_proj", "attn.out")),
        *((r"self_attn_layer_norm", "attn_ln"), (r"fc1", "mlp.0"), (r"fc2", "mlp.2")),
        *((r"final_layer_norm", "mlp_ln"), (r"^decoder\.embed_tokens", "decoder.token_embedding")),
    ]
    state = {}
    for name, value in model.state_dict().items():
        for pattern, replacement in names:
            name = re.sub(pattern, replacement, name)
        state[name] = value
    text = {"n_vocab": 60, "n_text_ctx": 8, "n_text_state": 16, "n_text_head": 2, "n_text_layer": 1}
    torch.save({"dims": {**DIMS, **text, **dims}, "model_state_dict": state}, file)
    return file


def ctranslate2_variables(model: Any) -> dict[str, np.ndarray]:
    """What CTranslate2's converter makes of it."""
    state = {name.removeprefix("encoder."): value.numpy() for name, value in model.encoder.state_dict().items()}
    found: dict[str, np.ndarray] = {"encoder/num_heads": np.array(model.config.encoder_attention_heads, np.int16)}
    for name in ("conv1", "conv2"):
        found |= {f"encoder/{name}/{kind}": state[f"{name}.{kind}"] for kind in ("weight", "bias")}
    found["encoder/position_encodings/encodings"] = state["embed_positions.weight"]
    norms = {"encoder/layer_norm": "layer_norm"}
    for layer in range(model.config.encoder_layers):
        theirs, ours = f"encoder/layer_{layer}", f"layers.{layer}"
        norms |= {f"{theirs}/self_attention/layer_norm": f"{ours}.self_attn_layer_norm"}
        norms |= {f"{theirs}/ffn/layer_norm": f"{ours}.final_layer_norm"}
        parts = [f"{ours}.self_attn.{part}_proj" for part in "qkv"]
        no_bias = np.zeros_like(state[f"{parts[0]}.bias"])
        joined = {
            "weight": np.concatenate([state[f"{part}.weight"] for part in parts]),
            "bias": np.concatenate([state.get(f"{part}.bias", no_bias) for part in parts]),
        }
        for kind in ("weight", "bias"):
            found[f"{theirs}/self_attention/linear_0/{kind}"] = joined[kind]
            found[f"{theirs}/self_attention/linear_1/{kind}"] = state[f"{ours}.self_attn.out_proj.{kind}"]
            found |= {f"{theirs}/ffn/linear_{n}/{kind}": state[f"{ours}.fc{n + 1}.{kind}"] for n in (0, 1)}
    for theirs, ours in norms.items():
        found |= {f"{theirs}/gamma": state[f"{ours}.weight"], f"{theirs}/beta": state[f"{ours}.bias"]}
    found["decoder/scale_embeddings"] = np.array(0, np.int8)
    return found


def write_ctranslate2(variables: dict[str, np.ndarray], file: Path, aliases: dict[str, str] | None = None) -> Path:
    """``model.bin`` as CTranslate2's ``ModelSpec`` writes it."""

    def text(value: str) -> bytes:
        return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"

    out = struct.pack("<I", 6) + text("WhisperSpec") + struct.pack("<II", 3, len(variables))
    for name, value in variables.items():
        out += text(name) + struct.pack("<B", value.ndim) + b"".join(struct.pack("<I", n) for n in value.shape)
        out += struct.pack("<BI", _TYPES[value.dtype], value.nbytes) + np.ascontiguousarray(value).tobytes()
    out += struct.pack("<I", len(aliases or {}))
    out += b"".join(text(alias) + text(of) for alias, of in (aliases or {}).items())
    file.write_bytes(out)
    return file
