import json
import re
import struct

import numpy as np
import pytest
import soundfile
from corpora_fixtures import (
    block,
    rating,
    wav_path,
    write_iemocap,
    write_ratings_csv,
    write_summary,
    write_wav,
)

from s3prl_metaperser.corpora import load_corpus
from s3prl_metaperser.corpora.audio import BadAudio, audio_seconds, load_audio
from s3prl_metaperser.corpora.iemocap import CLASSES, LABEL_SET
from s3prl_metaperser.corpora.validate import exit_status, format_report, validation_report
from s3prl_metaperser.errors import UserError

GOOD = "file,rater,label\ngood.wav,anna,sad\n"


def no_audio(path):
    path.write_bytes(b"no audio")


def header_alone(path):
    write_wav(path, samples=np.zeros(0, np.float32))


def too_short(path):
    write_wav(path, samples=np.full(399, 0.1, np.float32))


def cut_wav(path):
    write_wav(path)
    path.write_bytes(path.read_bytes()[:1000])


def cut_flac(path):
    tone = np.sin(np.arange(16000) * 0.3) * 0.1 + np.random.default_rng(0).normal(0, 0.05, 16000)
    soundfile.write(path, tone, 16000, format="FLAC")
    path.write_bytes(path.read_bytes()[:8000])


def with_nan(path):
    write_wav(path, samples=np.array([0.1] * 800 + [np.nan], np.float32))


def with_infinity(path):
    write_wav(path, samples=np.array([0.1] * 800 + [-np.inf], np.float32))


FAULTS = [
    (no_audio, "cannot be"),
    (header_alone, "no samples"),
    (too_short, "Too short: 24.9 ms"),
    (cut_wav, "truncated: 956 of 1600 bytes"),
    (cut_flac, "truncated|cannot be decoded"),
    (with_nan, "1 samples are NaN or infinite"),
    (with_infinity, "1 samples are NaN or infinite"),
]


def report_with(folder, spoil):
    """The report on a good file and one spoilt by ``spoil``."""
    write_ratings_csv(folder, GOOD + "spoilt.wav,anna,sad\n")
    spoil(folder / "spoilt.wav")
    return validation_report(load_corpus("ratings_csv", folder), progress=False)


@pytest.mark.parametrize(("spoil", "what"), FAULTS)
def test_audio_that_cannot_be_used_is_one_serious_problem(tmp_path, spoil, what):
    report = report_with(tmp_path, spoil)
    (problem,) = report["problems"]
    assert problem["path"] == str(tmp_path / "spoilt.wav")
    assert re.search(what, problem["what"])
    assert problem["serious"]
    assert exit_status(report) == 1


@pytest.mark.parametrize(("spoil", "what"), FAULTS)
def test_what_does_not_validate_does_not_load(tmp_path, spoil, what):
    spoil(tmp_path / "x.wav")
    with pytest.raises(UserError, match=rf"x\.wav: .*({what}).*xclude"):
        load_audio(tmp_path / "x.wav")


def test_missing_audio_is_said_once(tmp_path):
    report = report_with(tmp_path, lambda path: path.unlink())
    (problem,) = report["problems"]
    assert "no such audio file" in problem["what"]
    with pytest.raises(BadAudio, match="no such audio file"):
        load_audio(tmp_path / "spoilt.wav")
    with pytest.raises(BadAudio, match="no such audio file"):
        audio_seconds(tmp_path)


def test_silence_is_noted_and_not_serious(tmp_path):
    report = report_with(tmp_path, lambda path: write_wav(path, samples=np.zeros(800, np.float32)))
    (problem,) = report["problems"]
    assert problem["what"].startswith("silence")
    assert not problem["serious"]
    assert exit_status(report) == 0


def test_other_rates_and_channels_are_noted_once_a_kind(tmp_path):
    names = [f"{n}.wav" for n in range(5)]
    write_ratings_csv(tmp_path, GOOD + "".join(f"{name},anna,sad\n" for name in names))
    for name, rate, channels in zip(names, (8000, 44100, 44100, 16000, 16000), (1, 1, 2, 2, 6), strict=True):
        write_wav(tmp_path / name, seconds=0.05 + int(name[0]) / 100, rate=rate, channels=channels)
    report = validation_report(load_corpus("ratings_csv", tmp_path), progress=False)
    assert [(p["path"], p["what"], p["serious"]) for p in report["problems"]] == [
        (
            str(tmp_path),
            "sampling rate other than 16000 Hz, will be resampled: 3 files (1 with 8000 Hz, 2 with 44100 Hz).",
            False,
        ),
        (
            str(tmp_path),
            "more than one channel, will be down-mixed to mono: 3 files (2 with 2 channels, 1 with 6 channels).",
            False,
        ),
    ]


def test_without_decoding_only_the_readers_problems_are_told(tmp_path):
    write_ratings_csv(tmp_path, GOOD)
    with_nan(tmp_path / "good.wav")
    corpus = load_corpus("ratings_csv", tmp_path)
    assert validation_report(corpus, decode_audio=False)["problems"] == []
    assert len(validation_report(corpus, progress=False)["problems"]) == 1


def small_release(folder):
    root = write_iemocap(
        folder,
        {
            "Ses01F_impro01_F000": [
                rating("C-E1", "Neutral; Anger;", "curious"),
                rating("C-E2", "Other;"),
                rating("C-F1", "Excited;"),
            ],
            "Ses01F_impro01_M000": [rating("C-E1", "Anger; Other;"), rating("C-E2", "Sadness;")],
            "Ses02M_script01_1_F000": [rating("C-E1", "Anger;"), rating("C-E1", "Fear;")],
            "Ses02M_script01_1_F001": [rating("C-E2", "Other;")],
        },
    )
    wav_path(root, "Ses02M_script01_1_F000").unlink()
    write_wav(wav_path(root, "Ses02M_script01_1_F009"))
    write_wav(wav_path(root, "Ses01F_impro01_M000"), samples=np.zeros(800, np.float32))
    return root


def ticks(**counts) -> dict:
    return dict.fromkeys(CLASSES, 0) | counts


def test_a_report_computed_by_hand(tmp_path):
    root = small_release(tmp_path)
    report = validation_report(load_corpus("iemocap", root), progress=False)
    assert report == {
        "label_set": LABEL_SET.as_dict(),
        "utterances": 3,  # Ses02M_script01_1_F001 has only "other"
        "speakers": 3,  # Ses01F, Ses01M, Ses02F
        "raters": {
            "C-E1": {"utterances": 3, "ticks": ticks(neutral=1, angry=3, fear=1)},
            "C-E2": {"utterances": 1, "ticks": ticks(sad=1)},
            "C-F1": {"utterances": 1, "ticks": ticks(excited=1)},
        },
        "dropped": {
            "files: wav without a rating": 1,
            "ratings: no class left": 2,
            "ticks: other": 3,
            "utterances: no rating left": 1,
        },
        "merged": {},
        "problems": [
            {
                "path": str(root / "Session2/dialog/EmoEvaluation/Ses02M_script01_1.txt") + ":5",
                "what": "a second line of C-E1 for Ses02M_script01_1_F000: their labels are united (not serious).",
                "serious": False,
            },
            {
                "path": str(root),
                "what": "not the whole published release: Session1 has 1 of 28 summaries and 2 of 1819 wavs; Session2 "
                "has 1 of 30 summaries and 2 of 1811 wavs; Session3 has 0 of 32 summaries and 0 of 2136 wavs; Session4 "
                "has 0 of 30 summaries and 0 of 2103 wavs; Session5 has 0 of 31 summaries and 0 of 2170 wavs. Unpack "
                "what is missing.",
                "serious": False,
            },
            {
                "path": str(wav_path(root, "Ses02M_script01_1_F000")),
                "what": "there is no such audio file. Correct its name, or exclude it.",
                "serious": True,
            },
            {
                "path": str(wav_path(root, "Ses01F_impro01_M000")),
                "what": "silence: all samples are zero.",
                "serious": False,
            },
        ],
    }
    assert json.loads(json.dumps(report)) == report
    assert exit_status(report) == 1


def test_of_a_corpus_that_names_no_speakers_none_is_counted(tmp_path):
    write_wav(tmp_path / "a.wav")
    (tmp_path / "ratings.csv").write_text("file,rater,label\na.wav,r1,happy\n")
    corpus = load_corpus("ratings_csv", tmp_path)
    assert "1 utterances, unknown speakers, 1 raters" in format_report(
        corpus, validation_report(corpus, progress=False)
    )


def test_the_text_shows_every_number_of_the_report(tmp_path):
    corpus = load_corpus("iemocap", small_release(tmp_path))
    text = format_report(corpus, validation_report(corpus, progress=False))
    lines = text.splitlines()
    assert lines[0] == f"iemocap at {tmp_path}: 3 utterances, 3 speakers, 3 raters"
    assert lines[1].startswith("label set iemocap (multi: several classes may be ticked): frustrated, angry")
    table = {line.split()[0]: line.split()[1:] for line in lines[3:7]}
    assert table["rater"] == ["utterances", *CLASSES]
    assert table["C-E1"] == ["3", "0", "3", "0", "0", "0", "1", "1", "0", "0"]
    assert len({len(line) for line in lines[3:7]}) == 1
    assert "  3  ticks: other" in lines
    assert "Serious problems (1)" in lines
    assert "Notes (3)" in lines
    assert lines[-1] == "Not fit for training: fix the serious problems first."


def test_the_text_is_short_where_problems_are_many(tmp_path):
    names = [f"{n}.wav" for n in range(25)]
    write_ratings_csv(tmp_path, "file,rater,label\n" + "".join(f"{name},a,sad\n" for name in names))
    for name in names:
        (tmp_path / name).unlink()
    corpus = load_corpus("ratings_csv", tmp_path)
    report = validation_report(corpus, progress=False)
    assert len(report["problems"]) == 25
    text = format_report(corpus, report)
    assert "Serious problems (25)" in text
    assert "... and 5 more" in text


def test_the_text_of_a_clean_corpus_says_so(tmp_path):
    corpus = load_corpus("ratings_csv", write_ratings_csv(tmp_path, GOOD))
    report = validation_report(corpus, progress=False)
    assert format_report(corpus, report).splitlines()[-1] == "No serious problems."
    assert exit_status(report) == 0


def test_no_control_sequence_reaches_the_terminal(tmp_path):
    corpus = load_corpus("ratings_csv", write_ratings_csv(tmp_path, GOOD + "good.wav,\x1b[31mred,sad\n"))
    text = format_report(corpus, validation_report(corpus, progress=False))
    assert "\x1b" not in text
    assert "\\x1b[31mred" in text


def test_progress_goes_to_stderr(tmp_path, capsys):
    root = write_iemocap(tmp_path, {"Ses01F_impro01_F000": [rating("C-E1", "Fear;")]})
    write_summary(root, "Ses01F_impro01", block("Ses01F_impro01_F000", rating("C-E1", "Fear;")))
    corpus = load_corpus("iemocap", root)
    validation_report(corpus, progress=True)
    validation_report(corpus, progress=False)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("decoding: 100%") == 1


def test_audio_loads_as_float32_at_full_scale_one(tmp_path):
    samples = np.linspace(-1, 1, 1000, dtype=np.float32)
    loaded = load_audio(write_wav(tmp_path / "x.wav", samples=samples))
    assert loaded.dtype == np.float32
    np.testing.assert_array_equal(loaded, samples)


def test_channels_are_averaged(tmp_path):
    channels = np.random.default_rng(0).uniform(-1, 1, (1000, 3)).astype(np.float32)
    loaded = load_audio(write_wav(tmp_path / "x.wav", samples=channels))
    assert loaded.shape == (1000,)
    np.testing.assert_allclose(loaded, (channels[:, 0] + channels[:, 1] + channels[:, 2]) / 3, atol=1e-6)


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_a_tone_survives_resampling(tmp_path, rate):
    write_wav(tmp_path / "x.wav", seconds=0.5, rate=rate)
    loaded = load_audio(tmp_path / "x.wav")
    assert len(loaded) == 8000
    tone = 0.1 * np.sin(2 * np.pi * 440 * np.arange(8000) / 16000)
    np.testing.assert_allclose(loaded[800:-800], tone[800:-800], atol=2e-4)


@pytest.mark.parametrize("rate", [0, -16000, 16000.0, True, "16000"])
def test_a_rate_that_is_none_is_refused(tmp_path, rate):
    with pytest.raises(ValueError, match="Bad rate"):
        load_audio(write_wav(tmp_path / "x.wav"), rate=rate)


def test_a_wav_written_to_a_pipe_has_no_length_and_loads(tmp_path):
    path = write_wav(tmp_path / "x.wav")
    content = bytearray(path.read_bytes())
    content[40:44] = struct.pack("<I", 0xFFFFFFFF)
    path.write_bytes(content)
    assert len(load_audio(path)) == 800


@pytest.mark.parametrize(("raters", "few"), [(("anna", "ben"), True), (("anna", "ben", "cat"), False)])
def test_the_report_says_that_raters_are_too_few_to_train_on(tmp_path, raters, few):
    write_wav(tmp_path / "good.wav")
    (tmp_path / "ratings.csv").write_text("file,rater,label\n" + "".join(f"good.wav,{r},sad\n" for r in raters))
    corpus = load_corpus("ratings_csv", tmp_path)
    text = format_report(corpus, validation_report(corpus, progress=False))
    assert ("Too few raters to train on: at least 3" in text) == few
