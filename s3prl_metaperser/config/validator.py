"""The validator: plain data (YAML, JSON) in, a typed dataclass out, and errors that name file, line, key and value.

The dataclass is the schema: its field types say what is allowed, its defaults what may be left out. Options, grids,
label sets, upstream files, cards and results are all read this way.

======================================  ===============================================================================
``str int float bool``                  as they are; a whole number is a float, too; every float is finite
``Literal["a", "b"]``                   one of these
``X | None``, ``X | Y``                 the first that fits
``tuple[X, ...]``, ``list[X]``          a list; ``tuple[X, Y]`` a list of exactly two
``dict[K, X]``, ``Mapping[K, X]``       keys and values
another dataclass                       a section; null stands for an empty one
``Annotated[X, check, ...]``            an X that passes every check: a function that returns None, or the end of the
                                        sentence "Bad value 0 for config.shots", as :func:`at_least` does
``Any``                                 anything
======================================  ===============================================================================

``__post_init__`` checks what concerns several fields and raises a UserError or ValueError; the key of the section is
put before its text. Import the field types at module level (not under ``TYPE_CHECKING``).

>>> from dataclasses import dataclass
>>> @dataclass(frozen=True)
... class Scale:
...     levels: Annotated[tuple[float, ...], filled, unique]
...     kind: Literal["ordinal", "single"] = "ordinal"
...     shots: Positive = 32
>>> build(Scale, {"levels": [1, 2.5]}, "labels")
Scale(levels=(1.0, 2.5), kind='ordinal', shots=32)
>>> build(Scale, {"levels": [1, 2.5], "kind": "ordnal"}, "labels")
Traceback (most recent call last):
    ...
s3prl_metaperser.errors.UserError: Bad value 'ordnal' for labels.kind. Did you mean 'ordinal'? Expected one of: \
ordinal, single.
>>> for fault in faults(Scale, {"levels": [1, 1, "x"], "shots": 0, "color": "red"}):
...     print(fault.text)
Unknown key color. Known keys: levels, kind, shots.
Bad value 'x' for levels[2], expected a number.
Bad value 0 for shots, expected at least 1.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

from s3prl_metaperser.config.written import ODD, PLAIN_NUMBER, Unquoted, Written, is_odd_number
from s3prl_metaperser.errors import UserError, did_you_mean, shown

T = TypeVar("T")
Keys = tuple[Any, ...]
#: A further condition on a value: None where it holds, else the end of the sentence "Bad value 0 for config.shots".
Check = Callable[[Any], str | None]

#: What every library below takes; nothing here is counted in more.
LARGEST_INTEGER = 2**31 - 1
#: So many different numbers are remembered as fitting a type.
MANY = 10_000


class Fault(NamedTuple):
    """Something that does not fit: the keys that lead there from the root, the message, the line if it is known."""

    keys: Keys
    text: str
    line: int | None = None


def build(cls: type[T], content: Any, where: str = "", *, strict: bool = False, further: bool = False) -> T:
    """An instance of the dataclass ``cls`` from plain data.

    Args:
        content: a mapping, as read from YAML or JSON.
        where: names the root in errors ("config"); empty for a file whose name is put before the message.
        strict: data that a program wrote: no number is read from text (YAML 1.1 reads 1e-3 as text), no name in a list
            from a number.
        further: whether keys that ``cls`` does not have are passed over instead of refused.

    Raises:
        UserError: the first fault; all of them with :func:`faults`.
    """
    found, problems = built(cls, content, where, strict=strict, further=further)
    if found is None:
        line = "" if problems[0].line is None else f" It is in line {problems[0].line}."
        raise UserError(f"{problems[0].text}{line}")
    return found


def built(
    cls: type[T], content: Any, where: str = "", *, strict: bool = False, further: bool = False
) -> tuple[T | None, list[Fault]]:
    """What :func:`build` builds, or None with everything that keeps it from that."""
    found, problems = _walk(cls, content, where, strict, further)
    return (None if problems else found), problems


def faults(cls: type, content: Any, where: str = "", *, strict: bool = False, further: bool = False) -> list[Fault]:
    """Everything that keeps :func:`build` from building ``cls``; empty if nothing does."""
    return _walk(cls, content, where, strict, further)[1]


def read(cls: type[T], path: str | Path) -> T:
    """An instance of the dataclass ``cls`` from a YAML file.

    Raises:
        UserError: as :func:`~s3prl_metaperser.config.yaml_files.read_yaml`, or what does not fit, with file and line.
    """
    from s3prl_metaperser.config.yaml_files import line_of, read_yaml

    found, problems = _walk(cls, read_yaml(path), "", False, False)
    if problems:
        line = line_of(path, problems[0].keys)
        raise UserError(f"{path}{'' if line is None else f':{line}'}: {problems[0].text}")
    return found


def at_least(least: float) -> Check:
    """A number of at least ``least``."""
    expected = "a number that is not negative" if least == 0 else f"at least {least}"
    return lambda value: None if value >= least else f", expected {expected}."


def at_most(most: float) -> Check:
    """A number of at most ``most``."""
    return lambda value: None if value <= most else f", expected at most {most}."


def below(limit: float, least: float = 0) -> Check:
    """A number from ``least`` up to ``limit``, which is not included."""
    expected = f"a number from {least} up to, not including, {limit}"
    return lambda value: None if least <= value < limit else f", expected {expected}."


def one_of(names: Callable[[], Iterable[str]]) -> Check:
    """One of the names that ``names()`` gives when a value is checked (a registry's, say).

    Give a type with a lambda a name at module level (``System = Annotated[str, one_of(lambda: SYSTEMS)]``): within the
    annotation of a field, Python lets a lambda see no global name.
    """
    return lambda value: None if value in (known := list(names())) else _not_among(value, known)


def filled(value: Any) -> str | None:
    """A text that is not blank, or a list or mapping that is not empty."""
    full = value.strip() if isinstance(value, str) else value
    return None if full else ", expected something that is not empty."


def unique(value: Iterable[Any]) -> str | None:
    """A list without a value twice."""
    items = list(value)
    twice = next((item for index, item in enumerate(items) if item in items[:index]), None)
    return None if twice is None else f": it names {shown(twice)} twice."


Whole = Annotated[int, at_least(0), at_most(LARGEST_INTEGER)]
Positive = Annotated[int, at_least(1), at_most(LARGEST_INTEGER)]
NotNegative = Annotated[float, at_least(0)]
Fraction = Annotated[float, below(1)]
Share = Annotated[float, at_least(0), at_most(1)]
Filled = Annotated[str, filled]


class _Walk:
    """One reading: how strict it is, and what has been found so far."""

    def __init__(self, where: str, strict: bool, further: bool):
        self.where, self.strict, self.further = where, strict, further
        self.faults: list[Fault] = []

    def name(self, keys: Keys) -> str:
        """``config.parts[1].folds``: the keys as messages show them."""
        parts = (f"[{key}]" if isinstance(key, int) else f".{str(key)[:80]}" for key in keys)
        return (self.where + "".join(parts)).lstrip(".")

    def refuse(self, keys: Keys, text: str, line: int | None = None) -> None:
        self.faults.append(Fault(keys, text, line))

    def bad(self, value: Any, keys: Keys, rest: str) -> None:
        name, line = self.name(keys), value.line if isinstance(value, Unquoted) else None
        self.refuse(keys, f"Bad value {shown(value)}{name and f' for {name}'}{rest}", line)


#: Converts one value; where it does not fit, tells the walk and returns anything.
_Converter = Callable[[Any, Keys, _Walk], Any]


def _walk(cls: type, content: Any, where: str, strict: bool, further: bool) -> tuple[Any, list[Fault]]:
    walk = _Walk(where, strict, further)
    found = _converter(cls)(content, (), walk)
    return found, walk.faults


@functools.cache
def _converter(kind: Any) -> _Converter:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return _checked(_converter(arguments[0]), kind.__metadata__)
    if origin in (types.UnionType, typing.Union):
        return _union(arguments)
    if origin is Literal:
        return _literal(arguments)
    if origin in (tuple, list):
        return _list(origin, arguments)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _mapping(*arguments)
    if dataclasses.is_dataclass(kind):
        return _section(typing.cast(type, kind))
    if kind in _SCALARS:
        return _SCALARS[kind]
    if kind in (Any, object):
        return lambda value, keys, walk: value
    if isinstance(kind, type):
        return _instance(kind)
    raise TypeError(f"no way to check {kind!r}")


def _section(cls: type) -> _Converter:
    fields = [f for f in dataclasses.fields(cls) if f.init]
    known = [f.name for f in fields]
    missing = dataclasses.MISSING
    required = [f.name for f in fields if f.default is missing and f.default_factory is missing]
    hints = typing.get_type_hints(cls, include_extras=True)

    def convert(value: Any, keys: Keys, walk: _Walk) -> Any:
        before, name = len(walk.faults), walk.name(keys)
        if value is None and keys:
            value = {}
        if not isinstance(value, Mapping):
            text = f"{name} must be a mapping" if name else "Expected a mapping"
            got = "the file is empty" if value is None else f"got {shown(value)}"
            return walk.refuse(keys, f"{text} of {', '.join(known)}, {got}.")
        values = {}
        for key, item in value.items():
            if key in known:
                values[key] = _converter(hints[key])(item, (*keys, key), walk)
            elif not walk.further:
                hint, of = did_you_mean(str(key), known), f" of {name}" if name else ""
                text = f"Unknown key {walk.name((*keys, str(key)))}.{hint} Known keys{of}: {', '.join(known)}."
                walk.refuse((*keys, key), text)
        for key in required:
            if key not in values:
                walk.refuse(keys, f"The key {walk.name((*keys, key))} is missing.")
        if len(walk.faults) > before:
            walk.faults[before:] = sorted(walk.faults[before:], key=lambda fault: not fault.text.startswith("Unknown"))
            return None
        try:
            return cls(**values)
        except (UserError, ValueError) as error:
            walk.refuse(keys, f"{name}: {error}" if name else str(error))

    return convert


def _checked(convert: _Converter, checks: tuple[Any, ...]) -> _Converter:
    def checked(value: Any, keys: Keys, walk: _Walk) -> Any:
        before = len(walk.faults)
        found = convert(value, keys, walk)
        if len(walk.faults) == before:
            for check in checks:
                if callable(check) and (problem := check(found)):
                    walk.bad(value, keys, problem)
                    break
        return found

    return checked


def _union(kinds: tuple[Any, ...]) -> _Converter:
    others = [kind for kind in kinds if kind is not type(None)]
    optional = len(others) < len(kinds)
    expected = " or ".join([*map(_described, others), *["null"] * optional])

    def convert(value: Any, keys: Keys, walk: _Walk) -> Any:
        if value is None and optional:
            return None
        for kind in others:
            trial = _Walk(walk.where, walk.strict, walk.further)
            found = _converter(kind)(value, keys, trial)
            if not trial.faults:
                return found
            if (len(others) == 1 and kind not in _SCALARS) or _same_shape(kind, value):  # its own fault says more
                walk.faults += trial.faults
                return None
        walk.bad(value, keys, f", expected {expected}.")

    return convert


def _same_shape(kind: Any, value: Any) -> bool:
    origin = typing.get_origin(kind) or kind
    if isinstance(value, Mapping):
        return dataclasses.is_dataclass(origin) or (isinstance(origin, type) and issubclass(origin, Mapping))
    return isinstance(value, list | tuple) and origin in (list, tuple)


def _literal(allowed: tuple[Any, ...]) -> _Converter:
    def convert(value: Any, keys: Keys, walk: _Walk) -> Any:
        if value not in allowed and any(isinstance(one, bool) for one in allowed):
            value = _switched(value)
        for one in allowed:
            if value == one and isinstance(value, bool) == isinstance(one, bool):
                return one
        walk.bad(value, keys, _not_among(value, [str(one) for one in allowed]))

    return convert


def _not_among(value: Any, known: list[str]) -> str:
    hint = did_you_mean(value, known) if isinstance(value, str) else ""
    return f".{hint} Expected one of: {', '.join(known)}."


def _list(made: type, kinds: tuple[Any, ...]) -> _Converter:
    any_number = made is list or (len(kinds) == 2 and kinds[1] is ...)
    expected = f"a list of {_several(kinds[0])}" if any_number else f"a list of {len(kinds)} values"
    names = any_number and kinds[0] is str
    numbers, tables = any_number and kinds[0] is float, any_number and kinds[0] == tuple[float, ...]
    each_once: dict[int, Any] = {}  # whole numbers that fit: results hold hundreds of thousands, few of them different

    def convert(value: Any, keys: Keys, walk: _Walk) -> Any:
        if not isinstance(value, list | tuple) or not (any_number or len(value) == len(kinds)):
            return walk.bad(value, keys, f", expected {expected}.")
        if numbers and (plain := _plain(value)):  # results hold hundreds of thousands of them
            return made(value if plain == {float} else map(float, value))
        rows = tables and set(map(type, value)) <= {list, tuple}
        if rows and (plain := _plain(list(itertools.chain.from_iterable(value)))):
            return made(map(tuple, value) if plain == {float} else (tuple(map(float, row)) for row in value))
        if names and walk.strict and set(map(type, value)) == {str} and "\0" not in "".join(value):
            return made(value)
        if any_number and len(value) > 1 and set(map(type, value)) == {int}:
            if len(each_once) > MANY:
                each_once.clear()
            one, trial = _converter(kinds[0]), _Walk(walk.where, walk.strict, walk.further)
            each_once.update({item: one(item, keys, trial) for item in set(value).difference(each_once)})
            if not trial.faults:
                return made(map(each_once.__getitem__, value))
            each_once.clear()
        if names and not walk.strict:
            texts = value.written if isinstance(value, Written) and len(value.written) == len(value) else value
            return made([_name(item, keys, walk, text) for item, text in zip(value, texts, strict=True)])
        each = [_converter(kinds[0])] * len(value) if any_number else [_converter(kind) for kind in kinds]
        return made([one(item, (*keys, at), walk) for at, (one, item) in enumerate(zip(each, value, strict=True))])

    return convert


def _plain(values: Sequence[Any]) -> set[type]:
    """The types of finite numbers; empty where there are none, or where one is something else."""
    kinds = set(map(type, values))
    if not kinds <= {float, int}:
        return set()
    try:
        total = sum(values if kinds == {float} else map(float, values))
    except OverflowError:  # a whole number that is no float
        return set()
    return kinds if math.isfinite(total) or all(map(math.isfinite, values)) else set()


def _mapping(key_kind: Any, value_kind: Any) -> _Converter:
    def convert(value: Any, keys: Keys, walk: _Walk) -> Any:
        if not isinstance(value, Mapping):
            return walk.bad(value, keys, ", expected a mapping (key: value).")
        found = {}
        for key, item in value.items():
            name = _name(key, keys, walk) if key_kind is str else _converter(key_kind)(key, keys, walk)
            found[name] = _converter(value_kind)(item, (*keys, key), walk)
        return found

    return convert


def _name(item: Any, keys: Keys, walk: _Walk, text: Any = None) -> Any:
    """A name in a list, as it was written where that is known: ``1.10`` is not 1.1 and ``null`` is somebody."""
    if isinstance(item, str):
        return str(item)
    if isinstance(text, str) and text:
        return text
    if isinstance(item, int) and not isinstance(item, bool):
        return str(item)
    walk.refuse(keys, f"Bad value {shown(item)} in {walk.name(keys)}, expected a name. Put quotes around it.")


def _number(value: Any, keys: Keys, walk: _Walk) -> Any:
    if isinstance(value, str) and not walk.strict and (PLAIN_NUMBER.fullmatch(value) or value.strip("+-.").isalpha()):
        with contextlib.suppress(ValueError):
            value = float(value)  # 1e-3, which YAML 1.1 reads as text; nan and inf, which are refused below
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= 2**1000:
        value = float(value)
    if not isinstance(value, float):
        return walk.bad(value, keys, f", expected a number{ODD if is_odd_number(value) else ''}.")
    if not math.isfinite(value):
        return walk.bad(value, keys, ", expected a finite number.")
    return value


def _whole(value: Any, keys: Keys, walk: _Walk) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    walk.bad(value, keys, f", expected a whole number{ODD if is_odd_number(value) else ''}.")


def _text(value: Any, keys: Keys, walk: _Walk) -> Any:
    if not isinstance(value, str):
        return walk.bad(value, keys, ", expected text.")
    if "\0" in value:
        return walk.bad(value, keys, ": it contains a NUL character.")
    return str(value)


def _switched(value: Any) -> Any:
    """``yes`` and the like, without quotes, where true or false is expected."""
    return value.switch if isinstance(value, Unquoted) and value.switch is not None else value


def _switch(value: Any, keys: Keys, walk: _Walk) -> Any:
    value = _switched(value)
    return value if isinstance(value, bool) else walk.bad(value, keys, ", expected true or false.")


def _instance(kind: type) -> _Converter:
    """Plain ``dict``, ``list`` or another class without further say."""

    def convert(value: Any, keys: Keys, walk: _Walk) -> Any:
        return value if isinstance(value, kind) else walk.bad(value, keys, f", expected {_described(kind)}.")

    return convert


_SCALARS: dict[Any, _Converter] = {str: _text, int: _whole, float: _number, bool: _switch}
#: One and several of a type.
_WORDS: dict[Any, tuple[str, str]] = {
    str: ("text", "names"),
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    bool: ("true or false", "true or false"),
    list: ("a list", "lists"),
    tuple: ("a list", "lists"),
    dict: ("a mapping (key: value)", "mappings"),
}


def _described(kind: Any, number: int = 0) -> str:
    origin = typing.get_origin(kind)
    if origin is Annotated:
        return _described(typing.get_args(kind)[0], number)
    if origin is Literal:
        return " or ".join(map(str, typing.get_args(kind)))
    if dataclasses.is_dataclass(kind) or (isinstance(origin, type) and issubclass(origin, Mapping)):
        kind = dict
    return _WORDS.get(origin if origin in _WORDS else kind, ("a value", "values"))[number]


def _several(kind: Any) -> str:
    return _described(kind, 1)
