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
from s3prl_metaperser.errors import UserError, one_line
from s3prl_metaperser.storage.locks import trial
from s3prl_metaperser.storage.paths import cache_root

PACKAGE = "s3prl-metaperser"
REINSTALL = f"pip install --force-reinstall -c constraints.txt {PACKAGE}"
#: extra -> (its module, what needs it)
EXTRAS = {
    "demo": ("parselmouth", "demo corpus"),
    "report": ("matplotlib", "report"),
    "listener": ("pandas", "predictions as a DataFrame"),
    "grid": ("snakemake", "grids through Snakemake"),
}
#: Free space below which there is a note, in bytes.
LITTLE = 2 * 10**9
#: Whatever other packages can add to.
REGISTRIES = (
    *("corpora:CORPORA", "corpora.label_sets:LABEL_SETS", "methods:SYSTEMS", "methods:FINETUNED_SYSTEMS"),
    *("methods:OUTPUTS", "evaluation.metrics:METRICS", "tasks:TASKS"),
)
WORDS = {"works": "works ", "note": "note  ", "broken": "BROKEN"}


@dataclass(frozen=True)
class Finding:
    """The outcome of one check.

    Attributes:
        state: ``works``, ``note`` (worth knowing; nothing is wrong) or ``broken``.
        detail: what was found.
        fix: what to do; may be empty.
    """

    name: str
    state: Literal["works", "note", "broken"]
    detail: str
    fix: str = ""

    def __str__(self) -> str:
        return f"{WORDS[self.state]} {self.name}: {self.detail}" + (f"\n       -> {self.fix}" if self.fix else "")


def examine() -> list[Finding]:
    """Run every check; a check that fails is a finding, never an exception."""
    found = []
    looks = [_python, _packages, _plugins, _torch, _torchaudio, _patched, _hub]
    looks += [_features, _devices, _threads, _disk, _extras]
    for look in looks:
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
    """One line per finding, and what to do."""
    broken = sum(finding.state == "broken" for finding in found)
    last = f"{broken} of {len(found)} checks failed" if broken else f"all {len(found)} passed; no network was used"
    return "\n".join([f"s3prl_metaperser {s3prl_metaperser.__version__}", *map(str, found), last])


def _guarded(look: Callable[[], Iterator[Finding]]) -> list[Finding]:
    found: list[Finding] = []
    try:
        for finding in look():
            found.append(finding)
    except UserError as error:
        found.append(Finding(look.__name__.strip("_"), "broken", str(error)))
    except Exception as error:
        text = f"{type(error).__name__}: {one_line(error)}"
        found.append(Finding(look.__name__.strip("_"), "broken", text, REINSTALL))
    return found


def _checked(name: str, fine: bool, detail: str, fix: str = REINSTALL) -> Finding:
    """``works``, or ``broken`` with the fix."""
    return Finding(name, "works", detail) if fine else Finding(name, "broken", detail, fix)


# ------------------------------------------------------------------ packages


def _python() -> Iterator[Finding]:
    text = f"{platform.python_version()}, {platform.platform()}"
    yield _checked("Python", sys.version_info >= (3, 11), text, "Use Python 3.11 or newer.")


def _packages() -> Iterator[Finding]:
    """The versions of all requirements in setup.cfg."""
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
            installed = version(requirement.name)
        except PackageNotFoundError:
            yield Finding(requirement.name, "broken", "not installed", f'pip install "{requirement}"')
            continue
        if requirement.specifier.contains(installed, prereleases=True):
            right.append(f"{requirement.name} {installed}")
        else:
            detail = f"{installed} is installed, but {requirement.specifier} is required"
            yield Finding(requirement.name, "broken", detail, f'pip install "{requirement}"')
    yield Finding("packages", "works", ", ".join(right))


def _plugins() -> Iterator[Finding]:
    """What other packages add; two things of one name are an error of whatever asks for names."""
    for where in REGISTRIES:
        module, _, attribute = where.partition(":")
        registry = getattr(importlib.import_module(f"s3prl_metaperser.{module}"), attribute)
        name = f"{registry.kind}: plug-ins"
        try:
            others = registry.additions()
        except UserError as error:
            yield Finding(name, "broken", str(error))
            continue
        if others:
            yield Finding(name, "works", ", ".join(f"{added} (of {package})" for added, package in others.items()))


def _torch() -> Iterator[Finding]:
    import torch

    found = float((torch.ones(3, requires_grad=True) ** 2).sum().detach())
    yield _checked("torch", found == 3, torch.__version__)


def _torchaudio() -> Iterator[Finding]:
    from s3prl_metaperser.s3prl_stack import compat

    compat.apply()
    import torch
    import torchaudio

    waves = torch.sin(torch.arange(1600) / 8)[None]
    shape = tuple(torchaudio.compliance.kaldi.fbank(waves, num_mel_bins=80).shape)
    yield _checked("torchaudio", shape == (8, 80), torchaudio.__version__)


def _patched() -> Iterator[Finding]:
    """What :mod:`.compat` patched, and whether s3prl's runner can be imported."""
    from s3prl_metaperser.s3prl_stack import compat, stand_ins
    from s3prl_metaperser.s3prl_stack.hub_index import s3prl_folder

    compat.apply()
    import huggingface_hub
    import torchaudio

    importlib.import_module("s3prl.downstream.runner")
    patched = []
    if getattr(torchaudio, "info", None) is stand_ins.soundfile_info:
        patched.append("torchaudio.info is missing and torchaudio.load needs torchcodec: both use soundfile")
    if getattr(sys.modules.get("torchaudio.sox_effects"), "__file__", None) is None:
        patched.append("torchaudio.sox_effects is missing: a stub, since s3prl imports it")
    gone = [n for n in ("HfFolder", "Repository") if getattr(huggingface_hub, n).__module__ == compat.__name__]
    if gone:
        patched.append(f"huggingface_hub.{' and '.join(gone)} missing: stubs, since s3prl's runner imports them")
    patched.append("torch.load: loads only tensors and plain data")
    detail = f"{version('s3prl')}; its runner imports ({s3prl_folder()}). Patched: {'; '.join(patched)}"
    yield Finding("s3prl", "works", detail)


# ------------------------------------------------------------------ upstreams


def _hub() -> Iterator[Finding]:
    from s3prl_metaperser.s3prl_stack.hub_index import checkpoint_urls, download_folder, download_name, upstream_names

    names = upstream_names()
    yield _checked("upstreams", bool(names), f"{len(names)} in s3prl's hub")
    for name in ("wavlm_base", "hubert_base", "wav2vec2_base_960"):
        files = [download_folder() / download_name(url) for url in checkpoint_urls(name)]
        if stored := next((file for file in files if file.is_file()), None):
            yield Finding(name, "works", f"downloaded: {stored}")
        else:
            yield Finding(name, "note", f"not downloaded yet; -u {name} downloads it to {files[0]}")


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
    yield _checked("features", fine, f"fbank_no_cmvn of one second: {shape}")


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
        yield Finding("CUDA", "note", f"{why}: the CPU is used, which suits frozen upstreams; -f is slow on it")
    if torch.backends.mps.is_available():
        yield Finding("MPS", "note", "available but not used: s3prl's upstreams are untested on it")


def _threads() -> Iterator[Finding]:
    import torch

    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    takes = f"torch's default is {torch.get_num_threads()} threads, a run uses runner.threads (1)"
    yield Finding("cores", "works", f"{usable} usable of {os.cpu_count()}; {takes}")


def _disk() -> Iterator[Finding]:
    places = {"cache": (cache_root(), "METAPERSER_CACHE or datarc.cache_dir"), "here": (Path.cwd(), "-p")}
    for name, (folder, setting) in places.items():
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        free = shutil.disk_usage(existing).free
        text = f"{folder}, {free / 1e9:.1f} GB free"
        try:
            with tempfile.TemporaryFile(dir=existing) as file:
                file.write(b"0" * 4096)
        except OSError as error:
            yield Finding(
                name, "broken", f"cannot write {folder} ({error.strerror})", f"Choose another location: {setting}."
            )
            continue
        if why := trial(existing):
            fix = f"Start one process at a time there, or choose another location: {setting}."
            yield Finding(name, "note", f"{text}, no locks ({why})", fix)
        elif free < LITTLE:
            yield Finding(name, "note", text, f"Little space left. Choose another location: {setting}.")
        else:
            yield Finding(name, "works", f"{text}, locks work")


def _extras() -> Iterator[Finding]:
    for extra, (module, use) in EXTRAS.items():
        if importlib.util.find_spec(module) is None:
            yield Finding(module, "note", f"not installed; needed for: {use}", f"pip install '{PACKAGE}[{extra}]'")
        else:
            yield Finding(module, "works", f"installed, for: {use}")
