"""EMOVO: acted Italian speech; ``f1/dis-f1-b1.wav``: emotion, speaker, sentence."""

from __future__ import annotations

import re
from pathlib import Path

from s3prl_metaperser.corpora.acted.layout import Clip, Layout, acted_reader
from s3prl_metaperser.corpora.card import Card, Release
from s3prl_metaperser.corpora.emotions import same_words

#: Disgusto, gioia, neutro, paura, rabbia, sorpresa, tristezza.
CODES = {
    "dis": "disgust",
    "gio": "happiness",
    "neu": "neutral",
    "pau": "fear",
    "rab": "anger",
    "sor": "surprise",
    "tri": "sadness",
}
SPEAKERS = ("f1", "f2", "f3", "m1", "m2", "m3")


def _clip(name: re.Match[str], path: Path) -> Clip:
    speaker = name["speaker"].lower()
    return Clip(name[0].lower(), speaker, CODES[name["emotion"].lower()], speaker[0], sentence=name["sentence"].lower())


LAYOUT = Layout(
    name="emovo",
    card=Card(
        title="EMOVO",
        language="it",
        licence="free by others' account; its page was not seen",
        source="http://voice.fub.it/activities/corpora/emovo/",
        cite="Costantini et al. 2014",
        layout="f1/ to f3/, m1/ to m3/; 48 kHz",
        emotions=same_words(*CODES.values()),
        releases=(Release(dict.fromkeys(CODES.values(), 84), SPEAKERS, balanced=True),),
        quirks=("stereo in some copies",),
    ),
    pattern=r"(?P<emotion>dis|gio|neu|pau|rab|sor|tri)-(?P<speaker>[fm][1-3])"
    r"-(?P<sentence>b[1-3]|l[1-4]|n[1-5]|d[12])",
    example="dis-f1-b1.wav",
    classes=tuple(CODES.values()),
    clip=_clip,
)
READER = acted_reader(LAYOUT)
