"""A model folder: ``model.safetensors`` and ``card.json``, and nothing else. docs/listener.md explains the card's keys.

Exported models and adapted listeners have the same form. A folder is written whole or not at all; reading it executes
nothing, and a file that is not the one that its card names is refused.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s3prl_metaperser.errors import UserError, shown
from s3prl_metaperser.listener.card import SCHEMA, Card
from s3prl_metaperser.storage.checkpoints import say_unchecked
from s3prl_metaperser.storage.disk import new_folder, writing
from s3prl_metaperser.storage.hashing import file_hash, text_hash
from s3prl_metaperser.storage.json_files import read_json
from s3prl_metaperser.storage.locks import beside, held

if TYPE_CHECKING:
    import torch

#: Names of the tensors beside the parameters.
RATES, MEAN, SCALE = "inner_rates", "preprocessing.mean", "preprocessing.scale"
#: Before the names of what says which clips are unlike those of the training (:class:`.Heard`).
HEARD = "heard."
#: Before the names of learned priors of output adaptations.
PRIORS = "output_priors."
TENSORS, CARD = "model.safetensors", "card.json"
#: The card's key for a checksum over its other keys.
CHECKSUM = "checksum"
#: Versions of the card that are read; :data:`.card.SCHEMA` is written.
READABLE = (1, SCHEMA)


@dataclass(frozen=True)
class ModelFolder:
    """What a model folder holds.

    Attributes:
        path: where it was read from.
        card: the content of ``card.json``.
        tensors: those of ``model.safetensors``, by name.
    """

    path: Path
    card: Card
    tensors: dict[str, torch.Tensor]


def check_new(out: Path) -> None:
    """Raise a UserError unless ``out`` may become a folder: it does not exist, or is an empty folder."""
    if out.is_dir() and not out.is_symlink():
        if any(out.iterdir()):
            raise UserError(f"--out {out}: the folder is not empty. Choose a new one; nothing is overwritten.")
    elif out.exists() or out.is_symlink():
        raise UserError(f"--out {out}: this is a file. Choose a new folder.")


def write_folder(out: Path, card: Card, tensors: Mapping[str, torch.Tensor]) -> Path:
    """Write a model folder, whole or not at all; the card's ``sha256`` is taken from the tensors as written.

    Raises:
        UserError: ``out`` is not new or empty, or cannot be written.
    """
    from safetensors.torch import save_file

    check_new(out)
    with writing(out), held(beside(out), f"--out {out}"):
        check_new(out)  # before the lock another process may have made it
        with new_folder(out) as partial:
            save_file(
                {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}, partial / TENSORS
            )
            content = dataclasses.replace(card, sha256=file_hash(partial / TENSORS)).as_json()
            content[CHECKSUM] = card_checksum(content)
            text = json.dumps(content, ensure_ascii=False, allow_nan=False, indent=1)
            (partial / CARD).write_text(text + "\n", encoding="utf-8")
            os.chmod(partial / TENSORS, (partial / CARD).stat().st_mode)  # safetensors hides it from others
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
        if found != card.sha256:
            raise UserError(
                f"{path / TENSORS} has SHA-256 {found}, but {CARD} names {card.sha256}: the file was changed or is "
                "damaged. Copy the folder again, or export it again."
            )
        tensors = load_file(path / TENSORS)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path / TENSORS} cannot be read ({error}). Copy the folder again.") from None
    _check_sizes(card, tensors, path / CARD)
    return ModelFolder(path, card, tensors)


def read_card(path: Path) -> Card:
    """The card of a model folder.

    Raises:
        UserError: see :func:`read_folder`.
    """
    if not path.is_dir():
        raise UserError(f"{path}: no such model folder. `metaperser export EXPDIR --out {path}` makes one.")
    if not (path / CARD).is_file():
        trained = any(path.glob("*.ckpt"))
        hint = f"Export it first: metaperser export {path} --out MODEL" if trained else "Choose a folder that has one."
        what = (
            "this is an experiment folder, not a model folder" if trained else f"not a model folder, it has no {CARD}"
        )
        raise UserError(f"{path}: {what}. {hint}")
    try:
        content = read_json(path / CARD)
    except (OSError, ValueError) as error:
        raise UserError(f"{path / CARD} cannot be read ({error}).") from None
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema not in READABLE:
        raise UserError(
            f"{path / CARD} has schema {shown(schema)}, this version reads {' and '.join(map(str, READABLE))}. Export "
            "the model again with this version, or install the one that exported it."
        )
    try:
        card = Card.from_json(content)
        if schema < SCHEMA:
            say_unchecked(path / CARD)
        elif content.get(CHECKSUM) != card_checksum(content):
            raise UserError("Its checksum is not that of its content (all but licences).")
    except UserError as fault:
        raise UserError(
            f"{path / CARD}: {fault} It was edited or is damaged; copy the folder or export the model again."
        ) from None
    return card


def card_checksum(content: Mapping[str, Any]) -> str:
    """Of a card's content, but for what people may word otherwise; 0.1.0's cards have none."""
    sealed = {key: value for key, value in content.items() if key not in (CHECKSUM, "licences")}
    return text_hash(json.dumps(sealed, sort_keys=True))


def _check_sizes(card: Card, tensors: Mapping[str, torch.Tensor], where: Path) -> None:
    """The card's numbers are those of its tensors, before memory is taken by them."""
    shape = card.upstream.layers, card.upstream.features
    expected: dict[str, tuple[int | None, ...]] = dict.fromkeys((MEAN, SCALE, f"{HEARD}mean", f"{HEARD}scale"), shape)
    expected[f"{HEARD}far"] = ()
    if card.kind == "model":  # a listener's parameters are whatever its system adapts
        hidden = card.options.get("modelrc", {}).get("projector_dim")
        expected |= {"weights": shape[:1], "projector.weight": (hidden, shape[1])}
    for name, value in tensors.items():
        wanted = expected.get(name.removeprefix("head."))
        if wanted is not None and tuple(value.shape) != wanted:
            raise UserError(
                f"{where} does not fit its tensors: {name} has shape {list(value.shape)}, and by the card "
                f"{list(wanted)}. It was edited; copy the folder or export the model again."
            )
