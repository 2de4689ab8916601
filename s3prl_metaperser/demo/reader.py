"""The demo corpus, made on first use: real audio files in IEMOCAP's layout, read by the IEMOCAP reader."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path

from filelock import FileLock

from s3prl_metaperser.corpora import iemocap
from s3prl_metaperser.corpora.base import Corpus


def read(root: Path, *, seed: int = 0, utterances: int = 600, raters: str = "paper") -> Corpus:
    """Read the demo corpus at ``root``, making it first where it is absent (with a progress bar).

    Args:
        root: a new or empty folder, or a demo corpus of the same settings.
        seed: of every draw.
        utterances: how many, over five sessions of two speakers.
        raters: ``paper``, ``identical`` or ``opposed``.

    Raises:
        UserError: a wrong argument, something else at ``root``, or no praat-parselmouth.
    """
    from s3prl_metaperser.demo import write_demo_corpus

    root = Path(root)
    with contextlib.nullcontext() if root.exists() else _one_at_a_time(root.resolve()):
        write_demo_corpus(root, seed=seed, utterances=utterances, raters=raters)
    return dataclasses.replace(iemocap.read(root), name="demo")


def _one_at_a_time(root: Path) -> FileLock:
    """Of several processes that want the same corpus one makes it, and the others wait."""
    root.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(root.with_name(f".{root.name}.lock"))
