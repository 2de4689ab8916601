"""``-o "config.a.b=value,,args.c=value"``: s3prl's override syntax, read as data, never run as code."""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import re
import warnings
from collections.abc import Collection, Iterable
from typing import Any

from s3prl_metaperser.config.written import PLAIN_NUMBER, Written, is_odd_number
from s3prl_metaperser.config.yaml_files import TextLoader, parse_yaml
from s3prl_metaperser.errors import UserError, did_you_mean

_WORDS = {"true": True, "false": False, "none": None, "null": None}
_PLAIN = (bool, int, float, str, type(None))


def parse_override(text: str, *, keep_text: bool = True) -> list[tuple[list[str], Any]]:
    """The assignments in ``text``, which are separated by two commas.

    A value is a number, a quoted string, a list, a dictionary (Python's notation or YAML's), or true, false,
    none or null in either case; anything else is a string as it stands and may contain ``=``. Tuples become
    lists.

    Args:
        keep_text: ``010``, ``0x1f`` and ``1_000`` may be names and stay text, and lists know how names were written.

    Returns:
        (path, value) of each, e.g. ``[(["config", "optimizer", "lr"], 1e-3)]``.

    Raises:
        UserError: an assignment without ``=``, an empty name in its key, or a first name other than ``args``
            and ``config``.

    Examples:
        >>> parse_override("config.runner.eval_dataloaders=[dev, test],,args.seed=7")
        [(['config', 'runner', 'eval_dataloaders'], ['dev', 'test']), (['args', 'seed'], 7)]
    """
    return [_assignment(part.strip(), keep_text) for part in text.split(",,") if part.strip()]


def apply_override(
    text: str, args: argparse.Namespace, config: dict, strict_config: bool, open_sections: Collection[str] = ()
) -> None:
    """Change ``args`` and ``config`` in place as ``text`` says; nothing is changed if any part is wrong.

    Args:
        text: see :func:`parse_override`.
        args: the command line's namespace; only names that it has can be set.
        config: the nested configuration.
        strict_config: whether a key that ``config`` does not have is an error (else it is made, as in s3prl), and
            names keep their text.
        open_sections: sections, such as ``config.a.b``, whose keys are checked later, when it is known who reads them.

    Raises:
        UserError: an unknown key, or a key inside something that is not a section; the message names the key.
    """
    assignments = parse_override(text, keep_text=strict_config)
    trial = argparse.Namespace(**vars(args)), copy.deepcopy(config)
    for chosen_args, chosen_config in (trial, (args, config)):
        for path, value in assignments:
            if path[0] == "args":
                _set_argument(path, value, chosen_args)
            else:
                _set_config(path, value, chosen_config, strict_config, open_sections)


def _assignment(part: str, keep_text: bool) -> tuple[list[str], Any]:
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
    return path, _value(value.strip(), keep_text)


def _value(text: str, keep_text: bool) -> Any:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # 1e-x is text and no slip in somebody's program
            return _of_python(ast.parse(text, mode="eval").body, text, keep_text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        if text[:1] in ("[", "{"):
            with contextlib.suppress(UserError):
                found = parse_yaml(text, "-o", rules=_FlowLoader)
                return found if keep_text else _plain(found)
    return text


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _of_python(node: ast.expr, text: str, keep_text: bool) -> Any:
    """Plain data in Python's notation, with tuples made lists.

    Raises:
        ValueError: anything else.
    """
    if isinstance(node, ast.List | ast.Tuple):
        items = [_of_python(item, text, keep_text) for item in node.elts]
        return Written(items, [ast.get_source_segment(text, item) for item in node.elts]) if keep_text else items
    if isinstance(node, ast.Dict):
        if None in node.keys:
            raise ValueError("** in a dictionary")
        keys = [ast.literal_eval(key) for key in node.keys if key is not None]
        if not all(isinstance(key, _PLAIN) for key in keys):
            raise ValueError("a key that is no plain data")
        return dict(zip(keys, (_of_python(item, text, keep_text) for item in node.values), strict=True))
    value = ast.literal_eval(node)
    if not isinstance(value, _PLAIN):
        raise ValueError(f"{type(value).__name__} is no plain data")
    written = ast.get_source_segment(text, node) or ""
    return written if keep_text and not isinstance(value, str) and is_odd_number(written) else value


class _FlowLoader(TextLoader):
    """YAML lists and dictionaries in which ``1e-3`` is a number, and ``NONE`` and ``tRUE`` are what they look like."""

    yaml_implicit_resolvers: dict = {}  # noqa: RUF012  (yaml copies it on add_implicit_resolver)


for _kind, _pattern, _first in (
    ("null", "(?i:none|null)|~", "nN~"),
    ("bool", "(?i:true|false)", "tTfF"),
    ("int", "[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
    ("float", PLAIN_NUMBER.pattern, "-+.0123456789"),
):
    _FlowLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(f"(?:{_pattern})\\Z"), list(_first))
_FlowLoader.add_constructor("tag:yaml.org,2002:str", lambda loader, node: node.value)  # there is no line
_FlowLoader.add_constructor("tag:yaml.org,2002:float", lambda loader, node: float(node.value))


def _set_argument(path: list[str], value: Any, args: argparse.Namespace) -> None:
    key = ".".join(path)
    if len(path) != 2:
        raise UserError(f"-o: key {key!r}: args.{path[1]} has no parts, so {path[2]!r} cannot be set in it.")
    if path[1] not in vars(args):
        raise _unknown(key, path[1], vars(args), "the command line")
    setattr(args, path[1], list(value) if isinstance(value, Written) else value)


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
