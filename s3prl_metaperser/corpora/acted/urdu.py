"""URDU: Urdu speech from talk shows; ``Angry/SM1_F1_A01.wav``: speaker, recording, emotion."""

from s3prl_metaperser.corpora.acted.layout import Layout, acted_reader
from s3prl_metaperser.corpora.card import Release

CODES = {"A": "anger", "H": "happiness", "N": "neutral", "S": "sadness"}
LAYOUT = Layout(
    name="urdu",
    title="URDU",
    language="ur",
    licence="free by others' account; ask its authors",
    source="https://github.com/siddiquelatif/URDU-Dataset",
    cite="Latif et al. 2018",
    layout="Angry/, Happy/, Neutral/, Sad/; 44.1 kHz",
    releases=(Release(dict.fromkeys(CODES.values(), 100)),),
    quirks=("not acted: judged by listeners", "38 speakers are published, and names have 29", "no fear, no disgust"),
    pattern=r"(?P<speaker>S[MF]\d+)_F(?P<recording>\d+)_?(?P<emotion>[AHNS])V?(?P<number>\d+)",
    example="SM1_F1_A01.wav",
    codes=CODES,
    case=str.upper,
    sex=lambda speaker: speaker[1].lower(),
)
READER = acted_reader(LAYOUT)
