"""JSON from elsewhere: nested or enormous, it is one error wherever it is read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from s3prl_metaperser.demo import write_demo_corpus
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.evaluation.result import Result
from s3prl_metaperser.grid.results import read_small
from s3prl_metaperser.listener.folder import read_card
from s3prl_metaperser.s3prl_stack.weights_files import check_pretrained_folder
from s3prl_metaperser.storage.json_files import DEEPEST, parse_json, read_json

HOSTILE = {
    "lists": "[" * 200_000,
    "closed lists": "[" * 50_000 + "]" * 50_000,
    "objects": '{"a":' * 5_000 + "1" + "}" * 5_000,
    "deep beside healthy": json.dumps({"schema": 2, "x": json.loads("[" * 300 + "]" * 300)}),
    "a number of 5,000 digits": '{"schema": ' + "9" * 5_000 + "}",
    "a negative one in a list": "[-" + "1" * 6_000 + "]",
    "not UTF-8": b"\xff\xfe{}",
    "cut off": '{"schema": 2, "clas',
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_nested_or_enormous_json_is_one_error_wherever_it_is_read(tmp_path, content):
    def wrote(name: str) -> Path:
        data = content if isinstance(content, bytes) else content.encode()
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    with pytest.raises(ValueError):  # noqa: PT011 - whatever the reason, of this one type
        read_json(wrote("any.json"))
    with pytest.raises(UserError, match=r"result\.json is not a result file"):
        Result.read(wrote("result.json"))
    wrote("card.json")
    with pytest.raises(UserError, match=r"card\.json cannot be read"):
        read_card(tmp_path)
    assert read_small(wrote("cell.json")) is None
    wrote("demo.json")
    with pytest.raises(UserError, match="contains no demo corpus"):
        write_demo_corpus(tmp_path, seed=0, utterances=10, raters="paper")
    for name in ("config.json", "preprocessor_config.json", "model.safetensors"):
        wrote(name)
    with pytest.raises(UserError, match=r"Cannot read .*config\.json as JSON"):
        check_pretrained_folder("hf_hubert_custom", str(tmp_path))


def test_what_people_write_is_read(tmp_path):
    deep = json.loads("[" * DEEPEST + "]" * DEEPEST)
    assert parse_json(json.dumps(deep)) == deep
    (tmp_path / "from_windows.json").write_bytes(b'\xef\xbb\xbf{"a": [1, 2.5, null, "\xc3\xbc"]}\r\n')
    assert read_json(tmp_path / "from_windows.json") == {"a": [1, 2.5, None, "ü"]}
    assert parse_json('"text"') == "text"


@pytest.mark.parametrize(
    "text",
    [
        '{"a": [0.1, 1e-7, 123456789012345678, "\\ud83d\\ude00"]}',
        "[NaN, 1e400, -Infinity]",
        '["\\ud800"]',
        '{"a": 1, "a": 2}',
    ],
)
def test_the_faster_reader_finds_what_pythons_own_finds(text, monkeypatch):
    pytest.importorskip("orjson", reason="the faster reader is not installed")
    found = parse_json(text)
    monkeypatch.setattr("s3prl_metaperser.storage.json_files.orjson", None)
    assert repr(found) == repr(parse_json(text))
