"""Small corpora with labels of their own, each by ratings.csv, files.csv and labels.yaml alone.

Five raters rate every clip; what they hear goes by the clip's pitch, each leaning in a way of its own, so that there is
something to learn. Speakers and sessions are in files.csv.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

RATERS = ("ann", "ben", "cat", "dan", "eve")

SIX = """\
name: six
kind: single
classes: [anger, disgust, fear, happy, neutral, sad]
spellings: {joy: happy, angry: anger}
"""
SCALE = """\
name: ten-points
kind: ordinal
levels: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
"""
CONTEMPT = """\
name: with-contempt
kind: multi
classes: [angry, sad, happy, surprise, fear, disgust, contempt, neutral]
merges: {excited: happy}
unknown: drop
"""
SOFT = """\
name: shares
kind: soft
classes: [calm, tense, cheerful]
"""
#: Kind of label set -> labels.yaml.
LABELS = {"single": SIX, "ordinal": SCALE, "multi": CONTEMPT, "soft": SOFT}


def _one(classes: tuple[str, ...]) -> Callable[[float], str]:
    return lambda heard: classes[min(int(heard * len(classes)), len(classes) - 1)]


def _several(heard: float) -> str:
    classes = ("angry", "sad", "happy", "surprise", "fear", "disgust", "contempt", "neutral")
    first = _one(classes)(heard)
    return f"{first};contempt" if 0.4 < heard < 0.5 else first


def _shares(heard: float) -> str:
    first = round(0.1 + 0.8 * heard, 2)
    return f"calm:{first};tense:{1 - first:.2f}"


#: Kind -> what a rater writes who hears so much, 0 to 1.
WRITTEN: dict[str, Callable[[float], str]] = {
    "single": _one(("anger", "disgust", "fear", "happy", "neutral", "sad")),
    "ordinal": lambda heard: f"{1 + 9 * heard:.1f}",
    "multi": _several,
    "soft": _shares,
}


def write_corpus(folder: Path, kind: str, clips: int = 24, seconds: float = 0.3) -> Path:
    """Write a corpus of one kind of label set (``single``, ``ordinal``, ``multi``, ``soft``); returns ``folder``."""
    draw = np.random.default_rng(len(kind))
    rows, files = [["file", "rater", "value" if kind == "ordinal" else "label"]], [["file", "speaker", "session"]]
    for number in range(clips):
        level, name = draw.random(), f"audio/clip{number:03}.wav"
        write_tone(folder / name, 120 + 600 * level, seconds, draw)
        files.append([name, f"speaker{number % 4}", f"part{1 + number % 2}"])
        for at, rater in enumerate(RATERS):
            heard = float(np.clip(level + 0.15 * (at - 2) + 0.05 * draw.normal(), 0, 1))
            rows.append([name, rater, WRITTEN[kind](heard)])
    for name, table in (("ratings.csv", rows), ("files.csv", files)):
        with (folder / name).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(table)
    (folder / "labels.yaml").write_text(LABELS[kind], encoding="utf-8")
    return folder


def write_tone(path: Path, pitch: float, seconds: float, draw: np.random.Generator) -> Path:
    """A noisy tone at 16 kHz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(round(16000 * seconds)) / 16000
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * pitch * time) + 0.02 * draw.normal(size=len(time)), 16000)
    return path
