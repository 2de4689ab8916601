"""AESDD: acted Greek emotional speech; ``<emotion>/a01 (1).wav``, the speaker's number in parentheses."""

from s3prl_metaperser.corpora.acted.layout import Layout, acted_reader
from s3prl_metaperser.corpora.card import Release

CODES = {"a": "anger", "d": "disgust", "f": "fear", "h": "happiness", "s": "sadness"}
LAYOUT = Layout(
    name="aesdd",
    title="AESDD",
    language="el",
    licence="free for research by its authors' page, which was not seen; ask them",
    source="https://m3c.web.auth.gr/research/aesdd-speech-emotion-recognition/",
    cite="Vryzas et al. 2018",
    layout="a folder for each emotion; 44.1 kHz",
    releases=(Release({"happiness": 119, "sadness": 122, "anger": 121, "fear": 120, "disgust": 122}, tuple("123456")),),
    quirks=(
        "five actors are published, and names have six numbers",
        "`(01)` beside `(1)`, and takes `(5)a` and `(5)b`",
        "`s05 (3).wav` of the original is unreadable and not among the 604",
    ),
    pattern=r"(?P<emotion>[adfhs])(?P<sentence>\d{2}) \(0?(?P<speaker>[1-6])\)(?P<take>[ab]?)",
    example="a01 (1).wav",
    codes=CODES,
)
READER = acted_reader(LAYOUT)
