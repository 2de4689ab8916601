"""``metaperser doctor``: check this installation and suggest fixes. No network is used."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import os
import platform
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any, Literal

import s3prl_metaperser
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.storage.paths import cache_root

PACKAGE = "s3prl-metaperser"
#: extra -> (the module that it brings, what needs it)
EXTRAS = {
    "demo": ("parselmouth", "demo corpus"),
    "report": ("matplotlib", "report"),
    "listener": ("pandas", "predictions as a DataFrame"),
    "grid": ("snakemake", "grids through Snakemake"),
}
#: Less than this is little for features and checkpoints, in bytes.
LITTLE = 2 * 10**9
WORDS = {"works": "works ", "note": "note  ", "broken": "BROKEN"}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        state: ``works``, ``note`` (worth knowing; nothing is wrong) or ``broken``.
        detail: what was found.
        fix: what to do; empty where there is nothing to do.
    """

    name: str
    state: Literal["works", "note", "broken"]
    detail: str
    fix: str = ""

    def __str__(self) -> str:
        return f"{WORDS[self.state]} {self.name}: {self.detail}" + (f"\n       -> {self.fix}" if self.fix else "")


def examine() -> list[Finding]:
    """Look at everything; what fails on the way is a finding, never an exception."""
    found = []
    for look in (
        _python,
        _packages,
        _torch,
        _torchaudio,
        _patched,
        _hub,
        _features,
        _devices,
        _threads,
        _disk,
        _extras,
    ):
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            found += _guarded(look)
    return found


def status(found: list[Finding]) -> int:
    """The exit status: 1 where something is broken."""
    return 1 if any(finding.state == "broken" for finding in found) else 0


def as_json(found: list[Finding]) -> dict[str, Any]:
    """As plain JSON values."""
    return {"version": s3prl_metaperser.__version__, "status": status(found), "found": [vars(f) for f in found]}


def as_text(found: list[Finding]) -> str:
    """A line each, and what to do."""
    broken = sum(finding.state == "broken" for finding in found)
    last = f"{broken} of {len(found)} are broken" if broken else f"all {len(found)} are fine; no network was used"
    return "\n".join([f"s3prl_metaperser {s3prl_metaperser.__version__}", *map(str, found), last])


def _guarded(look: Callable[[], Iterator[Finding]]) -> list[Finding]:
    found: list[Finding] = []
    try:
        for finding in look():
            found.append(finding)
    except UserError as error:
        found.append(Finding(look.__name__.strip("_"), "broken", str(error)))
    except Exception as error:
        text = " ".join(str(error).split())[:200]
        found.append(Finding(look.__name__.strip("_"), "broken", f"{type(error).__name__}: {text}", _reinstall()))
    return found


def _reinstall() -> str:
    return f"pip install --force-reinstall -c constraints.txt {PACKAGE}"


# ------------------------------------------------------------------ packages


def _python() -> Iterator[Finding]:
    text = f"{platform.python_version()}, {platform.platform()}"
    old = sys.version_info < (3, 11)
    yield Finding("Python", "broken" if old else "works", text, "Use Python 3.11 or newer." if old else "")


def _packages() -> Iterator[Finding]:
    """Everything that setup.cfg asks for, with its version."""
    from packaging.requirements import Requirement

    try:
        wanted = [Requirement(text) for text in requires(PACKAGE) or ()]
    except PackageNotFoundError:
        yield Finding("package", "note", f"{PACKAGE} is used from its source folder", "pip install -e .")
        return
    right = []
    for requirement in wanted:
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            there = version(requirement.name)
        except PackageNotFoundError:
            yield Finding(requirement.name, "broken", "is not installed", f'pip install "{requirement}"')
            continue
        if requirement.specifier.contains(there, prereleases=True):
            right.append(f"{requirement.name} {there}")
        else:
            detail = f"{there}, but {requirement.specifier} is needed"
            yield Finding(requirement.name, "broken", detail, f'pip install "{requirement}"')
    yield Finding("packages", "works", ", ".join(right))


def _torch() -> Iterator[Finding]:
    import torch

    found = float((torch.ones(3, requires_grad=True) ** 2).sum().detach())
    yield Finding("torch", "works" if found == 3 else "broken", torch.__version__, "" if found == 3 else _reinstall())


def _torchaudio() -> Iterator[Finding]:
    from s3prl_metaperser.s3prl_stack import compat

    compat.apply()
    import torch
    import torchaudio

    waves = torch.sin(torch.arange(1600) / 8)[None]
    shape = tuple(torchaudio.compliance.kaldi.fbank(waves, num_mel_bins=80).shape)
    fine = shape == (8, 80)
    yield Finding("torchaudio", "works" if fine else "broken", torchaudio.__version__, "" if fine else _reinstall())


def _patched() -> Iterator[Finding]:
    """What :mod:`.compat` had to patch, and whether s3prl's runner can be imported then."""
    from s3prl_metaperser.s3prl_stack import compat, stand_ins
    from s3prl_metaperser.s3prl_stack.hub_index import s3prl_folder

    compat.apply()
    import huggingface_hub
    import torchaudio

    importlib.import_module("s3prl.downstream.runner")
    patched = []
    if getattr(torchaudio, "info", None) is stand_ins.soundfile_info:
        patched.append("torchaudio without info and with a load that needs torchcodec: soundfile does both")
    if getattr(sys.modules.get("torchaudio.sox_effects"), "__file__", None) is None:
        patched.append("torchaudio without sox_effects: s3prl imports it, nothing here uses it")
    gone = [n for n in ("HfFolder", "Repository") if getattr(huggingface_hub, n).__module__ == compat.__name__]
    if gone:
        patched.append(f"huggingface_hub without {' and '.join(gone)}: s3prl's runner imports them")
    patched.append("torch.load: no file is unpickled that holds more than tensors and plain data")
    detail = f"{version('s3prl')}; its runner imports ({s3prl_folder()}). Patched: {'; '.join(patched)}"
    yield Finding("s3prl", "works", detail)


# ------------------------------------------------------------------ upstreams


def _hub() -> Iterator[Finding]:
    from s3prl_metaperser.s3prl_stack.hub_index import checkpoint_urls, download_folder, download_name, upstream_names

    names = upstream_names()
    yield Finding(
        "upstreams", "works" if names else "broken", f"{len(names)} in s3prl's hub", "" if names else _reinstall()
    )
    for name in ("wavlm_base", "hubert_base", "wav2vec2_base_960"):
        files = [download_folder() / download_name(url) for url in checkpoint_urls(name)]
        there = [file for file in files if file.is_file()]
        if there:
            yield Finding(name, "works", f"its checkpoint is here: {there[0]}")
        else:
            yield Finding(name, "note", f"is not downloaded; -u {name} fetches it, or looks for {files[0]}")


def _features() -> Iterator[Finding]:
    """``fbank_no_cmvn`` turns audio into features, in memory."""
    import torch

    from s3prl_metaperser.s3prl_stack.hub import build_upstream
    from s3prl_metaperser.upstream.batching import hidden_states

    upstream = build_upstream("fbank_no_cmvn").eval()
    with torch.no_grad():
        (states,) = hidden_states(upstream, [torch.sin(torch.arange(16000) / 8)], "hidden_states")
    fine = bool(torch.isfinite(states).all()) and float(states.std()) > 0
    shape = " x ".join(map(str, states.shape))
    yield Finding(
        "features", "works" if fine else "broken", f"fbank_no_cmvn of one second: {shape}", "" if fine else _reinstall()
    )


# ------------------------------------------------------------------ the machine


def _devices() -> Iterator[Finding]:
    import torch

    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            memory = torch.cuda.get_device_properties(index).total_memory
            _ = torch.ones(8, device=f"cuda:{index}").sum().item()
            yield Finding(f"cuda:{index}", "works", f"{torch.cuda.get_device_name(index)}, {memory / 1e9:.0f} GB")
    else:
        why = "torch is built without CUDA" if torch.version.cuda is None else "no GPU or no driver is found"
        yield Finding("CUDA", "note", f"{why}: runs are on the CPU. The frozen scope needs no more; -f is slow on it.")
    if torch.backends.mps.is_available():
        yield Finding("MPS", "note", "available but not used: s3prl's upstreams are untested on it")


def _threads() -> Iterator[Finding]:
    import torch

    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    takes = f"torch would take {torch.get_num_threads()}, a run takes runner.threads (1)"
    yield Finding("cores", "works", f"{usable} usable of {os.cpu_count()}; {takes}")


def _disk() -> Iterator[Finding]:
    places = {"cache": (cache_root(), "METAPERSER_CACHE or datarc.cache_dir"), "here": (Path.cwd(), "-p")}
    for name, (folder, setting) in places.items():
        there = next(path for path in (folder, *folder.parents) if path.exists())
        free = shutil.disk_usage(there).free
        text = f"{folder}, {free / 1e9:.1f} GB free"
        try:
            with tempfile.TemporaryFile(dir=there) as file:
                file.write(b"0" * 4096)
        except OSError as error:
            yield Finding(
                name, "broken", f"{folder} cannot be written ({error.strerror})", f"Choose another place: {setting}."
            )
            continue
        little = free < LITTLE
        yield Finding(
            name, "note" if little else "works", text, f"Little room; {setting} chooses another." if little else ""
        )


def _extras() -> Iterator[Finding]:
    for extra, (module, use) in EXTRAS.items():
        if importlib.util.find_spec(module) is None:
            yield Finding(module, "note", f"is not installed: no {use}", f"pip install '{PACKAGE}[{extra}]'")
        else:
            yield Finding(module, "works", f"installed: {use}")
