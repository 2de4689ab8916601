"""nEMO: acted Polish speech; ``samples/MK0_sadness_74.wav``: speaker, emotion, sentence."""

from s3prl_metaperser.corpora.acted.layout import Layout, acted_reader
from s3prl_metaperser.corpora.card import Release

CODES = {name: name for name in ("anger", "fear", "happiness", "neutral", "sadness")} | {"surprised": "surprise"}
LAYOUT = Layout(
    name="nemo",
    title="nEMO",
    language="pl",
    licence="CC BY-NC-SA 4.0",
    source="https://github.com/amu-cai/nEMO",
    cite="Christop 2024",
    layout="samples/; 24 kHz",
    releases=(
        Release(
            {"anger": 749, "fear": 736, "happiness": 749, "neutral": 809, "sadness": 769, "surprise": 669},
            ("EB0", "IC0", "KD0", "KS0", "MK0", "MP0", "SM0", "TP0", "WR0"),
        ),
    ),
    quirks=("no disgust",),
    pattern=r"(?P<speaker>[A-Z]{2}\d)_(?P<emotion>anger|fear|happiness|neutral|sadness|surprised)_(?P<sentence>\d+)",
    example="MK0_sadness_74.wav",
    codes=CODES,
    case=lambda stem: stem[:3].upper() + stem[3:].lower(),
)
READER = acted_reader(LAYOUT)
