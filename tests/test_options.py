import doctest

import pytest
import yaml

from s3prl_metaperser.config import options
from s3prl_metaperser.config.options import (
    Options,
    TuningOptions,
    flat,
    numbers_of,
    options_that_affect,
    training_options,
)
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.storage import resources
from s3prl_metaperser.storage.resources import downstream_folder
from s3prl_metaperser.tasks import DEFAULT_TASK, task_of


def shipped(name="config.yaml"):
    return yaml.safe_load((downstream_folder(DEFAULT_TASK) / name).read_text())


COMBINED = "downstream_expert.metarc.combined_set"
GONE = {"downstream_expert.evalrc.interval_draws"}


@pytest.mark.parametrize("name", ["config.yaml", "config_finetuned.yaml"])
def test_the_shipped_configurations_list_every_option(name):
    read = Options.from_config(shipped(name))
    known = dict(flat(shipped(name)))
    found = {option: value for option, value in flat(read.as_config()) if option not in GONE}
    assert found == known | {COMBINED: True}
    assert known[COMBINED] == "auto"


def test_combined_set_training_is_the_papers_and_with_pools_of_raters_it_has_to_be_asked_for():
    pooled = {"datarc": {"pools": {"test": 5}}}
    for expert, expected in (
        ({}, True),
        (pooled, False),
        ({"metarc": {"combined_set": False}}, False),
        ({**pooled, "metarc": {"combined_set": True}}, True),
        ({**pooled, "metarc": {"combined_set": "auto"}}, False),
    ):
        options = Options.from_config({"downstream_expert": expert})
        assert options.downstream_expert.metarc.on_support is expected
        assert options.as_config()["downstream_expert"]["metarc"]["combined_set"] is expected


def test_an_option_that_is_gone_stays_readable_and_is_said_not_to_be_used_unless_a_past_run_had_it():
    (option,) = GONE
    old = {"downstream_expert": {"evalrc": {"interval_draws": 2000}}}
    assert Options().not_used() == []
    (said,) = Options.from_config(old).not_used()
    assert said.startswith(f"{option} is not used any more")
    assert Options.from_config(old).not_used(but=Options.from_config(old)) == []


def test_an_empty_configuration_is_the_shipped_one():
    assert Options.from_config({}) == Options.from_config(shipped())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"runer": {}}, r"Unknown key config\.runer\. Did you mean 'runner'"),
        ({"downstream_expert": {"datarc": {"scenaro": "seen"}}}, r"datarc\.scenaro\. Did you mean 'scenario'"),
        (
            {"downstream_expert": {"datarc": {"demo": {"raters": "opposite"}}}},
            "Expected one of: paper, identical, opposed",
        ),
        ({"runner": {"total_steps": 0}}, "at least 1"),
        ({"runner": {"total_steps": 1.5}}, "expected a whole number"),
        ({"runner": {"total_steps": True}}, "expected a whole number"),
        ({"runner": {"total_steps": "many"}}, "expected a whole number"),
        ({"optimizer": {"lr": "fast"}}, "expected a number"),
        ({"optimizer": {"lr": float("nan")}}, "finite"),
        ({"optimizer": {"lr": -1}}, "not negative"),
        ({"optimizer": {"name": "adamw"}}, "Expected one of: AdamW, Adam, SGD"),
        ({"downstream_expert": {"datarc": {"smoothing": 1.0}}}, "not including, 1"),
        ({"downstream_expert": {"datarc": {"test_raters": "C-E1"}}}, "expected a list"),
        ({"downstream_expert": {"metarc": {"lslr": "yes"}}}, "true or false"),
        ({"downstream_expert": {"modelrc": {"standardize": 1}}}, "Expected one of: auto, True, False"),
        ({"runner": 3}, "must be a mapping"),
    ],
)
def test_wrong_configurations_name_the_key_and_what_is_expected(change, message):
    with pytest.raises(UserError, match=message):
        Options.from_config(change)


def test_numbers_that_yaml_reads_as_text_are_numbers():
    assert Options.from_config(yaml.safe_load("optimizer: {lr: 1e-3}")).optimizer.lr == 1e-3
    assert Options.from_config({"optimizer": {"lr": 1}}).optimizer.lr == 1.0


def test_digest_follows_the_sections_that_are_asked_for():
    changed = Options.from_config({"runner": {"total_steps": 7}})
    assert Options().digest("initrc") == changed.digest("initrc")
    assert Options().digest("initrc", "runner") != changed.digest("initrc", "runner")


def test_every_option_says_what_it_can_change():
    assert doctest.testmod(options).failed == 0
    everything = {name for name, _ in flat(Options().as_config())}
    kinds = [options_that_affect(kind) for kind in ("numbers", "summary", "speed", "files")]
    assert set().union(*kinds) == everything
    assert sum(map(len, kinds)) == len(everything)


def test_options_that_change_no_number_are_these():
    expert = "downstream_expert"
    assert options_that_affect("speed", "files") == {
        *(f"{expert}.datarc.{name}" for name in ("root", "outside", "cache_dir", "num_workers")),
        f"{expert}.modelrc.batch_size",
        f"{expert}.metarc.engine",
        *(f"{expert}.tunerc.{name}" for name in ("micro_batch_seconds", "activation_checkpointing")),
        *(f"runner.{name}" for name in ("log_step", "save_step", "max_keep", "threads")),
    }
    assert "micro_batch_seconds" not in numbers_of(TuningOptions())
    assert numbers_of(TuningOptions(dropout=True))["dropout"] is True


def test_training_goes_by_these_options_and_by_the_defaults_of_those_that_an_older_file_lacks():
    found = training_options(
        {"runner": {"total_steps": 7, "threads": 3}, "downstream_expert": {"evalrc": {"steps": 1}}}
    )
    assert list(found) == ["initrc", "metarc", "optimizer", "runner"]
    assert found["runner"] == {"total_steps": 7, "gradient_clipping": 1.0, "eval_step": 10}
    assert "engine" not in found["metarc"]
    assert found["metarc"]["shots"] == 32


def test_the_configuration_is_found_beside_the_installed_package_wherever_s3prl_is(tmp_path, monkeypatch):
    ours = tmp_path / "s3prl" / "downstream" / "personalized_emotion"
    ours.mkdir(parents=True)
    monkeypatch.setattr(resources, "PACKAGE", tmp_path / "s3prl_metaperser")
    assert task_of(DEFAULT_TASK).configuration("frozen") == ours / "config.yaml"
