"""All of the audio, at a plausible level, through one door: read whole, or refused with both counts."""

from __future__ import annotations

import importlib.util
import io
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from corpora_fixtures import write_ratings_csv

from s3prl_metaperser.corpora import load_corpus
from s3prl_metaperser.corpora.audio import BadAudio, audio_seconds, ffmpeg, load_audio, mpeg, notes, read_audio
from s3prl_metaperser.corpora.validate import exit_status, validation_report

_SPEC = importlib.util.spec_from_file_location(
    "audio_files", Path(__file__).resolve().parents[1] / "benchmarks" / "audio_files.py"
)
assert _SPEC is not None
assert _SPEC.loader is not None
audio_files = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(audio_files)

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")

VOICE = audio_files.clip(seconds=1.0)
BYTES = (VOICE * 32767).astype("<i2").tobytes()
WHOLE = 16000


def wav(data_size: int, riff_size: int | None = None, sound: bytes = BYTES, before: bytes = b"", after: bytes = b""):
    """A WAV file of 16 kHz, 16 bits and one channel, with any sizes in its header."""
    riff = 36 + len(before) + len(sound) + len(after) if riff_size is None else riff_size
    form = struct.pack("<4sI4s4sIHHIIHH", b"RIFF", riff, b"WAVE", b"fmt ", 16, 1, 1, 16000, 32000, 2, 16)
    return form + before + struct.pack("<4sI", b"data", data_size) + sound + after


def encoded(container: str, subtype: str, samples: np.ndarray = VOICE, rate: int = 16000) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=container, subtype=subtype)
    return file.getvalue()


def read(folder: Path, content: bytes, name: str = "a.wav"):
    path = folder / name
    path.write_bytes(content)
    return read_audio(path)


def uncounted_mp3() -> bytes:
    """An MP3 of variable rate without the frame that counts the others."""
    data = encoded("MP3", "MPEG_LAYER_III")
    walk = mpeg._walked(data)
    assert walk.counts
    assert walk.first is not None
    return data[walk.first.length :]


# ------------------------------------------------------------------ sizes in WAV headers


@pytest.mark.parametrize("size", [0, 0x70000000, 2_000_000_000, 0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
@pytest.mark.parametrize("riff", [36, 0x7FFFF024, 0xFFFFFFFF])
@pytest.mark.parametrize("before", [b"", b"LIST\x04\0\0\0INFO"])
def test_a_wav_whose_writer_did_not_know_its_size_is_read_to_the_end(tmp_path, size, riff, before):
    sound = read(tmp_path, wav(size, riff, before=before))
    assert np.array_equal(sound.samples, np.frombuffer(BYTES, "<i2") / np.float32(32768))
    assert any("read to the end" in note for note in sound.notes)
    assert audio_seconds(tmp_path / "a.wav") == 1.0


@pytest.mark.parametrize(
    ("more", "riff"),
    [(44, None), (44, len(BYTES) + 44), (28, None), (36, None), (8, len(BYTES) + 8), (44, len(BYTES) + 80)],
)
def test_a_wav_that_counts_its_header_as_sound_is_read_with_a_note(tmp_path, more, riff):
    sound = read(tmp_path, wav(len(BYTES) + more, riff))
    assert len(sound.samples) == WHOLE
    assert f"promises {more} bytes more than exist" in sound.notes[0]


@pytest.mark.parametrize(
    ("promised", "riff", "sound"),
    [
        (len(BYTES), len(BYTES) + 36, BYTES[:-2]),
        (len(BYTES), len(BYTES) + 36, BYTES[:-30]),
        (len(BYTES), len(BYTES) + 36, BYTES[: len(BYTES) // 2]),
        (2 * len(BYTES), None, BYTES),
        (len(BYTES) + 46, None, BYTES),
    ],
)
def test_a_wav_that_is_cut_is_refused_with_both_counts(tmp_path, promised, riff, sound):
    with pytest.raises(BadAudio, match=rf"truncated: {len(sound)} of {promised} bytes.*-ignore_length 1"):
        read(tmp_path, wav(promised, riff, sound))


@pytest.mark.parametrize("riff", [None, 36 + len(BYTES) // 10])
def test_sound_behind_the_end_that_a_wav_gives_is_never_left_out_in_silence(tmp_path, riff):
    with pytest.raises(BadAudio, match="14400 samples lie behind the 1600 that it gives"):
        read(tmp_path, wav(len(BYTES) // 10, riff))


@pytest.mark.parametrize(
    "after",
    [
        b"\0",
        bytes(1000),
        b"LIST\x04\0\0\0INFO",
        b"id3 \x03\0\0\0abc\0",
        b"LIST\xff\0\0\0INFO",
        b"TAG" + bytes(125),
        b"abcd\x02\0\0\0xy" + b"bext\x04\0\0\0abcd",
    ],
)
def test_tags_and_padding_may_follow_the_sound(tmp_path, after):
    sound = read(tmp_path, wav(len(BYTES), after=after))
    assert len(sound.samples) == WHOLE
    assert sound.notes == ()


@pytest.mark.parametrize("after", [BYTES[:100], wav(len(BYTES)), b"data\x04\0\0\0abcd", b"abcd\xff\xff\0\0xyz"])
def test_anything_else_behind_the_sound_is_refused(tmp_path, after):
    with pytest.raises(BadAudio, match=r"the header is wrong: \d+ (samples|bytes) lie behind"):
        read(tmp_path, wav(len(BYTES), after=after))


def test_two_streamed_wavs_in_one_are_refused(tmp_path):
    with pytest.raises(BadAudio, match="a second file begins in it"):
        read(tmp_path, wav(0xFFFFFFFF, 0xFFFFFFFF) * 2)


@pytest.mark.parametrize("kind", ["ULAW", "ALAW", "GSM610", "IMA_ADPCM", "MS_ADPCM"])
def test_telephone_codecs_in_wav_are_read_whole_and_refused_where_cut(tmp_path, kind):
    data = encoded("WAV", kind, VOICE[::2], 8000)
    sound = read(tmp_path, data)
    assert 8000 <= len(sound.samples) < 8000 * 1.3  # the last block is filled up
    with pytest.raises(BadAudio, match="truncated"):
        read(tmp_path, data[: len(data) // 2])


def test_a_block_that_a_stream_breaks_off_in_is_not_dropped_in_silence(tmp_path):
    data = bytearray(encoded("WAV", "MS_ADPCM", VOICE[::2], 8000))
    place = data.index(b"data") + 4
    struct.pack_into("<I", data, place, 0xFFFFFFFF)
    assert len(read(tmp_path, bytes(data)).samples) >= 8000
    with pytest.raises(BadAudio, match="its last block is not whole"):
        read(tmp_path, bytes(data[:-10]))


# ------------------------------------------------------------------ other containers


@pytest.mark.parametrize("container", ["AIFF", "AU", "CAF", "W64", "RF64", "NIST", "SVX", "VOC"])
def test_sound_behind_the_end_of_any_container_is_refused(tmp_path, container):
    data = encoded(container, "PCM_16")
    assert len(read(tmp_path, data).samples) == WHOLE
    with pytest.raises(BadAudio, match=r"lie behind|cannot be decoded"):
        read(tmp_path, data * 2)
    with pytest.raises(BadAudio, match=r"lie behind|can be decoded|truncated"):
        read(tmp_path, patched(container, data, 3200))


def patched(container: str, data: bytes, size: int) -> bytes:
    """A file whose header gives ``size`` bytes of sound."""
    if container == "NIST":
        return data.replace(b"sample_count -i 16000", b"sample_count -i %5d" % (size // 2))
    place, form, more = {
        "AIFF": (data.find(b"SSND") + 4, ">I", 8),
        "AU": (8, ">I", 0),
        "CAF": (data.find(b"data") + 4, ">Q", 4),
        "W64": (data.find(b"data") + 16, "<Q", 24),
        "RF64": (28, "<Q", 0),
        "SVX": (data.find(b"BODY") + 4, ">I", 0),
        "VOC": (27, "<I", 12),
    }[container]
    changed = bytearray(data)
    high = data[place + 3] << 24 if container == "VOC" else 0
    struct.pack_into(form, changed, place, size + more | high)
    return bytes(changed)


@pytest.mark.parametrize(("container", "size"), [("AU", 0xFFFFFFFF), ("W64", (1 << 63) - 1)])
def test_unknown_sizes_of_other_containers_are_read_to_the_end(tmp_path, container, size):
    sound = read(tmp_path, patched(container, encoded(container, "PCM_16"), size))
    assert len(sound.samples) == WHOLE
    assert "unknown" in sound.notes[0]


@needs_ffmpeg
def test_a_caf_of_unknown_size_is_read_to_the_end(tmp_path):
    sound = read(tmp_path, patched("CAF", encoded("CAF", "PCM_16"), (1 << 64) - 5))
    assert len(sound.samples) == WHOLE
    assert "unknown" in sound.notes[0]


def test_a_flac_of_unknown_length_is_read_whole_and_refused_where_cut(tmp_path):
    data = bytearray(encoded("FLAC", "PCM_16"))
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    sound = read(tmp_path, bytes(data))
    assert np.array_equal(sound.samples, read(tmp_path, encoded("FLAC", "PCM_16")).samples)
    assert "unknown" in sound.notes[0]
    assert audio_seconds(tmp_path / "a.wav") == 1.0
    for cut in (1, 100, len(data) // 2):
        with pytest.raises(BadAudio, match="truncated: the length is unknown and the last frame is not whole"):
            read(tmp_path, bytes(data[:-cut]))


def test_a_flac_that_gives_too_few_samples_or_is_doubled_is_refused(tmp_path):
    data = bytearray(encoded("FLAC", "PCM_16"))
    with pytest.raises(BadAudio, match="a second FLAC stream follows"):
        read(tmp_path, bytes(data * 2))
    struct.pack_into(">I", data, 22, 1600)
    with pytest.raises(BadAudio, match="14400 samples lie behind the 1600 that it gives"):
        read(tmp_path, bytes(data))


# ------------------------------------------------------------------ Ogg


@pytest.mark.parametrize("kind", ["VORBIS", "OPUS"])
def test_every_stream_of_a_chained_ogg_is_read(tmp_path, kind):
    one, two = encoded("OGG", kind), encoded("OGG", kind, VOICE[:8000])
    sound = read(tmp_path, one + two + one)
    assert len(sound.samples) == 40000
    assert "3 streams follow one another" in sound.notes[0]
    assert np.array_equal(sound.samples[16000:24000], read(tmp_path, two).samples)
    (tmp_path / "a.wav").write_bytes(one + two + one)
    assert audio_seconds(tmp_path / "a.wav") == 2.5
    with pytest.raises(BadAudio, match="truncated"):
        read(tmp_path, one + two[:-100])
    with pytest.raises(BadAudio, match="another rate"):
        read(tmp_path, one + encoded("OGG", kind, VOICE[::2], 8000))


def test_an_ogg_without_its_end_mark_or_with_a_lost_or_damaged_page_is_refused(tmp_path):
    long = np.tile(VOICE, 5)
    data = bytearray(encoded("OGG", "VORBIS", long))
    starts = [at for at in range(len(data)) if data[at : at + 5] == b"OggS\0"]
    assert len(starts) > 4
    with pytest.raises(BadAudio, match=r"not marked as the last; \d+ pages with \d+ samples exist"):
        read(tmp_path, bytes(data[: starts[-1]]))
    with pytest.raises(BadAudio, match="page 3 of the stream is missing"):
        read(tmp_path, bytes(data[: starts[3]] + data[starts[4] :]))
    data[starts[3] + 500] ^= 1
    with pytest.raises(BadAudio, match="page 3 is damaged"):
        read(tmp_path, bytes(data))


# ------------------------------------------------------------------ MP3


def test_an_mp3_of_variable_rate_without_a_count_is_read_whole(tmp_path):
    counted, data = encoded("MP3", "MPEG_LAYER_III"), uncounted_mp3()
    (tmp_path / "guessed.mp3").write_bytes(data)
    frames = mpeg._walked(data).frames
    assert soundfile.info(str(tmp_path / "guessed.mp3")).frames < 576 * frames  # libsndfile's guess is short
    whole = read(tmp_path, data, "guessed.mp3")
    assert len(whole.samples) == 576 * frames
    assert audio_seconds(tmp_path / "guessed.mp3") == 576 * frames / 16000
    known = read(tmp_path, counted, "counted.mp3").samples
    delay = 576 + 529  # the encoder's and the decoder's, which the frame that counts the others tells of
    assert np.abs(whole.samples[delay : delay + len(known)] - known).max() < 1e-6


def test_an_mp3_whose_writer_could_not_go_back_to_its_count_is_read_whole(tmp_path):
    data = bytearray(encoded("MP3", "MPEG_LAYER_III"))
    place = max(data.find(b"Xing"), data.find(b"Info")) + 8
    frames = struct.unpack_from(">I", data, place)[0]
    struct.pack_into(">I", data, place, 0)
    sound = read(tmp_path, bytes(data), "a.mp3")
    assert len(sound.samples) == 576 * frames
    assert "not stored in it" in sound.notes[0]


def test_an_mp3_that_is_cut_or_joined_is_refused_with_both_counts(tmp_path):
    counted, uncounted = encoded("MP3", "MPEG_LAYER_III"), uncounted_mp3()
    with pytest.raises(BadAudio, match="truncated: the last frame is not whole"):
        read(tmp_path, uncounted[:-10], "a.mp3")
    with pytest.raises(BadAudio, match=r"promises \d+ samples, and \d+ exist, in 2 files that were joined"):
        read(tmp_path, counted * 2, "a.mp3")
    length = mpeg._walked(counted).first.length
    with pytest.raises(BadAudio, match=r"truncated"):
        read(tmp_path, counted[: len(counted) - length], "a.mp3")
    assert len(read(tmp_path, counted + b"TAG" + bytes(125), "a.mp3").samples) == len(
        read(tmp_path, counted, "a.mp3").samples
    )


# ------------------------------------------------------------------ levels and channels


def test_integers_taken_for_fractions_are_refused_and_a_level_near_nothing_is_noted(tmp_path):
    soundfile.write(tmp_path / "a.wav", VOICE * 32768, 16000, subtype="FLOAT")
    with pytest.raises(BadAudio, match=r"samples reach \d+; full scale is 1"):
        read_audio(tmp_path / "a.wav")
    soundfile.write(tmp_path / "b.wav", VOICE / 65536, 16000, subtype="FLOAT")
    assert "almost silence" in read_audio(tmp_path / "b.wav").notes[0]
    soundfile.write(tmp_path / "c.wav", VOICE * 30, 16000, subtype="FLOAT")  # clipped speech
    assert read_audio(tmp_path / "c.wav").notes == ()
    soundfile.write(tmp_path / "d.wav", np.rint(VOICE * 30), 16000, subtype="FLOAT")  # a soft clip's integers
    with pytest.raises(BadAudio, match=r"full scale is 1"):
        read_audio(tmp_path / "d.wav")
    soundfile.write(tmp_path / "e.wav", np.full(WHOLE, 0.25), 16000, subtype="FLOAT")
    assert "almost silence" in read_audio(tmp_path / "e.wav").notes[0]


@pytest.mark.parametrize("share", [1.0, 0.99, 0.8])
def test_channels_that_cancel_each_other_are_refused_by_number(tmp_path, share):
    soundfile.write(tmp_path / "a.wav", np.stack([VOICE, -share * VOICE], axis=1), 16000)
    with pytest.raises(BadAudio, match=r"channels 1, 2 cancel each other.*pan=mono\|c0=c0"):
        read_audio(tmp_path / "a.wav")


def test_a_dead_channel_is_left_out_of_the_mean_with_a_note(tmp_path):
    draw = np.random.default_rng(1)
    noise = draw.normal(0, 1e-3, WHOLE)  # of an input that nothing is connected to
    for dead in (np.zeros(WHOLE), np.full(WHOLE, 0.01), draw.normal(0, 2e-5, WHOLE), noise * VOICE.std()):
        soundfile.write(tmp_path / "a.wav", np.stack([VOICE, dead], axis=1), 16000, subtype="FLOAT")
        sound = read_audio(tmp_path / "a.wav")
        assert np.array_equal(sound.samples, VOICE)
        assert sound.notes == ("channel 2 of 2 without sound, left out of the down-mix.",)
    other = np.roll(VOICE, 700) * np.float32(0.5)
    soundfile.write(tmp_path / "a.wav", np.stack([VOICE, other], axis=1), 16000, subtype="FLOAT")
    sound = read_audio(tmp_path / "a.wav")
    assert np.array_equal(sound.samples, np.stack([VOICE, other], axis=1).mean(axis=1))
    assert sound.notes == ()


@pytest.mark.parametrize("channels", [4, 8])
def test_channels_of_which_one_speaks_do_not_cancel_each_other(tmp_path, channels):
    """Of a meeting, say: their mean is weak, but nothing in it is lost."""
    draw = np.random.default_rng(2)
    others = [0.05 * VOICE.std() * draw.normal(size=WHOLE) for _ in range(channels - 1)]
    samples = np.stack([VOICE, *others], axis=1).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", samples, 16000, subtype="FLOAT")
    assert np.array_equal(read_audio(tmp_path / "a.wav").samples, samples.mean(axis=1))


def test_a_telephones_band_is_noted_and_once_for_a_corpus(tmp_path):
    spectrum = np.fft.rfft(VOICE)
    spectrum[np.arange(len(spectrum)) > 3800] = 0
    write_ratings_csv(tmp_path, "file,rater,label\na.wav,anna,sad\nb.wav,anna,sad\nc.wav,anna,sad\n")
    soundfile.write(tmp_path / "a.wav", VOICE, 16000)
    soundfile.write(tmp_path / "b.wav", np.fft.irfft(spectrum), 16000)
    resampled = 0.5 * np.fft.irfft(spectrum) + 0.002 * VOICE  # as resampling from 8 kHz leaves a little above 4 kHz
    soundfile.write(tmp_path / "c.wav", resampled, 16000, subtype="FLOAT")
    assert read_audio(tmp_path / "a.wav").notes == ()
    assert read_audio(tmp_path / "b.wav").notes == ("nothing above 4000 Hz, as over a telephone.",)
    report = validation_report(load_corpus("ratings_csv", tmp_path), progress=False)
    (problem,) = report["problems"]
    assert problem["what"].startswith("2 of 3 files hold nothing above 4000 Hz, as over a telephone, e.g. ")
    assert exit_status(report) == 0


def test_notes_go_to_stderr_once_a_file_and_few_of_a_kind(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(notes, "_told", set())
    monkeypatch.setattr(notes, "_kinds", notes.Counter())
    for number in range(8):
        path = tmp_path / f"{number}.wav"
        soundfile.write(path, np.stack([VOICE, 0 * VOICE], axis=1), 16000)
        load_audio(path)
        load_audio(path)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == notes.MOST_OF_A_KIND + 1
    assert said[0] == f"note: {tmp_path}/0.wav: channel 2 of 2 without sound, left out of the down-mix."
    assert "metaperser validate" in said[-1]
    collected: list[tuple[str, str]] = []
    load_audio(tmp_path / "7.wav", note=lambda path, what: collected.append((str(path), what)))
    assert [path for path, _ in collected] == [str(tmp_path / "7.wav")]
    assert capsys.readouterr().err == ""


# ------------------------------------------------------------------ what needs ffmpeg

FOREIGN = {
    "phone.m4a": b"\0\0\0\x1cftypM4A \0\0\x02\0",
    "browser.webm": b"\x1a\x45\xdf\xa3\x9fB\x86\x81\x01",
    "memo.amr": b"#!AMR\n\x3c",
    "talk.wma": bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"),
    "voice.aac": b"\xff\xf1\x50\x80\x02\x1f\xfc",
    "in-wav-clothes.wav": b"\0\0\0\x1cftypM4A \0\0\x02\0",
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_needs_ffmpeg_is_named_with_the_command_that_converts_it(tmp_path, monkeypatch, name):
    monkeypatch.setattr(ffmpeg, "available", lambda: None)
    (tmp_path / name).write_bytes(FOREIGN[name] + bytes(100) if name != "memo.amr" else b"#!AMR\n" + bytes(13))
    for door in (read_audio, audio_seconds):
        with pytest.raises(BadAudio) as fault:
            door(tmp_path / name)
        assert "intact" not in fault.value.what or "truncated" in fault.value.what or "damaged" in fault.value.what
    whole = {"phone.m4a": b"\0\0\0\x0cftypM4A \0\0\0\x08moov\0\0\0\x08mdat", "memo.amr": b"#!AMR\n" + bytes(13)}
    if name in whole:
        (tmp_path / name).write_bytes(whole[name])
        with pytest.raises(BadAudio, match=rf"which needs ffmpeg\. .*ffmpeg -i \S*{name}") as fault:
            read_audio(tmp_path / name)
        assert "intact" not in str(fault.value)


@needs_ffmpeg
@pytest.mark.parametrize(
    "form", ["ipod aac", "webm libopus", "matroska flac", "adts aac", "asf wmav2", "mp3 -q:a 4 -write"]
)
def test_what_ffmpeg_writes_is_read_whole_or_refused_however_it_is_damaged(tmp_path, form):
    number = next(
        n
        for n, parts in enumerate(audio_files.FORMS)
        if all(word in " ".join(map(str, parts)) for word in form.split())
    )
    found = []
    for how, data in audio_files.written(tmp_path, number):
        for what, content in audio_files.damaged(data):
            path = tmp_path / "damaged.bin"
            path.write_bytes(content)
            found.append((how, what, *audio_files.outcome(path, what)))
    if not found:
        pytest.skip(f"this ffmpeg does not write {form}")
    assert [row for row in found if row[2] == "SHORT"] == []
    assert {row[2] for row in found if row[1] == "as it is"} == {"read whole"}


@needs_ffmpeg
def test_ffmpeg_opens_no_other_file_and_takes_no_film_without_sound(tmp_path):
    soundfile.write(tmp_path / "other.wav", VOICE, 16000)
    for name, text in (
        ("a.m4a", "#EXTM3U\n#EXTINF:1,\nother.wav\n"),
        ("b.mp4", "ffconcat version 1.0\nfile other.wav\n"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(BadAudio):
            read_audio(tmp_path / name)


@pytest.mark.parametrize(
    ("head", "part"),
    [
        (b"#!AMR\n", b"\x7c"),
        (b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\x01" + b"\xff" * 7, b"\xec\x80"),
        (b"FLV\x01\x04\0\0\0\x09\0\0\0\0", b"\x08" + bytes(14)),
    ],
)
def test_a_file_of_millions_of_parts_without_sound_is_refused_within_seconds(tmp_path, monkeypatch, head, part):
    monkeypatch.setattr(ffmpeg, "_MOST_PARTS", 1000)
    monkeypatch.setattr(ffmpeg, "available", lambda: None)
    (tmp_path / "a.bin").write_bytes(head + part * 5000)
    with pytest.raises(BadAudio, match="more than 1000 parts"):
        read_audio(tmp_path / "a.bin")


def test_corpora_and_listeners_go_through_the_same_door(tmp_path):
    from s3prl_metaperser.listener.waves import waveform

    write_ratings_csv(tmp_path, "file,rater,label\na.wav,anna,sad\n")
    soundfile.write(tmp_path / "a.wav", np.stack([VOICE, -VOICE], axis=1), 16000)
    (problem,) = validation_report(load_corpus("ratings_csv", tmp_path), progress=False)["problems"]
    assert problem["serious"]
    with pytest.raises(BadAudio) as fault:
        waveform(tmp_path / "a.wav")
    assert fault.value.what == problem["what"]
    assert "cancel each other" in problem["what"]


def test_an_array_near_silence_is_noted_as_a_file_is(capsys, monkeypatch):
    from s3prl_metaperser.listener.waves import waveform

    monkeypatch.setattr(notes, "_told", set())
    monkeypatch.setattr(notes, "_kinds", notes.Counter())
    waveform(VOICE / np.float32(65536), 16000)
    assert "an array of 16000 samples: almost silence" in capsys.readouterr().err
