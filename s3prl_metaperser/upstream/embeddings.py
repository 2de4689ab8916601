"""Vectors that were computed elsewhere, as an upstream: ``-u embeddings -k FILE.npz``.

``names`` [N] say whose they are, ``values`` are [N, D], or [N, L, D] with a vector for each of L layers. A name is a
recording's id in the corpus, or its path: whole or from any folder on, with or without suffix, in one way for all of
them, in which no name stands for two recordings. No audio is read, and no other audio can be heard: such a model cannot
be given to a listener, nor be fine-tuned.
"""

from __future__ import annotations

import functools
import sys
import unicodedata
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import NoReturn

import numpy as np
import torch
from torch import Tensor, nn

from s3prl_metaperser.corpora.base import Utterance
from s3prl_metaperser.corpora.folders import is_audio
from s3prl_metaperser.errors import UserError, first_line, listed, printable
from s3prl_metaperser.upstream.store import PooledFeatures


def expert(ckpt: str, model_config: str | None = None) -> GivenVectors:
    """The upstream of a file.

    Raises:
        UserError: see :func:`read_vectors`.
    """
    if model_config:
        raise UserError(f"-u embeddings takes no -g {model_config}: the vectors are computed already. Leave it out.")
    return GivenVectors(Path(ckpt), *read_vectors(Path(ckpt)))


class GivenVectors(nn.Module):
    """Vectors by name.

    Args:
        source: the file, for messages.
        names: N of them, each once.
        values: float32 [N, L, D].
    """

    def __init__(self, source: Path, names: Sequence[str], values: Tensor):
        super().__init__()
        self.source, self.values = source, values
        self.rows = {_folded(name): row for row, name in enumerate(names)}

    def forward(self, wavs: Sequence[Tensor]) -> NoReturn:
        raise UserError(
            f"-u embeddings knows recordings by name and hears no audio: {self.source} has no vectors for clips "
            "outside the corpus, and nothing to fine-tune. Use the upstream that computed them."
        )

    def get_downsample_rates(self, key: str = "") -> int:
        """There are no frames."""
        return 1

    def features(self, utterances: Sequence[Utterance]) -> PooledFeatures:
        """The vectors of recordings.

        Raises:
            UserError: some have none, or none that is theirs alone.
        """
        deepest = max(len(u.path.parts) for u in utterances)
        best, by = self._by([u.id for u in utterances], lambda name: name), 0
        for parts in range(deepest, 0, -1):
            if len(best) == len(utterances):
                break
            keys = [_tail(u.path.as_posix(), parts) for u in utterances]
            found = self._by(keys, functools.partial(_tail, parts=parts))
            if len(found) > len(best):  # the longest way of writing it where several serve
                best, by = found, parts
        if len(best) < len(utterances):
            raise self._missing([u for place, u in enumerate(utterances) if place not in best], len(utterances))
        rows = [best[place] for place in range(len(utterances))]
        self._say_of_other_folders(utterances, rows, by)
        return PooledFeatures({u.id: row for row, u in enumerate(utterances)}, self.values[rows])

    def _say_of_other_folders(self, utterances: Sequence[Utterance], rows: Sequence[int], parts: int) -> None:
        """A line where names say folders that are not the recordings', and so may be of another corpus."""
        names = list(self.rows)
        other = [place for place, row in enumerate(rows) if parts and len(PurePosixPath(names[row]).parts) > parts]
        if other:
            one = other[0]
            said = (
                f"[MetaPerSER] NOTE: {len(other)} of {len(rows)} vectors are of other folders by their names, and are "
                f"taken by {'the file name' if parts == 1 else f'the last {parts} parts of the path'}: "
                f"{names[rows[one]]} for {utterances[one].path}"
            )
            print(printable(said), file=sys.stderr)

    def _by(self, wanted: Sequence[str], key: Callable[[str], str]) -> dict[int, int]:
        """Place in ``wanted`` -> row of the name with the same key; without what stands twice."""
        names: dict[str, list[int]] = {}
        for name, row in self.rows.items():
            names.setdefault(key(name), []).append(row)
        places: dict[str, list[int]] = {}
        for place, each in enumerate(wanted):
            places.setdefault(_folded(each), []).append(place)
        both = ((places[name], names.get(name, [])) for name in places)
        return {one[0]: other[0] for one, other in both if len(one) == len(other) == 1}

    def _missing(self, absent: Sequence[Utterance], total: int) -> UserError:
        return UserError(
            f"-k {self.source}: {len(absent)} of {total} recordings have no vector of their own: "
            f"{listed([u.id for u in absent])} ({listed([u.path for u in absent])}). The file has "
            f"{len(self.rows)} names such as {listed(list(self.rows))}. A name is a recording's id, or its path: "
            "whole or from any folder on, with or without suffix."
        )


def read_vectors(path: Path) -> tuple[list[str], Tensor]:
    """Names and values float32 [N, L, D] of a file.

    Raises:
        UserError: not such a file, names that are no text or stand twice, other shapes, or values that are not finite.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            names, values = (content.get(key) for key in ("names", "values"))
            held = ", ".join(content) or "nothing"
    except (OSError, ValueError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(
            f"-k {path}: not a file of vectors ({first_line(error)}). Write one: "
            "np.savez(FILE, names=names, values=values), with names as an array of text."
        ) from None
    if names is None or values is None:
        raise UserError(f"-k {path}: it holds {held}; expected names [N] and values [N, D] or [N, L, D].")
    _check(path, names, values)
    shaped = values[:, None] if values.ndim == 2 else values
    return [str(name) for name in names], torch.from_numpy(shaped.astype(np.float32))


def _check(path: Path, names: np.ndarray, values: np.ndarray) -> None:
    what = f"-k {path}: names have shape {names.shape} and type {names.dtype}, values {values.shape} and {values.dtype}"
    if names.ndim != 1 or names.dtype.kind != "U" or values.ndim not in (2, 3) or values.dtype.kind != "f":
        raise UserError(f"{what}; expected text [N], and floating-point numbers [N, D] or [N, L, D].")
    if len(names) != len(values) or not values.size:
        raise UserError(f"{what}: there must be one name for each of them.")
    unique, counts = np.unique(names, return_counts=True)
    if len(unique) < len(names):
        twice = unique[counts > 1].tolist()
        raise UserError(f"-k {path}: {len(twice)} names stand twice: {listed(twice)}.")
    with np.errstate(over="ignore"):
        broken = ~np.isfinite(values.astype(np.float32)).reshape(len(values), -1).all(1)
    if broken.any():
        bad = names[broken].tolist()
        raise UserError(f"-k {path}: {len(bad)} vectors hold NaN or infinity: {listed(bad)}.")


def _folded(name: str) -> str:
    """One form for names that look the same."""
    return unicodedata.normalize("NFC", name).replace("\\", "/")


def _tail(name: str, parts: int) -> str:
    """The last parts of a path, without the suffix of an audio file."""
    path = PurePosixPath(_folded(name))
    path = path.with_suffix("") if is_audio(path.name) else path
    return "/".join(path.parts[-parts:])
