"""URDU: Urdu speech from talk shows; ``Angry/SM1_F1_A01.wav``: speaker, recording, emotion."""

from __future__ import annotations

import re
from pathlib import Path

from s3prl_metaperser.corpora.acted.layout import Clip, Layout, acted_reader
from s3prl_metaperser.corpora.card import Card, Release
from s3prl_metaperser.corpora.emotions import same_words

CODES = {"A": "anger", "H": "happiness", "N": "neutral", "S": "sadness"}


def _clip(name: re.Match[str], path: Path) -> Clip:
    speaker = name["speaker"].upper()
    return Clip(name[0].upper(), speaker, CODES[name["emotion"].upper()], speaker[1].lower())


LAYOUT = Layout(
    name="urdu",
    card=Card(
        title="URDU",
        language="ur",
        licence="free by others' account; ask its authors",
        source="https://github.com/siddiquelatif/URDU-Dataset",
        cite="Latif et al. 2018",
        layout="Angry/, Happy/, Neutral/, Sad/; 44.1 kHz",
        emotions=same_words(*CODES.values()),
        releases=(Release(dict.fromkeys(CODES.values(), 100)),),
        quirks=(
            "not acted: judged by listeners",
            "38 speakers are published, and names have 29",
            "no fear, no disgust",
        ),
    ),
    pattern=r"(?P<speaker>S[MF]\d+)_F(?P<recording>\d+)_?(?P<emotion>[AHNS])V?(?P<number>\d+)",
    example="SM1_F1_A01.wav",
    classes=tuple(CODES.values()),
    clip=_clip,
)
READER = acted_reader(LAYOUT)
