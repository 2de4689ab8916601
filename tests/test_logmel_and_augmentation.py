"""The second task's front end: log-mel frames, ResNet18, stretched, shifted and cropped waveforms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import conv2d, max_pool2d

from s3prl_metaperser.errors import UserError
from s3prl_metaperser.generalise.augment import Augmentation, augmented, crop, shifted, stretched
from s3prl_metaperser.generalise.resnet18 import ResNet18
from s3prl_metaperser.s3prl_stack.hub import build_upstream
from s3prl_metaperser.upstream.batching import hidden_states
from s3prl_metaperser.upstream.logmel import expert
from s3prl_metaperser.upstream.resnet18 import EPSILON

RATE = 16_000


def noise(samples: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(seed))


def frame_by_definition(wave: np.ndarray, place: int, window: np.ndarray) -> np.ndarray:
    """64 log-mel bands of one frame, by the sums that they are."""
    samples = wave[160 * place : 160 * place + 400] * window
    bins = np.arange(513)
    spectrum = np.abs(np.exp(-2j * np.pi * np.outer(bins, np.arange(400)) / 1024) @ samples)

    def mel(hertz):
        return 1127 * math.log(1 + hertz / 700)

    edges = [mel(60) + (mel(7800) - mel(60)) * place / 65 for place in range(66)]
    bands = []
    for low, middle, high in zip(edges, edges[1:], edges[2:], strict=False):
        weights = [
            min((m - low) / (middle - low), (high - m) / (high - middle)) for m in (mel(b * 15.625) for b in bins)
        ]
        bands.append(math.log(sum(max(0.0, w) * s for w, s in zip(weights, spectrum, strict=True)) + 1e-6))
    return np.array(bands)


def test_frames_are_those_of_the_definition_for_both_windows(tmp_path):
    hamming = tmp_path / "hamming.yaml"
    hamming.write_text("window: hamming\n")
    wave, angles = noise(2 * RATE), 2 * np.pi * np.arange(400) / 400
    for given, window in ((None, 0.5 - 0.5 * np.cos(angles)), (str(hamming), 0.54 - 0.46 * np.cos(angles))):
        frames = expert(given).frames(wave)
        assert frames.shape == (198, 64)
        for place in (0, 101, 197):
            assert (
                np.abs(frames[place].numpy() - frame_by_definition(wave.double().numpy(), place, window)).max() < 1e-4
            )


def test_a_wrong_window_is_named(tmp_path):
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("window: square\n")
    with pytest.raises(UserError, match=r"square.*hann"):
        expert(str(wrong))


def test_the_hub_knows_logmel_and_an_utterance_is_as_if_it_were_alone():
    upstream = build_upstream("logmel")
    waves = [noise(RATE, 1), noise(24_321, 2), noise(150, 3)]
    states = hidden_states(upstream, waves)
    assert [tuple(state.shape) for state in states] == [(1, 98, 64), (1, 150, 64), (1, 1, 64)]
    for wave, state in zip(waves, states, strict=True):
        assert torch.equal(hidden_states(upstream, [wave])[0], state)
    silence = hidden_states(upstream, [torch.zeros(RATE)])[0]
    assert torch.allclose(silence, torch.full_like(silence, math.log(1e-6)))
    louder = hidden_states(upstream, [10 * waves[0]])[0] - states[0]
    assert louder.median() == pytest.approx(math.log(10), abs=1e-3)  # nothing is normalised


# -- augmentation --------------------------------------------------------------------------------------------------


def spectrum_peak(wave: torch.Tensor) -> float:
    return torch.fft.rfft(wave * torch.hann_window(len(wave))).abs().argmax().item() * RATE / len(wave)


@pytest.mark.parametrize("rate", [0.8, 1.0, 1.25])
def test_a_stretched_tone_keeps_its_pitch_and_its_place_in_time_moves_by_the_rate(rate):
    time = torch.arange(RATE) / RATE
    tone = torch.sin(2 * math.pi * 440 * time) * (time < 0.5)
    found = stretched(tone, rate)
    assert len(found) == round(RATE / rate)
    assert spectrum_peak(found) == pytest.approx(440, abs=2)
    end = round(0.5 * RATE / rate)
    inside, outside = found[2000 : end - 2000].square().mean(), found[end + 2000 :].square().mean()
    assert inside == pytest.approx(0.5, rel=0.05)
    assert outside < 1e-3
    if rate == 1.0:
        assert torch.allclose(found, tone, atol=1e-4)


def test_clips_of_any_length_can_be_stretched():
    for samples in (1, 100, 513, 5000):
        assert len(stretched(noise(samples), 1.25)) == max(1, round(samples / 1.25))


def test_a_shift_moves_samples_and_fills_with_zeros():
    wave = torch.arange(1.0, 6.0)
    assert shifted(wave, 2).tolist() == [0, 0, 1, 2, 3]
    assert shifted(wave, -2).tolist() == [3, 4, 5, 0, 0]
    assert shifted(wave, 0).tolist() == wave.tolist()
    assert shifted(wave, 9).tolist() == shifted(wave, -9).tolist() == [0] * 5


def test_a_crop_is_the_middle_or_drawn_and_short_clips_stand_between_zeros():
    wave = torch.arange(1.0, 8.0)
    assert crop(wave, 3).tolist() == [3, 4, 5]
    assert crop(wave[:4], 7).tolist() == [0, 1, 2, 3, 4, 0, 0]
    generator = torch.Generator().manual_seed(0)
    assert {int(crop(wave, 3, generator)[0]) for _ in range(100)} == {1, 2, 3, 4, 5}


def test_a_draw_belongs_to_its_names_alone_and_keeps_to_its_ranges():
    wave, how = noise(40_000), Augmentation()
    torch.manual_seed(1)
    one = augmented(wave, how, 7, 3, "a")
    torch.manual_seed(2)
    assert torch.equal(augmented(wave, how, 7, 3, "a"), one)
    others = [augmented(wave, how, *names) for names in ((8, 3, "a"), (7, 4, "a"), (7, 3, "b"))]
    assert all(len(each) == 32_000 and not torch.equal(each, one) for each in others)
    plain = Augmentation(samples=40_000, probability=0.0)
    assert torch.equal(augmented(wave, plain, 1), wave)
    # a whole clip of ones tells how it was shifted, by the zeros at either end
    ones = torch.ones(40_000)
    how = Augmentation(samples=40_000, stretch=(1.0, 1.0), shift=0.1, probability=0.5)
    zeros = [int((augmented(ones, how, number).abs() < 0.5).sum()) for number in range(60)]
    assert 15 < sum(count > 50 for count in zeros) < 45
    assert 2000 < max(zeros) <= 4000


# -- ResNet18 ------------------------------------------------------------------------------------------------------


def test_resnet18_is_the_paper_s_written_out():
    """He et al. 2016, Table 1, by functions: 7x7/2, 3x3/2 maximum, four stages of two basic blocks, mean, linear."""
    own = ResNet18(1, 5, torch.Generator().manual_seed(0), channels=3).eval()
    generator = torch.Generator().manual_seed(1)
    for name, buffer in own.named_buffers():
        if "running" in name:
            buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
    known = own.state_dict()

    def normed(state, name, stride, kernel, norm):
        state = conv2d(state, known[f"{name}.weight"], stride=stride, padding=kernel // 2)
        parts = ("running_mean", "running_var", "weight", "bias")
        mean, var, weight, bias = (known[f"{norm}.{part}"].view(-1, 1, 1) for part in parts)
        return (state - mean) / (var + 1.001e-5).sqrt() * weight + bias

    frames = torch.randn(3, 1, 60, 64, generator=generator)
    state = max_pool2d(normed(frames, "conv1", 2, 7, "bn1").relu(), 3, 2, 1)
    for stage in (1, 2, 3, 4):
        for block in (0, 1):
            here, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            inner = normed(state, f"{here}.conv1", stride, 3, f"{here}.bn1").relu()
            inner = normed(inner, f"{here}.conv2", 1, 3, f"{here}.bn2")
            if stride == 2:
                state = normed(state, f"{here}.downsample.0", 2, 1, f"{here}.downsample.1")
            state = (inner + state).relu()
    logits = state.mean((2, 3)) @ known["classifier.weight"].T + known["classifier.bias"]
    with torch.no_grad():
        assert torch.allclose(own(frames), logits, atol=1e-5)


def test_resnet18_has_the_known_number_of_weights():
    model = ResNet18(1, 5, torch.Generator().manual_seed(0))
    three_channels_and_1000_classes = 11_689_512  # as published with torchvision
    expected = three_channels_and_1000_classes - 2 * 7 * 7 * 64 - 513 * 1000 + 513 * 5
    assert sum(p.numel() for p in model.parameters()) == expected
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert len(norms) == 20
    assert {(m.eps, m.momentum) for m in norms} == {(EPSILON, 0.01)}


def test_resnet18_sums_layers_hears_clips_of_any_length_and_can_keep_its_statistics():
    frames = torch.randn(2, 3, 40, 12, generator=torch.Generator().manual_seed(0))
    model = ResNet18(3, 5, torch.Generator().manual_seed(0), channels=2, frozen_norm=True).train()
    single = ResNet18(1, 5, torch.Generator().manual_seed(0), channels=2).eval()
    with torch.no_grad():
        model.weights.copy_(torch.tensor([0.0, 1.0, 2.0]))
        mixed = (frames * torch.tensor([0.0, 1.0, 2.0]).softmax(0).view(1, 3, 1, 1)).sum(1, keepdim=True)
        assert torch.allclose(model(frames), single(mixed), atol=1e-5)  # in training, too: its norm is frozen
        lengths = [model(frames[:1, :, :length]) for length in (1, 7, 40)]
        together = model([frames[0, :, :length] for length in (1, 7, 40)])
    assert torch.allclose(together, torch.cat(lengths), atol=1e-6)
    assert all(int(value) == 0 for name, value in model.named_buffers() if name.endswith("tracked"))
