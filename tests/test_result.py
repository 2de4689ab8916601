"""The typed result: every version of the file is read, what is written is what was read, and each key is documented."""

import dataclasses
import inspect
import json
import re
import typing
from pathlib import Path

import numpy as np
import pytest
from test_summary import changed, result

from s3prl_metaperser.errors import UserError
from s3prl_metaperser.evaluation import READABLE, SCHEMA
from s3prl_metaperser.evaluation.result import Result, Selected, Tuned

DOCUMENTED = (Path(__file__).resolve().parents[1] / "docs" / "results.md").read_text(encoding="utf-8")


EPISODE = result()["episodes"][0]


def written(folder, content):
    path = folder / "result_test.json"
    path.write_text(json.dumps(content))
    return path


def with_trajectory(content):
    numbers = [0.1, 0.25, 1 / 3]
    point = {"steps": 5, "macro_f1": numbers, "loss": numbers, "support_loss": numbers, "predicted": [[1]] * 3}
    return {**content, "trajectory": [point, {"steps": 7, "diverged": "NaN"}]}


def test_a_file_of_version_3_is_read_with_its_numbers_to_the_bit(tmp_path):
    content = with_trajectory({**result(), "schema": 3})
    read = Result.read(written(tmp_path, content))
    assert (read.schema, read.task, read.label_set) == (3, "personalized_emotion", None)
    for stored, episode in zip(content["episodes"], read.episodes, strict=True):
        assert [list(row) for row in episode.probabilities] == stored["probabilities"]
        assert [list(row) for row in episode.ticks] == stored["ticks"]
    assert {name: span.as_json() for name, span in read.metrics.items()} == content["metrics"]
    assert read.trajectory[0].metrics == {"macro_f1": (0.1, 0.25, 1 / 3)}
    assert read.trajectory[1].diverged == "NaN"


def test_what_is_written_is_what_was_read(tmp_path):
    content = with_trajectory({**result(), "schema": SCHEMA, "task": "personalized_emotion"})
    read = Result.read(written(tmp_path, content))
    read.write(tmp_path / "again.json")
    assert json.loads((tmp_path / "again.json").read_text()) == content
    assert list(content["episodes"][0]) == list(json.loads((tmp_path / "again.json").read_text())["episodes"][0])


def test_float32_probabilities_keep_every_bit(tmp_path):
    read = Result.read(written(tmp_path, result()))
    rows = np.random.default_rng(0).dirichlet(np.ones(9), 40).astype(np.float32)
    episode = dataclasses.replace(read.episodes[0], probabilities=tuple(map(tuple, rows.tolist())))
    dataclasses.replace(read, episodes=(episode,)).write(tmp_path / "result_test.json")
    again = Result.read(tmp_path / "result_test.json").episodes[0].probabilities
    assert (np.array(again, dtype=np.float32) == rows).all()


def test_no_file_becomes_invalid_when_a_metric_is_added_and_foreign_metrics_are_kept(tmp_path):
    content = result()
    content["metrics"] = {"theirs": {"mean": 0.3, "low": 0.2, "high": 0.4}}
    for episode in content["episodes"]:
        episode["metrics"] = {"theirs": 0.3}
    read = Result.read(written(tmp_path, content))
    assert list(read.metrics) == ["theirs"]
    assert read.as_json()["episodes"][0]["metrics"] == {"theirs": 0.3}


@pytest.mark.parametrize("schema", [2, 5, True, "3", None])
def test_other_versions_are_refused_with_those_that_are_read(tmp_path, schema):
    with pytest.raises(UserError, match=f"this version reads {' and '.join(map(str, READABLE))}"):
        Result.read(written(tmp_path, {**result(), "schema": schema}))


@pytest.mark.parametrize(
    ("path", "value", "what"),
    [
        ("episodes", [{**EPISODE, "query": ["u1"]}], r"episodes\[0\]\.probabilities does not have the shape"),
        ("metrics/macro_f1", 0.5, r"metrics\.macro_f1 must be a mapping of mean, low, high, undefined, got 0\.5"),
        ("cell/split", "train", r"Bad value 'train' for cell\.split\. Expected one of: test, dev"),
        ("cell/seeds", [0, -1], r"Bad value -1 for cell\.seeds\[1\], expected a number that is not negative"),
        ("cell/standardized", 1, r"Bad value 1 for cell\.standardized, expected true or false"),
        ("trajectory", [{"macro_f1": []}], r"The key trajectory\[0\]\.steps is missing"),
        ("tuned", {"criterion": "c"}, r"The key tuned\.validation_episodes is missing"),
    ],
)  # fmt: skip
def test_a_value_of_another_type_is_named_by_its_key(tmp_path, path, value, what):
    with pytest.raises(UserError, match=what):
        Result.read(written(tmp_path, changed(result(), path, value)))


def rows_of(kind, prefix=""):
    """The table of docs/results.md: a row for each key, with the comment that stands beside its field."""
    comments = dict(re.findall(r"^    (\w+): .*?  # (.+)$", inspect.getsource(kind), flags=re.MULTILINE))
    for field in dataclasses.fields(kind):
        if not field.init:
            continue
        hint = typing.get_type_hints(kind)[field.name]
        parts = [hint, *typing.get_args(hint), *(p for part in typing.get_args(hint) for p in typing.get_args(part))]
        key = prefix + field.name
        if field.name in comments:
            yield f"| `{key}` | {comments[field.name]} |"
        for inner in dict.fromkeys(part for part in parts if dataclasses.is_dataclass(part)):
            one = typing.get_origin(hint) is dict or inner in (hint, Tuned, Selected)
            several = "." if one else "[]."
            yield from rows_of(inner, key + (".NAME." if typing.get_origin(hint) is dict else several))


def test_docs_results_lists_every_key_with_the_comment_beside_its_field():
    rows = list(rows_of(Result))
    assert len(rows) > 60
    missing = [row for row in rows if row not in DOCUMENTED]
    assert missing == []
    assert len(re.findall(r"^\| `", DOCUMENTED, flags=re.MULTILINE)) == len(rows), "the table has other rows, too"


def test_the_columns_of_a_results_table_stay_below_their_headings(tmp_path):
    from s3prl_metaperser.evaluation.metrics import METRICS

    read = Result.read(written(tmp_path, result()))
    shown = [name for name in METRICS.names() if read.answers.kind not in METRICS.get(name).further]
    every = dict.fromkeys(shown, next(iter(read.metrics.values())))
    head, *rows = dataclasses.replace(read, metrics=every).table("title").splitlines()[1:]
    widest = max(len(METRICS.get(name).heading) for name in every)
    assert widest > 28
    assert all(
        row[: len(METRICS.get(name).heading)] == METRICS.get(name).heading
        for name, row in zip(every, rows, strict=True)
    )
    assert {re.search(r"\S+ to ", row).start() for row in rows if "%" in row} == {head.index("95 %")}
