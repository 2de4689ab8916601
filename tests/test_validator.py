"""One validator for everything that is read from plain data."""

import doctest
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pytest

from s3prl_metaperser.config import validator
from s3prl_metaperser.config.validator import (
    Filled,
    Fraction,
    Positive,
    at_least,
    at_most,
    build,
    faults,
    filled,
    one_of,
    read,
    unique,
)
from s3prl_metaperser.errors import UserError


@dataclass(frozen=True)
class Upstream:
    name: Filled
    layer: Annotated[int, at_least(0)] | None = None

    def __post_init__(self):
        if self.name == "fbank" and self.layer:
            raise UserError("fbank has one layer.")


@dataclass(frozen=True)
class Part:
    upstreams: Annotated[tuple[str | Upstream, ...], filled, unique]
    systems: Mapping[Literal["frozen", "finetuned"], tuple[str, ...]] = field(default_factory=dict)
    corpus: Annotated[str, one_of(lambda: ["demo", "iemocap"])] = "demo"
    shots: Positive = 32
    share: Fraction = 0.5
    pair: tuple[int, float] = (1, 2.0)
    rows: tuple[tuple[float, ...], ...] = ()
    most: Annotated[int, at_most(5)] = 1
    switch: Literal["auto", True, False] = "auto"
    free: Any = None


@dataclass(frozen=True)
class Grid:
    parts: tuple[Part, ...]
    limits: dict[str, float] = field(default_factory=dict)


def part(**changes):
    return build(Part, {"upstreams": ["fbank"], **changes}, "grid")


def test_the_examples_of_the_docstring_hold():
    assert doctest.testmod(validator).attempted > 4
    assert doctest.testmod(validator).failed == 0


def test_values_become_the_types_of_the_fields():
    made = build(
        Grid,
        {"parts": [{"upstreams": ["fbank", {"name": "wavlm", "layer": 3}], "pair": [3, 4]}], "limits": {"a": "1e-3"}},
    )
    assert made == Grid((Part(("fbank", Upstream("wavlm", 3)), pair=(3, 4.0)),), {"a": 1e-3})
    assert type(made.parts[0].pair[1]) is float
    assert part(rows=[[0.5, 1], []]).rows == ((0.5, 1.0), ())
    assert part(systems={"frozen": ["Linear-Few", 7]}).systems == {"frozen": ("Linear-Few", "7")}
    assert part(switch=False).switch is False
    assert part(free={"any": [1]}).free == {"any": [1]}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"shot": 3}, "Unknown key grid.shot. Did you mean 'shots'? Known keys of grid: upstreams, systems"),
        ({"upstreams": []}, "Bad value [] for grid.upstreams, expected something that is not empty."),
        ({"upstreams": ["a", "b", "a"]}, "for grid.upstreams: it names 'a' twice."),
        ({"upstreams": "fbank"}, "Bad value 'fbank' for grid.upstreams, expected a list of"),
        ({"upstreams": [3]}, "Bad value 3 for grid.upstreams[0], expected text or a mapping (key: value)."),
        ({"upstreams": [{"name": " "}]}, "Bad value ' ' for grid.upstreams[0].name, expected something"),
        ({"upstreams": [{}]}, "The key grid.upstreams[0].name is missing."),
        ({"upstreams": [{"name": "fbank", "layer": 1}]}, "grid.upstreams[0]: fbank has one layer."),
        ({"upstreams": [{"name": "x", "layer": -1}]}, "Bad value -1 for grid.upstreams[0].layer, expected a number"),
        ({"systems": {"frozn": []}}, "Bad value 'frozn' for grid.systems. Did you mean 'frozen'? Expected one of"),
        ({"systems": {"frozen": [False]}}, "Bad value False in grid.systems.frozen, expected a name. Put quotes"),
        ({"systems": ["frozen"]}, "for grid.systems, expected a mapping (key: value)."),
        ({"corpus": "iemocpa"}, "Bad value 'iemocpa' for grid.corpus. Did you mean 'iemocap'? Expected one of: demo"),
        ({"shots": 0}, "Bad value 0 for grid.shots, expected at least 1."),
        ({"shots": 2**31}, "for grid.shots, expected at most 2147483647."),
        ({"shots": True}, "Bad value True for grid.shots, expected a whole number."),
        ({"shots": None}, "Bad value None for grid.shots, expected a whole number."),
        ({"share": 1}, "Bad value 1 for grid.share, expected a number from 0 up to, not including, 1."),
        ({"share": float("inf")}, "Bad value inf for grid.share, expected a finite number."),
        ({"share": 10**4000}, "for grid.share, expected a number."),
        ({"pair": [1]}, "Bad value [1] for grid.pair, expected a list of 2 values."),
        ({"rows": [[1], ["x"]]}, "Bad value 'x' for grid.rows[1][0], expected a number."),
        ({"most": 6}, "Bad value 6 for grid.most, expected at most 5."),
        ({"switch": 1}, "Bad value 1 for grid.switch. Expected one of: auto, True, False."),
        ({"corpus": "a\0b"}, r"Bad value 'a\x00b' for grid.corpus: it contains a NUL character."),
    ],
)
def test_what_does_not_fit_is_named_with_its_key_and_what_is_expected(changes, text):
    with pytest.raises(UserError) as caught:
        part(**changes)
    assert text in str(caught.value)


def test_something_else_in_place_of_a_mapping_is_refused_at_the_root_and_below():
    with pytest.raises(UserError, match=r"^grid must be a mapping of parts, limits, got 3\.$"):
        build(Grid, 3, "grid")
    with pytest.raises(UserError, match=r"^Expected a mapping of parts, limits, the file is empty\.$"):
        build(Grid, None)


def test_every_fault_is_found_in_one_reading():
    content = {"parts": [{"upstreams": ["fbank"], "shots": 0}, {"sharess": 1}], "limits": {"a": "x"}}
    assert [fault.keys for fault in faults(Grid, content)] == [
        ("parts", 1, "sharess"),
        ("parts", 0, "shots"),
        ("parts", 1),
        ("limits", "a"),
    ]
    assert faults(Grid, {"parts": []}) == []


def test_strict_reading_takes_no_number_from_text_and_no_name_from_a_number():
    content = {"parts": [{"upstreams": ["fbank"], "systems": {"frozen": [7]}}], "limits": {"a": "1e-3"}}
    assert faults(Grid, content) == []
    assert [fault.text for fault in faults(Grid, content, strict=True)] == [
        "Bad value 7 for parts[0].systems.frozen[0], expected text.",
        "Bad value '1e-3' for limits.a, expected a number.",
    ]


def test_further_keys_are_passed_over_where_that_is_asked_for():
    content = {"parts": [{"upstreams": ["fbank"], "colour": "red"}], "more": 1}
    assert build(Grid, content, further=True) == Grid((Part(("fbank",)),))


def test_a_file_is_named_with_the_line_at_fault(tmp_path):
    file = tmp_path / "grid.yaml"
    file.write_text("# a grid\nparts:\n- upstreams: [fbank]\n- upstreams:\n  - wavlm\n  shots: none\n")
    with pytest.raises(UserError, match=r"grid\.yaml:6: Bad value 'none' for parts\[1\]\.shots, expected a whole"):
        read(Grid, file)
    file.write_text("parts:\n- {upstreams: [fbank]}\nlimit: {}\n")
    with pytest.raises(UserError, match=r"grid\.yaml:3: Unknown key limit\. Did you mean 'limits'\?"):
        read(Grid, file)
    file.write_text("limits: {}\n")
    with pytest.raises(UserError, match=r"grid\.yaml: The key parts is missing\."):
        read(Grid, file)
    file.write_text("parts:\n- {upstreams: [fbank]}\n")
    assert read(Grid, file) == Grid((Part(("fbank",)),))


def test_a_type_that_cannot_be_checked_is_the_programmers_mistake():
    @dataclass
    class Odd:
        value: Annotated[Literal["a"], "a note"] = "a"

    assert build(Odd, {"value": "a"}) == Odd()
    with pytest.raises(TypeError, match="no way to check"):
        validator._converter(3)


@dataclass(frozen=True)
class Long:
    """Lists as results hold them."""

    numbers: tuple[float, ...] = ()
    counts: tuple[Annotated[int, validator.at_least(0)], ...] = ()
    table: tuple[tuple[float, ...], ...] = ()


@pytest.mark.parametrize(
    ("key", "wrong", "what"),
    [
        ("counts", -1, "Bad value -1 for counts[700], expected a number that is not negative."),
        ("counts", True, "Bad value True for counts[700], expected a whole number."),
        ("numbers", float("nan"), "Bad value nan for numbers[700]"),
        ("numbers", True, "Bad value True for numbers[700], expected a number."),
        ("numbers", 10**400, "Bad value"),
    ],
)
def test_one_wrong_value_in_a_long_list_is_named_by_its_place(key, wrong, what):
    healthy = {"numbers": [0.5, 1] * 500, "counts": [3, 0] * 500}
    assert build(Long, healthy, strict=True) == Long((0.5, 1.0) * 500, (3, 0) * 500)
    assert all(type(number) is float for number in build(Long, healthy, strict=True).numbers)
    assert build(Long, {"table": [[0.5, 1], []]}, strict=True).table == ((0.5, 1.0), ())
    healthy[key][700] = wrong
    (fault,) = validator.faults(Long, healthy, strict=True)
    assert fault.keys == (key, 700)
    assert fault.text.startswith(what)
    if key == "numbers":
        rows = {"table": [[0.5, 1]] * 5 + [[2, wrong]]}
        (fault,) = validator.faults(Long, rows, strict=True)
        assert (fault.keys, fault.text) == (("table", 5, 1), fault.text)
        assert fault.text.startswith(what.replace("numbers[700]", "table[5][1]"))


def test_whole_numbers_that_are_no_floats_are_refused_where_their_sum_is_one():
    for content in ({"numbers": [10**400, -(10**400)]}, {"table": [[10**400, -(10**400)]]}):
        faults = validator.faults(Long, content, strict=True)
        assert [fault.text.endswith("expected a number.") for fault in faults] == [True, True]
