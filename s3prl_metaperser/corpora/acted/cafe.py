"""CaFE: acted Canadian French speech; ``<emotion>/<intensity>/01-C-1-1.wav``. Folder names are not looked at."""

from s3prl_metaperser.corpora.acted.layout import Layout, acted_reader, odd_is_male
from s3prl_metaperser.corpora.card import Release

#: The first letters of Colère, Dégoût, Joie, Neutre, Peur, Surprise and Tristesse.
CODES = {"C": "anger", "D": "disgust", "J": "happiness", "N": "neutral", "P": "fear", "S": "surprise", "T": "sadness"}
SPEAKERS = tuple(f"{number:02d}" for number in range(1, 13))
LAYOUT = Layout(
    name="cafe",
    title="CaFE",
    language="fr-CA",
    licence="CC BY-NC-SA 4.0",
    source="https://zenodo.org/record/1478765",
    cite="Gournay, Lahaie and Lefebvre 2018",
    layout="Colère, Dégoût, Joie, Peur, Surprise, Tristesse with Faible and Fort in each, Neutre; 48 or 192 kHz",
    releases=(Release({**dict.fromkeys(CODES.values(), 144), "neutral": 72}, SPEAKERS, balanced=True),),
    quirks=("accents of folder names arrive composed, taken apart, or in an old code page",),
    # what is neutral has no level, though its name says 1
    pattern=r"(?P<speaker>0[1-9]|1[0-2])-(?P<emotion>[CDJNPST])-(?:(?<=N-)[12]|(?P<level>[12]))-(?P<sentence>[1-6])",
    example="01-C-1-1.wav",
    codes=CODES,
    case=str.upper,
    sex=odd_is_male,
    levels={"1": "weak", "2": "strong"},
)
READER = acted_reader(LAYOUT)
