"""Files by their names: which are sound, which are in a folder, and which is meant by a name that is not there."""

from __future__ import annotations

import contextlib
import functools
import os
import unicodedata
import urllib.parse
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

#: What libsndfile reads.
# fmt: off
SUFFIXES: tuple[str, ...] = (
    ".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".mp2", ".mpga", ".aif", ".aiff", ".aifc", ".au",
    ".snd", ".caf", ".w64", ".rf64", ".sph", ".voc",
)
#: What needs ffmpeg: sound, and films with sound.
FOREIGN_SUFFIXES: tuple[str, ...] = (
    ".m4a", ".m4b", ".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3gpp", ".3g2", ".aac", ".amr", ".awb", ".webm",
    ".weba", ".mka", ".mkv", ".wma", ".asf", ".wmv", ".avi", ".flv", ".ts", ".mpg", ".mpeg", ".wv", ".ape",
    ".tta", ".spx", ".ac3", ".eac3", ".dts", ".ogv", ".ogx", ".gsm",
)
# fmt: on


@functools.lru_cache(maxsize=64)
def _by_key(folder: str, changed: int, key: Callable[[str], str]) -> dict[str, list[str]]:
    """Names in a folder by a key that several may share; the folder is listed again when it has changed."""
    found: dict[str, list[str]] = {}
    with contextlib.suppress(OSError):
        for name in sorted(os.listdir(folder)):
            found.setdefault(key(name), []).append(name)
    return found


def _alike(path: Path, key: Callable[[str], str]) -> list[str]:
    """Names beside a path that is missing which have the same key as its own."""
    try:
        changed = path.parent.stat().st_mtime_ns
    except OSError:
        return []
    return _by_key(str(path.parent), changed, key).get(key(path.name), [])


class Below(NamedTuple):
    """What there is in a folder and in the folders within it.

    Attributes:
        audio: files with names of sound or film, sorted; whether they can be opened is not said.
        hidden: files and folders whose names begin with a point.
        others: files with other names.
        unlisted: (folder, why) of those whose files cannot be seen.
    """

    audio: list[Path]
    hidden: list[Path]
    others: list[Path]
    unlisted: list[tuple[Path, str]]

    def passed_over(self) -> str:
        """What is not in :attr:`audio`, counted, e.g. ``2 hidden, 3 not audio by name (.csv 1, .txt 2)``."""
        suffixes = Counter(path.suffix.lower() or "no suffix" for path in self.others)
        each = ", ".join(f"{suffix} {count}" for suffix, count in sorted(suffixes.items()))
        hidden = [f"{len(self.hidden)} hidden"] if self.hidden else []
        return ", ".join(hidden + ([f"{len(self.others)} not audio by name ({each})"] if self.others else []))


def files_below(folder: Path) -> Below:
    """All files in a folder and its folders, none passed over uncounted. Links are followed, each folder once.

    What does not exist has no files.
    """
    below, seen = Below([], [], [], []), set()

    def unlisted(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            below.unlisted.append((Path(error.filename), error.strerror or type(error).__name__))

    for parent, folders, files in os.walk(folder, followlinks=True, onerror=unlisted):
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        below.hidden.extend(Path(parent, name) for name in (*folders, *files) if name.startswith("."))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in files:
            if not name.startswith("."):
                (below.audio if is_audio(name) else below.others).append(Path(parent, name))
    for found in below:
        found.sort()
    return below


def audio_in(folder: Path) -> list[Path]:
    """The files in a folder, not in those within it, whose names are those of sound or film; hidden ones are not."""
    return [folder / name for name in sorted(os.listdir(folder)) if not name.startswith(".") and is_audio(name)]


def is_audio(name: str) -> bool:
    """Whether a name is that of sound, or of film that may have sound."""
    return Path(name).suffix.lower() in SUFFIXES + FOREIGN_SUFFIXES


def on_disk(path: Path) -> Path:
    """The path as the disk spells it.

    Macs take ``é`` apart (Unicode NFD), and names that were packed there and written down elsewhere no longer meet.
    Where no file has the very name, and that of exactly one differs only in this, it is that one's path; else ``path``.
    """
    if os.path.lexists(path) or path.parent == path:
        return path
    path = on_disk(path.parent) / path.name
    alike = _alike(path, _composed)
    return path.with_name(alike[0]) if len(alike) == 1 else path


def name_hint(path: Path) -> str:
    """`` Did you mean 'low.wav'?`` of a path that is missing and one that is there, or nothing.

    The other may differ in case, in blanks and signs written as ``%20``, in its suffix.
    """
    if os.path.lexists(path):
        return ""
    missing = path
    while not os.path.lexists(missing.parent) and missing.parent != missing:
        missing = missing.parent
    for key in (_composed, _plain, _plain_stem):
        alike = _alike(missing, key)
        if len(alike) == 1:
            found = missing.with_name(alike[0]) / path.relative_to(missing)
            return f" Did you mean {str(found.relative_to(missing.parent))!r}?"
        if alike:
            break
    return ""


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _plain(name: str) -> str:
    return unicodedata.normalize("NFKC", urllib.parse.unquote(name)).casefold().strip()


def _plain_stem(name: str) -> str:
    return _plain(Path(name).stem)
