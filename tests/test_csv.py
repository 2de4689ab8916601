"""What this package writes as CSV: no spreadsheet computes any of it, and it is read back as it was meant."""

import csv
import doctest
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from corpora_fixtures import write_wav
from hypothesis import given
from hypothesis import strategies as st

from s3prl_metaperser.corpora.label_set import LabelSet
from s3prl_metaperser.listener.files import Predictions
from s3prl_metaperser.listener.ratings_file import RatingsFile
from s3prl_metaperser.storage import csv_text

FORMULAS = ["=1+1.wav", "@SUM(1).wav", "+1", "-1+1", "-a", " =1", "\t=1", "\r=1", "x;=1", "\t@a;+b", "\uff1d1", "a\n-b"]
NUMBER = re.compile(r"-(\d+(\.\d*)?(e[+-]?\d+)?|inf|nan)")


def computes(cell: str) -> bool:
    """Whether a spreadsheet that gets this cell, or splits it at semicolons, tabs and lines, computes a part of it."""
    parts = [part.strip() for part in re.split(r"[;\t\r\n]", cell)]
    signs = tuple("=+-@\uff1d\uff0b\uff0d\uff20")
    return any(part.startswith(signs) and not NUMBER.fullmatch(part) for part in parts)


@given(text=st.one_of(st.sampled_from(FORMULAS), st.text(alphabet="=+-@';\t\r\n 1e.ax\uff1d", max_size=8)))
def test_no_text_in_a_csv_file_is_computed_and_every_one_is_read_back(text):
    written = csv_text.inert(text)
    assert not computes(written)
    assert not written.startswith(("\t", "\r", "\n"))
    assert csv_text.as_meant(written) == text


@pytest.mark.parametrize("text", ["a.wav", "-0.5", "-1e-05", "-inf", "'tis.wav", "it's;fine", "1;-2", "a=b", ""])
def test_healthy_cells_stay_as_they_are(text):
    assert csv_text.inert(text) == text == csv_text.as_meant(text)


@pytest.mark.parametrize("name", [*FORMULAS, "\x1b[31mred.wav", "\udcff.wav", "a\u202eb.wav"])
def test_no_file_name_or_class_means_anything_in_predictions(name):
    kind = LabelSet("x", "single", ("calm", "=1+2"))
    found = Predictions(kind, (name,), np.array([[0.25, 0.75]], np.float32), (("=1+2",),), (), (), (False,))
    table = list(csv.reader(io.StringIO(found.as_csv())))
    assert table[0] == ["file", "calm", "'=1+2", "label"]
    assert table[1][1:] == ["0.25", "0.75", "'=1+2"]
    assert not any(computes(cell) for row in table for cell in row)
    for text in (found.as_csv(), found.as_json(), found.as_text()):
        assert not set("\x1b\udcff\u202e") & set(text)
    assert json.loads(found.as_json())["predictions"][0]["file"] == name


def test_a_listeners_own_rows_are_quoted_and_read_back_and_others_rows_stay(tmp_path):
    kind = LabelSet("x", "multi", ("calm", "=1+2"))
    for name in ("=1+1.wav", "@SUM(1).wav"):
        write_wav(tmp_path / name)
    others = "note,file,rater,label\n=A1,@SUM(1).wav,-ben,calm\n"
    (tmp_path / "ratings.csv").write_text(others)
    RatingsFile(tmp_path / "ratings.csv", tmp_path, kind, "=anna").save("=1+1.wav", ("calm", "=1+2"))
    assert (tmp_path / "ratings.csv").read_text() == others + ",'=1+1.wav,'=anna,calm;'=1+2\n"
    again = RatingsFile(tmp_path / "ratings.csv", tmp_path, kind, "=anna")
    assert again.answers == {"=1+1.wav": ("calm", "=1+2")}
    again.save("=1+1.wav", ("calm",))
    assert (tmp_path / "ratings.csv").read_text() == others + ",'=1+1.wav,'=anna,calm\n"


def test_there_is_one_writer_of_csv():
    assert doctest.testmod(csv_text).failed == 0
    writers = re.compile(r"\b(csv\.writer|DictWriter|to_csv|savetxt)\b")
    package = Path(csv_text.__file__).parents[1]
    assert [path.name for path in package.rglob("*.py") if writers.search(path.read_text())] == ["csv_text.py"]
