"""The files behind an upstream: found and checked before s3prl loads them."""

from __future__ import annotations

import itertools
import os
import re
from pathlib import Path
from typing import Any

from s3prl_metaperser.errors import UserError, shown
from s3prl_metaperser.s3prl_stack.download import CONNECT_SECONDS, DownloadFailed, fetch
from s3prl_metaperser.s3prl_stack.hub_index import (
    RATE,
    bundled_configs,
    checkpoint_urls,
    download_folder,
    download_name,
    hub_index,
)
from s3prl_metaperser.storage.json_files import read_json

_REPOSITORY = re.compile(r"^[A-Za-z0-9][\w.-]*(/[\w.-]+)?$")
_WEIGHTS = (".safetensors", ".bin")
_SETTINGS = ("config.json", "preprocessor_config.json")
_ADAPTER = "adapter_config.json"


def is_address(text: str | None) -> bool:
    """Whether ``-k`` is an address and not a file."""
    return str(text or "").startswith(("http://", "https://"))


def check_files(name: str, ckpt: str | None, model_config: str | None) -> None:
    """Check what was given after ``-k`` and ``-g`` for upstream ``name``, without loading anything.

    Raises:
        UserError: something that this upstream needs is missing, does not exist, is of the wrong kind, or
            would be ignored; the message says which option to give.
    """
    entry = hub_index()[name]
    if model_config and not Path(model_config).is_file():
        raise UserError(f"-g {model_config}: file not found.")
    if entry.needs == "model_config" and not model_config:
        raise UserError(f"-u {name} needs a configuration: add -g FILE (a YAML file as in s3prl's upstream/baseline).")
    if entry.needs != "ckpt":
        if ckpt and checkpoint_urls(name):
            way = local_way(name, ckpt)
            raise UserError(f"-u {name} downloads its own checkpoint and would ignore -k {ckpt}.{way}")
        if ckpt and not is_address(ckpt) and not Path(ckpt).exists():
            raise UserError(f"-k {ckpt}: file not found.")
    elif not ckpt:
        what = "FOLDER (made by save_pretrained) or a repository's name" if name.startswith("hf_") else "FILE"
        what = f"FILE. {entry.summary}" if entry.own else what
        raise UserError(f"-u {name} needs a checkpoint: add -k {what}.")
    elif name.startswith("hf_"):
        check_pretrained_folder(name, ckpt)
    elif entry.own:
        if not Path(ckpt).exists():
            raise UserError(f"-k {ckpt}: there is no such file or folder.")
    elif is_address(ckpt):
        if name.endswith("_local") and f"{name.removesuffix('_local')}_custom" not in hub_index():
            raise UserError(f"-u {name} takes a file, not the URL {ckpt}; use -u {name[:-5]}url.")
    elif name.endswith("_url"):
        raise UserError(f"-u {name} takes a URL, not {ckpt}.{local_way(name, ckpt)}")
    elif not Path(ckpt).is_file():
        kind = "this is a folder, not a checkpoint file" if Path(ckpt).is_dir() else "file not found"
        raise UserError(f"-k {ckpt}: {kind}.")


def local_name(name: str) -> str | None:
    """The upstream of the same family that loads a file (``wavlm_base`` -> ``wavlm_local``), if any."""
    index = hub_index()
    family = [other for other in index if index[other].module == index[name].module]
    for ending in ("_local", "_custom"):
        found = [other for other in family if other.endswith(ending)]
        if found:
            return max(found, key=lambda other: _shared_letters(other, name))
    return None


def _shared_letters(one: str, other: str) -> int:
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def local_way(name: str, file: str = "FILE") -> str:
    """`` To load your own file: -u wavlm_local -k FILE.``, or nothing for a family without that."""
    local = local_name(name)
    return f" To load your own file: -u {local} -k {file}." if local else ""


def check_pretrained_folder(name: str, ckpt: str) -> None:
    """Check the folder or repository name given to the ``hf_*_custom`` upstream ``name``.

    s3prl silently takes another model's feature extractor, over the network, where
    ``preprocessor_config.json`` is missing; so that file is asked for.

    Raises:
        UserError: no such folder, one of its files is missing, or it holds a model of another architecture or for
            another sampling rate.
    """
    folder = Path(ckpt)
    if not folder.is_dir():
        if folder.exists() or not _REPOSITORY.match(ckpt):
            raise UserError(f"-k {ckpt}: folder not found. Give one written by save_pretrained.")
        return
    missing = [file for file in _SETTINGS if not (folder / file).is_file()]
    if missing:
        raise UserError(
            f"-k {ckpt}: the folder has no {' and no '.join(missing)}. Save the model and its "
            "Wav2Vec2FeatureExtractor there with save_pretrained."
        )
    if not any(file.suffix in _WEIGHTS for file in folder.iterdir()):
        raise UserError(f"-k {ckpt}: the folder has no weights (*.safetensors or *.bin).")
    settings = [
        _safe_settings(folder / file) for file in (*_SETTINGS, *sorted(f.name for f in folder.glob("*.index.json")))
    ]
    _check_fits(name, folder, *settings[:2])


def _check_fits(name: str, folder: Path, config: dict[str, Any], extractor: dict[str, Any]) -> None:
    """What transformers or s3prl would pass over: another architecture, another sampling rate, an adapter beside."""
    wanted, found = name.removeprefix("hf_").removesuffix("_custom"), config.get("model_type", "")
    if found and found != wanted:
        other = f"hf_{found}_custom"
        way = f"Use -u {other}." if other in hub_index() else "s3prl's hub has no upstream for it."
        raise UserError(
            f"-u {name}: {folder / _SETTINGS[0]} describes a model of type {shown(found)}, not {wanted}. {way}"
        )
    rate = extractor.get("sampling_rate", RATE)
    if rate != RATE:
        raise UserError(
            f"{folder / _SETTINGS[1]} says sampling_rate {shown(rate)}: the model was trained on audio at another rate "
            f"than {RATE} Hz, which is what upstreams get here. Choose one for {RATE} Hz."
        )
    if (folder / _ADAPTER).is_file():
        raise UserError(
            f"-k {folder}: {_ADAPTER} is an adapter beside the weights, which is added only where the package peft is "
            "installed. Merge it into the weights (merge_and_unload), save the model with save_pretrained, and give "
            "that folder."
        )


def read_settings(file: Path) -> dict[str, Any]:
    """A configuration beside weights.

    Raises:
        UserError: it cannot be read, or holds no keys and values.
    """
    try:
        settings = read_json(file)
    except (OSError, ValueError) as error:
        raise UserError(f"Cannot read {file} as JSON ({shown(str(error))}). Copy it again.") from None
    if not isinstance(settings, dict):
        raise UserError(f"{file} holds no settings: expected keys and values. Copy it again.")
    return settings


def _safe_settings(file: Path) -> dict[str, Any]:
    """A configuration, which could make transformers fetch classes or kernels and run them."""
    settings = read_settings(file)
    for key, value in settings.items():
        if key in ("auto_map", "custom_pipelines") or ("attn_implementation" in key and "/" in str(value)):
            raise UserError(
                f"{file}: the key {key!r} names code that would be downloaded and run. Such models are not loaded."
            )
    return settings


def pretrained_folder(ckpt: str) -> str:
    """The folder to load for ``-k`` of a ``hf_*_custom`` upstream: itself, or a repository's cached snapshot.

    A repository that is not in the Hugging Face cache is returned by name, for transformers to fetch, after
    one request has shown that it can be reached.

    Raises:
        UserError: the repository is not in the cache and cannot be reached, or has no feature extractor.
    """
    if Path(ckpt).is_dir():
        return ckpt
    import huggingface_hub
    import requests

    looked_for = [huggingface_hub.try_to_load_from_cache(ckpt, file) for file in _SETTINGS]
    cached = [file for file in looked_for if isinstance(file, str)]
    if len(cached) == len(_SETTINGS):
        folder = Path(cached[0]).parent
        if any(file.suffix in _WEIGHTS for file in folder.iterdir()):
            return str(folder)
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    url = f"{endpoint}/{ckpt}/resolve/main/preprocessor_config.json"
    try:
        answer = requests.head(url, timeout=CONNECT_SECONDS, allow_redirects=True)
    except OSError as error:
        raise _unreachable(ckpt, url, type(error).__name__) from error
    if answer.status_code != 200:
        raise _unreachable(ckpt, url, f"HTTP {answer.status_code}")
    return ckpt


def _unreachable(ckpt: str, url: str, reason: str) -> UserError:
    return UserError(
        f"-k {ckpt}: folder not found, and {url} cannot be read ({reason}). Give a folder that contains "
        "the model and its feature extractor, both written by save_pretrained."
    )


def defining_files(name: str, ckpt: str | None, model_config: str | None) -> list[Path]:
    """The files that decide what upstream ``name`` computes, fetched first where they are downloads.

    Returns:
        the checkpoint (or the configuration and weights in a Hugging Face folder), or for an upstream without
        learned weights the YAML files that ship with s3prl; then ``model_config`` if given.

    Raises:
        UserError: see :func:`check_files`.
        DownloadFailed: a file has to be fetched and cannot be.
    """
    check_files(name, ckpt, model_config)
    urls = checkpoint_urls(name) or ([str(ckpt)] if is_address(ckpt) else [])
    if urls:
        files = [download_folder() / download_name(url) for url in urls]
        if not any(file.is_file() for file in files):
            try:
                for file, url in zip(files, urls, strict=True):
                    fetch(file, url)
            except DownloadFailed as error:
                raise with_local_way(error, name) from error
        files = [file for file in files if file.is_file()]
    elif not ckpt:
        files = bundled_configs(name)
    elif Path(folder := pretrained_folder(ckpt) if name.startswith("hf_") else ckpt).is_dir():
        files = sorted(f for f in Path(folder).iterdir() if f.suffix in (".json", *_WEIGHTS) and f.is_file())
    else:
        files = [Path(ckpt)]
    return [*files, Path(model_config)] if model_config else files


def with_local_way(error: DownloadFailed, name: str) -> UserError:
    """``error`` with the way to load upstream ``name`` from a file, if its family has one."""
    return UserError(f"-u {name}: {error}{local_way(name)}")
