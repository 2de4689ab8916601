"""JL-corpus: New Zealand English; ``female1_angry_10a_1.wav``: speaker, emotion, sentence, repetition."""

from __future__ import annotations

import re
from pathlib import Path

from s3prl_metaperser.corpora.acted.layout import Clip, Layout, acted_reader
from s3prl_metaperser.corpora.card import Card, Release
from s3prl_metaperser.corpora.emotions import same_words

CODES = {
    "angry": "anger",
    "sad": "sadness",
    "neutral": "neutral",
    "happy": "happiness",
    "excited": "excited",
    "anxious": "anxious",
    "apologetic": "apologetic",
    "assertive": "assertive",
    "concerned": "concerned",
    "encouraging": "encouraging",
}
SPEAKERS = ("female1", "female2", "male1", "male2")


def _clip(name: re.Match[str], path: Path) -> Clip:
    speaker, emotion, text = name["speaker"].lower(), name["emotion"].lower(), name["sentence"].lower()
    return Clip(name[0].lower(), speaker, CODES[emotion], speaker[0], sentence=text)


LAYOUT = Layout(
    name="jl_corpus",
    card=Card(
        title="JL-corpus",
        language="en-NZ",
        licence="CC0 by others' account; its page was not seen",
        source="https://www.kaggle.com/datasets/tli725/jl-corpus",
        cite="James, Tian and Watson 2018",
        layout="Raw JL corpus (unchecked and unannotated)/JL(wav+txt)/; 44.1 kHz",
        emotions=same_words(*CODES.values()),
        releases=(Release(dict.fromkeys(CODES.values(), 240), SPEAKERS, balanced=True),),
        quirks=("no fear, no disgust", "excited is a class of its own and not happiness unless it is merged"),
    ),
    pattern=rf"(?P<speaker>(?:fe)?male[12])_(?P<emotion>{'|'.join(CODES)})_(?P<sentence>\d+[ab])_(?P<repetition>[12])",
    example="female1_angry_10a_1.wav",
    classes=tuple(CODES.values()),
    clip=_clip,
)
READER = acted_reader(LAYOUT)
