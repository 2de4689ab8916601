"""Every number that computes a feature comes from the file that the identity names; or there is one error."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from random_checkpoints import UPSTREAM, make_checkpoint
from safetensors.torch import load_file, save_file

from s3prl_metaperser.errors import UserError
from s3prl_metaperser.s3prl_stack import compat
from s3prl_metaperser.s3prl_stack.hub import build_upstream
from s3prl_metaperser.s3prl_stack.whole_weights import whole

compat.apply()
# s3prl's WavLM hands torch a boolean and a float mask
pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask:UserWarning")
WEIGHTS = {"wavlm": "model", "hubert": "model_weight", "wav2vec2": "model_weight"}
OLD_AND_NEW = (("parametrizations.weight.original0", "weight_g"), ("parametrizations.weight.original1", "weight_v"))


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("originals")
    return {kind: make_checkpoint(kind, folder / kind) for kind in UPSTREAM}


@pytest.fixture
def edited(originals, tmp_path):
    """A copy of a checkpoint with other weights, configuration or feature extractor."""

    def make(kind, weights=dict, config=None, extractor=None) -> str:
        copy = tmp_path / "copy"
        if not kind.startswith("hf_"):
            content = torch.load(originals[kind], weights_only=True)
            content[WEIGHTS[kind]] = weights(content[WEIGHTS[kind]])
            for section, changes in (config or {}).items():
                content[section] |= changes
            torch.save(content, copy)
            return str(copy)
        shutil.copytree(originals[kind], copy)
        tensors = weights(load_file(copy / "model.safetensors"))
        save_file({name: value.contiguous() for name, value in tensors.items()}, copy / "model.safetensors")
        for name, changes in (("config.json", config), ("preprocessor_config.json", extractor)):
            settings = json.loads((copy / name).read_text())
            (copy / name).write_text(json.dumps(settings | (changes or {})))
        return str(copy)

    return make


def before(prefix: str):
    return lambda tensors: {f"{prefix}{name}": value for name, value in tensors.items()}


def without(part: str):
    return lambda tensors: {name: value for name, value in tensors.items() if part not in name}


def renamed(new_names: bool):
    def rename(tensors):
        found = {}
        for name, value in tensors.items():
            for new, old in OLD_AND_NEW:
                name = name.replace(old, new) if new_names else name.replace(new, old)
            found[name] = value
        return found

    return rename


def states(kind: str, file) -> torch.Tensor:
    upstream = build_upstream(UPSTREAM[kind], str(file)).eval()
    noise = torch.randn(4000, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return torch.stack(upstream([noise])["hidden_states"])


# ------------------------------------------------------------------ whole, and taken as such


@pytest.mark.parametrize("kind", UPSTREAM)
@pytest.mark.parametrize("new_names", [True, False])
def test_both_names_of_weight_norm_are_the_same_model(originals, edited, kind, new_names):
    assert torch.equal(states(kind, edited(kind, renamed(new_names))), states(kind, originals[kind]))


@pytest.mark.parametrize(
    "weights",
    [
        without("masked_spec_embed"),
        lambda tensors: {**before("wav2vec2.")(tensors), "lm_head.weight": torch.zeros(5, 16)},
        lambda tensors: {**before("wav2vec2.")(tensors), "quantizer.codevectors": torch.zeros(1, 5, 16)},
    ],
    ids=["no masked_spec_embed", "a head for CTC", "a head for pre-training"],
)
def test_what_no_feature_depends_on_may_be_missing_or_left_over(originals, edited, weights):
    assert torch.equal(
        states("hf_wav2vec2", edited("hf_wav2vec2", weights)), states("hf_wav2vec2", originals["hf_wav2vec2"])
    )


@pytest.mark.parametrize("kind", ["wavlm", "hubert", "hf_hubert"])
def test_half_precision_is_computed_in_float32_and_said(edited, capsys, kind):
    file = edited(kind, lambda tensors: {n: v.half() if v.is_floating_point() else v for n, v in tensors.items()})
    assert states(kind, file).dtype == torch.float32
    assert "weights in half precision, computed in float32" in capsys.readouterr().err


def test_a_configuration_that_says_half_rounds_nothing(originals, edited):
    file = edited("hf_wav2vec2", config={"dtype": "float16", "torch_dtype": "float16"})
    assert torch.equal(states("hf_wav2vec2", file), states("hf_wav2vec2", originals["hf_wav2vec2"]))


def test_building_leaves_every_random_state_alone(originals):
    import random

    def now():
        return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()

    states_before = now()
    build_upstream("fbank_no_cmvn")
    for kind in ("wavlm", "hubert"):
        build_upstream(UPSTREAM[kind], str(originals[kind]))
    assert now() == states_before


# ------------------------------------------------------------------ not whole


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("hf_wav2vec2", {"config": {"num_hidden_layers": 3}}, r"16 parameters .* not in .*copy and would be random: "),
        ("hf_wav2vec2", {"config": {"num_hidden_layers": 1}}, r"weights \(16\) .* no place for: encoder\.layers\.1"),
        ("hf_wav2vec2", {"config": {"feat_extract_norm": "layer"}}, r"12 parameters .*conv_layers\.1\.layer_norm"),
        ("hf_hubert", {"weights": without("layers.1.final_layer_norm.bias")}, r"1 parameter of the model is not in"),
        ("hf_hubert", {"weights": without("pos_conv_embed")}, r"3 parameters .*pos_conv_embed\.conv\.bias"),
        ("hf_wav2vec2", {"weights": before("module.")}, r"begin with 'module\.', as another trainer"),
        ("hf_wav2vec2", {"weights": before("model.wav2vec2.")}, r"begin with 'model\.wav2vec2\.'"),
        ("wavlm", {"weights": before("module.")}, r"begin with 'module\.'"),
        ("hubert", {"weights": before("model.")}, r"begin with 'model\.'"),
        ("hf_hubert", {"config": {"model_type": "wav2vec2"}}, r"type 'wav2vec2', not hubert\. Use -u hf_wav2"),
        ("hf_hubert", {"config": {"model_type": "wavlm"}}, r"type 'wavlm', not hubert\. s3prl's hub has no upstream"),
        ("hf_hubert", {"config": {"num_hidden_layers": None}}, r"cannot load .*copy"),
        ("hf_wav2vec2", {"extractor": {"sampling_rate": 8000}}, r"sampling_rate 8000"),
        ("hubert", {"config": {"task_cfg": {"sample_rate": 8000}}}, r"trained on audio at 8000 Hz"),
        ("hf_wav2vec2", {"weights": lambda t: {n: v * float("nan") for n, v in t.items()}}, "holds NaN or infinity"),
    ],
)
def test_a_model_that_is_not_whole_is_one_error(edited, kind, changes, message):
    with pytest.raises(UserError, match=message):
        build_upstream(UPSTREAM[kind], edited(kind, **changes))


def test_an_upstream_of_random_weights_is_refused_with_a_file_and_without(originals):
    with pytest.raises(UserError, match=r"4 parameters .* random: no file holds them: model1\.bias"):
        build_upstream("customized_upstream")
    with pytest.raises(UserError, match=r"4 parameters .* are not in .*wavlm and would be random"):
        build_upstream("customized_upstream", str(originals["wavlm"]))


def cpc(change) -> dict:
    """A checkpoint for one of s3prl's loaders that pass over what a file lacks."""
    from s3prl.upstream.cpc import expert

    config = expert.get_default_cpc_config()
    weights = expert.cpcmodel(expert.getEncoder(config), expert.getAR(config)).state_dict()
    return {"config": vars(config), "weights": change(weights)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("gAR"), r"4 parameters .* random: model\.gAR\.baseNet"),
        (without("batchNorm0.bias"), r"1 parameter of the model .* random: model\.gEncoder\.batchNorm0\.bias"),
        (before("module."), r"begin with 'module\.'"),
    ],
)
def test_what_a_lenient_loader_of_s3prls_passes_over_is_an_error(tmp_path, change, message):
    torch.save(cpc(dict), tmp_path / "whole.pt")
    build_upstream("cpc_local", str(tmp_path / "whole.pt"))
    torch.save(cpc(change), tmp_path / "part.pt")
    with pytest.raises(UserError, match=message):
        build_upstream("cpc_local", str(tmp_path / "part.pt"))


class Loads(torch.nn.Module):
    """An upstream that takes what a state dict holds and passes over the rest, as several of s3prl's do."""

    def __init__(self, state, used: bool = True, dither: float = 0.0):
        super().__init__()
        self.norm, self.extra = torch.nn.LayerNorm(4), torch.nn.LayerNorm(4)
        self.used, self.dither = used, dither
        self.load_state_dict(state, strict=False)

    def forward(self, waves):
        frames = self.norm(waves[0].reshape(1, -1, 4))
        frames = frames + self.dither * torch.randn(frames.shape)
        return {"hidden_states": [self.extra(frames) if self.used else frames]}


def test_a_constant_in_the_place_of_a_missing_weight_is_noticed_where_features_depend_on_it():
    state = torch.nn.ModuleDict({"norm": torch.nn.LayerNorm(4), "extra": torch.nn.LayerNorm(4)}).state_dict()
    whole(lambda: Loads(state), "x", "x.pt")
    del state["extra.weight"]
    with pytest.raises(UserError, match=r"1 parameter of the model is not in x\.pt and would be random: extra\.weight"):
        whole(lambda: Loads(state), "x", "x.pt")
    whole(lambda: Loads(state, used=False), "x", "x.pt")


def test_features_that_are_drawn_are_refused():
    state = torch.nn.ModuleDict({"norm": torch.nn.LayerNorm(4), "extra": torch.nn.LayerNorm(4)}).state_dict()
    with pytest.raises(UserError, match=r"draws random numbers \(dither\?\)"):
        whole(lambda: Loads(state, dither=0.01), "x", "")
