"""Upstreams by s3prl's hub names: check a name, build an upstream, hash its weights."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import TYPE_CHECKING

from s3prl_metaperser.config.yaml_files import YAML_1_1, read_yaml
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.s3prl_stack.download import DownloadFailed
from s3prl_metaperser.s3prl_stack.hub_index import (
    bundled_configs,
    check_upstream,
    checkpoint_urls,
    download_folder,
    download_name,
    hub_index,
    load_upstream_config,
    s3prl_folder,
    s3prl_version,
    upstream_names,
)
from s3prl_metaperser.s3prl_stack.weights_files import (
    check_files,
    check_pretrained_folder,
    defining_files,
    pretrained_folder,
    with_local_way,
)
from s3prl_metaperser.storage.hashing import file_hash

__all__ = [
    "build_upstream",
    "check_upstream",
    "checkpoint_hash",
    "checkpoint_urls",
    "explain_failure",
    "load_upstream_config",
    "upstream_names",
]

if TYPE_CHECKING:
    import torch

_LOADING_ERRORS = (
    *(KeyError, ValueError, TypeError, RuntimeError, AttributeError, AssertionError),
    *(EOFError, OSError, IndexError, OverflowError, pickle.UnpicklingError),
)


def build_upstream(
    name: str, ckpt: str | None = None, model_config: str | None = None, refresh: bool = False, device: str = "cpu"
) -> torch.nn.Module:
    """Construct an upstream through s3prl's hub, as s3prl's own runner does.

    Random states are unchanged. Nothing in a checkpoint is executed. It is built twice, so that weights that come
    from no file are noticed (:mod:`.whole_weights`).

    Args:
        name: its name in the hub.
        ckpt: ``-k``, a checkpoint file, folder or address for the upstreams that need one.
        model_config: ``-g``, a configuration file for the upstreams that need one.
        refresh: ``-r``, download again what is in the cache.
        device: where it goes ("cpu", "cuda", ...).

    Raises:
        UserError: the name is unknown, an option is missing, a file does not exist, is not what this upstream loads
            or does not hold all of its weights, a download failed, or a Python package is missing; the message says
            what to do.
    """
    check_upstream(name)
    check_files(name, ckpt, model_config)
    from s3prl_metaperser.s3prl_stack import compat

    compat.apply()
    from s3prl import hub

    from s3prl_metaperser.s3prl_stack.whole_weights import whole

    if name.startswith("hf_") and ckpt:
        ckpt = pretrained_folder(ckpt)
        check_pretrained_folder(name, ckpt)  # the snapshot of a repository, too
    urls = checkpoint_urls(name)
    file = ckpt or (str(download_folder() / download_name(urls[0])) if urls else "")
    anew = iter((refresh,))  # the second time it is there
    try:
        make = getattr(hub, name)
        upstream = whole(lambda: make(ckpt=ckpt, model_config=model_config, refresh=next(anew, False)), name, file)
    except Exception as error:
        raise explain_failure(error, name, ckpt) from error
    return upstream.to(device)


def explain_failure(error: Exception, name: str, ckpt: str | None) -> Exception:
    """The error to show for an ``error`` raised while upstream ``name`` was constructed from ``ckpt``.

    Returns:
        a UserError, or ``error`` itself where neither the input nor the machine is at fault.
    """
    if isinstance(error, DownloadFailed):
        return with_local_way(error, name)
    if isinstance(error, ModuleNotFoundError):
        return UserError(f"-u {name} needs the Python package {error.name!r}. Run: pip install {error.name}")
    refused = type(error).__module__.startswith("huggingface_hub")  # values of a configuration
    if isinstance(error, UserError) or not (refused or isinstance(error, _LOADING_ERRORS)):
        return error
    urls = checkpoint_urls(name)
    if not ckpt and not urls:
        return error
    file = ckpt or str(download_folder() / download_name(urls[0]))
    message = f"-u {name}: cannot load {file} ({_first_line(error)})."
    if isinstance(error, pickle.UnpicklingError):
        message += " It contains more than tensors and plain data; such files are not opened, as they can run code."
    convert = s3prl_folder().joinpath(*hub_index()[name].module.split(".")[1:-1], "convert.py")
    if urls:
        message += " If it is damaged, download it again with -r."
    elif convert.is_file():
        module = hub_index()[name].module.replace("hubconf", "convert")
        message += (
            " If it is a raw fairseq checkpoint, first convert it on a machine with fairseq: "
            f"python -m {module} {file} --output_dir FOLDER"
        )
    return UserError(message)


def _first_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:160]}{'...' if len(text) > 160 else ''}"


def checkpoint_hash(name: str, ckpt: str | None = None, model_config: str | None = None) -> str:
    """A SHA-256 that says which upstream this is, to be kept with the features it made.

    For an upstream that is one checkpoint file this is the file's own SHA-256 (what ``sha256sum`` prints); a
    file that s3prl would download is downloaded if it is missing. For a Hugging Face folder, an upstream
    with a model configuration, or one without learned weights it covers every file by name and content, and
    s3prl's version.

    Raises:
        UserError: as :func:`build_upstream`, for what is known without building it.
    """
    check_upstream(name)
    files = defining_files(name, ckpt, model_config)
    if len(files) == 1 and (ckpt or checkpoint_urls(name)):
        return file_hash(files[0])
    digest = hashlib.sha256(f"{name} s3prl {s3prl_version()}\n".encode())
    for file in files:
        digest.update(f"{file.name} {file_hash(file)}\n".encode())
    return digest.hexdigest()


def removes_the_mean(name: str, model_config: str | None = None) -> bool:
    """Whether this upstream's settings normalise every utterance to zero mean over time (``cmvn``).

    Mean pooling then leaves nothing but a residue of the frames cut at the end.
    """
    for path in [Path(model_config)] if model_config else bundled_configs(name):
        settings = read_yaml(path, rules=YAML_1_1)
        sections = [settings.get(key) for key in ("cmvn", "input")] if isinstance(settings, dict) else []
        flags = [section.get(key) for section in sections if isinstance(section, dict) for key in ("use_cmvn", "cmvn")]
        if True in flags:
            return True
    return False
