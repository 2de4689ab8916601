import dataclasses
import threading

import numpy as np
import pytest
import soundfile
import torch

from s3prl_metaperser.corpora.base import Utterance
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.upstream.store import FeatureIdentity, PooledStore, audio_hash

IDENTITY = FeatureIdentity("fake", "0" * 64)


@pytest.fixture
def utterances(tmp_path):
    generator = np.random.default_rng(0)
    made = []
    for number in range(7):
        path = tmp_path / f"u{number}.wav"
        soundfile.write(path, generator.standard_normal(800 + 100 * number) * 0.1, 16000, subtype="PCM_16")
        made.append(Utterance(f"u{number}", path, "s", "Ses01", (800 + 100 * number) / 16000))
    return made


def hashes(utterances):
    return {u.id: audio_hash(u.path) for u in utterances}


def pool(waves, utterances):
    """Two layers of two features: the samples' mean and their energy."""
    return [torch.tensor([[w.mean(), w.square().mean()], [w.max(), w.min()]]) for w in waves]


class Counting:
    def __init__(self, stop_after=None):
        self.seen, self.stop_after = [], stop_after

    def __call__(self, waves, utterances):
        if self.stop_after is not None and len(self.seen) + len(waves) > self.stop_after:
            raise KeyboardInterrupt
        self.seen += [u.id for u in utterances]
        return pool(waves, utterances)


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_features_belong_to_their_utterance_whatever_the_batch(tmp_path, utterances, batch_size):
    store, keys = PooledStore(tmp_path / "store", IDENTITY), hashes(utterances)
    assert store.make(utterances, keys, pool, batch_size) == 7
    features = store.load(utterances, keys)
    for utterance in utterances:
        wave = torch.from_numpy(soundfile.read(utterance.path, dtype="float32")[0])
        torch.testing.assert_close(features.of([utterance.id])[0], pool([wave], [utterance])[0], rtol=0, atol=0)


def test_what_was_made_is_not_made_again(tmp_path, utterances, monkeypatch):
    monkeypatch.setattr("s3prl_metaperser.upstream.store.SHARD_SIZE", 2)
    store, keys = PooledStore(tmp_path / "store", IDENTITY), hashes(utterances)
    with pytest.raises(KeyboardInterrupt):
        store.make(utterances, keys, Counting(stop_after=5))
    rest = Counting()
    again = PooledStore(tmp_path / "store", IDENTITY)
    again.make(utterances, keys, rest)
    assert len(rest.seen) == 3, "two shards of two were kept, the fifth utterance was not yet written"
    assert not list((tmp_path / "store").rglob("*.part"))
    assert torch.equal(again.load(utterances, keys).values, fresh(tmp_path / "other", utterances, keys))


def fresh(root, utterances, keys):
    store = PooledStore(root, IDENTITY)
    store.make(utterances, keys, pool)
    return store.load(utterances, keys).values


def test_swapped_audio_files_are_noticed(tmp_path, utterances):
    store = PooledStore(tmp_path / "store", IDENTITY)
    store.make(utterances, hashes(utterances), pool)
    before = store.load(utterances, hashes(utterances))
    first, second = utterances[0].path, utterances[1].path
    contents = first.read_bytes(), second.read_bytes()
    first.write_bytes(contents[1])
    second.write_bytes(contents[0])
    assert not store.missing(utterances, hashes(utterances))
    after = store.load(utterances, hashes(utterances))
    assert torch.equal(after.of(["u0", "u1"]), before.of(["u1", "u0"])), "features follow the audio, not the name"
    first.write_bytes(contents[0][:-2] + b"\x01\x02")
    assert [u.id for u in store.missing(utterances, hashes(utterances))] == ["u0"]


def test_other_upstreams_checkpoints_and_settings_have_other_stores(tmp_path):
    changes = [
        {"upstream": "b"},
        {"checkpoint": "1" * 64},
        {"normalize": True},
        {"selection": "x"},
        {"dtype": "float16"},
    ]
    folders = {PooledStore(tmp_path, dataclasses.replace(IDENTITY, **change)).folder for change in changes}
    assert len(folders | {PooledStore(tmp_path, IDENTITY).folder}) == 6


def test_a_shard_of_another_store_is_refused(tmp_path, utterances):
    keys = hashes(utterances)
    one = PooledStore(tmp_path / "store", IDENTITY)
    one.make(utterances, keys, pool)
    other = PooledStore(tmp_path / "store", dataclasses.replace(IDENTITY, checkpoint="1" * 64))
    other.folder.mkdir()
    (shard,) = one.folder.glob("shard-*")
    shard.rename(other.folder / shard.name)
    with pytest.raises(UserError, match="does not belong here"):
        other.missing(utterances, keys)


def test_a_damaged_shard_is_one_clear_error(tmp_path, utterances):
    keys = hashes(utterances)
    store = PooledStore(tmp_path / "store", IDENTITY)
    store.make(utterances, keys, pool)
    (shard,) = store.folder.glob("shard-*")
    shard.write_bytes(shard.read_bytes()[:40])
    with pytest.raises(UserError, match="Delete it"):
        PooledStore(tmp_path / "store", IDENTITY).missing(utterances, keys)


def test_unreadable_audio_is_named_and_the_rest_is_kept(tmp_path, utterances):
    utterances[3].path.write_bytes(b"not audio at all")
    store, keys = PooledStore(tmp_path / "store", IDENTITY), hashes(utterances)
    with pytest.raises(UserError, match=r"(?s)1 of 7 audio files.*u3\.wav"):
        store.make(utterances, keys, pool)
    assert [u.id for u in store.missing(utterances, keys)] == ["u3"]


def test_features_that_are_not_finite_name_the_file(tmp_path, utterances):
    store, keys = PooledStore(tmp_path / "store", IDENTITY), hashes(utterances)
    with pytest.raises(UserError, match=r"u6\.wav: fake gives NaN"):
        store.make(
            utterances,
            keys,
            lambda w, u: [p / 0 * 0 if x.id == "u6" else p for p, x in zip(pool(w, u), u, strict=True)],
        )


def test_missing_audio_is_one_clear_error(tmp_path):
    with pytest.raises(UserError, match=r"gone\.wav: cannot be read"):
        audio_hash(tmp_path / "gone.wav")


def test_two_that_want_the_same_store_do_the_work_once(tmp_path, utterances):
    keys, counters = hashes(utterances), [Counting(), Counting()]
    gate = threading.Barrier(2)

    def work(counter):
        gate.wait()
        PooledStore(tmp_path / "store", IDENTITY).make(utterances, keys, counter)

    threads = [threading.Thread(target=work, args=(counter,)) for counter in counters]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(len(c.seen) for c in counters) == [0, 7]


def test_half_precision_is_stored_and_read_as_float32(tmp_path, utterances):
    keys = hashes(utterances)
    store = PooledStore(tmp_path / "store", dataclasses.replace(IDENTITY, dtype="float16"))
    store.make(utterances, keys, pool)
    values = store.load(utterances, keys).values
    assert values.dtype == torch.float32
    torch.testing.assert_close(values, fresh(tmp_path / "full", utterances, keys), rtol=1e-3, atol=1e-6)


def test_features_that_carry_nothing_are_recognised(tmp_path, utterances):
    keys = hashes(utterances)
    store = PooledStore(tmp_path / "store", IDENTITY)
    store.make(utterances, keys, lambda waves, u: [torch.full((1, 3), 2.0) + 3e-8 * i for i, _ in enumerate(waves)])
    assert store.load(utterances, keys).carry_nothing()
    assert not dataclasses.replace(store.load(utterances, keys), values=torch.eye(7)).carry_nothing()
