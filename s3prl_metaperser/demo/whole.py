"""A demo corpus is in its folder whole, or there is none: it is made beside the folder and renamed at the end."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from s3prl_metaperser.demo.rendering import require_parselmouth
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.storage.disk import new_folder, writing
from s3prl_metaperser.storage.json_files import read_json
from s3prl_metaperser.storage.locks import PATIENCE, beside, held

#: What is true of the corpus.
CARD = "demo.json"


def made_whole(folder: Path, settings: dict, write: Callable[[Path], None]) -> Path:
    """The folder, with what ``write`` writes into it unless it is there already.

    Args:
        folder: new, empty, or holding a demo corpus of the same settings.
        settings: what its card has under ``settings``.
        write: is given the folder in which the corpus is made, and writes its card last.

    Raises:
        UserError: something else in ``folder``, or no praat-parselmouth.
    """
    given = folder
    if already_there(folder, settings):
        return given
    require_parselmouth()
    folder = folder.resolve()
    with writing(folder), held(beside(folder), f"demo corpus {given}", wait=PATIENCE):
        if already_there(folder, settings):  # made by another process meanwhile
            return given
        with new_folder(folder) as partial:
            write(partial)
            os.replace(partial, folder)
    return given


def already_there(folder: Path, settings: dict) -> bool:
    """Whether ``folder`` holds this very corpus; a ``UserError`` where it holds anything else."""
    if not folder.exists() and not folder.is_symlink():
        return False
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder. Choose another location for the demo corpus.")
    if not any(folder.iterdir()):
        return False
    try:
        found = read_json(folder / CARD)["settings"]
        found = dict(found)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{folder} is not empty and contains no demo corpus ({CARD} is missing or unreadable). "
            "Choose a new or empty folder."
        ) from error
    if found != settings:
        differs = ", ".join(
            f"{key}: stored {found.get(key)!r}, requested {value!r}"
            for key, value in {**dict.fromkeys(found), **settings}.items()
            if found.get(key) != value
        )
        raise UserError(
            f"{folder} contains a demo corpus with other settings ({differs}). Choose another folder or delete it."
        )
    return True


def check_numbers(seed: int, utterances: int, fewest: int, most: int) -> None:
    """Refuse what is no seed or no number of utterances, with a ``UserError``."""
    for name, value, low, high in (("seed", seed, 0, 2**63 - 1), ("utterances", utterances, fewest, most)):
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise UserError(f"Bad {name} {value!r} for the demo corpus: expected a whole number from {low} to {high}.")


def write_card(folder: Path, card: dict) -> None:
    """Write the card, as plain JSON."""
    text = json.dumps(card, indent=1, allow_nan=False) + "\n"
    (folder / CARD).write_text(text, encoding="utf-8", newline="\n")


def versions() -> dict[str, str]:
    """Of what the sound depends on."""
    return {name: _version(name) for name in ("praat-parselmouth", "numpy")}


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "unknown"
