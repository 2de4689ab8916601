"""CaFE: acted Canadian French speech; ``<emotion>/<intensity>/01-C-1-1.wav``. Folder names are not looked at."""

from __future__ import annotations

import re
from pathlib import Path

from s3prl_metaperser.corpora.acted.layout import Clip, Layout, acted_reader
from s3prl_metaperser.corpora.card import Card, Release
from s3prl_metaperser.corpora.emotions import same_words

#: The first letters of Colère, Dégoût, Joie, Neutre, Peur, Surprise and Tristesse.
CODES = {
    "C": "anger",
    "D": "disgust",
    "J": "happiness",
    "N": "neutral",
    "P": "fear",
    "S": "surprise",
    "T": "sadness",
}
LEVELS = {"1": "weak", "2": "strong"}
SPEAKERS = tuple(f"{number:02d}" for number in range(1, 13))


def _clip(name: re.Match[str], path: Path) -> Clip:
    letter, level, speaker = name["emotion"].upper(), LEVELS[name["level"]], name["speaker"]
    sex = "m" if int(speaker) % 2 else "f"
    return Clip(name[0].upper(), speaker, CODES[letter], sex, "" if letter == "N" else level, name["sentence"])


LAYOUT = Layout(
    name="cafe",
    card=Card(
        title="CaFE",
        language="fr-CA",
        licence="CC BY-NC-SA 4.0",
        source="https://zenodo.org/record/1478765",
        cite="Gournay, Lahaie and Lefebvre 2018",
        layout="Colère, Dégoût, Joie, Peur, Surprise, Tristesse with Faible and Fort in each, Neutre; 48 or 192 kHz",
        emotions=same_words(*CODES.values()),
        releases=(Release({**dict.fromkeys(CODES.values(), 144), "neutral": 72}, SPEAKERS, balanced=True),),
        quirks=("accents of folder names arrive composed, taken apart, or in an old code page",),
    ),
    pattern=r"(?P<speaker>0[1-9]|1[0-2])-(?P<emotion>[CDJNPST])-(?P<level>[12])-(?P<sentence>[1-6])",
    example="01-C-1-1.wav",
    classes=tuple(CODES.values()),
    clip=_clip,
)
READER = acted_reader(LAYOUT)
