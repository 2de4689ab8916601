"""AESDD: acted Greek emotional speech; ``<emotion>/a01 (1).wav``, the speaker's number in parentheses."""

from __future__ import annotations

import re
from pathlib import Path

from s3prl_metaperser.corpora.acted.layout import Clip, Layout, acted_reader
from s3prl_metaperser.corpora.card import Card, Release
from s3prl_metaperser.corpora.emotions import same_words

CODES = {"a": "anger", "d": "disgust", "f": "fear", "h": "happiness", "s": "sadness"}


def _clip(name: re.Match[str], path: Path) -> Clip:
    letter, utterance, speaker = name["emotion"].lower(), name["utterance"], name["speaker"]
    return Clip(name[0], speaker, CODES[letter], sentence=utterance)


LAYOUT = Layout(
    name="aesdd",
    card=Card(
        title="AESDD",
        language="el",
        licence="free for research by its authors' page, which was not seen; ask them",
        source="https://m3c.web.auth.gr/research/aesdd-speech-emotion-recognition/",
        cite="Vryzas et al. 2018",
        layout="a folder for each emotion; 44.1 kHz",
        emotions=same_words(*CODES.values()),
        releases=(
            Release(
                {"happiness": 119, "sadness": 122, "anger": 121, "fear": 120, "disgust": 122},
                tuple("123456"),
            ),
        ),
        quirks=(
            "five actors are published, and names have six numbers",
            "`(01)` beside `(1)`, and takes `(5)a` and `(5)b`",
            "`s05 (3).wav` of the original is unreadable and not among the 604",
        ),
    ),
    pattern=r"(?P<emotion>[adfhs])(?P<utterance>\d{2}) \(0?(?P<speaker>[1-6])\)(?P<take>[ab]?)",
    example="a01 (1).wav",
    classes=tuple(CODES.values()),
    clip=_clip,
)
READER = acted_reader(LAYOUT)
