"""EmoV-DB: four speakers of English; ``bea_Amused/amused_1-28_0001.wav``. Folders say who speaks."""

import re
from pathlib import Path

from s3prl_metaperser.corpora.acted.layout import Clip, Layout, acted_reader
from s3prl_metaperser.corpora.card import Release

CODES = {
    **{"amused": "amusement", "anger": "anger", "disgust": "disgust"},
    **{"neutral": "neutral", "sleepiness": "sleepiness"},
}
SEX = {"bea": "f", "jenie": "f", "josh": "m", "sam": "m"}


def _clip(name: re.Match[str], path: Path) -> Clip | str:
    words = (re.split(r"[_-]", part.lower())[0] for part in reversed(path.parts[:-1]))
    speaker = next((word for word in words if word in SEX), None)
    if speaker is None:
        return f"files: no folder above says who speaks ({', '.join(SEX)})"
    return Clip(f"{speaker}_{name[0]}", speaker, CODES[name["emotion"]], SEX[speaker], sentence=name["number"])


LAYOUT = Layout(
    name="emov_db",
    title="EmoV-DB",
    language="en",
    licence="non-commercial use",
    source="https://www.openslr.org/115/",
    cite="Adigwe et al. 2018",
    layout="bea_Amused/ and the like; 16 and 44.1 kHz",
    releases=(Release(dict(zip(CODES.values(), (1315, 1267, 1019, 1566, 1720), strict=True)), tuple(SEX)),),
    quirks=("of the five emotions anger and disgust alone", "capitals are mixed, and `113_140` is beside `57-84`"),
    pattern=r"(?P<emotion>amused|anger|disgust|neutral|sleepiness)_\d+[-_]\d+_(?P<number>\d{4})",
    example="bea_Amused/amused_1-28_0001.wav",
    codes=CODES,
    clip=_clip,
    case=str.lower,
)
READER = acted_reader(LAYOUT)
