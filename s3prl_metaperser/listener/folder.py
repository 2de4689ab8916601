"""A model folder: ``model.safetensors`` and ``card.json``, and nothing else. docs/listener.md explains the card's keys.

Exported models and adapted listeners have the same form. A folder is written whole or not at all; reading it executes
nothing, and a file that is not the one its card speaks of is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s3prl_metaperser.errors import UserError, shown
from s3prl_metaperser.storage.disk import new_folder, umask, writing
from s3prl_metaperser.storage.hashing import file_hash

if TYPE_CHECKING:
    import torch

SCHEMA = 1
#: Names of the tensors beside the parameters.
RATES, MEAN, SCALE = "inner_rates", "preprocessing.mean", "preprocessing.scale"
TENSORS, CARD = "model.safetensors", "card.json"
KEYS = (
    *("schema", "kind", "system", "scope", "classes", "upstream", "adaptation", "options", "training", "metrics"),
    *("licences", "versions", "parameters", "sha256", "listener"),
)
KINDS = ("model", "listener")
#: What the values of a card must be where more than a message depends on them.
VALUES: dict[str, dict[str, type | tuple[type, ...]]] = {
    "": {"classes": list, "parameters": list, "upstream": dict, "adaptation": dict, "options": dict, "training": dict},
    "upstream": {
        **{
            "name": str,
            "selection": str,
            "layer": (int, type(None)),
            "normalize": bool,
            "dtype": str,
            "precision": str,
        },
        **{"layers": int, "features": int, "standardized": bool},
    },
    "adaptation": {"class_weights": list},
}


@dataclass(frozen=True)
class ModelFolder:
    """What a model folder holds.

    Attributes:
        path: where it was read from.
        card: of ``card.json``.
        tensors: of ``model.safetensors``, by name.
    """

    path: Path
    card: dict[str, Any]
    tensors: dict[str, torch.Tensor]


def check_new(out: Path) -> None:
    """Raise a UserError unless ``out`` may become a folder: it does not exist, or is an empty folder."""
    if out.is_dir() and not out.is_symlink():
        if any(out.iterdir()):
            raise UserError(f"--out {out}: the folder is not empty. Name a new one; nothing is overwritten.")
    elif out.exists() or out.is_symlink():
        raise UserError(f"--out {out}: that is a file. Name a new folder.")


def write_folder(out: Path, card: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> Path:
    """Write a model folder, whole or not at all; ``sha256`` is added to the card.

    Raises:
        UserError: ``out`` is not new or empty, or cannot be written.
    """
    from safetensors.torch import save_file

    check_new(out)
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        with new_folder(out) as partial:
            save_file(
                {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}, partial / TENSORS
            )
            content = {**card, "sha256": file_hash(partial / TENSORS)}
            text = json.dumps({key: content[key] for key in KEYS}, ensure_ascii=False, allow_nan=False, indent=1)
            (partial / CARD).write_text(text + "\n", encoding="utf-8")
            for path, mode in ((partial / TENSORS, 0o666), (partial / CARD, 0o666), (partial, 0o777)):
                os.chmod(path, mode & ~umask())
            if out.is_dir():
                out.rmdir()  # empty, as checked; elsewhere than on POSIX nothing can be renamed onto a folder
            os.rename(partial, out)
    return out


def read_folder(path: Path) -> ModelFolder:
    """Read a model folder.

    Raises:
        UserError: not a model folder, of another schema, or files that do not belong together.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    card = read_card(path)
    try:
        found = file_hash(path / TENSORS)
        if found != card["sha256"]:
            raise UserError(
                f"{path / TENSORS} has SHA-256 {found}, but {CARD} speaks of {card['sha256']}: the file was changed or "
                "is damaged. Copy the folder again, or export it again."
            )
        tensors = load_file(path / TENSORS)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path / TENSORS} cannot be read ({error}). Copy the folder again.") from None
    return ModelFolder(path, card, tensors)


def read_card(path: Path) -> dict[str, Any]:
    """The card of a model folder, its keys checked.

    Raises:
        UserError: see :func:`read_folder`.
    """
    if not path.is_dir():
        raise UserError(f"{path}: there is no such model folder. `metaperser export EXPDIR --out {path}` makes one.")
    if not (path / CARD).is_file():
        trained = any(path.glob("*.ckpt"))
        hint = f"Export it first: metaperser export {path} --out MODEL" if trained else "Name a folder that has one."
        what = "that is an experiment folder, not a model folder" if trained else "no model folder, it has no card.json"
        raise UserError(f"{path}: {what}. {hint}")
    try:
        card = json.loads((path / CARD).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path / CARD} cannot be read ({error}).") from None
    schema = card.get("schema") if isinstance(card, dict) else None
    if schema != SCHEMA:
        raise UserError(f"{path / CARD} has schema {schema!r}, this version reads {SCHEMA}. Export the model again.")
    missing = [key for key in KEYS if key not in card]
    if missing or card["kind"] not in KINDS:
        fault = f"has no {missing[0]!r}" if missing else f"has kind {card['kind']!r}, expected model or listener"
        raise UserError(f"{path / CARD} {fault}. It was edited; export the model again.")
    if (fault := _unlike(card)) is not None:
        raise UserError(
            f"{path / CARD} {fault}. It was edited or is damaged; copy the folder or export the model again."
        )
    return card


def _unlike(card: Mapping[str, Any]) -> str | None:
    """Which value of a card is not of its kind, in words."""
    for section, kinds in VALUES.items():
        part = card[section] if section else card
        for key, kind in kinds.items():
            if not isinstance(part.get(key), kind):
                return f"has {shown(part.get(key))} as {f'{section}.{key}' if section else key}"
    for key in ("classes", "parameters"):
        if not all(isinstance(name, str) for name in card[key]):
            return f"has something other than names in {key}"
    if card["upstream"]["dtype"] not in ("float32", "float16"):
        return f"has {shown(card['upstream']['dtype'])} as upstream.dtype"
    return None if card["scope"] in ("frozen", "finetuned") else f"has {shown(card['scope'])} as scope"


def tensor_hash(tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over names, types, shapes and values."""
    import torch

    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
