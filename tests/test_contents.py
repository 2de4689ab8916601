"""Audio is known by what is in it: digests that follow every change, and results of different audio that never meet."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest
import soundfile
from corpora_fixtures import write_wav
from small_grid import write_grid

from s3prl_metaperser import cli
from s3prl_metaperser.config.options import Options
from s3prl_metaperser.corpora import contents, load_corpus, root_of
from s3prl_metaperser.corpora.contents import Contents, sound_hash
from s3prl_metaperser.grid.results import Fingerprint

NOISE = np.random.default_rng(0).integers(-9000, 9000, 8000).astype(np.int16)


def tone(hertz):
    return 0.1 * np.sin(2 * np.pi * hertz * np.arange(8000) / 16000)


@pytest.fixture
def corpus(tmp_path):
    """Three clips that three people rated."""
    for name in "abc":
        write_wav(tmp_path / f"{name}.wav", samples=tone(ord(name)))
    rows = [f"{name}.wav,{rater},sad" for name in "abc" for rater in ("one", "two", "three")]
    (tmp_path / "ratings.csv").write_text("\n".join(["file,rater,label", *rows]))
    return load_corpus("ratings_csv", tmp_path)


def test_a_file_is_read_once_until_it_changes(corpus, tmp_path, monkeypatch):
    read = []
    real = contents.audio_hash
    monkeypatch.setattr(contents, "audio_hash", lambda path: read.append(path.name) or real(path))
    monkeypatch.setattr(contents, "FRESH_SECONDS", -60.0)  # the clips were written a moment ago
    first = Contents(corpus, tmp_path / "cache").fingerprint
    assert sorted(read) == ["a.wav", "b.wav", "c.wav"]
    assert Contents(corpus, tmp_path / "cache").fingerprint == first
    assert len(read) == 3, "nothing is read a second time"
    one, other = tmp_path / "a.wav", tmp_path / "b.wav"
    times = one.stat()
    assert one.stat().st_size == other.stat().st_size
    for moved, to in ((one, tmp_path / "aside"), (other, one), (tmp_path / "aside", other)):
        moved.rename(to)
    for path in (one, other):  # as an archive or `cp -p` leaves them: equal sizes, equal times
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert Contents(corpus, tmp_path / "cache").fingerprint != first
    assert sorted(read[3:]) == ["a.wav", "b.wav"]


def test_a_file_that_has_just_been_written_is_read_again(corpus, tmp_path):
    first = Contents(corpus, tmp_path / "cache").files
    write_wav(tmp_path / "a.wav", samples=tone(999))
    assert Contents(corpus, tmp_path / "cache").files["a"] != first["a"]


@pytest.mark.parametrize("damage", ["", "[]", "{", '{"a": 1}', "[" * 100_000])
def test_a_damaged_cache_is_no_cache(corpus, tmp_path, damage):
    right = Contents(corpus, tmp_path / "cache").fingerprint
    cached = tmp_path / "cache" / "audio"
    cached.mkdir(parents=True, exist_ok=True)
    known = Contents(corpus, tmp_path / "cache")
    known._kept.write_text(damage)
    assert known.fingerprint == right


def test_a_sound_is_the_same_in_every_lossless_copy(tmp_path):
    soundfile.write(tmp_path / "clip.wav", NOISE, 16000, "PCM_16")
    soundfile.write(tmp_path / "clip.flac", NOISE, 16000, "PCM_16")
    soundfile.write(tmp_path / "wide.wav", NOISE.astype(np.int32) << 16, 16000, "PCM_32")
    soundfile.write(tmp_path / "float.wav", NOISE.astype(np.float64) / 32768, 16000, "FLOAT")
    soundfile.write(tmp_path / "stereo.wav", np.stack([NOISE, NOISE], axis=1), 16000, "PCM_16")
    soundfile.write(tmp_path / "padded.wav", np.pad(NOISE, (160, 4000)), 16000, "PCM_16")
    os.link(tmp_path / "clip.wav", tmp_path / "linked.wav")
    assert len({sound_hash(path) for path in tmp_path.iterdir()}) == 1


def test_other_speed_other_samples_and_silence_are_no_copies(tmp_path):
    soundfile.write(tmp_path / "clip.wav", NOISE, 16000, "PCM_16")
    soundfile.write(tmp_path / "fast.wav", NOISE, 22050, "PCM_16")
    soundfile.write(tmp_path / "cut.wav", NOISE[:-100], 16000, "PCM_16")
    assert len({sound_hash(path) for path in tmp_path.iterdir()}) == 3
    soundfile.write(tmp_path / "silence.wav", np.zeros(8000, np.int16), 16000, "PCM_16")
    assert sound_hash(tmp_path / "silence.wav") == ""


def test_a_record_that_does_not_say_its_audio_is_of_any():
    now = Fingerprint("labels", "audio")
    assert [now.differs_from(record) for record in ({"corpus": "labels"}, now.recorded(), {})] == ["", "", ""]
    assert now.differs_from({"corpus": "labels", "audio": "other"}) == "audio"
    assert now.differs_from({"corpus": "other", "audio": "other"}) == "labels"


def test_a_grid_whose_audio_changed_on_the_way_pairs_nothing_of_before_with_what_came_after(tmp_path, capsys):
    """Half of it is run, all recordings are exchanged in a circle, and the rest is run."""
    small = Options.from_config({"downstream_expert": {"datarc": {"demo": {"utterances": 120}}}})
    made = root_of(small.downstream_expert.datarc)
    load_corpus("demo", made, utterances=120)
    corpus = shutil.copytree(made, tmp_path / "corpus")
    grid = str(
        write_grid(
            tmp_path, corpus="iemocap", root=str(corpus), systems={"frozen": ["Random"]}, folds=["fold1", "fold2"]
        )
    )
    run = ["run", grid, "--device", "cpu"]
    assert cli.main([*run, "--only", "fold=fold1"]) == 0
    kept = shutil.copytree(next((tmp_path / "results").rglob("result_test.json")).parent, tmp_path / "before")
    wavs = sorted(corpus.rglob("*.wav"))
    content = [path.read_bytes() for path in wavs]
    for path, other in zip(wavs, content[1:] + content[:1], strict=True):
        path.write_bytes(other)
    capsys.readouterr()
    assert cli.main(["status", grid]) == 0
    assert "its corpus had other audio" in capsys.readouterr().out
    assert cli.main(run) == 0
    assert "2 done (2 now, 0 before)" in capsys.readouterr().out
    assert cli.main(["validate", "--all", str(tmp_path / "results")]) == 0
    record = next((tmp_path / "results").glob("*/*/*/fold1-*/cell.json"))
    content = json.loads(record.read_text())
    del content["done"]["audio"]  # as 0.1.0 wrote it
    record.write_text(json.dumps(content))
    capsys.readouterr()
    assert cli.main(["status", grid]) == 0
    said = capsys.readouterr().out
    assert "2 done" in said
    assert "1 result(s) count, but do not record which audio they are of" in said
    shutil.move(kept, tmp_path / "results" / "from-before")  # by hand, where the report looks
    (tmp_path / "results" / "from-before" / "cell.json").unlink()
    result = tmp_path / "results" / "from-before" / "result_test.json"
    paired = json.loads(result.read_text())
    paired["cell"]["system"] = "Linear-Few"
    result.write_text(json.dumps(paired))
    assert cli.main(["validate", "--all", str(tmp_path / "results")]) == 1
    assert "hashes.audio" in capsys.readouterr().out
    assert cli.main(["report", str(tmp_path / "results"), "--out", str(tmp_path / "report")]) == 2
    assert "audio hash is" in capsys.readouterr().err
    del paired["hashes"]["audio"]
    result.write_text(json.dumps(paired))
    assert cli.main(["validate", "--all", str(tmp_path / "results")]) == 0, "of files before, it is not known"
    assert "1 of them do not record their audio" in capsys.readouterr().out
