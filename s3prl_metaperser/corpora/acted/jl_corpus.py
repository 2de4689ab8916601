"""JL-corpus: New Zealand English; ``female1_angry_10a_1.wav``: speaker, emotion, sentence, repetition."""

from s3prl_metaperser.corpora.acted.layout import Layout, acted_reader
from s3prl_metaperser.corpora.card import Release

_SECONDARY = ("excited", "anxious", "apologetic", "assertive", "concerned", "encouraging")
CODES = {"angry": "anger", "sad": "sadness", "neutral": "neutral", "happy": "happiness"}
CODES |= {name: name for name in _SECONDARY}
SPEAKERS = ("female1", "female2", "male1", "male2")
LAYOUT = Layout(
    name="jl_corpus",
    title="JL-corpus",
    language="en-NZ",
    licence="CC0 by others' account; its page was not seen",
    source="https://www.kaggle.com/datasets/tli725/jl-corpus",
    cite="James, Tian and Watson 2018",
    layout="Raw JL corpus (unchecked and unannotated)/JL(wav+txt)/; 44.1 kHz",
    releases=(Release(dict.fromkeys(CODES.values(), 240), SPEAKERS, balanced=True),),
    quirks=("no fear, no disgust", "excited is a class of its own and not happiness unless it is merged"),
    pattern=rf"(?P<speaker>(?:fe)?male[12])_(?P<emotion>{'|'.join(CODES)})_(?P<sentence>\d+[ab])_(?P<repetition>[12])",
    example="female1_angry_10a_1.wav",
    codes=CODES,
    case=str.lower,
    sex=lambda speaker: speaker[0],
)
READER = acted_reader(LAYOUT)
