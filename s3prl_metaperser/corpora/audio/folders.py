"""Files in folders that hold sound by their names."""

from __future__ import annotations

import os
from pathlib import Path

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


def audio_below(folder: Path) -> list[Path]:
    """Files in a folder and its folders whose names are those of sound or film, sorted; hidden ones are not seen.

    Links to folders are followed, each folder once.
    """
    found, seen = [], set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in files:
            path = Path(parent, name)
            if not name.startswith(".") and path.suffix.lower() in SUFFIXES + FOREIGN_SUFFIXES and path.is_file():
                found.append(path)
    return sorted(found)
