"""``-o``: values are data, unknown keys are errors that name the key, and a wrong part changes nothing."""

from __future__ import annotations

import argparse
import copy

import pytest

from s3prl_metaperser.config.override import apply_override, parse_override
from s3prl_metaperser.config.written import Written
from s3prl_metaperser.errors import UserError


def value_of(text: str):
    [(_, value)] = parse_override(f"config.x={text}")
    return value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("-3", -3),
        ("1e-3", 1e-3),
        ("1.0e-3", 1e-3),
        (".5", 0.5),
        ("true", True),
        ("False", False),
        ("none", None),
        ("None", None),
        ("null", None),
        ("AdamW", "AdamW"),
        ("'AdamW'", "AdamW"),
        ('"a b"', "a b"),
        ("['dev', 'test']", ["dev", "test"]),
        ("[dev, test]", ["dev", "test"]),
        ("[1e-4, 2, true, none, on, 1.5]", [1e-4, 2, True, None, "on", 1.5]),
        ("[]", []),
        ("(1, 2)", [1, 2]),
        ("{'name': 'AdamW', 'lr': 1e-4}", {"name": "AdamW", "lr": 1e-4}),
        ("{name: AdamW, lr: 1e-4, betas: [0.9, 0.98]}", {"name": "AdamW", "lr": 1e-4, "betas": [0.9, 0.98]}),
        ("", ""),
        ("a=b", "a=b"),
        ("/data/run=3/x.yaml", "/data/run=3/x.yaml"),
        ("all", "all"),
        ("max", "max"),
        ("time", "time"),
        ("fold1", "fold1"),
        ("2024-01-01", "2024-01-01"),
        ("no", "no"),
        ("...", "..."),
        ("1+2j", "1+2j"),
        ("__import__('os').getcwd()", "__import__('os').getcwd()"),
        ("[open('x')]", ["open('x')"]),
        ("[unclosed", "[unclosed"),
        ("((((", "(((("),
    ],
)
def test_a_value_is_what_it_looks_like_and_otherwise_a_string(text, value):
    found = value_of(text)
    assert found == value
    assert type(found) is type(value) or isinstance(found, Written)  # a list that knows how its names were written


def test_assignments_are_separated_by_two_commas():
    assert parse_override("config.a.b=[1,2],, args.seed = 7 ,,") == [
        (["config", "a", "b"], [1, 2]),
        (["args", "seed"], 7),
    ]


@pytest.fixture
def experiment():
    args = argparse.Namespace(seed=1337, expdir="result")
    config = {"runner": {"total_steps": 10}, "optimizer": {"name": "AdamW", "lr": 1e-4}, "scheduler": None}
    return args, config


def test_arguments_and_nested_configuration_are_set_in_place(experiment):
    args, config = experiment
    apply_override("config.optimizer.lr=3e-4,,args.seed=1,,config.scheduler.name=x", args, config, strict_config=True)
    assert config["optimizer"] == {"name": "AdamW", "lr": 3e-4}
    assert config["scheduler"] == {"name": "x"}
    assert args.seed == 1


def test_new_configuration_keys_are_made_unless_strict(experiment):
    args, config = experiment
    apply_override("config.specaug.freq.masks=2", args, config, strict_config=False)
    assert config["specaug"] == {"freq": {"masks": 2}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("config.optimizer.lrr=1", r"'config\.optimizer\.lrr'.*'lrr'.*Did you mean 'lr'\?.*name"),
        ("config.runer.total_steps=1", r"'runer'.*Did you mean 'runner'"),
        ("args.sed=1", r"'args\.sed'.*Did you mean 'seed'"),
        ("config.optimizer.lr.max=1", r"'config\.optimizer\.lr\.max': config\.optimizer\.lr is 0\.0001"),
        ("args.seed.x=1", r"'args\.seed\.x'"),
        ("runner.total_steps=1", r"'runner\.total_steps'.*\['args', 'config'\]"),
        ("config=1", r"'config'"),
        ("config..lr=1", r"'config\.\.lr'"),
        ("config.optimizer.lr", r"'config\.optimizer\.lr' is not of the form"),
        ("config.optimizer=Adam", r"'config\.optimizer' is a section"),
        ("config.optimizer.lr=1,,config.optimizer.lr.x=2", r"config\.optimizer\.lr is 1"),
    ],
)
def test_a_mistake_is_named_and_changes_nothing(experiment, text, message):
    args, config = experiment
    before = copy.deepcopy((vars(args), config))
    with pytest.raises(UserError, match=message):
        apply_override(f"args.seed=5,,{text}", args, config, strict_config=True)
    assert (vars(args), config) == before


def test_without_strictness_a_scalar_still_has_no_keys_and_an_argument_must_exist(experiment):
    args, config = experiment
    for text in ("config.optimizer.lr.max=1", "args.sed=1", "conf.optimizer.lr=1"):
        with pytest.raises(UserError):
            apply_override(text, args, config, strict_config=False)
