"""A corpus of bad and odd files for every reader: the right result or one clear error."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import soundfile
from corpora_fixtures import block, rating, wav_path, write_iemocap, write_summary, write_wav

from s3prl_metaperser.cli import main
from s3prl_metaperser.config.yaml_files import LARGEST_BYTES, YAML_1_1, parse_yaml, read_yaml
from s3prl_metaperser.corpora import load_corpus
from s3prl_metaperser.corpora.audio import BadAudio, load_audio
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.s3prl_plugin import launcher

UTTERANCE = "Ses01F_impro01_F000"
OTHER = "Ses01F_impro01_F001"


# ------------------------------------------------------------------ IEMOCAP


@pytest.fixture
def release(tmp_path):
    root = write_iemocap(
        tmp_path, {name: [rating("C-E1", "Fear;"), rating("C-E2", "Anger;")] for name in (UTTERANCE, OTHER)}
    )
    return root, root / "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"


def changed(release, old: str, new: str):
    root, path = release
    text = path.read_bytes().decode("latin-1")
    assert old in text
    path.write_bytes(text.replace(old, new, 1).encode("latin-1"))
    corpus = load_corpus("iemocap", root)
    return corpus, [problem.what for problem in corpus.problems if problem.serious]


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("()\nC-E2:", "()C-E2:", "two lines have run together at 'C-E2:'"),
        ("release)\n\n[6.2901", "release)[6.2901", "two lines have run together"),
        (f"[6.2901 - 8.2357]\t{OTHER}", "", "not understood"),
        (OTHER, UTTERANCE, f"a second block for {UTTERANCE}"),
        (f"{OTHER}\tneu\t[2", f"{OTHER}\tneu\t2", "header damaged"),
    ],
)
def test_ratings_never_go_to_another_utterance(release, old, new, what):
    corpus, serious = changed(release, old, new)
    assert any(what in problem.what for problem in corpus.problems)
    assert serious
    assert {r.ticks for r in corpus.ratings if r.rater == "C-E2"} <= {("angry",)}
    assert all(len(r.ticks) == 1 for r in corpus.ratings)


def test_a_lost_header_line_is_serious_and_its_ratings_are_left_out(release):
    root, path = release
    lines = path.read_text(encoding="latin-1").splitlines(keepends=True)
    path.write_text("".join(line for line in lines if OTHER not in line), encoding="latin-1")
    corpus = load_corpus("iemocap", root)
    assert {r.utterance for r in corpus.ratings} == {UTTERANCE}
    assert corpus.dropped["ratings: in a block without a usable header"] == 2
    assert any("a header is lost" in problem.what and problem.serious for problem in corpus.problems)


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("C-E2:", "A-E2:", 5),
        ("C-E2:", "c-E2:", 5),
        ("C-E2:", "%C-E2:", 5),
        ("% [START", "%[START", 1),
        ("A-E3", "A-", 0),
    ],
)
def test_a_line_of_another_kind_is_named_and_never_passed_over(release, old, new, line):
    corpus, _ = changed(release, old, new)
    places = (problem.path.rpartition(":") for problem in corpus.problems)  # the last is of the whole corpus
    named = {int(line) for _, colon, line in places if colon}
    assert named == ({line} if line else set())


def test_labels_that_lost_their_semicolon_are_not_taken_for_the_first(release):
    corpus, _ = changed(release, "Fear;", "Fear Anger;")
    assert corpus.dropped["ticks: unknown label"] == 1
    corpus, _ = changed(release, "\tAnger;", "\tAngor;")
    assert any("'Angor' is read as 'angry'" in problem.what for problem in corpus.problems)


def test_a_summary_that_is_no_file_or_enormous_is_serious(release, monkeypatch):
    root, path = release
    (path.parent / "Ses01F_impro02.txt").symlink_to("nowhere")
    (path.parent / "Ses01F_impro03.txt").mkdir()
    corpus = load_corpus("iemocap", root)
    assert [problem.serious for problem in corpus.problems] == [True, True, False]  # not the whole release
    assert corpus.dropped == {"files: summary not read": 2}
    from s3prl_metaperser.corpora import iemocap

    monkeypatch.setattr(iemocap, "_LARGEST_SUMMARY", 10)
    with pytest.raises(UserError, match="empty corpus"):
        load_corpus("iemocap", root)


def test_double_line_ends_of_a_bad_conversion_are_one_line_end(release):
    root, path = release
    plain = load_corpus("iemocap", root)
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\r\n"))
    assert load_corpus("iemocap", root) == plain


# ------------------------------------------------------------------ ratings.csv


def table(folder, content: str | bytes, **options):
    folder.mkdir(exist_ok=True)
    for name in ("1.wav", "2.wav"):
        write_wav(folder / name)
    data = content if isinstance(content, bytes) else content.encode()
    (folder / "ratings.csv").write_bytes(data)
    return load_corpus("ratings_csv", folder, **options)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xfffile", "not UTF-8"),
        ("file,an\0na,b\n1.wav,sad,sad\n", "column's name contains a NUL"),
        ("file,rater,label\n1.wav,a,sa\0d\n", r"unknown label 'sa\\x00d'"),
        ("file,rater,label\n1.wav,a\0,sad\n", "rater contains a NUL"),
        ('file,rater,label\n1.wav,a,"' + "x" * 200_000 + '"\n', "field larger than field limit"),
    ],
)
def test_a_table_that_is_no_table_is_one_error(tmp_path, content, message):
    with pytest.raises(UserError, match=message):
        table(tmp_path, content)


@pytest.mark.parametrize("column", ["speaker", "session"])
def test_speakers_and_sessions_that_look_alike_are_noted(tmp_path, column):
    for other in ("Ses05\u200b", "ses05"):
        row = {"speaker": "S", "session": "S", column: "Ses05"}, {"speaker": "S", "session": "S", column: other}
        lines = [f"{n}.wav,{r['speaker']},{r['session']}\n" for n, r in enumerate(row, 1)]
        (tmp_path / "files.csv").write_text("file,speaker,session\n" + "".join(lines), encoding="utf-8")
        corpus = table(tmp_path, "file,rater,label\n1.wav,a,sad\n2.wav,a,sad\n")
        assert [(p.serious, f"count as two {column}s" in p.what) for p in corpus.problems] == [(False, True)]


def test_a_file_without_a_session_among_others_with_one_is_noted(tmp_path):
    (tmp_path / "files.csv").write_text("file,speaker,session\n1.wav,S,Ses01\n2.wav,S,\n", encoding="utf-8")
    corpus = table(tmp_path, "file,rater,label\n1.wav,a,sad\n2.wav,a,sad\n")
    assert ["1 rated files have no session, e.g. '2.wav'" in p.what for p in corpus.problems] == [True]


def test_a_files_csv_that_is_none_is_not_passed_over(tmp_path):
    path = tmp_path / "files.csv"
    path.symlink_to("nowhere")
    with pytest.raises(UserError, match=r"files\.csv: this is not a file"):
        table(tmp_path, "file,rater,label\n1.wav,a,sad\n")
    path.unlink()
    path.write_text("file,speaker,session\n1.wav,S,Se\0s01\n")
    with pytest.raises(UserError, match=r"files\.csv:2: .*NUL"):
        table(tmp_path, "file,rater,label\n1.wav,a,sad\n")


def test_links_out_of_the_folder_are_refused_unless_asked_for(tmp_path):
    outside = write_wav(tmp_path / "elsewhere" / "secret.wav")
    own = tmp_path / "own"
    own.mkdir()
    (own / "link.wav").symlink_to(outside)
    (own / "sub").symlink_to(outside.parent)
    (own / "inside.wav").symlink_to("1.wav")
    for name in ("link.wav", "sub/secret.wav"):
        content = f"file,rater,label\n1.wav,a,sad\n{name},a,sad\n"
        with pytest.raises(UserError, match=r"ratings\.csv:3: .* is a link out of the folder .*datarc\.outside"):
            table(own, content)
        assert len(table(own, content, outside=True).ratings) == 2
    assert len(table(own, "file,rater,label\n1.wav,a,sad\ninside.wav,a,sad\n").ratings) == 2
    for name in ("../elsewhere/secret.wav", str(outside)):
        content = f"file,rater,label\n{name},a,sad\n"
        with pytest.raises(UserError, match=r"datarc\.outside"):
            table(own, content)
        (utterance,) = table(own, content, outside=True).utterances
        assert utterance.path.resolve() == outside


def test_a_table_that_may_not_be_read_is_one_error(tmp_path, monkeypatch):
    from pathlib import Path

    table(tmp_path, "file,rater,label\n1.wav,a,sad\n")

    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(UserError, match=r"ratings\.csv: cannot be read \(Permission denied\)"):
        load_corpus("ratings_csv", tmp_path)


def test_a_home_folder_of_nobody_is_one_error():
    with pytest.raises(UserError, match="full path"):
        load_corpus("ratings_csv", "~no_such_person/corpus")


# ------------------------------------------------------------------ audio

TONE = 0.3 * np.sin(np.arange(16000) * 0.1)
FORMATS = [
    *(("WAV", kind) for kind in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW")),
    *(("FLAC", "PCM_16"), ("FLAC", "PCM_24"), ("AIFF", "PCM_16"), ("AU", "PCM_16"), ("NIST", "PCM_16")),
    *(("CAF", "PCM_16"), ("W64", "PCM_16"), ("RF64", "PCM_16"), ("VOC", "PCM_16"), ("OGG", "VORBIS")),
    ("MP3", "MPEG_LAYER_III"),
]


@pytest.mark.parametrize(("container", "kind"), FORMATS)
def test_every_format_is_read_whole_and_refused_where_its_end_is_missing(tmp_path, container, kind):
    if container not in soundfile.available_formats() or kind not in soundfile.available_subtypes(container):
        pytest.skip(f"this libsndfile has no {container} {kind}")
    path = tmp_path / "tone.audio"
    soundfile.write(path, TONE, 16000, format=container, subtype=kind)
    whole = load_audio(path)
    assert len(whole) == 16000
    coarse = 0.02 if kind in ("PCM_U8", "ULAW", "ALAW", "VORBIS", "MPEG_LAYER_III") else 1e-4
    assert np.abs(whole - TONE).max() < coarse
    data = path.read_bytes()
    for fraction in (0.95, 0.5, 0.1):
        path.write_bytes(data[: int(len(data) * fraction)])
        with pytest.raises(BadAudio, match=r"tone\.audio"):
            load_audio(path)


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 2])
def test_every_rate_and_stereo_come_out_as_mono_at_16_khz(tmp_path, rate, channels):
    seconds = np.arange(rate) / rate
    tone = 0.3 * np.sin(2 * np.pi * 300 * seconds)
    soundfile.write(tmp_path / "t.wav", np.stack([tone] * channels, axis=1), rate)
    wave = load_audio(tmp_path / "t.wav")
    assert abs(len(wave) - 16000) <= 1
    expected = 0.3 * np.sin(2 * np.pi * 300 * np.arange(len(wave)) / 16000)
    assert np.abs(wave - expected)[800:-800].max() < 1e-3


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros(0), "holds no samples"),
        (np.zeros(160), "Too short: 10.0 ms"),
        (np.array([0.1, np.nan] * 400), "400 samples are NaN"),
        (np.array([0.1, np.inf] * 400), "400 samples are NaN or infinite"),
    ],
)
def test_audio_without_a_usable_sample_says_why(tmp_path, samples, message):
    write_wav(tmp_path / "a.wav", samples=samples.astype(np.float32))
    with pytest.raises(BadAudio, match=message):
        load_audio(tmp_path / "a.wav")


def test_silence_is_read_and_ten_minutes_are(tmp_path):
    soundfile.write(tmp_path / "long.flac", np.zeros(16000 * 600, dtype=np.int16), 16000)
    assert load_audio(tmp_path / "long.flac").shape == (9_600_000,)


def test_an_empty_file_and_a_folder_are_no_audio(tmp_path):
    (tmp_path / "empty.wav").touch()
    (tmp_path / "folder.wav").mkdir()
    for name in ("empty.wav", "folder.wav", "none.wav"):
        with pytest.raises(BadAudio, match=name):
            load_audio(tmp_path / name)
    with pytest.raises(BadAudio, match=r"empty \(0 bytes\)\. Replace it"):  # and not: convert it
        load_audio(tmp_path / "empty.wav")


@pytest.mark.parametrize(("at", "value"), [(24, 1), (24, 2**31 - 1), (24, 0), (22, 0), (22, 1000)])
def test_a_header_of_nonsense_is_refused_before_it_takes_all_memory(tmp_path, at, value):
    path = write_wav(tmp_path / "a.wav", seconds=1)
    data = bytearray(path.read_bytes())
    data[at : at + (4 if at == 24 else 2)] = struct.pack("<I" if at == 24 else "<H", value)
    path.write_bytes(data)
    with pytest.raises(BadAudio, match=r"a\.wav"):
        load_audio(path)


def test_a_format_whose_missing_end_cannot_be_told_is_refused(tmp_path):
    soundfile.write(tmp_path / "a.paf", TONE, 16000, format="PAF", subtype="PCM_16")
    with pytest.raises(BadAudio, match=r"format PAF are not read. Convert it: ffmpeg -i"):
        load_audio(tmp_path / "a.paf")


def test_a_file_of_gigabytes_of_nothing_is_refused_at_once(tmp_path, monkeypatch):
    from s3prl_metaperser.corpora import audio

    write_wav(tmp_path / "a.wav", seconds=1)
    monkeypatch.setattr(audio, "MOST_SAMPLES", 10_000)
    with pytest.raises(BadAudio, match="File too long"):
        load_audio(tmp_path / "a.wav")


# ------------------------------------------------------------------ YAML

LAUGHS = "a0: &a0 [ha, ha, ha, ha, ha, ha, ha, ha, ha]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "runner:\n  total_steps: 1\n  log_step: 2\n  total_steps: 3\n",
            r"f:4: the key 'total_steps' appears twice.*line 2",
        ),
        ("a: {x: 1,\n x: 2}", r"f:2: the key 'x' appears twice"),
        ("1: a\n1.0: b", r"f:2: the key 1\.0 appears twice"),
        ("<<: {a: 1}\n<<: {b: 1}", r"f:2: the key '<<' appears twice"),
        (LAUGHS, r"f:\d+: more than 100,000 values"),
        ("a: &a [*a]", r"f:1: an anchor that refers to itself"),
        ("a: &a {b: *a}", r"refers to itself"),
        ("a: *b", r"f is not valid YAML.*line 1.*undefined alias"),
        ("[" * 3000, r"f: nested too deeply"),
        ("a: !!python/object/apply:os.system [ls]", r"f is not valid YAML.*python/object"),
        ("a: !!python/name:os.system x", r"python/name"),
        ("a: " + "9" * 5000, r"line 1.*4300 digits"),
        ("a: !!bool maybe", r"f is not valid YAML.*line 1"),
        ("? [1, 2]\n: 3", r"unhashable"),
        ("a: b\n---\nc: d", r"another document"),
        ("a: \x00", r"not valid YAML"),
        ("a: [1,", r"f is not valid YAML.*line 1"),
    ],
)
def test_yaml_that_is_not_plain_data_is_one_error_with_its_line(text, message):
    with pytest.raises(UserError, match=message):
        parse_yaml(text, "f")


def test_anchors_are_written_out_and_merged_keys_give_way_to_own_ones():
    read = parse_yaml("base: &b {x: [1], y: 2}\none: *b\ntwo: {<<: *b, y: 3}\n", "f")
    assert read == {"base": {"x": [1], "y": 2}, "one": {"x": [1], "y": 2}, "two": {"x": [1], "y": 3}}
    read["one"]["x"].append(2)
    assert read["base"]["x"] == read["two"]["x"] == [1]


def test_a_file_of_a_hundred_megabytes_is_refused_without_being_read(tmp_path, capsys):
    path = tmp_path / "big.yaml"
    with open(path, "wb") as file:
        file.truncate(100_000_000)
    with pytest.raises(UserError, match=rf"big\.yaml: too large .*100,000,000 bytes, limit {LARGEST_BYTES:,}"):
        read_yaml(path)
    command = ["-d", "personalized_emotion", "-u", "fbank_no_cmvn", "-m", "train", "-p", str(tmp_path / "exp")]
    assert launcher.main([*command, "-c", str(path)]) == 2
    assert "100,000,000 bytes" in capsys.readouterr().err
    assert not (tmp_path / "exp").exists()


def test_a_pipe_a_folder_latin_1_and_a_missing_file_are_no_yaml(tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "latin").write_bytes("a: 1\nb: é\n".encode("latin-1"))
    for name, message in (("pipe", "no such file"), ("", "folder"), ("no", "no such"), ("latin", "latin:2: not UTF-8")):
        with pytest.raises(UserError, match=message):
            read_yaml(tmp_path / name)


def test_a_repeated_key_stops_a_run_and_a_name_that_yaml_turns_into_something_else_does(tmp_path, capsys):
    path, command = tmp_path / "c.yaml", ["-d", "personalized_emotion", "-u", "fbank_no_cmvn", "-m", "train"]
    for text, message in (
        ("runner: {total_steps: 3}\nrunner: {total_steps: 4}\n", "c.yaml:2: the key 'runner' appears twice"),
        ("downstream_expert: {datarc: {test_raters: [{}, ben]}}\n", "expected a name"),
        ("runner: {total_steps: 9999999999}\n", "expected at most"),
        ("- a\n", "must be a mapping"),
    ):
        path.write_text(text)
        assert launcher.main([*command, "-c", str(path), "-p", str(tmp_path / "exp")]) == 2
        assert message in capsys.readouterr().err


def test_every_yaml_file_that_s3prl_brings_is_read_as_before():
    import yaml

    from s3prl_metaperser.s3prl_stack.hub_index import s3prl_folder

    paths = sorted((s3prl_folder() / "upstream").rglob("*.yaml"))
    assert paths
    for path in paths:
        assert read_yaml(path, rules=YAML_1_1) == yaml.safe_load(path.read_text(encoding="utf-8")), path


# ------------------------------------------------------------------ what is said


def test_control_characters_from_a_file_do_not_reach_the_terminal(tmp_path, capsys):
    name = "Ses01F_impro01\x1b[31m"
    write_iemocap(tmp_path, {UTTERANCE: [rating("C-E1", "Fear;")]})
    write_summary(tmp_path, name, block(UTTERANCE, rating("C-E1", "Anger;")))
    wav_path(tmp_path, UTTERANCE).unlink()
    main(["validate", "--corpus", "iemocap", "--root", str(tmp_path), "--no-audio"])
    own = tmp_path / "own\x1b]0;title\x07"
    own.mkdir()
    (own / "ratings.csv").write_text("file,rater,label\n1.wav,a,s\x1b[2Jad\n")
    assert main(["validate", "--corpus", "ratings_csv", "--root", str(own)]) == 2
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err
    assert "\x07" not in said.out + said.err
