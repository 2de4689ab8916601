"""SAVEE, four Englishmen; ``DC/a01.wav``, or flat, ``DC_a01.wav``."""

from __future__ import annotations

import re
from pathlib import Path

from s3prl_metaperser.corpora.acted.layout import Clip, Layout, acted_reader, folder_word
from s3prl_metaperser.corpora.card import Card, Release
from s3prl_metaperser.corpora.emotions import same_words

CODES = {
    "a": "anger",
    "d": "disgust",
    "f": "fear",
    "h": "happiness",
    "n": "neutral",
    "sa": "sadness",
    "su": "surprise",
}
SPEAKERS = ("DC", "JE", "JK", "KL")
_FOLDERS = {speaker.lower(): speaker for speaker in SPEAKERS}


def _clip(name: re.Match[str], path: Path) -> Clip | str:
    speaker = (name["speaker"] or folder_word(path, _FOLDERS) or "").upper()
    if not speaker:
        return "files: neither name nor folder says who speaks (DC, JE, JK, KL)"
    text = f"{name['emotion']}{name['utterance']}".lower()
    return Clip(f"{speaker}_{text}", speaker, CODES[name["emotion"].lower()], "m", sentence=text)


LAYOUT = Layout(
    name="savee",
    card=Card(
        title="SAVEE",
        language="en-GB",
        licence="research alone, after registration",
        source="http://kahlan.eps.surrey.ac.uk/savee/",
        cite="Haq and Jackson 2010",
        layout="DC/, JE/, JK/, KL/, or flat; 44.1 kHz",
        emotions=same_words(*CODES.values()),
        releases=(Release({**dict.fromkeys(CODES.values(), 60), "neutral": 120}, SPEAKERS, balanced=True),),
        quirks=("`sa` and `su` (sadness, surprise) are two letters, the others one",),
    ),
    pattern=r"(?:(?P<speaker>DC|JE|JK|KL)_)?(?P<emotion>sa|su|a|d|f|h|n)(?P<utterance>\d{2})",
    example="DC/a01.wav",
    classes=tuple(CODES.values()),
    clip=_clip,
)
READER = acted_reader(LAYOUT)
