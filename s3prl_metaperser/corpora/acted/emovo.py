"""EMOVO: acted Italian speech; ``f1/dis-f1-b1.wav``: emotion, speaker, sentence."""

from s3prl_metaperser.corpora.acted.layout import Layout, acted_reader
from s3prl_metaperser.corpora.card import Release

#: Disgusto, gioia, neutro, paura, rabbia, sorpresa, tristezza.
CODES = {
    **{"dis": "disgust", "gio": "happiness", "neu": "neutral", "pau": "fear"},
    **{"rab": "anger", "sor": "surprise", "tri": "sadness"},
}
SPEAKERS = ("f1", "f2", "f3", "m1", "m2", "m3")
LAYOUT = Layout(
    name="emovo",
    title="EMOVO",
    language="it",
    licence="free by others' account; its page was not seen",
    source="http://voice.fub.it/activities/corpora/emovo/",
    cite="Costantini et al. 2014",
    layout="f1/ to f3/, m1/ to m3/; 48 kHz",
    releases=(Release(dict.fromkeys(CODES.values(), 84), SPEAKERS, balanced=True),),
    quirks=("stereo in some copies",),
    pattern=r"(?P<emotion>dis|gio|neu|pau|rab|sor|tri)-(?P<speaker>[fm][1-3])"
    r"-(?P<sentence>b[1-3]|l[1-4]|n[1-5]|d[12])",
    example="dis-f1-b1.wav",
    codes=CODES,
    case=str.lower,
    sex=lambda speaker: speaker[0],
)
READER = acted_reader(LAYOUT)
