"""Random-weight checkpoints in the formats that s3prl loads, for tests that need an upstream and no network.

python tests/random_checkpoints.py wavlm /tmp/wavlm.pt --size base
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

KINDS = ("wavlm", "hubert", "wav2vec2", "hf_hubert", "hf_wav2vec2")
# kind -> the name after -u that loads it
UPSTREAM = {
    "wavlm": "wavlm_local",
    "hubert": "hubert_local",
    "wav2vec2": "wav2vec2_local",
    "hf_hubert": "hf_hubert_custom",
    "hf_wav2vec2": "hf_wav2vec2_custom",
}
_SIZES: dict[str, dict[str, int]] = {
    "tiny": {"conv": 8, "blocks": 2, "dim": 16, "inner": 32, "heads": 2, "position": 16, "groups": 2, "final": 8},
    "base": {
        **{"conv": 512, "blocks": 12, "dim": 768, "inner": 3072, "heads": 12},
        **{"position": 128, "groups": 16, "final": 256},
    },
}
_KERNELS_STRIDES = [(10, 5), *[(3, 2)] * 4, *[(2, 2)] * 2]  # one frame every 320 samples


def make_checkpoint(kind: str, out: str | Path, seed: int = 0, size: str = "tiny", **changes: Any) -> Path:
    """Write a checkpoint of random weights and leave the random generators as they were.

    Args:
        kind: one of ``KINDS``.
        out: the file to write, or for the ``hf_`` kinds the folder.
        seed: of the weights.
        size: "tiny" (2 blocks of 16 features) or "base" (the published Base models' shape).
        changes: entries of the model's configuration that differ, e.g. ``extractor_mode="layer_norm"``.

    Returns:
        ``out``.
    """
    from s3prl_metaperser.s3prl_stack import compat

    compat.apply()
    out = Path(out)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if kind.startswith("hf_"):
            _save_pretrained(kind, out, _SIZES[size], changes)
        else:
            state = {"wavlm": _wavlm, "hubert": _hubert, "wav2vec2": _wav2vec2}[kind](_SIZES[size], changes)
            out.parent.mkdir(parents=True, exist_ok=True)
            torch.save(state, out)
    return out


def _shape(size: dict[str, int]) -> dict[str, Any]:
    """What WavLM, HuBERT and wav2vec 2.0 call the same."""
    layers = [(size["conv"], kernel, stride) for kernel, stride in _KERNELS_STRIDES]
    return {
        "conv_feature_layers": str(layers),
        "encoder_layers": size["blocks"],
        "encoder_embed_dim": size["dim"],
        "encoder_ffn_embed_dim": size["inner"],
        "encoder_attention_heads": size["heads"],
        "conv_pos": size["position"],
        "conv_pos_groups": size["groups"],
        "feature_grad_mult": 0.1,
    }


def _wavlm(size: dict[str, int], changes: dict[str, Any]) -> dict[str, Any]:
    from s3prl.upstream.wavlm.WavLM import WavLM, WavLMConfig

    position = {"relative_position_embedding": True, "gru_rel_pos": True, "num_buckets": 320, "max_distance": 800}
    config = {**_shape(size), **position, "extractor_mode": "default", "normalize": False, **changes}
    return {"cfg": config, "model": WavLM(WavLMConfig(config)).state_dict()}


def _hubert(size: dict[str, int], changes: dict[str, Any]) -> dict[str, Any]:
    from s3prl.upstream.hubert.hubert_model import HubertConfig, HubertModel, HubertPretrainingConfig

    task = {"label_rate": 50.0, "sample_rate": 16000, "normalize": False}
    config = {**_shape(size), "label_rate": 50.0, "final_dim": size["final"], **changes}
    symbols = [[str(unit) for unit in range(12)]]
    model = HubertModel(HubertConfig(**config), HubertPretrainingConfig(**task), symbols)
    return {"task_cfg": task, "model_cfg": config, "model_weight": model.state_dict(), "dictionaries_symbols": symbols}


def _wav2vec2(size: dict[str, int], changes: dict[str, Any]) -> dict[str, Any]:
    from s3prl.upstream.wav2vec2.wav2vec2_model import Wav2Vec2Config, Wav2Vec2Model

    config = {**_shape(size), "final_dim": size["final"], "quantize_targets": True, "latent_vars": 8, **changes}
    model = Wav2Vec2Model(Wav2Vec2Config(**config))
    return {
        "task_cfg": {"sample_rate": 16000, "normalize": False},
        "model_cfg": config,
        "model_weight": model.state_dict(),
    }


def _save_pretrained(kind: str, out: Path, size: dict[str, int], changes: dict[str, Any]) -> None:
    import transformers

    name = {"hf_hubert": "Hubert", "hf_wav2vec2": "Wav2Vec2"}[kind]
    config = getattr(transformers, f"{name}Config")(
        hidden_size=size["dim"],
        num_hidden_layers=size["blocks"],
        num_attention_heads=size["heads"],
        intermediate_size=size["inner"],
        conv_dim=[size["conv"]] * len(_KERNELS_STRIDES),
        conv_kernel=[kernel for kernel, _ in _KERNELS_STRIDES],
        conv_stride=[stride for _, stride in _KERNELS_STRIDES],
        num_feat_extract_layers=len(_KERNELS_STRIDES),
        num_conv_pos_embeddings=size["position"],
        num_conv_pos_embedding_groups=size["groups"],
        **changes,
    )
    getattr(transformers, f"{name}Model")(config).save_pretrained(out)
    extractor = transformers.Wav2Vec2FeatureExtractor(
        sampling_rate=16000, do_normalize=True, return_attention_mask=False
    )
    extractor.save_pretrained(out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("out", type=Path)
    parser.add_argument("--size", choices=_SIZES, default="tiny")
    parser.add_argument("--seed", type=int, default=0)
    print(make_checkpoint(**vars(parser.parse_args())))
