import doctest
import sys
from importlib.metadata import EntryPoint

import pytest

from s3prl_metaperser import registry
from s3prl_metaperser.corpora import CORPORA, LABEL_SETS, load_corpus
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.evaluation.metrics import METRICS
from s3prl_metaperser.methods import SYSTEMS
from s3prl_metaperser.registry import Registry
from s3prl_metaperser.tasks import TASKS


@pytest.fixture
def colours() -> Registry:
    colours = Registry("colour", "s3prl_metaperser.no_such_group")
    colours.register("red", "colorsys:rgb_to_hsv", "warm")
    colours.register("blue", "colorsys:hsv_to_rgb")
    return colours


def test_names_come_in_the_order_of_registration(colours):
    assert colours.names() == list(colours) == ["red", "blue"]
    assert "red" in colours
    assert "pink" not in colours
    assert colours.module("red") == "colorsys"
    assert colours.summary("red") == "warm"
    assert colours.summary("blue") == ""


def test_nothing_is_imported_before_it_is_asked_for(colours, monkeypatch):
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    colours.names()
    colours.summary("red")
    assert "colorsys" not in sys.modules
    import colorsys

    assert colours.get("red") is colorsys.rgb_to_hsv


@pytest.mark.parametrize("ask", [Registry.get, Registry.summary])
def test_an_unknown_name_is_answered_with_the_nearest_and_all(colours, ask):
    with pytest.raises(UserError, match=r"^Unknown colour 'bleu'\. Did you mean 'blue'\? Available: blue, red\.$"):
        ask(colours, "bleu")


def test_a_name_taken_by_another_target_is_refused(colours):
    both = r"'red' is registered twice: colorsys:rgb_to_hsv \(of s3prl-metaperser\) and x:y \(of s3prl-metaperser\)"
    with pytest.raises(ValueError, match=both):
        colours.register("red", "x:y")


def test_the_same_registration_twice_is_no_error(colours):
    colours.register("red", "colorsys:rgb_to_hsv", "warm")
    assert colours.names() == ["red", "blue"]


def test_other_packages_add_by_entry_point(monkeypatch):
    groups = []

    def entry_points(group):
        groups.append(group)
        return [EntryPoint("green", "colorsys:rgb_to_yiq", group)]

    monkeypatch.setattr(registry, "entry_points", entry_points)
    colours = Registry("colour", "a.group")
    assert colours.names() == ["green"]
    assert colours.names() == ["green"]
    assert groups == ["a.group"]
    assert colours.get("green").__name__ == "rgb_to_yiq"


def test_an_entry_point_cannot_replace_what_is_registered(colours, monkeypatch):
    monkeypatch.setattr(registry, "entry_points", lambda group: [EntryPoint("red", "x:y", group)])
    with pytest.raises(UserError, match=r"'red' is registered twice: .* and x:y \(of another package\)\. Uninstall"):
        colours.names()


def test_another_packages_object_that_cannot_be_loaded_is_one_clear_error(colours, monkeypatch):
    points = [EntryPoint("green", "no_such_module:x", "g"), EntryPoint("grey", "colorsys:no_such", "g")]
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    for name in ("green", "grey"):
        with pytest.raises(UserError, match=rf"The colour '{name}' cannot be loaded from .* uninstall another package"):
            colours.get(name)
    colours.register("own", "no_such_module:x")
    with pytest.raises(ModuleNotFoundError):
        colours.get("own")


@pytest.mark.parametrize("registered", [CORPORA, LABEL_SETS, SYSTEMS, METRICS, TASKS], ids=lambda r: r.kind)
def test_another_packages_broken_or_wrong_object_is_one_clear_error(registered, tmp_path, monkeypatch):
    (tmp_path / "unfinished_plugin.py").write_text("def read(:\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    points = [EntryPoint("broken", "unfinished_plugin:read", "g"), EntryPoint("wrong", "string:digits", "g")]
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    with registered.read_again():
        with pytest.raises(UserError, match=r"'broken' cannot be loaded from .*invalid syntax.* uninstall another"):
            registered.get("broken")
        with pytest.raises(
            UserError, match=r"'wrong' \(string:digits\) is '0123456789', expected a .* uninstall another"
        ):
            registered.get("wrong")


def test_a_reader_that_returns_no_corpus_is_one_clear_error(tmp_path, monkeypatch):
    point = EntryPoint("mine", "copy:copy", "g")
    monkeypatch.setattr(registry, "entry_points", lambda group: [point])
    with (
        CORPORA.read_again(),
        pytest.raises(UserError, match=r"reader of corpus 'mine' returned .*, expected a Corpus"),
    ):
        load_corpus("mine", tmp_path)


def test_facts_are_those_of_the_registration_or_of_the_other_packages_object(monkeypatch):
    colours = Registry("colour", "a.group", "another.group")
    colours.register("red", "no_such_module:x", facts=(1, 2))
    colours.register("blue", "no_such_module:x")
    assert colours.facts("red", tuple) == (1, 2)
    assert colours.facts("red", int) is None
    assert colours.facts("blue", tuple) is None
    points = {"another.group": [EntryPoint("green", "colorsys:rgb_to_yiq", "another.group")]}
    monkeypatch.setattr(registry, "entry_points", lambda group: points.get(group, []))
    monkeypatch.setattr("colorsys.rgb_to_yiq.facts", 7, raising=False)
    with colours.read_again():
        assert colours.names() == ["red", "blue", "green"]
        assert colours.facts("green", int) == 7
        assert colours.facts("green", str) is None
    assert colours.names() == ["red", "blue"]


def test_the_example_of_the_docstring_holds():
    assert doctest.testmod(registry).attempted == 3
    assert doctest.testmod(registry).failed == 0


@pytest.mark.parametrize("name", CORPORA.names())
def test_every_registered_corpus_has_a_reader_and_a_summary(name):
    assert callable(CORPORA.get(name))
    assert CORPORA.summary(name)
