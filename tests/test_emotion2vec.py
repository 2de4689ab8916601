"""emotion2vec as an upstream: checkpoints in the published form, held against its equations written a second time."""

import numpy as np
import pytest
import torch
from emotion2vec_checkpoints import SIZE, hidden_states, state_dict, write
from test_adjoint import directional_errors, some_rates
from tiny_models import in_float64, tiny_model, waveforms, weighted

from s3prl_metaperser.errors import UserError
from s3prl_metaperser.s3prl_stack.hub import build_upstream, checkpoint_hash
from s3prl_metaperser.upstream import batching
from s3prl_metaperser.upstream.emotion2vec import alibi_slopes
from s3prl_metaperser.upstream.groups import groups
from s3prl_metaperser.upstream.micro_batches import micro_losses

AUDIO = "d2v_model.modality_encoders.AUDIO"


def built(file):
    return build_upstream("emotion2vec_local", str(file)).eval()


@pytest.mark.parametrize("change", [{}, {"scales": 3}, {"kernel": 4}, {"prefix": ""}])
@pytest.mark.parametrize("samples", [400, 8000])
def test_hidden_states_are_those_of_the_equations(tmp_path, change, samples):
    state, (wave,) = state_dict(**change), waveforms((samples,))
    with torch.no_grad():
        (ours,) = batching.hidden_states(built(write(state, tmp_path / "model.pt")), [wave])
        expected = hidden_states(state, wave)
    assert ours.shape == (4, (samples - 80) // 320, SIZE)
    torch.testing.assert_close(ours, expected, atol=2e-5, rtol=1e-4)


def test_a_folder_a_bare_state_dict_and_what_only_training_uses_change_nothing(tmp_path):
    state, (wave,) = state_dict(), waveforms((5000,))
    more = {f"{AUDIO}.decoder.proj.weight": torch.zeros(2), "proj.weight": torch.ones(9, SIZE), "_ema": {}}
    torch.save(state, tmp_path / "bare.pt")
    (tmp_path / "emotion2vec_plus_base").mkdir()
    write({**state, **more}, tmp_path / "emotion2vec_plus_base" / "model.pt")
    files = write(state, tmp_path / "a.pt"), tmp_path / "bare.pt", tmp_path / "emotion2vec_plus_base"
    with torch.no_grad():
        first, *others = (batching.hidden_states(built(file), [wave])[0] for file in files)
    assert all(torch.equal(first, other) for other in others)
    assert len({checkpoint_hash("emotion2vec_local", str(file)) for file in files}) == 3


def test_the_waveform_is_scaled_unless_the_checkpoint_says_otherwise(tmp_path):
    (wave,) = waveforms((5000,))
    scaled = built(write(state_dict(), tmp_path / "a.pt"))
    plain = built(write(state_dict(), tmp_path / "b.pt", cfg={"task": {"normalize": False}}))
    with torch.no_grad():
        one, louder = (batching.hidden_states(scaled, [w])[0] for w in (wave, 30 * wave))
        heard, expected = plain([wave])["hidden_states"], scaled.model(wave)
    assert all(torch.equal(a, b) for a, b in zip(heard, expected, strict=True))
    assert (heard[-1][0] - one[-1]).abs().max() > 10 * (louder - one).abs().max()


def test_a_batch_changes_nothing_and_shorter_clips_than_a_frame_are_heard(tmp_path):
    upstream, waves = built(write(state_dict(), tmp_path / "a.pt")), waveforms((7000, 4000, 150))
    with torch.no_grad():
        together, alone = upstream(waves)["hidden_states"], [upstream([wave])["hidden_states"] for wave in waves]
    for row, one in enumerate(alone):
        assert torch.equal(together[-1][row, : one[-1].shape[1]], one[-1][0])
    assert alone[2][-1].shape == (1, 1, SIZE)
    assert bool(alone[2][-1].isfinite().all())


def test_slopes_are_published_ones():
    np.testing.assert_allclose(alibi_slopes(8), [2.0**-n for n in range(1, 9)])
    halves = [2.0 ** (-n / 2) for n in (1, 3, 5, 7)]
    np.testing.assert_allclose(alibi_slopes(12), [*(2.0**-n for n in range(1, 9)), *halves])


def test_parts_have_the_names_that_adapt_chooses_by(tmp_path):
    found = groups(built(write(state_dict(), tmp_path / "a.pt")))
    assert set(found) == {
        *("front_end", "projection", "positional", "other", "encoder_norm"),
        *("layer.0", "layer.1", "layer.2", "layers"),
    }
    assert [name.rpartition(".")[2] for name in found["other"]] == ["extra_tokens", "alibi_scale"]


@pytest.mark.parametrize("change", [{}, {"train_front_end": True}, {"adapt": "top:1"}])
def test_second_order_gradients_through_it_equal_finite_differences(tmp_path, change):
    model = tiny_model(in_float64(built(write(state_dict(), tmp_path / "a.pt"))), size=SIZE, layers=4, **change)
    support = micro_losses(model, waveforms(dtype=torch.float64), weighted(dtype=torch.float64), 1.2, "support")
    parameters = {name: p.detach().clone().requires_grad_() for name, p in model.named_adapted().items()}
    assert any("feature_extractor" in name for name in parameters) == ("train_front_end" in change)
    assert any("alibi_scale" in name for name in parameters) == (change.get("adapt") is None)
    assert max(directional_errors(parameters, some_rates(parameters), support, (True, True), seeds=(0,))) < 1e-6


def broken(state, case):
    found = dict(state)
    if case == "a weight less":
        del found[f"{AUDIO}.context_encoder.norm.bias"]
    if case == "norms first":
        found["d2v_model.norm.weight"] = torch.ones(SIZE)
    if case == "another shape":
        found["d2v_model.blocks.1.attn.proj.bias"] = torch.ones(3)
    if case == "no scale":
        del found[f"{AUDIO}.alibi_scale"]
    if case == "heads":
        found[f"{AUDIO}.alibi_scale"] = torch.ones(1, 1, 5, 1, 1)
    if case == "kernel":
        found[f"{AUDIO}.local_encoder.conv_layers.0.0.weight"] = torch.ones(6, 1, 9)
    if case == "NaN":
        found["d2v_model.blocks.0.mlp.fc1.bias"] = torch.full((20,), torch.nan)
    return found


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("a weight less", r"1 \(encoder.layer_norm.bias\) missing"),
        ("norms first", r"1 unknown \(norm.weight\)"),
        ("another shape", r"1 \(encoder.layers.2.attn.proj.bias\) of another shape"),
        ("no scale", "encoder.alibi_scale is missing"),
        ("heads", r"alibi_scale is \[1, 1, 5, 1, 1\], with 3 blocks of 12"),
        ("kernel", r"1 \(feature_extractor.layers.0.conv.weight\) of another shape"),
        ("NaN", "NaN or infinity in model.encoder.layers.1.mlp.fc1.bias"),
    ],
)
def test_weights_that_are_not_all_of_one_model_are_refused_by_name(tmp_path, case, message):
    with pytest.raises(UserError, match=message):
        built(write(broken(state_dict(), case), tmp_path / "a.pt"))


class Foreign:
    """Of a checkpoint that cannot be read without running it."""


def test_other_files_are_refused_with_what_to_give(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "damaged.pt").write_bytes(write(state_dict(), tmp_path / "a.pt").read_bytes()[:5000])
    torch.save({"model": [1]}, tmp_path / "list.pt")
    torch.save({"model": {}}, tmp_path / "nothing.pt")
    write(state_dict(), tmp_path / "foreign.pt", extra_state=Foreign())
    for name, message in (
        ("empty", "one .pt file, here are: none"),
        ("damaged.pt", "cannot be read as a checkpoint of emotion2vec"),
        ("list.pt", "no state dict"),
        ("nothing.pt", "there are none in it"),
        ("foreign.pt", "without running what is in it.*weights.pt"),
    ):
        with pytest.raises(UserError, match=message):
            built(tmp_path / name)
