"""ShEMO: Persian radio plays; ``female/F01A01.wav``. ``shemo.json`` lists fewer, and some with other labels."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Mapping
from pathlib import Path

from s3prl_metaperser.corpora.acted.layout import Clip, Layout
from s3prl_metaperser.corpora.base import Corpus, Problem
from s3prl_metaperser.corpora.card import Release
from s3prl_metaperser.corpora.reader import Reader
from s3prl_metaperser.errors import UserError, shown
from s3prl_metaperser.storage.json_files import read_json
from s3prl_metaperser.storage.paths import user_path

CODES = {"A": "anger", "H": "happiness", "N": "neutral", "S": "sadness", "W": "surprise", "F": "fear"}
LIST = "shemo.json"
SPEAKERS = (*(f"F{number:02d}" for number in range(1, 32)), *(f"M{number:02d}" for number in range(1, 57)))
LAYOUT = Layout(
    name="shemo",
    title="ShEMO",
    language="fa",
    licence="free for academic purposes",
    source="https://github.com/mansourehk/ShEMO",
    cite="Mohamad Nezami, Lou and Karami 2019",
    layout="female/ and male/; 44.1 kHz, a few of 22.05 kHz",
    releases=(
        Release(
            {"anger": 1059, "happiness": 201, "neutral": 1028, "sadness": 449, "surprise": 225, "fear": 38},
            SPEAKERS,
            name="all files",
        ),
        Release(
            {"anger": 1034, "happiness": 198, "neutral": 1018, "sadness": 360, "surprise": 199, "fear": 29},
            SPEAKERS,
            name=LIST,
        ),
    ),
    quirks=(
        "no disgust",
        "six in ten of the five emotions' utterances are anger",
        "from 0.36 to 33 s long",
        f"`{LIST}` lists 2838 of the 3000, each with a label (`listed`)",
    ),
    pattern=r"(?P<speaker>[FM]\d{2})(?P<emotion>[AHNSWF])(?P<utterance>\d{2,3})",
    example="F01A01.wav",
    codes=CODES,
    case=str.upper,
    sex=lambda speaker: speaker[0].lower(),
)


def read(root: Path, *, listed: bool = False) -> Corpus:
    """Read ShEMO.

    Args:
        listed: what ``shemo.json`` lists alone, with its labels; the paper's numbers are those of all files.

    Raises:
        UserError: no such folder, nothing of this corpus in it, or with ``listed`` no list that can be read.
    """
    if not listed:
        return LAYOUT.read(root)
    path = user_path(root) / LIST
    emotions = _listed(path)
    corpus = dataclasses.replace(LAYOUT, clip=functools.partial(_listed_clip, emotions)).read(root)
    if lost := sorted(emotions.keys() - {utterance.id for utterance in corpus.utterances}):
        what = f"{len(lost)} of its {len(emotions)} utterances have no file, e.g. {shown(lost[0])}."
        return dataclasses.replace(corpus, problems=(*corpus.problems, Problem(str(path), what, serious=False)))
    return corpus


def _listed_clip(emotions: Mapping[str, str], name: re.Match[str], path: Path) -> Clip | str:
    clip = LAYOUT.by_groups(name, path)
    return clip._replace(emotion=emotions[clip.id]) if clip.id in emotions else f"files: not in {LIST}"


def _listed(path: Path) -> dict[str, str]:
    """Utterance -> emotion."""
    try:
        found = {str(name).upper(): str(entry["emotion"]).lower() for name, entry in read_json(path).items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        what = "cannot be read as a list of utterances with an emotion each"
        raise UserError(f"{path} {what} ({error}). Fetch it from {LAYOUT.source}.") from None
    for name, emotion in found.items():
        if emotion not in LAYOUT.classes:
            known = ", ".join(LAYOUT.classes)
            raise UserError(f"{path}: {name} has the unknown emotion {shown(emotion)}. Available: {known}.")
    return found


READER = Reader(read, terms=LAYOUT.terms, card=LAYOUT)
