"""What a notebook shows of objects, and the notebook that comes with the documentation, run from its first cell."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from corpora_fixtures import write_ratings_csv

from s3prl_metaperser import load_corpus
from s3prl_metaperser.storage.html_text import html_table

NOTEBOOK = Path(__file__).resolve().parents[1] / "docs" / "notebooks" / "demo.ipynb"
MISSING = [name for name in ("nbclient", "ipykernel", "pandas") if importlib.util.find_spec(name) is None]
RUN = """
import sys, nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(notebook, timeout=None, startup_timeout=600).execute()
nbformat.write(notebook, sys.argv[2])
"""


@pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)} (the extra notebook)")
def test_the_notebook_goes_from_the_demo_corpus_to_a_listener_and_a_report(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(NOTEBOOK), "out.ipynb"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    cells = [cell for cell in json.loads((tmp_path / "out.ipynb").read_text())["cells"] if cell["cell_type"] == "code"]
    corpus, result, mine, frame = (shown(cells[place]) for place in (1, 3, 4, 6))
    assert "120 utterances" in corpus
    assert "<td>C-E1</td>" in corpus
    assert re.search(r"<caption>Meta-PerSER, fbank_no_cmvn .*<td>macro-F1, %</td><td>\d", result)
    assert "16 clips" in mine
    assert "<table" in frame
    (said,) = (output["text"] for output in cells[5]["outputs"] if output["output_type"] == "stream")
    lines = "".join(said).splitlines()
    assert re.match(r"clip +ticked +most probable$", lines[0])
    assert all(re.search(r"\.wav +[\w;]+ +\w+ [\d.]+, \w+ [\d.]+, \w+ [\d.]+$", line) for line in lines[1:])
    assert len(lines) == 7
    assert (tmp_path / "metaperser-notebook" / "report" / "report.html").is_file()


def shown(cell: dict) -> str:
    (output,) = (output for output in cell["outputs"] if output["output_type"] == "execute_result")
    return "".join(output["data"]["text/html"])


def test_the_notebook_is_kept_without_outputs():
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells if "outputs" in cell)


def test_predictions_print_the_answer_and_the_most_probable_classes_and_are_a_data_frame():
    pandas = pytest.importorskip("pandas")
    from s3prl_metaperser.listener.predictions import Predictions

    frame = Predictions(
        np.array([[0.2, 0.5, 0.3], [0.7, 0.1, 0.2]]), columns=list("abc"), index=["x.wav", "longer.wav"]
    )
    frame["label"] = ["b", "a"]
    assert str(frame).splitlines() == [
        "clip        label  most probable",
        "x.wav       b      b 0.50, c 0.30, a 0.20",
        "longer.wav  a      a 0.70, c 0.20, b 0.10",
    ]
    assert isinstance(frame, pandas.DataFrame)
    assert frame.loc["x.wav", "b"] == 0.5
    assert type(frame[["a"]]) is pandas.DataFrame, "a part of it is printed as pandas does"
    assert str(Predictions(np.empty((0, 2)), columns=["a", "label"])) == "no clips"


def test_names_from_files_cannot_write_html_or_escape_sequences(tmp_path):
    corpus = load_corpus(
        "ratings_csv", write_ratings_csv(tmp_path, "file,rater,label\na.wav,<b>x</b>,happy\na.wav,two,sad\n")
    )
    text = corpus._repr_html_()
    assert "<b>" not in text
    assert "&lt;b&gt;x&lt;/b&gt;" in text
    assert "\x1b" not in html_table("\x1b[31m", [["\x1b]0;x"]])
    assert repr(corpus).startswith("<Corpus ratings_csv: 1 utterances, 2 ratings by 2 raters, ")
