"""s3prl 0.4.18 on torch stacks newer than it: the only module that patches anything.

:func:`apply` has to run before anything of s3prl is imported. What it mends:

- torchaudio: a native part that does not fit the installed torch (CPU-only torch, another CUDA) is done
  without. ``set_audio_backend``, ``sox_effects`` and ``info`` are gone since 2.9, and ``load`` needs
  torchcodec and FFmpeg since then: all get a replacement, ``load`` and ``info`` one by soundfile.
- huggingface_hub: ``HfFolder`` and ``Repository`` are gone since 1.0; s3prl's runner imports them at its top.
- torch: since 2.6 it refuses the ``argparse.Namespace`` in s3prl's own checkpoints, which is allowed here.
  Before 2.6 it unpickles anything by default; ``weights_only=True`` becomes the default there, too. What some
  of s3prl's loaders ask for in so many words, ``torch.load(..., weights_only=False)``, would run whatever code a
  file holds: no such call is granted in this process and those it starts.
- transformers fetches and runs attention kernels that a model's configuration names: switched off.
- s3prl evaluates text from checkpoints and configurations: see :mod:`s3prl_metaperser.s3prl_stack.guards`.
- ``Runner.evaluate`` on a CPU with CUDA beside it enters ``torch.cuda.device("cpu")``, a ValueError: CUDA is
  hidden from it.
- ``s3prl.hub`` imports all of its upstreams, transformers with them: a module that imports one is used.
- s3prl's ``-o`` evaluates what is typed: :mod:`s3prl_metaperser.config.override` takes its place.
- s3prl's download retries and leaves its lock behind: :mod:`s3prl_metaperser.s3prl_stack.download`.
- s3prl replaces Python's ``isinstance``, for torch below 1.8: left out.

Modules of s3prl are mended as they are imported, so nothing is imported that is not asked for.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from s3prl_metaperser.errors import UserError
from s3prl_metaperser.s3prl_stack import download, guards, stand_ins
from s3prl_metaperser.s3prl_stack.lazy_hub import LazyHub

_applied = False


def apply() -> None:
    """Mend the installed stack for s3prl 0.4.18, once; further calls do nothing.

    Raises:
        UserError: torch or torchaudio is not installed.
    """
    global _applied
    if _applied:
        return
    _mend_torch()
    _mend_torchaudio()
    if not any(isinstance(finder, _MendingFinder) for finder in sys.meta_path):
        hub = LazyHub("s3prl.hub", "s3prl's upstreams by name, imported one by one.")
        sys.meta_path[:0] = [_Ready(hub), _MendingFinder()]
    for name in [name for name in sys.modules if name == "s3prl" or name.startswith("s3prl.")]:
        if not isinstance(module := sys.modules[name], LazyHub):
            before, after = _MENDED.get(name, (_nothing, _nothing))
            before()
            after(module)
            guards.after_import(module)
    _applied = True


class _Ready(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports a module that is there already, under its own name."""

    def __init__(self, module: types.ModuleType):
        self.module = module

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        ours = fullname == self.module.__name__
        return importlib.machinery.ModuleSpec(fullname, self) if ours else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return self.module

    def exec_module(self, module: types.ModuleType) -> None:
        pass


# ------------------------------------------------------------------ torch


def _mend_torch() -> None:
    try:
        import torch
    except ModuleNotFoundError:
        raise UserError("torch is not installed. Type: pip install torch torchaudio") from None
    if hasattr(torch.serialization, "add_safe_globals"):
        torch.serialization.add_safe_globals([argparse.Namespace])
    os.environ.pop("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", None)
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"  # torch's own switch; processes started from here have it, too
    os.environ["USE_HUB_KERNELS"] = "NO"
    if torch.torch_version.TorchVersion(torch.__version__) < (2, 6):
        torch.load = _without_pickles(torch.load)


def _without_pickles(load: Callable) -> Callable:
    """``torch.load`` with ``weights_only=True`` as its default, as it is from torch 2.6 on."""
    if getattr(load, "_weights_only_by_default", False):
        return load

    @functools.wraps(load)
    def safe_load(*args: Any, **kwargs: Any) -> Any:
        if kwargs.get("weights_only") is None:
            kwargs["weights_only"] = True
        return load(*args, **kwargs)

    safe_load._weights_only_by_default = True
    return safe_load


# ------------------------------------------------------------------ torchaudio


def _mend_torchaudio() -> None:
    torchaudio = _import_torchaudio()
    if not hasattr(torchaudio, "set_audio_backend"):
        torchaudio.set_audio_backend = lambda backend=None: None
    if not hasattr(torchaudio, "sox_effects"):
        effects = types.ModuleType("torchaudio.sox_effects")
        for name in ("apply_effects_tensor", "apply_effects_file"):
            setattr(effects, name, stand_ins.gone(f"torchaudio.sox_effects.{name}", "torchaudio<2.9"))
        sys.modules[effects.__name__] = torchaudio.sox_effects = effects
    if not hasattr(torchaudio, "info"):
        torchaudio.info = stand_ins.soundfile_info
        torchaudio.load = stand_ins.with_soundfile_fallback(torchaudio.load)


def _import_torchaudio() -> types.ModuleType:
    """torchaudio, without its native part if that cannot be loaded; s3prl needs only what is pure Python."""
    try:
        return importlib.import_module("torchaudio")
    except ModuleNotFoundError as error:
        if error.name != "torchaudio":
            raise
        raise UserError("torchaudio is not installed. Type: pip install torchaudio") from None
    except (OSError, RuntimeError, ImportError) as error:
        first = error
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchaudio"]:
        del sys.modules[name]
    finder = _Ready(stand_ins.no_extension())
    sys.meta_path.insert(0, finder)
    try:
        return importlib.import_module("torchaudio")
    except Exception as second:
        raise first from second
    finally:
        sys.meta_path.remove(finder)


# ------------------------------------------------------------------ s3prl, mended as it is imported


class _MendingLoader(importlib.abc.Loader):
    """Runs a module's own loader between the two halves of its mend; all else is the own loader's."""

    def __init__(self, inner: Any):
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> Any:
        return self._inner.create_module(spec)

    def exec_module(self, module: types.ModuleType) -> None:
        before, after = _MENDED.get(module.__name__, (_nothing, _nothing))
        before()
        guards.before_import(module)
        self._inner.exec_module(module)
        after(module)
        guards.after_import(module)


class _MendingFinder(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        if not fullname.startswith("s3prl."):
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _MendingLoader(spec.loader)
        return spec


def _nothing(*_: Any) -> None:
    pass


def _mend_huggingface_hub() -> None:
    """Give ``huggingface_hub`` the names that s3prl's runner imports and needs only for publishing."""
    import huggingface_hub

    for name in ("HfFolder", "Repository"):
        if not hasattr(huggingface_hub, name):
            gone = stand_ins.gone(f"huggingface_hub.{name}", "huggingface_hub<1.0")
            body = {"__init__": gone, "save_token": staticmethod(gone), "get_token": staticmethod(gone)}
            setattr(huggingface_hub, name, type(name, (), body))


def _mend_runner(module: types.ModuleType) -> None:
    evaluate = module.Runner.evaluate
    if getattr(evaluate, "_off_cuda", False):
        return

    @functools.wraps(evaluate)
    def evaluate_where_it_runs(self: Any, *args: Any, **kwargs: Any) -> Any:
        with contextlib.nullcontext() if str(self.args.device).startswith("cuda") else _cuda_hidden():
            return evaluate(self, *args, **kwargs)

    evaluate_where_it_runs._off_cuda = True
    module.Runner.evaluate = evaluate_where_it_runs


@contextlib.contextmanager
def _cuda_hidden() -> Iterator[None]:
    import torch

    is_available = torch.cuda.is_available
    torch.cuda.is_available = lambda: False
    try:
        yield
    finally:
        torch.cuda.is_available = is_available


def _mend_helper(module: types.ModuleType) -> None:
    from s3prl_metaperser.config.override import apply_override, parse_override

    def override(string: str, args: argparse.Namespace, config: dict) -> None:
        apply_override(string, args, config, strict_config=False)
        for path, value in parse_override(string):
            print(f"[Override] - {'.'.join(path)} = {value!r}", file=sys.stderr)

    module.override = override
    module.hack_isinstance = _nothing


def set_download_dir(folder: str | Path) -> None:
    """Keep what s3prl and torch.hub download in ``folder``; to be called after :func:`apply`.

    s3prl's own launcher sets only torch.hub's folder by ``--cache_dir``, where few upstreams look.
    """
    import torch
    from s3prl.util import download as s3prl_download

    torch.hub.set_dir(str(folder))
    s3prl_download.set_dir(folder)


def _mend_download(module: types.ModuleType) -> None:
    module._download = module.download = download.fetch


# module -> (what has to be so before it is imported, what is done to it afterwards)
_MENDED: dict[str, tuple[Callable, Callable]] = {
    "s3prl.run_downstream": (_mend_huggingface_hub, _nothing),
    "s3prl.downstream.runner": (_mend_huggingface_hub, _mend_runner),
    "s3prl.utility.helper": (_nothing, _mend_helper),
    "s3prl.util.download": (_nothing, _mend_download),
}
