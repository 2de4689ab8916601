"""Printed commands: as this process was started, so that they can be copied and run where they are printed."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from shlex import quote

_MODULES = ("s3prl_metaperser.s3prl_plugin.launcher", "s3prl.run_downstream")
_SCRIPT = "run_downstream.py"
_COMMAND, _CLI = "metaperser", "s3prl_metaperser.cli"
_SHORT = ("train", "evaluate")  # `metaperser train` is `-m train`


def launcher(*arguments: object) -> str:
    """A command line of s3prl's launcher, with these arguments; of its short form where that was typed."""
    mode, *rest = arguments[1:] if arguments[:1] == ("-m",) else ("",)
    if mode in _SHORT and sys.argv[1:2] and sys.argv[1] in _SHORT and Path(sys.argv[0]).name == _COMMAND:
        return metaperser(mode, *rest)
    if (module := _module()) in _MODULES:
        start = f"{_python()} -m {module}"
    elif Path(sys.argv[0]).name == _SCRIPT and Path(sys.argv[0]).is_file():
        start = f"{_python()} {quote(sys.argv[0])}"
    else:
        start = f"{_python()} -m {_MODULES[0]}"
    return " ".join([start, *(quote(str(each)) for each in arguments)])


def metaperser(*arguments: object) -> str:
    """A command line of ``metaperser``, with these arguments."""
    script = Path(sys.argv[0])
    if script.name == _COMMAND and script.is_file():
        start = _found(_COMMAND, script)
    else:
        start = f"{_python()} -m {_CLI}"
    return " ".join([start, *(quote(str(each)) for each in arguments)])


def _module() -> str:
    """The module that ``python -m`` has started; empty where it was something else."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    return "" if spec is None else spec.name


def _python() -> str:
    return _found(Path(sys.executable).name, Path(sys.executable))


def _found(name: str, path: Path) -> str:
    """``name`` where the shell finds this very file by it, else its path."""
    found = shutil.which(name)
    return name if found is not None and Path(found).absolute() == path.absolute() else quote(str(path.absolute()))
