"""Small corpora in memory, for tests that need no audio."""

from pathlib import Path

import numpy as np

from s3prl_metaperser.corpora.base import Corpus, Rating, Utterance
from s3prl_metaperser.corpora.iemocap import CLASSES, LABEL_SET, SUGGESTED

EXTERNAL = ("C-E1", "C-E2", "C-E4", "C-E5", "C-E6")
SELF = ("C-F1", "C-F2", "C-F3", "C-M1", "C-M3", "C-M5")


def synthetic_corpus(utterances=300, seed=0, with_e3=False, raters=EXTERNAL + SELF) -> Corpus:
    """Utterances of five sessions; externals rate most, self-raters those of their own speaker."""
    generator = np.random.default_rng(seed)
    made, ratings = [], []
    for number in range(utterances):
        session, gender = 1 + number % 5, "FM"[(number // 5) % 2]
        name = f"Ses0{session}F_impro01_{gender}{number:03d}"
        made.append(Utterance(name, Path(f"/nowhere/{name}.wav"), f"Ses0{session}{gender}", f"Ses0{session}", 2.0))
        for rater in (*raters, "C-E3") if with_e3 else raters:
            mine = rater[2] == "E" or rater == f"C-{gender}{session}"
            if mine and (rater == "C-E1" or generator.random() < 0.9):
                ticks = generator.choice(len(CLASSES), size=1 + (generator.random() < 0.1), replace=False)
                ratings.append(Rating(name, rater, tuple(CLASSES[t] for t in sorted(ticks))))
    made.sort(key=lambda u: u.id)
    ratings.sort(key=lambda r: (r.utterance, r.rater))
    return Corpus("synthetic", Path("/nowhere"), LABEL_SET, tuple(made), tuple(ratings), suggested=SUGGESTED)
