"""Whisper's encoder as an ONNX graph, by torch's own exporter: half a minute on one core.

METAPERSER_INTEGRATION=1 pytest tests/integration/test_onnx_whisper.py
"""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from listener_fixtures import random_model, write_clips
from test_onnx import from_sound, published
from whisper_checkpoints import hugging_face, write_openai

from s3prl_metaperser.listener.recognizer import PersonalizedEmotionRecognizer

# the exporter asks for operators of a package that is not installed, and names what torch has renamed
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
    pytest.mark.skipif("METAPERSER_INTEGRATION" not in os.environ, reason="set METAPERSER_INTEGRATION=1"),
]


def test_whispers_encoder_is_exported_for_clips_of_any_length(tmp_path):
    weights = write_openai(hugging_face(), tmp_path / "tiny.pt")
    model = random_model(tmp_path / "model", "whisper_local", weights, shape=(3, 16))
    assert published(model, tmp_path / "out", "-k", weights) == 0
    clips = write_clips(tmp_path / "clips")
    expected = PersonalizedEmotionRecognizer.load(model, upstream_ckpt=weights).predict_proba(clips)
    np.testing.assert_allclose(from_sound(tmp_path / "out", clips), expected, atol=1e-4)
