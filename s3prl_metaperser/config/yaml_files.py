"""YAML files, read strictly: plain data only, no key twice, and neither size nor anchors can exhaust the machine.

Names keep their text: what YAML 1.1 takes for a number or a switch and what people write as a name (``010``, ``1_000``,
``12:30``, ``0x1f``, ``2024-01-01``, ``yes``, ``off``) is text; where a number is expected, it is refused.
"""

from __future__ import annotations

import os
import re
from collections.abc import Hashable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from s3prl_metaperser.config.written import Unquoted, Written, is_odd_number
from s3prl_metaperser.errors import UserError, shown

#: Larger than any file that a person writes, and read within seconds.
LARGEST_BYTES = 1 << 18
#: Values in a file once every anchor is written out.
LARGEST_VALUES = 100_000

# What PyYAML raises for a malformed file or value: !!bool x is a KeyError, 2024-13-45 a ValueError.
_MALFORMED = (yaml.YAMLError, ValueError, KeyError, AttributeError, TypeError, OverflowError)


#: What other programs read by.
YAML_1_1 = yaml.SafeLoader


class TextLoader(yaml.SafeLoader):
    """YAML in which only what cannot be meant otherwise is a number, a switch or nothing; all else is text."""

    yaml_implicit_resolvers: dict = {}  # noqa: RUF012  (yaml copies it on add_implicit_resolver)


_TAG = "tag:yaml.org,2002:"
_SWITCHES = {"yes": True, "on": True, "no": False, "off": False}
for _kind, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:(?:0|[1-9][0-9]*)\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    ("merge", "<<", ["<"]),
):
    TextLoader.add_implicit_resolver(_TAG + _kind, re.compile(f"(?:{_pattern})\\Z"), _first)


def _text_of(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> str:
    text = loader.construct_yaml_str(node)
    others = yaml.SafeLoader.yaml_implicit_resolvers.get(text[:1], [])
    if node.style is None and any(pattern.match(text) for _, pattern in others):
        return Unquoted(text, node.start_mark.line + 1, _SWITCHES.get(text.lower()))
    return text


def _list_of(loader: yaml.SafeLoader, node: yaml.SequenceNode) -> Iterator[list]:
    made = Written([], [item.value if isinstance(item, yaml.ScalarNode) else None for item in node.value])
    yield made
    made.extend(loader.construct_sequence(node))


TextLoader.add_constructor(_TAG + "str", _text_of)
TextLoader.add_constructor(_TAG + "seq", _list_of)


def read_yaml(path: str | Path, *, largest: int = LARGEST_BYTES, rules: type[yaml.SafeLoader] = TextLoader) -> Any:
    """The content of a YAML file.

    Args:
        path: a file of one document in UTF-8.
        largest: its largest size in bytes.
        rules: what is a number, a switch and text; ``YAML_1_1`` for a file that other programs read, too.

    Returns:
        Dictionaries, lists, text, numbers, booleans and None (by ``YAML_1_1`` dates, too); no two parts of it share an
        object. None for an empty file.

    Raises:
        UserError: there is no such file, it is too large, not UTF-8, not YAML, names a key twice, holds anything but
            plain data (such as ``!!python/...``), or anchors that refer to themselves or multiply too far. The message
            names the file and, where there is one, the line.
    """
    return parse_yaml(_text(Path(path), largest), path, rules=rules)


def line_of(path: str | Path, keys: Sequence[Any]) -> int | None:
    """The line of a YAML file in which the value that ``keys`` lead to is named, or the part of it that exists.

    Args:
        keys: of mappings, and indices of lists, from the root on.
    """
    loader = TextLoader(_text(Path(path), LARGEST_BYTES))
    node, line = loader.get_single_node(), None
    for wanted in keys:
        pairs: Iterable[tuple[Any, yaml.Node, yaml.Node]] = ()
        if isinstance(node, yaml.MappingNode):
            pairs = ((loader.construct_object(key), key, value) for key, value in node.value)
        elif isinstance(node, yaml.SequenceNode):
            pairs = ((index, item, item) for index, item in enumerate(node.value))
        found = next(((at, value) for name, at, value in pairs if name == wanted), None)
        if found is None:
            break
        line, node = found[0].start_mark.line + 1, found[1]
    return line


def _text(path: Path, largest: int) -> str:
    try:
        if not os.path.isfile(path):  # a pipe would be waited for
            fault = "this is a folder" if os.path.isdir(path) else "there is no such file"
            raise UserError(f"{path}: {fault}. Name a YAML file.")
        with open(path, "rb") as file:
            content = file.read(largest + 1)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from None
    if len(content) > largest:
        size = os.path.getsize(path)
        raise UserError(f"{path}: too large for a YAML file ({size:,} bytes, limit {largest:,}). Is it the right file?")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}:{line}: not UTF-8. Save the file as UTF-8.") from None


def parse_yaml(text: str, source: str | Path, *, rules: type[yaml.SafeLoader] = TextLoader) -> Any:
    """As :func:`read_yaml`, from text.

    Args:
        text: one document.
        source: what errors name.
        rules: as there.
    """
    try:
        loader = rules(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _Check(loader, source).size(node)
            return _unshared(loader.construct_document(node))
        finally:
            loader.dispose()
    except RecursionError:
        raise UserError(f"{source}: nested too deeply. Is it the right file?") from None
    except _MALFORMED as error:
        raise UserError(_explained(error, source)) from None


def check_numbers(path: str | Path) -> None:
    """For a file that another program has read by YAML 1.1, in which ``010`` is 8 and ``1:40`` is 100.

    Raises:
        UserError: such a number, with its line.
    """
    values = [read_yaml(path)]
    while values:
        value = values.pop()
        if isinstance(value, dict):
            values += [*value, *value.values()]
        elif isinstance(value, list):
            values += value
        elif isinstance(value, Unquoted) and is_odd_number(value):
            what = f"{value} is read as another number. Put quotes around a name, and write a number plainly."
            raise UserError(f"{path}:{value.line}: {what}")


class _Check:
    """One walk over what was parsed, before anything is made of it; each node is visited once."""

    def __init__(self, loader: yaml.SafeLoader, source: str | Path):
        self.loader, self.source = loader, source
        self.sizes: dict[int, int | None] = {}  # None: under way

    def size(self, node: yaml.Node) -> int:
        """How many values ``node`` is with every anchor written out."""
        if id(node) in self.sizes:
            known = self.sizes[id(node)]
            if known is None:
                raise self._refused(node, "an anchor that refers to itself. Write the value out.")
            return known
        self.sizes[id(node)] = None
        parts = node.value if isinstance(node, yaml.SequenceNode) else []
        if isinstance(node, yaml.MappingNode):
            self._refuse_repeated_keys(node)
            parts = [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.ScalarNode):
            self._value(node)
        total = 1 + sum(map(self.size, parts))
        if total > LARGEST_VALUES:
            what = f"more than {LARGEST_VALUES:,} values once its anchors are written out. Is it the right file?"
            raise self._refused(node, what)
        self.sizes[id(node)] = total
        return total

    def _refuse_repeated_keys(self, node: yaml.MappingNode) -> None:
        """What ``<<`` brings in is not looked at: the mapping's own keys override it, as YAML says."""
        lines: dict[Hashable, int] = {}
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                continue  # SafeLoader refuses it
            key = self._value(key_node)
            line = key_node.start_mark.line + 1
            if key in lines:
                first = f"the first is in line {lines[key]}"
                raise self._refused(key_node, f"the key {shown(key)} appears twice; {first}. Remove one.")
            lines[key] = line

    def _value(self, node: yaml.ScalarNode) -> Any:
        if node.tag == "tag:yaml.org,2002:merge":
            return node.value
        try:
            return self.loader.construct_object(node)  # kept by the loader: nothing is made twice
        except _MALFORMED as error:
            raise UserError(_explained(error, self.source, node.start_mark.line + 1)) from None

    def _refused(self, node: yaml.Node, what: str) -> UserError:
        return UserError(f"{self.source}:{node.start_mark.line + 1}: {what}")


def _unshared(value: Any) -> Any:
    """A copy in which no two places share an object: what changes one must not change the other."""
    if isinstance(value, dict):
        return {key: _unshared(item) for key, item in value.items()}
    if not isinstance(value, list):
        return value
    items = [_unshared(item) for item in value]
    if isinstance(value, Written) and not all(isinstance(item, str) for item in items):
        return Written(items, value.written)
    return items


def _explained(error: Exception, source: str | Path, line: int | None = None) -> str:
    mark = getattr(error, "problem_mark", None)
    line = line if mark is None else mark.line + 1
    where = "" if line is None else f" (line {line})"
    problem = getattr(error, "problem", None) or str(error) or type(error).__name__
    return f"{source} is not valid YAML{where}: {' '.join(str(problem).split())[:300]}."
