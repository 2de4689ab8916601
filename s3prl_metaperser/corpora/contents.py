"""What a corpus's audio files hold, by content: names, links and places do not matter.

Two digests: of the bytes, which identifies the audio that numbers were made from, and of the sound, which is equal for
a copy in another container or sample format. Both are kept in the cache, file by file, until the file changes, so that
they cost nothing the second time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s3prl_metaperser.corpora.base import Corpus
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.progress import tqdm
from s3prl_metaperser.storage.atomic import write_text
from s3prl_metaperser.storage.hashing import file_hash, text_hash
from s3prl_metaperser.storage.provenance import digest

if TYPE_CHECKING:
    from s3prl_metaperser.corpora.audio import Sound

#: Keys of ``Corpus.dropped``.
DROPPED_EQUAL = "utterances: the sound of one before"
DROPPED_EQUAL_RATINGS = "ratings: of an utterance with the sound of one before"
#: A file that changed so shortly before it was read may change again within the resolution of its times: not kept.
FRESH_SECONDS = 2.0
#: After so many seconds a progress bar is shown.
PATIENCE = 3.0
#: Sounds are compared at this resolution: copies of 16 bits in a wider format are equal.
_FULL_SCALE = 1 << 15


def audio_hash(path: Path) -> str:
    """SHA-256 of an audio file.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        return file_hash(path)
    except OSError as error:
        raise UserError(f"Cannot read {path} ({error.strerror}). Run `metaperser validate` on the corpus.") from None


def sound_hash(path: Path) -> str:
    """:func:`heard_hash` of a file; empty where it cannot be read."""
    from s3prl_metaperser.corpora.audio import BadAudio, read_audio

    try:
        return heard_hash(read_audio(path))
    except BadAudio:
        return ""


def heard_hash(sound: Sound) -> str:
    """SHA-256 of what is heard: mono samples at their own rate, at 16 bits, without digital silence at both ends.

    Returns:
        64 hexadecimal digits; empty for silence, which is equal to nothing.
    """
    import numpy as np

    heard = np.rint(sound.samples * _FULL_SCALE).astype("<i4")
    loud = np.flatnonzero(heard)
    if not len(loud):
        return ""
    return hashlib.sha256(f"{sound.rate}:".encode() + heard[loud[0] : loud[-1] + 1].tobytes()).hexdigest()


class Contents:
    """Digests of a corpus's audio."""

    def __init__(self, corpus: Corpus, cache: Path):
        self.corpus = corpus
        self._marks = [_mark(utterance.path) for utterance in corpus.utterances]
        self._kept = cache / "audio" / f"{text_hash(os.path.abspath(corpus.root))[:24]}.json"

    @functools.cached_property
    def files(self) -> dict[str, str]:
        """Utterance id -> SHA-256 of its file (:func:`audio_hash`).

        Raises:
            UserError: a file cannot be read.
        """
        return self._digests("file", audio_hash)

    @functools.cached_property
    def sounds(self) -> dict[str, str]:
        """Utterance id -> :func:`sound_hash`."""
        return self._digests("sound", sound_hash)

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the names and files of all utterances: what results of one corpus share."""
        return digest(self.files)

    def still(self) -> bool:
        """Whether no file has changed since this was made; what was read of them then holds."""
        return self._marks == [_mark(utterance.path) for utterance in self.corpus.utterances]

    def without_equal(self) -> Corpus:
        """The corpus with each sound once, under its first name; others are left out with their ratings, counted."""
        first: dict[str, str] = {}
        kept = {u.id for u in self.corpus.utterances if first.setdefault(self.sounds[u.id] or u.id, u.id) == u.id}
        utterances = tuple(u for u in self.corpus.utterances if u.id in kept)
        ratings = tuple(r for r in self.corpus.ratings if r.utterance in kept)
        counted = {
            DROPPED_EQUAL: len(self.corpus.utterances) - len(utterances),
            DROPPED_EQUAL_RATINGS: len(self.corpus.ratings) - len(ratings),
        }
        dropped = {**self.corpus.dropped, **{reason: count for reason, count in counted.items() if count}}
        return dataclasses.replace(self.corpus, utterances=utterances, ratings=ratings, dropped=dropped)

    def _digests(self, kind: str, made: Callable[[Path], str]) -> dict[str, str]:
        now, kept = time.time(), self._known
        found: dict[str, str] = {}
        fresh: dict[str, Any] = {}
        todo = []
        for utterance in self.corpus.utterances:
            path, mark = os.path.abspath(utterance.path), _mark(utterance.path)
            known = kept.get(path)
            if isinstance(known, dict) and mark is not None and known.get("mark") == mark:
                fresh[path] = known
                if isinstance(value := known.get(kind), str):
                    found[utterance.id] = value
                    continue
            todo.append((utterance, path, mark))
        for utterance, path, mark in tqdm(todo, desc="reading the audio", unit="file", delay=PATIENCE):
            found[utterance.id] = made(utterance.path)
            if mark is not None and mark == _mark(utterance.path) and max(mark[1:3]) / 1e9 < now - FRESH_SECONDS:
                fresh[path] = {**fresh.get(path, {}), "mark": mark, kind: found[utterance.id]}
        if (all_known := {**kept, **fresh}) != kept:
            self._known = all_known
            with contextlib.suppress(UserError, OSError):  # it only saves time
                write_text(self._kept, json.dumps(all_known))
        return {utterance.id: found[utterance.id] for utterance in self.corpus.utterances}

    @functools.cached_property
    def _known(self) -> dict[str, Any]:
        """What the cache has, by path."""
        try:
            kept = json.loads(self._kept.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        return kept if isinstance(kept, dict) else {}


def _mark(path: Path) -> list[int] | None:
    """What changes with a file: size, times and place. Nobody can set the second time (ctime), not even by copying."""
    try:
        status = path.stat()
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
