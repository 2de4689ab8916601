"""``-o "config.a.b=value,,args.c=value"``: s3prl's override syntax, read as data, never run as code."""

from __future__ import annotations

import argparse
import ast
import copy
import re
import warnings
from collections.abc import Collection, Iterable
from typing import Any

import yaml

from s3prl_metaperser.errors import UserError, did_you_mean

_WORDS = {"true": True, "false": False, "none": None, "null": None}
_PLAIN = (bool, int, float, str, type(None))
_NOTHING = object()


def parse_override(text: str) -> list[tuple[list[str], Any]]:
    """The assignments in ``text``, which are separated by two commas.

    A value is a number, a quoted string, a list, a dictionary (Python's notation or YAML's), or true, false,
    none or null in either case; anything else is a string as it stands and may contain ``=``. Tuples become
    lists.

    Returns:
        (path, value) of each, e.g. ``[(["config", "optimizer", "lr"], 1e-3)]``.

    Raises:
        UserError: an assignment without ``=``, an empty name in its key, or a first name other than ``args``
            and ``config``.

    Examples:
        >>> parse_override("config.runner.eval_dataloaders=[dev, test],,args.seed=7")
        [(['config', 'runner', 'eval_dataloaders'], ['dev', 'test']), (['args', 'seed'], 7)]
    """
    return [_assignment(part.strip()) for part in text.split(",,") if part.strip()]


def apply_override(
    text: str, args: argparse.Namespace, config: dict, strict_config: bool, open_sections: Collection[str] = ()
) -> None:
    """Change ``args`` and ``config`` in place as ``text`` says; nothing is changed if any part is wrong.

    Args:
        text: see :func:`parse_override`.
        args: the command line's namespace; only names that it has can be set.
        config: the nested configuration.
        strict_config: whether a key that ``config`` does not have is an error (else it is made, as in s3prl).
        open_sections: sections, such as ``config.a.b``, whose keys are checked later, when it is known who reads them.

    Raises:
        UserError: an unknown key, or a key inside something that is not a section; the message names the key.
    """
    assignments = parse_override(text)
    trial = argparse.Namespace(**vars(args)), copy.deepcopy(config)
    for chosen_args, chosen_config in (trial, (args, config)):
        for path, value in assignments:
            if path[0] == "args":
                _set_argument(path, value, chosen_args)
            else:
                _set_config(path, value, chosen_config, strict_config, open_sections)


def _assignment(part: str) -> tuple[list[str], Any]:
    key, equals, value = part.partition("=")
    key = key.strip()
    path = [name.strip() for name in key.split(".")]
    if not equals or not key:
        raise UserError(f"-o: {part!r} is not of the form config.section.key=value or args.name=value.")
    if path[0] not in ("args", "config"):
        raise UserError(
            f"-o: key {key!r} starts with {path[0]!r}, expected one of ['args', 'config'], as in config.{key}=..."
        )
    if len(path) < 2 or not all(path):
        raise UserError(f"-o: key {key!r} names nothing to set, expected config.section.key or args.name.")
    return path, _value(value.strip())


def _value(text: str) -> Any:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # 1e-x is text and no slip in somebody's program
            value = _plain(ast.literal_eval(text))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        value = _NOTHING
    if value is _NOTHING and text[:1] in ("[", "{"):
        try:
            value = _plain(yaml.load(text, Loader=_FlowLoader))
        except (yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            value = _NOTHING
    return text if value is _NOTHING else value


def _plain(value: Any) -> Any:
    """``value`` with tuples made lists, or ``_NOTHING`` if it holds anything that is not plain data."""
    if isinstance(value, (list, tuple)):
        items = [_plain(item) for item in value]
        return _NOTHING if any(item is _NOTHING for item in items) else items
    if isinstance(value, dict):
        pairs = {key: _plain(item) for key, item in value.items()}
        known = all(isinstance(key, _PLAIN) for key in pairs) and _NOTHING not in pairs.values()
        return pairs if known else _NOTHING
    return value if isinstance(value, _PLAIN) else _NOTHING


class _FlowLoader(yaml.SafeLoader):
    """YAML lists and dictionaries in which ``1e-3`` is a number, and ``on``, ``no`` and dates are strings."""

    yaml_implicit_resolvers: dict = {}  # noqa: RUF012  (yaml copies it on add_implicit_resolver)


_FlowLoader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(?:none|null|~)$", re.I), list("nN~"))
_FlowLoader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$", re.I), list("tTfF"))
_FlowLoader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?[0-9]+$"), list("-+0123456789"))
_FlowLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?$"),
    list("-+.0123456789"),
)
_FlowLoader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(node.value))
_FlowLoader.add_constructor("tag:yaml.org,2002:float", lambda loader, node: float(node.value))


def _set_argument(path: list[str], value: Any, args: argparse.Namespace) -> None:
    key = ".".join(path)
    if len(path) != 2:
        raise UserError(f"-o: key {key!r}: args.{path[1]} has no parts, so {path[2]!r} cannot be set in it.")
    if path[1] not in vars(args):
        raise _unknown(key, path[1], vars(args), "the command line")
    setattr(args, path[1], value)


def _set_config(path: list[str], value: Any, config: dict, strict: bool, open_sections: Collection[str]) -> None:
    key = ".".join(path)
    section: Any = config
    for depth, name in enumerate(path[1:], start=1):
        where = ".".join(path[:depth])
        if not isinstance(section, dict):
            raise UserError(f"-o: key {key!r}: {where} is {section!r}, not a section with keys of its own.")
        if strict and section and name not in section and where not in open_sections:
            raise _unknown(key, name, section, where)
        if depth == len(path) - 1:
            if strict and isinstance(section.get(name), dict) and not isinstance(value, (dict, type(None))):
                raise UserError(f"-o: key {key!r} is a section with keys of its own, it cannot become {value!r}.")
            section[name] = value
        else:
            if section.get(name) is None:
                section[name] = {}
            section = section[name]


def _unknown(key: str, name: str, known: Iterable[str], where: str) -> UserError:
    known = sorted(str(other) for other in known)
    return UserError(
        f"-o: unknown key {key!r}: {where} has no {name!r}.{did_you_mean(name, known)} Available: {', '.join(known)}."
    )
