"""nEMO: acted Polish speech; ``samples/MK0_sadness_74.wav``: speaker, emotion, sentence."""

from __future__ import annotations

import re
from pathlib import Path

from s3prl_metaperser.corpora.acted.layout import Clip, Layout, acted_reader
from s3prl_metaperser.corpora.card import Card, Release
from s3prl_metaperser.corpora.emotions import same_words

CODES = {
    "anger": "anger",
    "fear": "fear",
    "happiness": "happiness",
    "neutral": "neutral",
    "sadness": "sadness",
    "surprised": "surprise",
}


def _clip(name: re.Match[str], path: Path) -> Clip:
    speaker, emotion = name["speaker"].upper(), name["emotion"].lower()
    return Clip(f"{speaker}_{emotion}_{name['sentence']}", speaker, CODES[emotion], sentence=name["sentence"])


LAYOUT = Layout(
    name="nemo",
    card=Card(
        title="nEMO",
        language="pl",
        licence="CC BY-NC-SA 4.0",
        source="https://github.com/amu-cai/nEMO",
        cite="Christop 2024",
        layout="samples/; 24 kHz",
        emotions=same_words(*CODES.values()),
        releases=(
            Release(
                {"anger": 749, "fear": 736, "happiness": 749, "neutral": 809, "sadness": 769, "surprise": 669},
                ("EB0", "IC0", "KD0", "KS0", "MK0", "MP0", "SM0", "TP0", "WR0"),
            ),
        ),
        quirks=("no disgust",),
    ),
    pattern=r"(?P<speaker>[A-Z]{2}\d)_(?P<emotion>anger|fear|happiness|neutral|sadness|surprised)_(?P<sentence>\d+)",
    example="MK0_sadness_74.wav",
    classes=tuple(CODES.values()),
    clip=_clip,
)
READER = acted_reader(LAYOUT)
