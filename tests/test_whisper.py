"""Whisper's encoder as an upstream: three forms of weights, held against Hugging Face's implementation."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from test_adjoint import directional_errors, some_rates
from tiny_models import in_float64, tiny_model, waveforms, weighted
from whisper_checkpoints import ctranslate2_variables, hugging_face, write_ctranslate2, write_hugging_face, write_openai

from s3prl_metaperser.errors import UserError
from s3prl_metaperser.s3prl_stack.hub import build_upstream, checkpoint_hash
from s3prl_metaperser.upstream.batching import hidden_states
from s3prl_metaperser.upstream.groups import groups
from s3prl_metaperser.upstream.micro_batches import micro_losses
from s3prl_metaperser.upstream.pooling import pool_waveforms
from s3prl_metaperser.upstream.whisper import frames_of, mel_filters

LONGEST = 48_000  # samples, of the tiny model


@pytest.fixture(scope="module")
def model():
    return hugging_face()


@pytest.fixture(scope="module")
def files(model, tmp_path_factory):
    """The same weights in every form."""
    folder = tmp_path_factory.mktemp("whisper")
    write_hugging_face(model, folder / "hf")
    write_openai(model, folder / "openai.pt")
    (folder / "ct2").mkdir()
    write_ctranslate2(ctranslate2_variables(model), folder / "ct2" / "model.bin")
    (folder / "ct2" / "config.json").write_text('{"alignment_heads": [[0, 0]]}')
    return {name: folder / name for name in ("hf", "openai.pt", "ct2", "ct2/model.bin")}


def theirs(model, wave):
    """Hugging Face's hidden states [L, T, D] of a clip that is as long as their model takes, by their own extractor."""
    from transformers import WhisperFeatureExtractor

    extractor = WhisperFeatureExtractor(feature_size=model.config.num_mel_bins, chunk_length=3)
    mel = extractor(wave.numpy(), sampling_rate=16000, return_tensors="pt").input_features
    with torch.no_grad():
        return torch.stack(model.encoder(mel, output_hidden_states=True).hidden_states)[:, 0]


def built(file, **more):
    return build_upstream("whisper_local", str(file), **more).eval()


@pytest.mark.parametrize("form", ["hf", "openai.pt", "ct2", "ct2/model.bin"])
def test_every_form_of_the_weights_gives_hugging_faces_hidden_states(model, files, form):
    (wave,) = waveforms((LONGEST,))
    with torch.no_grad():
        (ours,) = hidden_states(built(files[form]), [wave])
    assert ours.shape == (3, 150, 16)
    torch.testing.assert_close(ours, theirs(model, wave), atol=2e-5, rtol=1e-4)


def test_a_folder_in_parts_or_of_torch_is_read_and_other_variants_beside_are_not(model, files, tmp_path):
    folder = write_hugging_face(model, tmp_path / "parts")
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(state)
    parts = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, inside in parts.items():
        save_file({name: state[name] for name in inside}, folder / file, metadata={"format": "pt"})
    places = {name: file for file, inside in parts.items() for name in inside}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    save_file({name: value + 1 for name, value in state.items()}, folder / "model.fp32-00001-of-00001.safetensors")
    torched = write_hugging_face(model, tmp_path / "torch")
    (torched / "model.safetensors").unlink()
    torch.save(state, torched / "pytorch_model.bin")
    (wave,) = waveforms((20_000,))
    with torch.no_grad():
        expected, *found = (hidden_states(built(file), [wave])[0] for file in (files["hf"], folder, torched))
    assert all(torch.equal(states, expected) for states in found)
    with pytest.raises(UserError, match="Of Hugging Face's give the folder: -k "):
        built(torched / "pytorch_model.bin")
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(UserError, match=r"model-00002-of-00002\.safetensors cannot be read"):
        built(folder)


def test_weights_in_half_precision_and_more_bands_are_read(tmp_path, files, capsys):
    model = hugging_face(seed=1, num_mel_bins=128)
    (wave,) = waveforms((LONGEST,))
    expected = theirs(hugging_face(seed=1, num_mel_bins=128).half().float(), wave)
    halves = model.half()
    variables = ctranslate2_variables(halves)
    for file in (write_openai(halves, tmp_path / "a.pt", n_mels=128), write_ctranslate2(variables, tmp_path / "b.bin")):
        with torch.no_grad():
            (ours,) = hidden_states(built(file), [wave])
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, expected, atol=2e-5, rtol=1e-4)
        assert "half precision" in capsys.readouterr().err


def test_a_clip_is_not_padded_unless_a_file_after_g_says_so(model, files, tmp_path):
    (wave,) = waveforms((16_160,))
    (tmp_path / "g.yaml").write_text("pad: true\n")
    alone, padded = built(files["hf"]), built(files["hf"], model_config=str(tmp_path / "g.yaml"))
    with torch.no_grad():
        (one,), (other,) = hidden_states(alone, [wave]), hidden_states(padded, [wave])
    assert one.shape == other.shape == (3, 51, 16), "every frame of the clip, and none of the padding"
    torch.testing.assert_close(other, theirs(model, wave)[:, :51], atol=2e-5, rtol=1e-4)
    assert (one - other).abs().max() > 0.01
    assert checkpoint_hash("whisper_local", str(files["hf"])) != checkpoint_hash(
        "whisper_local", str(files["hf"]), str(tmp_path / "g.yaml")
    )
    (tmp_path / "g.yaml").write_text("padded: true\n")
    with pytest.raises(UserError, match=r"g\.yaml.*padded"):
        built(files["hf"], model_config=str(tmp_path / "g.yaml"))


@pytest.mark.parametrize("samples", [300, 1_600, 16_000, 16_160, 16_319, 47_999, LONGEST, LONGEST + 1, 130_001])
def test_all_of_a_clip_is_heard_however_long_it_is(files, samples):
    upstream = built(files["ct2"])
    (wave,) = waveforms((samples,))
    parts = wave.split(-(-samples // (-(-samples // LONGEST)) // 320) * 320 or 320) if samples > LONGEST else [wave]
    with torch.no_grad():
        (states,) = hidden_states(upstream, [wave])
        assert states.shape[1] == sum(frames_of(len(part)) for part in parts)
        assert abs(states.shape[1] - samples / 320) < 1 + len(parts)
        (pooled,) = pool_waveforms(upstream, [wave])
    torch.testing.assert_close(pooled, states.mean(1))


def test_a_batch_changes_nothing(files):
    waves = waveforms()
    upstream = built(files["hf"])
    with torch.no_grad():
        together, alone = hidden_states(upstream, waves), [hidden_states(upstream, [wave])[0] for wave in waves]
        padded = upstream(waves)["hidden_states"]
    assert all(torch.equal(one, other) for one, other in zip(together, alone, strict=True))
    assert all(torch.equal(padded[-1][row, : one.shape[1]], one[-1]) for row, one in enumerate(alone))


def test_parts_have_the_names_that_adapt_chooses_by(files):
    found = groups(built(files["hf"]))
    assert list(found) == ["front_end", "layer.0", "layer.1", "encoder_norm", "layers"]
    assert len(found["front_end"]) == 4


@pytest.mark.parametrize(
    "change", [{}, {"train_front_end": True}, {"adapt": "top:1"}, {"activation_checkpointing": True}]
)
def test_second_order_gradients_through_it_equal_finite_differences(files, change):
    model = tiny_model(in_float64(built(files["openai.pt"]), spread=2.0), **change)
    support = micro_losses(model, waveforms(dtype=torch.float64), weighted(dtype=torch.float64), 1.2, "support")
    parameters = {name: p.detach().clone().requires_grad_() for name, p in model.named_adapted().items()}
    assert any("conv1" in name for name in parameters) == ("train_front_end" in change)
    assert len([name for name in parameters if "fc1.weight" in name]) == (1 if change.get("adapt") else 2)
    assert max(directional_errors(parameters, some_rates(parameters), support, (True, True), seeds=(0,))) < 1e-6


def test_slaneys_filters_are_those_of_transformers():
    from transformers.audio_utils import mel_filter_bank

    for bands in (80, 128):
        known = mel_filter_bank(201, bands, 0.0, 8000.0, 16000, norm="slaney", mel_scale="slaney")
        np.testing.assert_allclose(mel_filters(bands).numpy(), known.T, atol=1e-7)


# ------------------------------------------------------------------ what is no such model


def broken_variables(variables, case):
    found = dict(variables)
    if case == "a block less":
        found = {name: value for name, value in found.items() if "layer_0" not in name}
    if case == "no norm":
        del found["encoder/layer_norm/gamma"]
    if case == "one more":
        found["encoder/adapter/weight"] = found["encoder/conv1/bias"]
    if case == "int8":
        found["encoder/layer_0/ffn/linear_0/weight"] = np.ones((64, 16), np.int8)
        found["encoder/layer_0/ffn/linear_0/weight_scale"] = np.ones(64, np.float32)
    if case == "a bias of keys":
        found["encoder/layer_1/self_attention/linear_0/bias"] = np.ones(48, np.float32)
    if case == "heads":
        found["encoder/num_heads"] = np.array(3, np.int16)
    if case == "NaN":
        found["encoder/conv2/bias"] = np.full(16, np.nan, np.float32)
    return found


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("a block less", "encoder.layers.0.fc1.weight is missing"),
        ("no norm", r"1 \(encoder.layer_norm.weight\) missing"),
        ("one more", r"1 \(adapter.weight\) left over"),
        ("int8", "quantised"),
        ("a bias of keys", "is not zero"),
        ("heads", "3 heads"),
        ("NaN", "NaN or infinity in model.feature_extractor.conv2.bias"),
    ],
)
def test_weights_that_are_not_all_of_an_encoder_are_one_error(model, tmp_path, case, message):
    file = write_ctranslate2(broken_variables(ctranslate2_variables(model), case), tmp_path / "model.bin")
    with pytest.raises(UserError, match=message):
        built(file)


def test_a_damaged_file_of_ctranslate2_is_one_error(files, tmp_path):
    whole, generator = files["ct2/model.bin"].read_bytes(), np.random.default_rng(0)
    for place in [*range(40, 400, 7), *generator.integers(400, len(whole), 20)]:
        (tmp_path / "model.bin").write_bytes(whole[:place])
        with pytest.raises(UserError, match="cut off or damaged"):
            built(tmp_path / "model.bin")


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("config.json", {"model_type": "wav2vec2"}, "of type 'wav2vec2', not whisper"),
        ("config.json", {"encoder_layers": 3}, "says encoder_layers: 3, its weights have 2"),
        ("config.json", {"encoder_attention_heads": 3}, "3 heads"),
        ("config.json", {"activation_function": "relu"}, "only gelu"),
        ("config.json", {"encoder_attention_heads": None}, "how many heads"),
        ("preprocessor_config.json", {"sampling_rate": 8000}, "says sampling_rate: 8000"),
        ("preprocessor_config.json", {"hop_length": 80}, "says hop_length: 80"),
    ],
)
def test_a_folder_that_says_something_else_than_its_weights_is_refused(model, tmp_path, name, change, message):
    folder = write_hugging_face(model, tmp_path / "hf")
    content = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps({**content, **change}))
    with pytest.raises(UserError, match=message):
        built(folder)


def test_other_files_and_folders_are_refused_with_what_to_give(files, model, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "has").mkdir()
    (tmp_path / "has" / "tiny.en.pt").write_bytes(b"x")
    np.savez(tmp_path / "v.npz", names=np.array(["a"]), values=np.zeros((1, 3)))
    torch.save({"model": {}}, tmp_path / "other.pt")
    torch.save({"dims": {"n_audio_head": 2}, "model_state_dict": {"decoder.x": torch.zeros(2)}}, tmp_path / "part.pt")
    write_openai(model, tmp_path / "dims.pt", n_audio_layer=3)
    for given, message in (
        ("empty", "neither a folder of Hugging Face's"),
        ("has", r"Give the file: -k .*tiny\.en\.pt"),
        ("other.pt", "it has no dims and model_state_dict"),
        ("part.pt", "no weights of an encoder"),
        ("dims.pt", "says n_audio_layer: 3, its weights have 2"),
        ("nowhere", "there is no such file or folder"),
        ("has/tiny.en.pt", "cannot be read as a checkpoint of Whisper"),
        ("v.npz", "Vectors by name are -u embeddings"),
    ):
        with pytest.raises(UserError, match=message):
            built(tmp_path / given)
    with pytest.raises(UserError, match="Give the folder: -k "):
        built(files["hf"] / "model.safetensors")
    with pytest.raises(UserError, match="-u whisper_local needs a checkpoint"):
        build_upstream("whisper_local")
