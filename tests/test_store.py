import dataclasses
import threading
import time

import numpy as np
import pytest
import soundfile
import torch

from s3prl_metaperser.corpora.base import Utterance
from s3prl_metaperser.corpora.contents import audio_hash
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.upstream.pooling import bf16_error, pooler, saying_the_error
from s3prl_metaperser.upstream.prefetch import BLOCK, prefetched
from s3prl_metaperser.upstream.store import FeatureIdentity, PooledStore, _batch_sizes

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
        {"precision": "bfloat16"},
    ]
    folders = {PooledStore(tmp_path, dataclasses.replace(IDENTITY, **change)).folder for change in changes}
    assert len(folders | {PooledStore(tmp_path, IDENTITY).folder}) == 7
    assert "precision" not in IDENTITY.described(), "older stores stay"


def test_a_shard_of_another_store_is_refused(tmp_path, utterances):
    keys = hashes(utterances)
    one = PooledStore(tmp_path / "store", IDENTITY)
    one.make(utterances, keys, pool)
    other = PooledStore(tmp_path / "store", dataclasses.replace(IDENTITY, checkpoint="1" * 64))
    other.folder.mkdir()
    (shard,) = one.folder.glob("shard-*")
    shard.rename(other.folder / shard.name)
    with pytest.raises(UserError, match="Move it out of this folder"):
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
    with pytest.raises(UserError, match=r"u6\.wav: fake returned NaN"):
        store.make(
            utterances,
            keys,
            lambda w, u: [p / 0 * 0 if x.id == "u6" else p for p, x in zip(pool(w, u), u, strict=True)],
        )


def test_missing_audio_is_one_clear_error(tmp_path):
    with pytest.raises(UserError, match=r"Cannot read .*gone\.wav"):
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


def test_batches_hold_neighbours_in_length_and_no_more_than_asked_for():
    seconds = [2.0, 1.31, 1.3, 1.2, 1.09, 1.05, 1.0]
    assert list(_batch_sizes(seconds, 100)) == [1, 3, 3]
    assert list(_batch_sizes(seconds, 2)) == [1, 2, 1, 2, 1]
    assert list(_batch_sizes(seconds, 1)) == [1] * 7
    assert list(_batch_sizes([], 4)) == []


def test_prefetching_keeps_the_order_and_hands_out_errors_in_their_place():
    def work(number):
        time.sleep(0.002 * (number % 3))
        if number % 10 == 4:
            raise UserError(f"no {number}")
        return -number

    with prefetched(work, range(50), ahead=7) as results:
        found = list(results)
    assert [item for item, _ in found] == list(range(50))
    assert all(str(r) == f"no {n}" if n % 10 == 4 else r == -n for n, r in found)


def test_prefetching_is_bounded_and_stops_when_it_is_interrupted():
    begun = []

    def interrupted():
        with prefetched(begun.append, range(1000), ahead=4) as results:
            next(results)
            time.sleep(0.05)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert 0 < len(begun) <= 3 * BLOCK
    before = len(begun)
    time.sleep(0.02)
    assert len(begun) == before, "nothing goes on after the interrupt"


def test_errors_of_a_programmer_are_raised():
    with pytest.raises(ZeroDivisionError), prefetched(lambda n: 1 / n, [1, 0], ahead=1) as results:
        list(results)


def test_bfloat16_on_a_cpu_is_refused():
    with pytest.raises(UserError, match=r"modelrc\.bf16"):
        pooler(torch.nn.Linear(1, 1), selection="hidden_states", normalize=False, bf16=True)


def test_the_error_of_bfloat16_is_measured_on_the_first_batch_and_said(capsys):
    exact = [torch.randn(3, 50), torch.randn(3, 50)]
    rough = [features.bfloat16().float() for features in exact]
    rough[1][2] *= 1.03
    apart = bf16_error(rough, exact)
    assert 0.01 < apart < 0.03, "of the worst layer alone"
    compute = saying_the_error(lambda waves: rough, lambda waves: exact)
    assert compute([torch.zeros(1)] * 2) is rough
    assert f"{100 * apart:.2f} %" in capsys.readouterr().err
    compute([torch.zeros(1)] * 2)
    assert not capsys.readouterr().err
