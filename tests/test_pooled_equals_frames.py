"""The store's pooled features against s3prl's own frame path: its Featurizer, one utterance at a time."""

import numpy as np
import pytest
import soundfile
import torch
from random_checkpoints import make_checkpoint

from s3prl_metaperser.corpora.audio import load_audio
from s3prl_metaperser.corpora.base import Utterance
from s3prl_metaperser.corpora.contents import audio_hash
from s3prl_metaperser.s3prl_stack.hub import build_upstream, removes_the_mean
from s3prl_metaperser.upstream.batching import hidden_states
from s3prl_metaperser.upstream.pooling import pooled_frames, pooler
from s3prl_metaperser.upstream.store import FeatureIdentity, PooledStore

SECONDS = (0.31, 1.7, 0.9, 2.4, 0.55)


@pytest.fixture(scope="module")
def utterances(tmp_path_factory):
    folder, generator = tmp_path_factory.mktemp("wavs"), np.random.default_rng(0)
    made = []
    for number, seconds in enumerate(SECONDS):
        samples = generator.standard_normal(int(16000 * seconds)).cumsum()
        soundfile.write(folder / f"{number}.wav", 0.3 * samples / np.abs(samples).max(), 16000)
        made.append(Utterance(str(number), folder / f"{number}.wav", "s", "Ses01", seconds))
    return made


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    paths = {}
    for kind in ("wavlm", "hubert", "wav2vec2"):
        paths[f"{kind}_local"] = str(folder / f"{kind}.pt")
        make_checkpoint(kind, folder / f"{kind}.pt")
    return {"fbank_no_cmvn": None, **paths}


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("name", ["fbank_no_cmvn", "wavlm_local", "hubert_local", "wav2vec2_local"])
def test_store_equals_the_frame_path_whatever_lengths_share_a_batch(tmp_path, utterances, checkpoints, name, normalize):
    from s3prl.upstream.interfaces import Featurizer

    upstream = build_upstream(name, ckpt=checkpoints[name])
    featurizer = Featurizer(upstream, upstream_device="cpu", normalize=normalize)
    layers = getattr(featurizer, "layer_num", 1)
    mixing = torch.randn(layers, generator=torch.Generator().manual_seed(1))
    if layers > 1:
        featurizer.weights.data.copy_(mixing)
    keys = {u.id: audio_hash(u.path) for u in utterances}
    frames = []
    with torch.no_grad():
        for utterance in utterances:
            wave = [torch.from_numpy(load_audio(utterance.path))]
            frames.append(featurizer(wave, upstream(wave))[0].mean(0))
    expected = torch.stack(frames)
    for batch_size in (1, 2, 5):
        store = PooledStore(tmp_path / str(batch_size), FeatureIdentity(name, "0" * 64, normalize=normalize))
        store.make(utterances, keys, pooler(upstream, selection="hidden_states", normalize=normalize), batch_size)
        values = store.load(utterances, keys).values
        mixed = torch.einsum("l,nld->nd", torch.softmax(mixing, 0), values)
        torch.testing.assert_close(mixed, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["fbank_no_cmvn", "hubert_local"])
def test_statistics_are_numpys_of_each_layers_frames_and_the_same_with_a_fine_tuned_upstream(
    tmp_path, utterances, checkpoints, name
):
    upstream = build_upstream(name, ckpt=checkpoints[name])
    keys = {u.id: audio_hash(u.path) for u in utterances}
    store = PooledStore(tmp_path, FeatureIdentity(name, "0" * 64, pooling="statistics"))
    make = pooler(upstream, selection="hidden_states", normalize=False, pooling="statistics")
    store.make(utterances, keys, make, 2)
    found = store.load(utterances, keys).values
    for row, utterance in zip(found, utterances, strict=True):
        wave = torch.from_numpy(load_audio(utterance.path))
        with torch.no_grad():
            (frames,) = hidden_states(upstream, [wave])
        frames = frames.double().numpy()
        length = np.full((len(frames), 1), np.log(len(wave) / 16000))
        expected = np.concatenate([frames.mean(1), frames.std(1), length], axis=1)
        np.testing.assert_allclose(row.numpy(), expected, rtol=0, atol=2e-5 * np.abs(expected).max())
    assert FeatureIdentity(name, "0" * 64).key != store.identity.key
    assert "pooling" not in FeatureIdentity(name, "0" * 64).described()


def test_a_standard_deviation_of_nothing_has_two_derivatives():
    frames = torch.ones(2, 1, 3, dtype=torch.float64, requires_grad=True)
    (once,) = torch.autograd.grad(pooled_frames(frames, 1.0, "statistics").sum(), frames, create_graph=True)
    assert torch.isfinite(once).all()
    random = torch.randn(2, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: pooled_frames(x, 1.5, "statistics"), (random,))


@pytest.mark.parametrize("name", ["fbank", "mfcc", "spectrogram", "mel"])
def test_upstreams_with_mean_normalisation_carry_nothing(tmp_path, utterances, name):
    store, keys = (
        PooledStore(tmp_path, FeatureIdentity(name, "0" * 64)),
        {u.id: audio_hash(u.path) for u in utterances},
    )
    store.make(utterances, keys, pooler(build_upstream(name), selection="hidden_states", normalize=False))
    values = store.load(utterances, keys)
    # s3prl keeps round(n / 160) of mel's n // 160 + 1 frames, which leaves a little of the last one
    assert values.values.abs().max() < (0.5 if name == "mel" else 1e-5)
    assert values.carry_nothing() == (name != "mel")
    assert removes_the_mean(name)


def test_the_demos_upstream_carries_something(tmp_path, utterances):
    store, keys = (
        PooledStore(tmp_path, FeatureIdentity("x", "0" * 64)),
        {u.id: audio_hash(u.path) for u in utterances},
    )
    store.make(utterances, keys, pooler(build_upstream("fbank_no_cmvn"), selection="hidden_states", normalize=False))
    assert not store.load(utterances, keys).carry_nothing()
    assert not removes_the_mean("fbank_no_cmvn")
    assert not removes_the_mean("wavlm_base")
