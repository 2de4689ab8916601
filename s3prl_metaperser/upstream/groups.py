"""Which parameters of an upstream adapt: groups with names that mean the same in every model."""

from __future__ import annotations

import re

from torch import nn

from s3prl_metaperser.errors import UserError, unknown_name

#: Group -> the parameters that belong to it, as a pattern at the start of a parameter's name within the upstream. For
#: s3prl's wavlm, hubert and wav2vec2, and Hugging Face's through hf_hubert_custom and hf_wav2vec2_custom.
GROUPS = {
    "front_end": r"model\.feature_extractor\.",
    "projection": r"model\.(post_extract_proj|layer_norm|feature_projection)\.",
    "positional": r"model\.encoder\.(pos_conv|pos_conv_embed|layers\.\d+\.self_attn\.relative_attention_bias)\.",
    "layers": r"model\.encoder\.layers\.\d+\.",
    "encoder_norm": r"model\.encoder\.layer_norm\.",
}
_LAYER = re.compile(r"model\.encoder\.layers\.(\d+)\.")


def group_of(parameter: str) -> str:
    """The group of a parameter, the first that matches: ``layer.3`` for one of transformer layer 3; else ``other``."""
    for group, pattern in GROUPS.items():
        if re.match(pattern, parameter):
            layer = _LAYER.match(parameter) if group == "layers" else None
            return f"layer.{layer[1]}" if layer else group
    return "other"


def groups(upstream: nn.Module) -> dict[str, list[str]]:
    """Group -> names of its parameters, in the upstream's order. ``layers`` are all ``layer.N`` together.

    - ``front_end``: the convolutions over the waveform.
    - ``projection``: feature layer norm and linear projection to the transformer's width.
    - ``positional``: positional convolution, and WavLM's relative position bias, which all its layers share.
    - ``layer.0``, ``layer.1``, ...: transformer layers from the input up.
    - ``encoder_norm``: the encoder's own layer norm, before its layers in Base models and after them in Large ones.
    - ``other``: everything else; mostly parts that only pre-training uses.
    """
    found: dict[str, list[str]] = {}
    for name, _ in upstream.named_parameters():
        found.setdefault(group_of(name), []).append(name)
    layers = [name for group, names in found.items() if group.startswith("layer.") for name in names]
    return {**found, "layers": layers} if layers else found


def adapting(upstream: nn.Module, adapt: str, train_front_end: bool) -> set[str]:
    """Names of the parameters that ``adapt`` asks for.

    Args:
        adapt: ``all``; ``top:N``, the last N transformer layers; or names of groups, separated by commas.
        train_front_end: whether the convolutional front-end adapts, too.

    Raises:
        UserError: an unknown group, with those that this upstream has; too many layers; or the front-end is named
            but not to be trained.
    """
    known = groups(upstream)
    if adapt == "all":
        chosen: list[str] = [group for group in known if group != "front_end"]
    elif adapt.startswith("top:"):
        chosen = _top(adapt, sum(group.startswith("layer.") for group in known))
    else:
        chosen = [group.strip() for group in adapt.split(",")]
        for group in chosen:
            if group not in known:
                alone = ["all", "top:N"] if len(chosen) == 1 else []  # neither can stand in a list
                raise unknown_name("group of parameters", group, [*alone, *known])
        if "front_end" in chosen and not train_front_end:
            raise UserError(f"adapt: {adapt} names the front-end, which is frozen. Also set train_front_end: true.")
    names = {name for group in chosen for name in known[group]}
    return names | set(known.get("front_end", ()) if train_front_end else ())


def _top(adapt: str, layers: int) -> list[str]:
    text = adapt.removeprefix("top:")
    if not text.isdecimal() or not 1 <= int(text) <= layers:
        raise UserError(f"Bad value {adapt!r} for adapt, expected top:1 to top:{layers} for this upstream's layers.")
    return [f"layer.{index}" for index in range(layers - int(text), layers)]
