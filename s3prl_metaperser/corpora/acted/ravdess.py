"""RAVDESS, its speech alone; ``Actor_01/03-01-06-01-02-01-12.wav``: seven numbers, the third is the emotion."""

import re
from pathlib import Path

from s3prl_metaperser.corpora.acted.layout import Clip, Layout, acted_reader, odd_is_male
from s3prl_metaperser.corpora.card import Release

CODES = {
    **{"01": "neutral", "02": "calm", "03": "happiness", "04": "sadness"},
    **{"05": "anger", "06": "fear", "07": "disgust", "08": "surprise"},
}
SPEAKERS = tuple(f"{number:02d}" for number in range(1, 25))


def _clip(name: re.Match[str], path: Path) -> Clip | str:
    if name["modality"] != "03":
        return "files: film, or film without sound"
    return "files: song" if name["channel"] != "01" else LAYOUT.by_groups(name, path)


LAYOUT = Layout(
    name="ravdess",
    title="RAVDESS",
    language="en-CA",
    licence="CC BY-NC-SA 4.0",
    source="https://zenodo.org/record/1188976",
    cite="Livingstone and Russo 2018",
    layout="Actor_01/ to Actor_24/; 48 kHz",
    releases=(Release({**dict.fromkeys(CODES.values(), 192), "neutral": 96}, SPEAKERS, balanced=True),),
    quirks=(
        "song and film have names of the same form; they are left out and counted",
        "some copies hold the tree twice",
        "a few files are stereo",
    ),
    pattern=r"(?P<modality>0[123])-(?P<channel>0[12])-(?P<emotion>0[1-8])-(?P<level>0[12])-(?P<sentence>0[12])"
    r"-(?P<repetition>0[12])-(?P<speaker>0[1-9]|1\d|2[0-4])",
    example="03-01-06-01-02-01-12.wav",
    codes=CODES,
    clip=_clip,
    sex=odd_is_male,
    levels={"01": "normal", "02": "strong"},
)
READER = acted_reader(LAYOUT)
