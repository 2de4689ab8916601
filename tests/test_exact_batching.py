"""Whatever shares a batch, an utterance's hidden states are those it has alone."""

from __future__ import annotations

import pytest
import torch
from random_checkpoints import UPSTREAM, make_checkpoint

from s3prl_metaperser.errors import UserError
from s3prl_metaperser.s3prl_stack.hub import build_upstream
from s3prl_metaperser.upstream.batching import hidden_states, is_masked_transformer

pytestmark = [
    # s3prl's WavLM hands torch a boolean and a float mask
    pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask:UserWarning"),
    # s3prl's mel makes an MFCC extractor along the way that it does not use
    pytest.mark.filterwarnings("ignore:At least one mel filterbank has all zero values:UserWarning"),
]

LENGTHS = {
    "far apart": [32000, 112000, 7990],
    "a sample apart": [16000, 16001, 16079, 16080, 16081],
    "around a frame": [16319, 16320, 16321, 16399, 16400, 16401],
    "the longest first": [48000, 16000],
    "the shortest possible": [400, 16000, 719, 720],
    "equal": [16000, 16000],
    "one": [12345],
}
FEATURES = ("fbank_no_cmvn", "fbank", "mfcc", "mel")
HIDDEN = {"extractor_mode": "layer_norm", "layer_norm_first": True}


@pytest.fixture(scope="module")
def upstreams(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    built = {name: build_upstream(name).eval() for name in FEATURES}
    for kind, name in UPSTREAM.items():
        if not kind.startswith("hf_"):
            built[kind] = build_upstream(name, str(make_checkpoint(kind, folder / f"{kind}.pt"))).eval()
            large = make_checkpoint(kind, folder / f"{kind}_large.pt", **HIDDEN)
            built[f"{kind} as in Large"] = build_upstream(name, str(large)).eval()
    built["hf_hubert"] = build_upstream("hf_hubert_custom", str(make_checkpoint("hf_hubert", folder / "hf"))).eval()
    return built


MODELS = (
    *FEATURES,
    "hf_hubert",
    *(f"{k}{size}" for k in ("wavlm", "hubert", "wav2vec2") for size in ("", " as in Large")),
)


def waveforms(lengths: list[int], seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(length, generator=generator) * 0.1 for length in lengths]


def alone_in_s3prl(upstream, wav: torch.Tensor) -> torch.Tensor:
    """[L, T, D] as s3prl's own expert and Featurizer give for a batch of one: the oracle."""
    states = torch.stack(tuple(upstream([wav])["hidden_states"]))[:, 0]
    return states[:, : round(len(wav) / upstream.get_downsample_rates("hidden_states"))]


# normalised to unit variance over time, a single frame is not a number in s3prl
CASES = [(m, n) for m in MODELS for n in LENGTHS if not (m in FEATURES[1:] and n == "the shortest possible")]


@pytest.mark.parametrize(("model", "lengths"), CASES)
def test_a_batch_equals_its_utterances_one_by_one(upstreams, model, lengths):
    upstream, wavs = upstreams[model], waveforms(LENGTHS[lengths])
    with torch.no_grad():
        together = hidden_states(upstream, wavs)
        for wav, states in zip(wavs, together, strict=True):
            expected = alone_in_s3prl(upstream, wav)
            assert states.shape == expected.shape
            assert (states - expected).abs().max() <= 1e-5


def test_naive_batching_is_not_exact(upstreams):
    """The tests above can fail: s3prl's own batch differs by more than a thousand times their tolerance."""
    wavs = waveforms([32000, 112000])
    for kind in ("wavlm", "hubert", "wav2vec2"):
        with torch.no_grad():
            naive = torch.stack(upstreams[kind](wavs)["hidden_states"])[:, 0, :99]
            assert (naive - alone_in_s3prl(upstreams[kind], wavs[0])).abs().max() > 1e-2


def test_which_upstreams_share_batches(upstreams, tmp_path):
    expected = {model: model.startswith(("wavlm", "hubert", "wav2vec2")) for model in MODELS}
    assert {model: is_masked_transformer(upstreams[model]) for model in MODELS} == expected
    deep = make_checkpoint("wav2vec2", tmp_path / "deep.pt", pos_conv_depth=2)
    assert not is_masked_transformer(build_upstream("wav2vec2_local", str(deep)))
    assert not is_masked_transformer(torch.nn.Linear(1, 1))


def test_a_conformer_is_exact_one_by_one(tmp_path):
    file = make_checkpoint(
        "wav2vec2", tmp_path / "c.pt", layer_type="conformer", attn_type="espnet", pos_enc_type="rel_pos"
    )
    upstream, wavs = build_upstream("wav2vec2_local", str(file)).eval(), waveforms([16000, 9000])
    assert not is_masked_transformer(upstream)
    with torch.no_grad():
        states = hidden_states(upstream, wavs)
        assert torch.equal(states[1], alone_in_s3prl(upstream, wavs[1]))


@pytest.mark.parametrize("kind", ["wavlm", "hubert", "wav2vec2"])
def test_the_upstream_is_as_before_even_after_an_error(upstreams, kind):
    upstream = upstreams[kind]
    model = upstream.model
    before = (set(vars(upstream)), set(vars(model)), set(vars(model.feature_extractor)), list(model._modules))
    hidden_states(upstream, waveforms([16000, 9000]))
    with pytest.raises(RuntimeError):
        hidden_states(upstream, [torch.zeros(16000, 2), torch.zeros(9000, 2)])
    assert before == (set(vars(upstream)), set(vars(model)), set(vars(model.feature_extractor)), list(model._modules))


@pytest.mark.parametrize("kind", ["wavlm", "hubert", "wav2vec2"])
def test_gradients_of_a_batch_are_the_sum_of_the_utterances(upstreams, kind):
    upstream, wavs = upstreams[kind], waveforms([16000, 9000])
    weight = upstream.model.encoder.layers[0].fc1.weight

    def gradient(groups):
        loss = sum(states.pow(3).mean() for group in groups for states in hidden_states(upstream, group))
        return torch.autograd.grad(loss, weight)[0]

    together, apart = gradient([wavs]), gradient([[wav] for wav in wavs])
    assert together.abs().max() > 1e-3
    assert (together - apart).abs().max() <= 1e-5


def test_one_output_can_be_selected(upstreams):
    upstream, wavs = upstreams["wavlm"], waveforms([16000, 9000])
    with torch.no_grad():
        every = hidden_states(upstream, wavs)
        last = hidden_states(upstream, wavs, "last_hidden_state")
        first = hidden_states(upstream, wavs, "hidden_state_0")
    for i in range(2):
        assert torch.equal(last[i], every[i][-1:])
        assert torch.equal(first[i], every[i][:1])


class _Toy(torch.nn.Module):
    """An upstream of another package: frames of 100 samples as a dictionary of layers."""

    def __init__(self, extra_frames: int = 0):
        super().__init__()
        self.extra_frames = extra_frames

    def get_downsample_rates(self, key: str) -> int:
        return 100

    def forward(self, wavs):
        frames = max(len(wav) for wav in wavs) // 100 + 1 + self.extra_frames
        layer = torch.arange(frames, dtype=torch.float32)[None, :, None].expand(len(wavs), frames, 3)
        return {"hidden_states": {"a": layer, "b": layer + 1}, "_private": None}


def test_a_dictionary_of_layers_is_taken_in_its_order_and_cut_as_the_featurizer_does():
    short, long = hidden_states(_Toy(), waveforms([1049, 1051]))
    assert short.shape == (2, 10, 3)
    assert long.shape == (2, 11, 3)
    assert torch.equal(short[1], short[0] + 1)


def test_an_unknown_output_names_the_known_ones(upstreams):
    with pytest.raises(UserError, match=r"-s hidden_stats.*Did you mean 'hidden_states'.*last_hidden_state"):
        hidden_states(upstreams["wavlm"], waveforms([16000]), "hidden_stats")


def test_frames_that_do_not_fit_the_rate_are_refused():
    with pytest.raises(UserError, match="21 frames for 1000 samples"):
        hidden_states(_Toy(extra_frames=10), waveforms([1000]))


@pytest.mark.parametrize("model", ["wavlm", "hubert", "wav2vec2", "fbank_no_cmvn"])
def test_too_short_an_utterance_says_so(upstreams, model):
    with pytest.raises(UserError, match=r"An utterance of 300 samples \(18\.8 ms at 16 kHz\) is too short"):
        hidden_states(upstreams[model], waveforms([300, 16000]))
