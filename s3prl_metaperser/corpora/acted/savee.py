"""SAVEE, four Englishmen; ``DC/a01.wav``, or flat, ``DC_a01.wav``."""

import re
from pathlib import Path

from s3prl_metaperser.corpora.acted.layout import Clip, Layout, acted_reader, folder_word
from s3prl_metaperser.corpora.card import Release

CODES = {"a": "anger", "d": "disgust", "f": "fear", "h": "happiness", "n": "neutral", "sa": "sadness", "su": "surprise"}
SPEAKERS = ("DC", "JE", "JK", "KL")


def _clip(name: re.Match[str], path: Path) -> Clip | str:
    speaker = name["speaker"] or folder_word(path, {speaker.lower(): speaker for speaker in SPEAKERS})
    if not speaker:
        return "files: neither name nor folder says who speaks (DC, JE, JK, KL)"
    text = f"{name['emotion']}{name['utterance']}"
    return Clip(f"{speaker.upper()}_{text}", speaker.upper(), CODES[name["emotion"]], "m", sentence=text)


LAYOUT = Layout(
    name="savee",
    title="SAVEE",
    language="en-GB",
    licence="research alone, after registration",
    source="http://kahlan.eps.surrey.ac.uk/savee/",
    cite="Haq and Jackson 2010",
    layout="DC/, JE/, JK/, KL/, or flat; 44.1 kHz",
    releases=(Release({**dict.fromkeys(CODES.values(), 60), "neutral": 120}, SPEAKERS, balanced=True),),
    quirks=("`sa` and `su` (sadness, surprise) are two letters, the others one",),
    pattern=r"(?:(?P<speaker>DC|JE|JK|KL)_)?(?P<emotion>sa|su|a|d|f|h|n)(?P<utterance>\d{2})",
    example="DC/a01.wav",
    codes=CODES,
    clip=_clip,
    case=str.lower,
)
READER = acted_reader(LAYOUT)
