"""TESS, the Toronto emotional speech set; ``OAF_back_angry.wav``: an older and a younger actress."""

import re
from pathlib import Path

from s3prl_metaperser.corpora.acted.layout import Clip, Layout, acted_reader
from s3prl_metaperser.corpora.card import Release

CODES = {
    **{"angry": "anger", "disgust": "disgust", "fear": "fear", "happy": "happiness"},
    **{"ps": "surprise", "sad": "sadness", "neutral": "neutral"},
}
SPEAKERS = ("OAF", "YAF")


def _clip(name: re.Match[str], path: Path) -> Clip:
    speaker = next(each for each in SPEAKERS if each[0].lower() == name["speaker"][0])
    word, emotion = name["word"], name["emotion"]
    return Clip(f"{speaker}_{word}_{emotion}", speaker, CODES[emotion], "f", sentence=word)


LAYOUT = Layout(
    name="tess",
    title="TESS",
    language="en-CA",
    licence="CC BY-NC-ND 4.0",
    source="https://tspace.library.utoronto.ca/handle/1807/24487",
    cite="Pichora-Fuller and Dupuis 2020",
    layout="flat, or OAF_angry/ and the like; 24.414 kHz",
    releases=(Release(dict.fromkeys(CODES.values(), 400), SPEAKERS, balanced=True),),
    quirks=(
        "`OA_bite_neutral.wav` lacks a letter",
        "`OAF_food_fear.wav` has 96 kHz",
        "some copies hold the tree twice",
        "YAF_germ_angry and YAF_neat_fear are said to have broken headers",
    ),
    pattern=r"(?P<speaker>OAF?|YAF)_(?P<word>[a-z]+)_(?P<emotion>angry|disgust|fear|happy|ps|sad|neutral)",
    example="OAF_back_angry.wav",
    codes=CODES,
    clip=_clip,
    case=str.lower,
)
READER = acted_reader(LAYOUT)
