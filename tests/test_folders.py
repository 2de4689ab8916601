"""Files by their names: none in a folder is passed over uncounted, and a missing name asks for the one meant."""

import os
import re
import unicodedata
from pathlib import Path

import pytest
from corpora_fixtures import write_wav

from s3prl_metaperser.corpora.audio import BadAudio, read_audio
from s3prl_metaperser.corpora.folders import files_below, on_disk
from s3prl_metaperser.listener.files import find_files


def test_a_folders_clips_are_all_listed_links_and_films_too(tmp_path):
    clips, elsewhere = tmp_path / "clips", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (clips / ".hidden").mkdir(parents=True)
    for name in ("a.wav", "b.wave", "phone.m4a", "browser.webm", "C.WAV", "notes.txt", ".hidden/d.wav"):
        (clips / name).touch()
    (elsewhere / "e.wav").touch()
    (clips / "linked").symlink_to(elsewhere)
    (elsewhere / "loop").symlink_to(clips)
    (clips / "gone.wav").symlink_to(tmp_path / "nowhere")
    below = files_below(clips)
    names = [path.relative_to(clips).as_posix() for path in below.audio]
    assert names == ["C.WAV", "a.wav", "b.wave", "browser.webm", "gone.wav", "linked/e.wav", "phone.m4a"]
    assert below.passed_over() == "1 hidden, 1 not audio by name (.txt 1)"
    found = find_files([str(clips), str(clips / "*.wav")])
    assert [Path(file).name for file in found.files].count("a.wav") == 1
    assert found.passed_over == [(str(clips), below.passed_over())]
    with pytest.raises(BadAudio, match="link leads nowhere"):
        read_audio(clips / "gone.wav")


def test_a_folder_that_may_not_be_listed_is_named(tmp_path, monkeypatch):
    write_wav(tmp_path / "a.wav")
    (tmp_path / "closed").mkdir()
    listed = os.scandir

    def refusing(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", refusing)
    found = find_files([str(tmp_path)])
    assert found.files == [str(tmp_path / "a.wav")]
    assert found.nothing == [(str(tmp_path / "closed"), "the folder cannot be listed (Permission denied)")]


@pytest.mark.parametrize(
    ("asked", "there", "meant"),
    [
        ("low.WAV", "low.wav", "low.wav"),
        ("My%20clip.wav", "My clip.wav", "My clip.wav"),
        ("My clip.wav", "My%20clip.wav", "My%20clip.wav"),
        ("clip.wav", "clip.flac", "clip.flac"),
        ("A/B/c.wav", "a/B/c.wav", "a/B/c.wav"),
        ("full\uff11.wav", "full1.wav", "full1.wav"),
    ],
)
def test_a_name_that_is_not_there_asks_for_the_one_that_is(tmp_path, asked, there, meant):
    (tmp_path / there).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / there).touch()
    with pytest.raises(BadAudio, match=rf"no such audio file\. Did you mean '{re.escape(meant)}'"):
        read_audio(tmp_path / asked)
    (tmp_path / there).with_name("zz" + Path(there).name).touch()
    with pytest.raises(BadAudio, match=r"no such audio file\. Correct its name"):
        read_audio(tmp_path / "nothing.like.it")


def test_of_two_names_that_could_be_meant_none_is(tmp_path):
    for name in ("low.wav", "LOW.wav"):
        (tmp_path / name).touch()
    with pytest.raises(BadAudio, match=r"no such audio file\. Correct"):
        read_audio(tmp_path / "Low.wav")


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_name_with_accents_meets_its_file_in_either_form(tmp_path, form):
    other = {"NFC": "NFD", "NFD": "NFC"}[form]
    write_wav(tmp_path / unicodedata.normalize(form, "Zo\u00e9/\u00fc.wav"))
    asked = tmp_path / unicodedata.normalize(other, "Zo\u00e9/\u00fc.wav")
    assert on_disk(asked).is_file()
    assert find_files([str(asked)]).files == [str(on_disk(asked))]
    assert on_disk(tmp_path / "other.wav") == tmp_path / "other.wav"
