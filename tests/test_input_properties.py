"""Whatever is in a file or typed: the right result, or one UserError. No other exception, no hang."""

from __future__ import annotations

import csv
import io
import math
import os
import tempfile

import pytest
import yaml
from corpora_fixtures import block, rating, wav_path, write_iemocap, write_summary, write_wav
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir

from s3prl_metaperser.config.options import Options
from s3prl_metaperser.config.override import parse_override
from s3prl_metaperser.config.yaml_files import parse_yaml
from s3prl_metaperser.corpora import load_corpus
from s3prl_metaperser.corpora.audio import BadAudio, load_audio
from s3prl_metaperser.corpora.iemocap import CLASSES
from s3prl_metaperser.errors import UserError, printable, shown
from s3prl_metaperser.s3prl_stack.guards import look_up

set_hypothesis_home_dir(os.path.join(tempfile.gettempdir(), "metaperser-hypothesis"))
#: The same examples every time; a fixture's folder is rewritten by each.
steady = settings(
    max_examples=80,
    derandomize=True,
    database=None,
    deadline=2000,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
UTTERANCE = "Ses01F_impro01_F000"
ALL_BYTES = "".join(map(chr, range(256)))
#: What a rater may write: anything in Latin-1 but a line's end, NUL, and what a line begins with.
COMMENTS = st.text(st.sampled_from(sorted(set(ALL_BYTES) - set("\r\n\0"))), max_size=40).filter(
    lambda text: not any(sign in text for sign in ("C-", "A-", "Ses0", "["))
)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.floats(allow_nan=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


def refusal(function, *arguments) -> str | None:
    """The UserError's text, if there is one."""
    try:
        function(*arguments)
    except UserError as error:
        return str(error)
    return None


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    root = tmp_path_factory.mktemp("release") / "IEMOCAP"
    write_iemocap(root, {"Ses02F_impro01_F000": [rating("C-E1", "Fear;")]})
    write_wav(wav_path(root, UTTERANCE))
    return root


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    for number in range(4):
        write_wav(folder / f"{number}.wav")
    return folder


@steady
@given(comments=st.lists(COMMENTS, min_size=3, max_size=3))
def test_no_comment_changes_a_rating_of_iemocap(release, comments):
    cells = ["Neutral;", "Anger; Sadness;", "Fear;"]
    lines = [rating(f"C-E{n}", cell, text) for n, (cell, text) in enumerate(zip(cells, comments, strict=True), 1)]
    write_summary(release, "Ses01F_impro01", block(UTTERANCE, *lines))
    corpus = load_corpus("iemocap", release)
    assert corpus.ratings_of("C-E1")[UTTERANCE] == (("neutral",))
    assert [corpus.ratings_of(f"C-E{n}").get(UTTERANCE) for n in (2, 3)] == [("angry", "sad"), ("fear",)]
    assert ["not the whole published release" in problem.what for problem in corpus.problems] == [True]


@steady
@given(data=st.binary(max_size=200) | st.text(st.sampled_from("\n\t\r[]()C-AE1:;%. Ses0_Fneu 25"), max_size=200))
def test_any_bytes_as_a_summary_are_read_or_reported(release, data):
    path = write_summary(release, "Ses01F_impro01")
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    corpus = load_corpus("iemocap", release)
    assert any(problem.serious for problem in corpus.problems) or UTTERANCE in {u.id for u in corpus.utterances}
    path.unlink()


CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)


@steady
@given(rows=st.dictionaries(st.tuples(st.integers(0, 3), CELLS), st.sets(st.sampled_from(CLASSES), min_size=1)))
def test_what_a_csv_writer_writes_is_what_is_read(folder, rows):
    expected = {(f"{file}.wav", rater.strip()): ticks for (file, rater), ticks in rows.items()}
    if len(expected) < len(rows) or not rows or any(not rater for _, rater in expected):
        return  # two names that differ by blanks around them alone are errors, as blank names are: tested elsewhere
    out = io.StringIO()
    table = csv.writer(out)
    table.writerows([["file", "rater", "label"], *([f"{f}.wav", r, ";".join(t)] for (f, r), t in rows.items())])
    (folder / "ratings.csv").write_bytes(out.getvalue().encode())
    raters = tuple(sorted({rater for _, rater in expected}))  # some would be a question: tested elsewhere
    corpus = load_corpus("ratings_csv", folder, raters=raters, alike_raters="distinct")
    assert {(f"{r.utterance}.wav", r.rater): set(r.ticks) for r in corpus.ratings} == expected
    assert not any(problem.serious for problem in corpus.problems)


@steady
@given(
    data=st.binary(max_size=120)
    | st.text(max_size=120)
    | st.text(st.sampled_from('file,rater,label\n01.wavsadhappy;"\r\0./'), max_size=120).map(
        "file,rater,label\n".__add__
    )
)
def test_any_bytes_as_ratings_csv_are_read_or_refused(folder, data):
    (folder / "ratings.csv").write_bytes(data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass"))
    try:
        corpus = load_corpus("ratings_csv", folder)
    except UserError:
        return
    assert corpus.ratings


@steady
@given(value=PLAIN)
def test_what_yaml_writes_is_what_is_read(value):
    assert parse_yaml(yaml.safe_dump(value), "f") == value


@steady
@given(text=st.text(max_size=80) | st.text(st.sampled_from("a&*!:{}[]<>,#|>-?%@`'\" \n\t12.e"), max_size=80))
def test_any_text_as_yaml_is_read_or_refused(text):
    said = refusal(parse_yaml, text, "f")
    assert said is None or said.startswith("f")


@steady
@given(config=st.dictionaries(st.sampled_from(["runner", "optimizer", "downstream_expert", "x"]), PLAIN))
def test_any_configuration_is_taken_or_refused(config):
    said = refusal(Options.from_config, config)
    assert said is None or "config" in said


SECTIONS = [
    "runner.total_steps",
    "optimizer.lr",
    "downstream_expert.datarc.test_raters",
    "downstream_expert.metarc.lslr",
]
ODD = PLAIN | st.floats() | st.integers() | st.just(10**5000) | st.just([[]]) | st.dates()


@steady
@given(key=st.sampled_from(SECTIONS), value=ODD)
def test_any_value_of_an_option_is_taken_or_refused_by_its_name(key, value):
    config = value
    for name in reversed(key.split(".")):
        config = {name: config}
    said = refusal(Options.from_config, config)
    assert said is None or key.split(".")[-1] in said


@steady
@given(
    text=st.text(max_size=60)
    | st.text(st.sampled_from("config.a=[]{}(),'\"&*!:1e-"), max_size=60).map("config.a=".__add__)
)
def test_any_override_is_data_or_refused(text):
    try:
        assignments = parse_override(text)
    except UserError:
        return
    plain = (bool, int, float, str, list, dict, type(None))
    assert all(isinstance(value, plain) for _, value in assignments)


@steady
@given(text=st.text(max_size=60) | st.text(st.sampled_from("os.system()[]+*-1,'\"__import"), max_size=60))
def test_any_text_in_the_place_of_evals_is_data_or_refused(text):
    try:
        value = look_up(text, {}, {})
    except UserError:
        return
    assert (
        value is None or value is ... or isinstance(value, (bool, int, float, complex, str, bytes, list, tuple, dict))
    )


@steady
@given(
    data=st.binary(max_size=100),
    head=st.sampled_from([b"", b"RIFF\x24\0\0\0WAVEfmt ", b"fLaC", b"OggS", b"ID3", b"FORM"]),
)
def test_any_bytes_as_audio_are_decoded_or_refused(folder, data, head):
    path = folder / "odd.wav"
    path.write_bytes(head + data)
    with pytest.raises(BadAudio, match=r"odd\.wav"):
        load_audio(path)


@steady
@given(at=st.integers(0, 43), value=st.integers(0, 255))
def test_a_wav_with_a_changed_header_is_decoded_or_refused(folder, at, value):
    data = bytearray((folder / "0.wav").read_bytes())
    data[at] = value
    (folder / "odd.wav").write_bytes(data)
    try:
        samples = load_audio(folder / "odd.wav")
    except BadAudio:
        return
    assert 0 < len(samples) <= 16_000 * 60
    assert math.isfinite(float(abs(samples).max()))


@steady
@given(text=st.text(), limit=st.integers(10, 90))
def test_nothing_that_is_printed_moves_the_cursor_or_rings_the_bell(text, limit):
    assert all(c.isprintable() or c in "\n\t" for c in printable(text))
    assert len(shown(text, limit)) <= limit
    assert printable("a\x1b[2Jb\u202e") == "a\\x1b[2Jb\\u202e"
