"""s3prl's own modules without ``eval``, unpickling and permissive YAML.

s3prl evaluates text that comes out of files: layer sizes in a checkpoint (``-k``), a feature type in a model
configuration (``-g``), a model's name in a downstream's configuration (``-c``, or ``-e``). In each of s3prl's modules
:mod:`.compat` replaces ``eval`` by :func:`look_up`, ``pickle`` by :data:`PICKLE` and ``yaml`` by :data:`YAML`; s3prl's
files are not edited.
"""

from __future__ import annotations

import ast
import io
import operator
import pathlib
import pickle
import sys
import types
import warnings
from collections.abc import Mapping
from typing import Any

import yaml

from s3prl_metaperser.config.yaml_files import YAML_1_1, parse_yaml
from s3prl_metaperser.errors import UserError, shown

#: Whose classes and functions a looked-up name may be; what else a module happens to import (os, torch.hub) is not.
CALLABLE = ("s3prl.", "torch.nn.", "torchaudio.compliance.", "torchaudio.transforms.")
#: Longer lists than this are no layer sizes.
LONGEST = 10_000


def look_up(expression: str, globals: Mapping[str, Any] | None = None, locals: Mapping[str, Any] | None = None) -> Any:
    """What ``eval`` is used for in s3prl, and no more.

    ``expression`` is a literal (``"[(512, 10, 5)] + [(512, 3, 2)] * 4"``) or a path from a name that the caller can see
    (``"self.model.encoder.layers[3]"``). Nothing is called, no name or attribute begins with an underscore, and what
    comes out is data, a torch module, or a class or function of :data:`CALLABLE`.

    Raises:
        UserError: anything else.
    """
    if globals is None:
        frame = sys._getframe(1)
        globals, locals = frame.f_globals, frame.f_locals
    try:
        names = {**globals, **(locals or {})}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            tree = ast.parse(expression.strip(), mode="eval")
        value = _Reader(names).value(tree.body)
    except UserError:
        raise
    except (SyntaxError, ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError, MemoryError) as e:
        raise _refused(expression, f"{type(e).__name__}: {e}") from None
    if not _harmless(value):
        raise _refused(expression, "it refers to something outside s3prl")
    return value


def _refused(expression: Any, reason: str) -> UserError:
    return UserError(
        f"A checkpoint or configuration holds {shown(expression)}, which s3prl would run as code ({reason[:120]}). "
        "It was not run."
    )


class _Reader:
    """The value of an expression's syntax tree."""

    def __init__(self, names: Mapping[str, Any]):
        self.names = names

    def value(self, node: ast.expr) -> Any:
        read = getattr(self, f"_{type(node).__name__.lower()}", None)
        if read is None:
            raise ValueError(f"{type(node).__name__} is not allowed")
        return read(node)

    def _constant(self, node: ast.Constant) -> Any:
        return node.value

    def _list(self, node: ast.List) -> list:
        return [self.value(item) for item in node.elts]

    def _tuple(self, node: ast.Tuple) -> tuple:
        return tuple(self.value(item) for item in node.elts)

    def _dict(self, node: ast.Dict) -> dict:
        pairs = [(key, item) for key, item in zip(node.keys, node.values, strict=True) if key is not None]
        if len(pairs) < len(node.keys):
            raise ValueError("** is not allowed")
        return {self.value(key): self.value(item) for key, item in pairs}

    def _unaryop(self, node: ast.UnaryOp) -> Any:
        value = self.value(node.operand)
        if not isinstance(node.op, ast.USub | ast.UAdd) or not isinstance(value, int | float):
            raise ValueError("a sign is allowed only before a number")
        return -value if isinstance(node.op, ast.USub) else value

    def _binop(self, node: ast.BinOp) -> Any:
        pair = self.value(node.left), self.value(node.right)
        operate = {ast.Add: operator.add, ast.Mult: operator.mul}.get(type(node.op))
        if operate is None or not all(isinstance(value, list | tuple | int | float) for value in pair):
            raise ValueError("only + and * of numbers and lists are allowed")
        for many, times in (pair, pair[::-1]) if operate is operator.mul else ():
            if isinstance(many, list | tuple) and isinstance(times, int) and len(many) * times > LONGEST:
                raise ValueError(f"more than {LONGEST} items")
        return operate(*pair)

    def _name(self, node: ast.Name) -> Any:
        return self.names[_public(node.id)]

    def _attribute(self, node: ast.Attribute) -> Any:
        return getattr(self.value(node.value), _public(node.attr))

    def _subscript(self, node: ast.Subscript) -> Any:
        return self.value(node.value)[self.value(node.slice)]


def _public(name: str) -> str:
    if name.startswith("_"):
        raise ValueError(f"{name} is private")
    return name


def _harmless(value: Any) -> bool:
    if not callable(value):
        return not isinstance(value, types.ModuleType)
    nn = getattr(sys.modules.get("torch"), "nn", None)
    if nn is not None and isinstance(value, nn.Module):
        return True
    return f"{getattr(value, '__module__', None) or ''}.".startswith(CALLABLE)


# ------------------------------------------------------------------ pickle


class _PlainUnpickler(pickle.Unpickler):
    """Unpickles containers, text, numbers and paths; nothing that a pickle names is called otherwise."""

    def find_class(self, module: str, name: str) -> Any:
        plain = {"builtins": ("set", "frozenset", "complex", "bytearray"), "collections": ("OrderedDict", "Counter")}
        paths = [kind for kind in vars(pathlib) if kind.endswith("Path")]
        if name in plain.get(module, ()) or (module in ("pathlib", "pathlib._local") and name in paths):
            return super().find_class(module, name)
        raise UserError(
            f"A pickle refers to {shown(f'{module}.{name}')}. Pickles with more than plain data can run code and are "
            "not opened. Delete the file if it is a cache."
        )


def _load(file: Any, **_: Any) -> Any:
    return _PlainUnpickler(file).load()


def _loads(data: bytes, **_: Any) -> Any:
    return _load(io.BytesIO(data))


def _stand_in(real: types.ModuleType, **changes: Any) -> types.ModuleType:
    module = types.ModuleType(real.__name__, f"{real.__name__} as s3prl sees it; see {__name__}.")
    module.__dict__.update({name: value for name, value in vars(real).items() if not name.startswith("__")})
    module.__dict__.update(changes)
    return module


#: ``pickle`` that loads only plain data.
PICKLE = _stand_in(pickle, load=_load, loads=_loads, Unpickler=_PlainUnpickler, _Unpickler=_PlainUnpickler)


# ------------------------------------------------------------------ yaml


def _load_yaml(stream: Any, Loader: Any = None) -> Any:
    text = stream if isinstance(stream, str | bytes) else stream.read()
    text = text.decode("utf-8-sig") if isinstance(text, bytes) else text
    return parse_yaml(text, getattr(stream, "name", "YAML text"), rules=YAML_1_1)


#: ``yaml`` that loads only plain data and refuses duplicate keys.
YAML = _stand_in(yaml, **dict.fromkeys(("load", "full_load", "unsafe_load", "safe_load"), _load_yaml))


# ------------------------------------------------------------------ what compat does with a module


def before_import(module: types.ModuleType) -> None:
    """Shadow ``eval`` in a module of s3prl that is about to be run."""
    module.__dict__["eval"] = look_up


def after_import(module: types.ModuleType) -> None:
    """Replace what the module has imported."""
    module.__dict__["eval"] = look_up
    for name, real, ours in (("pickle", pickle, PICKLE), ("yaml", yaml, YAML)):
        if module.__dict__.get(name) is real:
            module.__dict__[name] = ours
