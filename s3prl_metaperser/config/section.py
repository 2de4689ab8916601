"""A section of options: a dataclass whose fields say what each option can change."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeVar

Section = TypeVar("Section")

#: What an option can change: the probabilities and metrics of a result; what is said about them (intervals, the table
#: over adaptation steps); how fast and in how much memory; or which files are read and written, and where.
Affects = Literal["numbers", "summary", "speed", "files"]


def option(default: Any, *, affects: Affects = "numbers", zero: str | None = None, gone: str | None = None) -> Any:
    """A field of a section with facts about its option; without it, an option changes numbers and may be 0.

    Args:
        zero: what to write in place of 0, with which nothing would be learned; a whole sentence.
        gone: of an option that an earlier version had: why it is not used any more; None is its default.
    """
    return dataclasses.field(default=default, metadata={"affects": affects, "zero": zero, "gone": gone})


def left_out(default: Any) -> Any:
    """A field of a common section that has no meaning for a task: it cannot be set, and no file shows it."""
    return dataclasses.field(default=default, init=False, metadata={"affects": None})


def _options(section: Any, prefix: str = "") -> Iterator[tuple[str, Any, Mapping[str, Any]]]:
    """(``section.option``, its value, its facts) of a section and of those below it."""
    for each in dataclasses.fields(section):
        value = getattr(section, each.name)
        if dataclasses.is_dataclass(value):
            yield from _options(value, f"{prefix}{each.name}.")
        else:
            yield f"{prefix}{each.name}", value, each.metadata


def turned_off(section: Any) -> dict[str, str]:
    """``section.option`` -> what to write instead, of the options that are 0 where nothing is learned with 0."""
    return {name: facts["zero"] for name, value, facts in _options(section) if facts.get("zero") and value == 0}


def not_used(section: Any) -> dict[str, str]:
    """``section.option`` -> why it is not used any more, of the options of an earlier version that have a value."""
    return {name: facts["gone"] for name, value, facts in _options(section) if facts.get("gone") and value is not None}


def settable(section: Any) -> Iterator[dataclasses.Field]:
    """The fields of a section, or of its class, that can be set: a task leaves out what has no meaning for it."""
    return (each for each in dataclasses.fields(section) if each.init)


def as_dict(section: Any) -> dict[str, Any]:
    """A section with those below it as nested mappings; only what can be set."""
    values = {each.name: getattr(section, each.name) for each in settable(section)}
    return {name: as_dict(value) if dataclasses.is_dataclass(value) else value for name, value in values.items()}


def kinds_of(section: type, prefix: str = "") -> Iterator[tuple[str, Affects]]:
    """(``section.option``, what it can change) of a dataclass of options."""
    hints = typing.get_type_hints(section)
    for each in settable(section):
        if dataclasses.is_dataclass(hints[each.name]):
            yield from kinds_of(hints[each.name], f"{prefix}{each.name}.")
        elif (
            affects := each.metadata.get("affects", "numbers")
        ) is not None:  # None: holds options that others declare
            yield f"{prefix}{each.name}", affects


def with_values(section: Section, values: Mapping[str, Any]) -> Section:
    """A section with options of it, or of the sections below it, replaced: ``section.option`` -> value."""
    for name, value in values.items():
        first, _, rest = name.partition(".")
        new = with_values(getattr(section, first), {rest: value}) if rest else value
        section = dataclasses.replace(typing.cast(Any, section), **{first: new})
    return section


def numbers_of(section: Any) -> dict[str, Any]:
    """The options of one section, such as ``TuningOptions()``, that can change numbers."""
    names = {name for name, affects in kinds_of(type(section)) if affects == "numbers"}
    return {name: value for name, value in dataclasses.asdict(section).items() if name in names}
