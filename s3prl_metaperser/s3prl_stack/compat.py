"""Run s3prl 0.4.18 on newer torch stacks: the only module that patches anything.

:func:`apply` has to run before anything of s3prl is imported. What it fixes:

- torchaudio: a native part that does not fit the installed torch (CPU-only torch, another CUDA) is left out.
  ``set_audio_backend``, ``sox_effects`` and ``info`` do not exist since 2.9, and ``load`` needs torchcodec and FFmpeg
  since then: all get a replacement, ``load`` and ``info`` one by soundfile.
- huggingface_hub: ``HfFolder`` and ``Repository`` do not exist since 1.0; s3prl's runner imports them at its top.
- torch refuses the ``argparse.Namespace`` in s3prl's own checkpoints, which is allowed here. Some of s3prl's loaders
  call ``torch.load(..., weights_only=False)``, which runs whatever code a file contains: this is disabled in
  this process and its children.
- transformers fetches and runs attention kernels that a model's configuration names: switched off.
- s3prl evaluates text from checkpoints and configurations: see :mod:`s3prl_metaperser.s3prl_stack.guards`.
- ``Runner.evaluate`` on a CPU in a machine with CUDA enters ``torch.cuda.device("cpu")``, a ValueError: CUDA is hidden
  from it.
- ``s3prl.hub`` imports all of its upstreams, and transformers with them: a module that imports only the one that is
  used takes its place.
- s3prl's ``-o`` evaluates what is typed: :mod:`s3prl_metaperser.config.override` takes its place.
- s3prl's download retries and leaves its lock behind: :mod:`s3prl_metaperser.s3prl_stack.download` takes its place.
- s3prl replaces Python's ``isinstance``, for torch below 1.8: not done.

Modules are patched as they are imported, so nothing is imported that is not asked for.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib
import importlib.abc
import importlib.machinery
import os
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from s3prl_metaperser.errors import UserError
from s3prl_metaperser.s3prl_stack import download, guards, stand_ins
from s3prl_metaperser.s3prl_stack.lazy_hub import LazyHub
from s3prl_metaperser.s3prl_stack.replaced import replaced


@functools.cache
def apply() -> None:
    """Patch the installed stack for s3prl 0.4.18, once; further calls do nothing.

    Raises:
        UserError: torch or torchaudio is not installed.
    """
    _patch_torch()
    _patch_torchaudio()
    hub = LazyHub("s3prl.hub", "s3prl's upstreams by name, imported one by one.")
    sys.meta_path[:0] = [_Ready(hub), _PatchingFinder()]
    for name, module in list(sys.modules.items()):
        if _is_patched(name) and module is not hub:
            _patch(module)


class _Ready(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports a module that exists already, under its own name."""

    def __init__(self, module: types.ModuleType):
        self.module = module

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        ours = fullname == self.module.__name__
        return importlib.machinery.ModuleSpec(fullname, self) if ours else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return self.module

    def exec_module(self, module: types.ModuleType) -> None:
        pass


# ------------------------------------------------------------------ torch and torchaudio


def _patch_torch() -> None:
    try:
        import torch
    except ModuleNotFoundError:
        raise UserError("torch is not installed. Run: pip install torch torchaudio") from None
    torch.serialization.add_safe_globals([argparse.Namespace])
    os.environ.pop("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", None)
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"  # torch's own switch; child processes inherit it
    os.environ["USE_HUB_KERNELS"] = "NO"


def _patch_torchaudio() -> None:
    torchaudio = _import_torchaudio()
    if not hasattr(torchaudio, "set_audio_backend"):
        torchaudio.set_audio_backend = lambda backend=None: None
    if not hasattr(torchaudio, "sox_effects"):
        names = [f"torchaudio.sox_effects.{name}" for name in ("apply_effects_tensor", "apply_effects_file")]
        torchaudio.sox_effects = sys.modules["torchaudio.sox_effects"] = types.ModuleType("torchaudio.sox_effects")
        vars(torchaudio.sox_effects).update({n.rpartition(".")[2]: stand_ins.gone(n, "torchaudio<2.9") for n in names})
    if not hasattr(torchaudio, "info"):
        torchaudio.info = stand_ins.soundfile_info
        torchaudio.load = stand_ins.with_soundfile_fallback(torchaudio.load)


def _import_torchaudio() -> Any:
    """torchaudio, without its native part if that cannot be loaded; s3prl needs only what is pure Python."""
    try:
        return importlib.import_module("torchaudio")
    except ModuleNotFoundError as error:
        if error.name != "torchaudio":
            raise
        raise UserError("torchaudio is not installed. Run: pip install torchaudio") from None
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


# ------------------------------------------------------------------ modules that are patched as they are imported


def _patch_huggingface_hub(module: Any) -> None:
    for name in ("HfFolder", "Repository"):
        if not hasattr(module, name):
            gone = stand_ins.gone(f"huggingface_hub.{name}", "huggingface_hub<1.0")
            body = {"__init__": gone, "save_token": staticmethod(gone), "get_token": staticmethod(gone)}
            setattr(module, name, type(name, (), body))


def _patch_runner(module: Any) -> None:
    evaluate = module.Runner.evaluate

    @functools.wraps(evaluate)
    def evaluate_where_it_runs(self: Any, *args: Any, **kwargs: Any) -> Any:
        import torch

        hidden = replaced(torch.cuda, "is_available", lambda: False)
        with contextlib.nullcontext() if str(self.args.device).startswith("cuda") else hidden:
            return evaluate(self, *args, **kwargs)

    module.Runner.evaluate = evaluate_where_it_runs


def _patch_helper(module: Any) -> None:
    from s3prl_metaperser.config.override import apply_override, parse_override

    def override(string: str, args: argparse.Namespace, config: dict) -> None:
        apply_override(string, args, config, strict_config=False)
        for path, value in parse_override(string):
            print(f"[Override] - {'.'.join(path)} = {value!r}", file=sys.stderr)

    module.override = override
    module.hack_isinstance = lambda: None


def _patch_download(module: Any) -> None:
    module._download = module.download = download.fetch


#: module -> what is done to it once it is imported; every module of s3prl is guarded besides
_PATCHES: dict[str, Callable[[Any], None]] = {
    "huggingface_hub": _patch_huggingface_hub,
    "s3prl.downstream.runner": _patch_runner,
    "s3prl.utility.helper": _patch_helper,
    "s3prl.util.download": _patch_download,
}


def _is_patched(name: str) -> bool:
    return name in _PATCHES or name.startswith("s3prl.")


def _patch(module: types.ModuleType) -> None:
    if patch := _PATCHES.get(module.__name__):
        patch(module)
    if module.__name__.startswith("s3prl."):
        guards.after_import(module)


class _PatchingLoader(importlib.abc.Loader):
    """Runs a module's own loader and patches the module; all else is the own loader's."""

    def __init__(self, inner: Any):
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> Any:
        return self._inner.create_module(spec)

    def exec_module(self, module: types.ModuleType) -> None:
        if module.__name__.startswith("s3prl."):
            guards.before_import(module)
        self._inner.exec_module(module)
        _patch(module)


class _PatchingFinder(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        if not _is_patched(fullname):
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _PatchingLoader(spec.loader)
        return spec


def set_download_dir(folder: str | Path) -> None:
    """Keep what s3prl and torch.hub download in ``folder``; to be called after :func:`apply`.

    s3prl's own launcher sets only torch.hub's folder by ``--cache_dir``, where few upstreams look.
    """
    import torch
    from s3prl.util import download as s3prl_download

    torch.hub.set_dir(str(folder))
    s3prl_download.set_dir(folder)
