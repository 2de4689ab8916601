"""``-u embeddings``: vectors that were computed elsewhere, matched to recordings by name."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from s3prl_metaperser.corpora.base import Utterance
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.listener.upstream import find_upstream
from s3prl_metaperser.s3prl_stack.hub import build_upstream, checkpoint_hash

IDS = ["s1/a", "s1/b", "s2/c"]
VALUES = np.random.default_rng(0).normal(size=(3, 2, 4)).astype(np.float32)

BROKEN = VALUES.copy()
BROKEN[1, 0, 0] = np.nan


def recordings(ids=IDS, suffix=".wav"):
    return [Utterance(i, Path("/corpus/wavs") / f"{i}{suffix}", "", "", 1.0) for i in ids]


def built(folder, names=IDS, values=VALUES, **more):
    np.savez(folder / "v.npz", names=np.array(names), values=values, **more)
    return build_upstream("embeddings", str(folder / "v.npz"))


@pytest.mark.parametrize(
    "names",
    [
        IDS,
        ["/corpus/wavs/s1/a.wav", "/corpus/wavs/s1/b.wav", "/corpus/wavs/s2/c.wav"],
        ["wavs/s1/a.wav", "wavs/s1/b.wav", "wavs/s2/c.wav"],
        ["s1/a.wav", "s1/b.wav", "s2/c.wav"],
        ["a.wav", "b.wav", "c.wav"],
        ["a", "b", "c"],
        ["WAVE/SPEAKER1/a.wav", "WAVE/SPEAKER1/b.wav", "WAVE/SPEAKER2/c.wav"],
    ],
)
def test_each_recording_gets_the_vector_of_its_name_in_any_order(tmp_path, names):
    order = [2, 0, 1]
    upstream = built(tmp_path, [names[i] for i in order] + ["another"], VALUES[[*order, 0]])
    found = upstream.features(recordings())
    assert found.of(IDS).tolist() == torch.from_numpy(VALUES).tolist()


@pytest.mark.parametrize(
    ("folder", "said"), [("other/", True), ("/elsewhere/wavs/s1/", True), ("s1/", False), ("", False)]
)
def test_vectors_of_another_folder_are_said_to_be(tmp_path, capsys, folder, said):
    built(tmp_path, [f"{folder}{name}.wav" for name in "abc"]).features(recordings(["s1/a", "s1/b", "s1/c"]))
    assert ("NOTE: 3 of 3 vectors are of other folders by their names" in capsys.readouterr().err) is said


def test_one_vector_a_recording_is_one_layer_and_half_precision_is_read(tmp_path):
    found = built(tmp_path, values=VALUES[:, 0].astype(np.float16)).features(recordings())
    assert found.values.shape == (3, 1, 4)
    assert found.values.dtype == torch.float32


def test_recordings_without_a_vector_are_one_error_with_their_number(tmp_path):
    with pytest.raises(
        UserError, match=r"2 of 3 recordings have no vector of their own: s1/b, s2/c .*names such as s1/a"
    ):
        built(tmp_path, ["s1/a", "x", "y"]).features(recordings())
    with pytest.raises(UserError, match="3 of 3 recordings have no vector of their own"):
        built(tmp_path, ["b", "c", "d"], VALUES).features(recordings(["s1/a", "s2/a", "s3/a"]))


def test_a_name_that_two_recordings_or_two_vectors_share_is_nobodys(tmp_path):
    twice = recordings(["s1/a", "s2/a", "s2/c"])
    with pytest.raises(UserError, match=r"2 of 3 recordings have no vector of their own: s1/a, s2/a"):
        built(tmp_path, ["a", "b", "c"]).features(twice)
    assert built(tmp_path, ["x/s1/a", "x/s2/a", "x/s2/c"]).features(twice).values.tolist() == VALUES.tolist()
    with pytest.raises(UserError, match="1 of 1 recordings"):
        built(tmp_path, ["x/a.wav", "x/a.flac", "b"]).features(recordings(["y/a"]))
    found = built(tmp_path, ["take.1", "take.2", "take.3"]).features(recordings(["take.1", "take.2", "take.3"]))
    assert found.values.tolist() == VALUES.tolist(), "what follows a dot is no suffix unless sound has it"
    found = built(tmp_path, ["na\u0308her", "b", "c"]).features(recordings(["n\xe4her", "b", "c"]))
    assert found.values.tolist() == VALUES.tolist()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"names": IDS}, "it holds names; expected names"),
        ({"names": IDS, "values": VALUES[:2]}, "there must be one name for each"),
        ({"names": IDS, "values": VALUES[0, 0]}, "expected text"),
        ({"names": [1, 2, 3], "values": VALUES}, "expected text"),
        ({"names": IDS, "values": VALUES.astype(int)}, "expected text"),
        ({"names": ["a", "a", "b"], "values": VALUES}, "1 names stand twice: a"),
        ({"names": IDS, "values": BROKEN}, "1 vectors hold NaN .* s1/b"),
        ({"names": IDS, "values": VALUES.astype(np.float64) * 1e60}, "3 vectors hold NaN or infinity"),
        ({"names": np.array(IDS, dtype=object), "values": VALUES}, "names as an array of text"),
        ({"names": [], "values": np.zeros((0, 4))}, "expected text|there must be one"),
    ],
)
def test_files_that_are_no_vectors_by_name_are_refused(tmp_path, content, message):
    np.savez(tmp_path / "v.npz", **{key: np.asarray(value) for key, value in content.items()})
    with pytest.raises(UserError, match=message):
        build_upstream("embeddings", str(tmp_path / "v.npz"))


def test_other_files_are_refused(tmp_path):
    (tmp_path / "v.npz").write_bytes(b"PK\x03\x04 cut off")
    np.save(tmp_path / "v.npy", VALUES)
    for file in ("v.npz", "v.npy", "."):
        with pytest.raises(UserError, match="not a file of vectors"):
            build_upstream("embeddings", str(tmp_path / file))
    built(tmp_path)
    with pytest.raises(UserError, match="takes no -g"):
        build_upstream("embeddings", str(tmp_path / "v.npz"), str(tmp_path / "v.npy"))


def test_audio_outside_the_corpus_is_refused_and_the_identity_is_the_files(tmp_path):
    upstream = built(tmp_path)
    with pytest.raises(UserError, match="hears no audio"):
        upstream([torch.zeros(1600)])
    one = checkpoint_hash("embeddings", str(tmp_path / "v.npz"))
    built(tmp_path, values=VALUES + 1)
    assert checkpoint_hash("embeddings", str(tmp_path / "v.npz")) != one


def test_a_model_of_vectors_says_that_it_hears_nothing_before_it_asks_for_weights():
    card = SimpleNamespace(upstream=SimpleNamespace(name="embeddings"))
    with pytest.raises(UserError, match="M was trained on -u embeddings, which hears no audio"):
        find_upstream(card, "M")
