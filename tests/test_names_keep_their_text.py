"""In YAML, in grids and after -o a name is what is written, and a number that reads in two ways is refused."""

from __future__ import annotations

import argparse
import copy
import json
import pickle

import pytest
import yaml
from corpora_fixtures import write_ratings_csv

from s3prl_metaperser.commands.common import label_options
from s3prl_metaperser.config.options import Options
from s3prl_metaperser.config.override import parse_override
from s3prl_metaperser.config.validator import read
from s3prl_metaperser.config.yaml_files import YAML_1_1, check_numbers, parse_yaml, read_yaml
from s3prl_metaperser.corpora import load_corpus, stored_corpus
from s3prl_metaperser.corpora.label_set import LabelSet
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.grid.definition import read_grid

#: Names as people write them, without quotes; YAML 1.1 takes every one of them for something else, or spells it anew.
NAMES = (
    *("010", "013", "007", "+8", "1e3", "1.10", "1.0", ".5", "1_000", "0x1f", "0o17", "0b11", "12:30", "1:30:00"),
    *("2024-01-01", "yes", "No", "on", "OFF", "true", "False", "null", "Null", "~", ".nan", ".inf", "-0", "1.", "00"),
)
PLAIN = ("anna", "8", "0", "-3", "E1", "1e3x")


def names_of(value) -> tuple[str, ...]:
    config = {"downstream_expert": {"datarc": {"exclude_raters": copy.deepcopy(value)}}}
    found = Options.from_config(config).downstream_expert.datarc.exclude_raters
    assert found is not None
    assert {type(name) for name in found} == {str}
    return found


def after_o(text: str):
    [(_, value)] = parse_override(f"config.x={text}")
    return value


@pytest.mark.parametrize("name", [*NAMES, *PLAIN])
def test_a_name_in_a_list_keeps_its_text(name):
    for text in (f"a: [{name}]", f"a:\n- {name}\n- anna", f"a: [anna, {name}, 7]", f"b: &b [{name}]\na: *b"):
        assert name in names_of(parse_yaml(text, "f")["a"])
    assert names_of(after_o(f"[{name}]")) == (name,)
    assert names_of(after_o(f"[anna, {name}, '{name}', 9]")) == ("anna", name, name, "9")


def test_eight_is_not_left_out_in_place_of_010():
    assert names_of(parse_yaml("a: [010]", "f")["a"]) == ("010",)
    assert names_of(after_o("[013, 8, 09]")) == ("013", "8", "09")


ODD = ("010", "1:40", "1_000", "0x10", "01.5", "0b11", "007", "1:30.5", "-010", "+1_0")


@pytest.mark.parametrize("number", ODD)
def test_a_number_that_reads_in_two_ways_is_refused_with_its_line(tmp_path, number):
    for key in ("runner: {total_steps", "optimizer: {lr", "downstream_expert: {evalrc: {trajectory: [0"):
        end = "]}}" if "[" in key else "}"
        text = f"# a comment\n{key}{', ' if '[' in key else ': '}{number}{end}\n"
        with pytest.raises(UserError, match=r"Bad value '.*, expected a (whole )?number, written without .* line 2\."):
            Options.from_config(parse_yaml(text, "c.yaml"), "c.yaml")
    for key in ("runner.total_steps", "optimizer.lr"):
        [((_, section, option), value)] = parse_override(f"config.{key}={number}")
        with pytest.raises(UserError, match=rf"Bad value .* for config\.{key}, expected a (whole )?number, written"):
            Options.from_config({section: {option: value}})
    path = tmp_path / "labels.yaml"
    path.write_text(f"name: mine\nkind: ordinal\nclasses: [a, b]\nlevels: [0, {number}]\n")
    with pytest.raises(UserError, match=r"labels\.yaml:4: Bad value"):
        read(LabelSet, path)


@pytest.mark.parametrize("number", ["1", "0", "1e-3", "1.0e-3", ".5", "1.", "+2", "0.1", "1E2", "0.5e+1"])
def test_plain_numbers_are_numbers(number):
    config = parse_yaml(f"optimizer: {{weight_decay: {number}}}", "f")
    assert Options.from_config(config).optimizer.weight_decay == float(number)
    assert Options.from_config({"optimizer": {"weight_decay": after_o(number)}}).optimizer.weight_decay == float(number)


def test_yes_and_no_are_still_switches_where_one_is_expected():
    config = parse_yaml("downstream_expert: {metarc: {lslr: off}, modelrc: {standardize: Yes}}", "f")
    options = Options.from_config(config).downstream_expert
    assert (options.metarc.lslr, options.modelrc.standardize) == (False, True)
    with pytest.raises(UserError, match="expected true or false"):
        Options.from_config({"downstream_expert": {"metarc": {"lslr": "off"}}})


def test_names_that_stand_alone_and_keys_keep_their_text(tmp_path):
    config = parse_yaml("downstream_expert: {datarc: {fold: 010, root: 2024-01-01, scenario: no}}", "f")
    datarc = Options.from_config(config).downstream_expert.datarc
    assert (datarc.fold, datarc.root, datarc.scenario) == ("010", "2024-01-01", "no")
    assert list(parse_yaml("{010: a, no: b, on: c, 12:30: d, 8: e}", "f")) == ["010", "no", "on", "12:30", 8]
    path = tmp_path / "labels.yaml"
    path.write_text("{name: x, kind: single, classes: [yes, no, 1.0], spellings: {010: yes, off: no}}")
    label_set = LabelSet.from_yaml(path)
    assert label_set.classes == ("yes", "no", "1.0")
    assert (label_set.lookup("010"), label_set.lookup("off"), label_set.lookup("8")) == ("yes", "no", None)


def test_a_grid_keeps_names(tmp_path):
    path = tmp_path / "grid.yaml"
    options = "options: {downstream_expert: {datarc: {exclude_raters: [010, no, 1.10]}}}"
    path.write_text(
        "corpus: demo\nupstreams: [fbank_no_cmvn]\nscenarios: [seen]\nfolds: [fold1]\nshots: [32]\n"
        f"systems: {{frozen: [Linear-Few]}}\n{options}\n"
    )
    [part] = read_grid(path).parts
    assert Options.from_config(part.options).downstream_expert.datarc.exclude_raters == ("010", "no", "1.10")
    path.write_text(path.read_text().replace("shots: [32]", "shots: [032]"))
    with pytest.raises(UserError, match=r"grid\.yaml:5.*Bad value '032'.*expected a whole number, written"):
        read_grid(path)


def test_values_from_a_file_are_plain_for_everybody_else():
    """They are copied, compared, stored as JSON and pickled like any others."""
    value = parse_yaml("a: [1.10, null, 010]\nb: no", "f")
    assert value == {"a": [1.1, None, "010"], "b": "no"}
    assert json.loads(json.dumps(value)) == value
    assert names_of(pickle.loads(pickle.dumps(value))["a"]) == ("1.10", "null", "010")
    value["a"].append("anna")  # then nobody knows how it was written
    with pytest.raises(UserError, match="expected a name"):
        names_of(value["a"])


def test_files_of_other_programs_are_read_by_their_rules(tmp_path):
    text = "a: [010, yes, 1:40, 2024-01-01]\n"
    assert parse_yaml(text, "f", rules=YAML_1_1) == yaml.safe_load(text)
    path = tmp_path / "c.yaml"
    path.write_text(f"x: 1\n{text}")
    assert read_yaml(path, rules=YAML_1_1)["a"][0] == 8
    with pytest.raises(UserError, match=r"c\.yaml:2: .* is read as another number\. Put quotes around a name"):
        check_numbers(path)
    path.write_text("a: ['010', yes, 1.10, 2024-01-01, 8]\n")
    check_numbers(path)


@pytest.mark.parametrize("opened", [load_corpus, stored_corpus])
def test_names_keep_their_text_in_a_readers_option(tmp_path, opened):
    """Given to `validate` and, with results, to `validate --all` and `report`."""
    rows = "".join(f"a.wav,{rater},sad\n" for rater in ("010", "8", "1e3", "null", "1.10"))
    write_ratings_csv(tmp_path, f"file,rater,label\n{rows}")
    options = label_options(argparse.Namespace(option=["raters=[010, 1e3, null, 1.10]"]))
    assert opened("ratings_csv", tmp_path, **options).raters() == ["010", "1.10", "1e3", "null"]
