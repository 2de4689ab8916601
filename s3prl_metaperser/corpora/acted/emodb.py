"""EmoDB, the Berlin database of emotional speech; ``wav/03a01Fa.wav``: speaker, text, emotion in German, version."""

from s3prl_metaperser.corpora.acted.layout import Layout, acted_reader
from s3prl_metaperser.corpora.card import Release

#: Wut, Langeweile, Ekel, Angst, Freude, Trauer, neutral: A is fear, and W is anger.
CODES = {"W": "anger", "L": "boredom", "E": "disgust", "A": "fear", "F": "happiness", "T": "sadness", "N": "neutral"}
SPEAKERS = ("03", "08", "09", "10", "11", "12", "13", "14", "15", "16")
LAYOUT = Layout(
    name="emodb",
    title="EmoDB",
    language="de",
    licence="free (CC0 on Zenodo by others' account; not seen)",
    source="http://emodb.bilderbar.info",
    cite="Burkhardt et al. 2005",
    layout="wav/; 16 kHz",
    releases=(
        Release(
            {"anger": 127, "boredom": 81, "disgust": 46, "fear": 69, "happiness": 71, "sadness": 62, "neutral": 79},
            SPEAKERS,
        ),
    ),
    quirks=("A is Angst (fear), not anger; E is Ekel (disgust), W Wut (anger)",),
    pattern=r"(?P<speaker>03|08|09|1[0-6])(?P<sentence>[ab]\d{2})(?P<emotion>[WLEAFTN])(?P<version>[a-f])",
    example="03a01Fa.wav",
    codes=CODES,
    sex=lambda speaker: "m" if speaker in ("03", "10", "11", "12", "15") else "f",
)
READER = acted_reader(LAYOUT)
