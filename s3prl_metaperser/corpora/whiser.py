"""WHiSER, recordings of the White House tapes with their workers: MSP-Podcast's files of labels, audio in ``wavs/``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from s3prl_metaperser.corpora import msp_podcast
from s3prl_metaperser.corpora.base import Corpus
from s3prl_metaperser.corpora.reader import Reader


def read(
    root: Path,
    *,
    answer: Literal["primary", "secondary", "arousal", "valence", "dominance"] = "primary",
    unknown_labels: Literal["error", "drop"] | None = None,
    outside: bool = False,
) -> Corpus:
    """Read the workers of WHiSER; as :func:`.msp_podcast.read`.

    Args:
        root: the folder with ``wavs`` and ``Labels`` (or ``WHiSER/Labels``), or one of the files of workers' answers.
        answer, unknown_labels, outside: as there.
    """
    return msp_podcast.read_release("whiser", root, answer, unknown_labels, outside, within="WHiSER")


READER = Reader(
    read,
    terms="WHiSER is given out by UT Dallas for non-commercial use only; ask there whether models trained on it may be "
    "shared",
    redistributable=False,
)
