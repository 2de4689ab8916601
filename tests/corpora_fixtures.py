"""Small corpora on disk: IEMOCAP releases and ratings.csv folders, with real, short WAV files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import soundfile

HEADER = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]"
ATTRIBUTES = (
    "A-E3:\tval 3; act 2; dom  2;\t()",
    "A-E4:\tval 2; act 3; dom  ;\t(blank dom, as in the release)",
)


def write_wav(
    path: Path, seconds: float = 0.05, rate: int = 16000, channels: int = 1, samples: np.ndarray | None = None
) -> Path:
    """Write a quiet tone, or ``samples`` as float32, to ``path``; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if samples is None:
        tone = 0.1 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)
        soundfile.write(path, np.stack([tone] * channels, axis=1), rate, subtype="PCM_16")
    else:
        soundfile.write(path, samples, rate, subtype="FLOAT")
    return path


def rating(rater: str, cell: str, comment: str = "") -> str:
    """A categorical line: ``rating("C-E2", "Neutral; Anger;")``."""
    return f"{rater}:\t{cell}\t({comment})"


def block(utterance: str, *lines: str, attributes: Iterable[str] = ATTRIBUTES) -> str:
    """A block of a summary file: header, ``lines``, then attribute lines."""
    head = f"[6.2901 - 8.2357]\t{utterance}\tneu\t[2.5000, 2.5000, 2.5000]"
    return "\n".join([head, *lines, *attributes]) + "\n"


def write_summary(root: Path, dialog: str, *blocks: str, session: int | None = None) -> Path:
    """Write ``dialog``'s summary file into its session's folder (or into that of ``session``)."""
    folder = root / f"Session{session or dialog[4]}" / "dialog" / "EmoEvaluation"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{dialog}.txt"
    path.write_text("\n".join([HEADER + "\n", *blocks]), encoding="latin-1", newline="")
    return path


def wav_path(root: Path, utterance: str) -> Path:
    dialog = utterance.rpartition("_")[0]
    return root / f"Session{utterance[4]}" / "sentences" / "wav" / dialog / f"{utterance}.wav"


def write_iemocap(root: Path, ratings: Mapping[str, Iterable[str]]) -> Path:
    """Write a release: ``ratings`` is utterance -> its categorical lines. Each gets 50 ms of audio.

    All five sessions' folders are made, so that nothing is noted about those without utterances.
    """
    for session in range(1, 6):
        (root / f"Session{session}" / "dialog" / "EmoEvaluation").mkdir(parents=True)
    dialogs: dict[str, list[str]] = {}
    for utterance, lines in ratings.items():
        dialogs.setdefault(utterance.rpartition("_")[0], []).append(block(utterance, *lines))
        write_wav(wav_path(root, utterance))
    for dialog, blocks in dialogs.items():
        write_summary(root, dialog, *blocks)
    return root


def write_ratings_csv(folder: Path, content: str, files: str | None = None) -> Path:
    """Write ``ratings.csv`` (and ``files.csv``) and 50 ms of audio for every .wav named in it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ratings.csv").write_text(content, encoding="utf-8", newline="")
    if files is not None:
        (folder / "files.csv").write_text(files, encoding="utf-8", newline="")
    for name in set(re.findall(r"^[\w./-]+\.wav\b", content, re.MULTILINE)):
        if not name.startswith(("/", "..")):
            write_wav(folder / name)
    return folder
