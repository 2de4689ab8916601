"""What was published of IEMOCAP, where each utterance has the one label that its raters' majority gave it."""

from __future__ import annotations

from s3prl_metaperser.corpora.card import Card, Release

CARD = Card(
    title="IEMOCAP",
    language="en-US",
    licence="USC's licence agreement, after a request",
    source="https://sail.usc.edu/iemocap/",
    cite="Busso et al. 2008",
    layout="IEMOCAP_full_release/Session1/ to Session5/; 16 kHz",
    emotions={
        **{"angry": "anger", "sad": "sadness", "happy": "happiness", "excited": "happiness"},
        **{"fear": "fear", "disgust": "disgust"},
    },
    releases=(
        Release(
            {
                **{"frustrated": 1849, "angry": 1103, "sad": 1084, "disgust": 2, "excited": 1041},
                **{"fear": 40, "neutral": 1708, "surprise": 107, "happy": 595},
            },
            tuple(f"Ses0{session}{sex}" for session in range(1, 6) for sex in "FM"),
        ),
    ),
    options={"answers": "majority"},
    quirks=(
        "improvised and scripted; the label is that of the raters' majority, which 2507 of the 10,039 utterances have "
        "not, and of 3 it is other",
        "the letter after the session is the one who wears markers, not the one who speaks",
    ),
)
