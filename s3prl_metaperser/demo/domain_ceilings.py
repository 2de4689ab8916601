"""What a classifier scores that knows how the cues of a demo corpus are drawn, at home and in the other corpora."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from s3prl_metaperser.corpora.emotions import COMMON
from s3prl_metaperser.demo.domain_script import CENTRES, Spoken
from s3prl_metaperser.demo.domains import HABIT, MIDDLE, NOISE, WEIGHTS, Domain
from s3prl_metaperser.demo.script import SPREAD

#: In the card: what the numbers are and are not.
NOTE = (
    "Scores from 0 to 1 on the five emotions of the utterances of this demo. The classifier is given the seven drawn "
    "cues of each utterance (not the sound) and knows how they are drawn (Bayes' rule, the speaker's habit unknown): "
    "the share correct and uar are a ceiling for who has to hear them from speakers not heard before. transfer: the "
    "rule of the first corpus, on the utterances of the second."
)


def posteriors(domain: Domain, cues: np.ndarray) -> np.ndarray:
    """P(emotion | cues), [n, 5], of the corpus in which the cues [n, 7] were drawn; 0 for an emotion that it lacks."""
    moved = np.array(domain.gain)[:, None] * WEIGHTS
    means = MIDDLE + np.array(domain.offset) + (CENTRES - 3.0) @ moved.T
    covariance = SPREAD**2 * moved @ moved.T + np.diag(HABIT**2 + NOISE**2)
    apart = cues[:, None] - means[None]
    distance = np.einsum("nei,ij,nej->ne", apart, np.linalg.inv(covariance), apart)
    prior = np.array([domain.prior.get(emotion, 0.0) for emotion in COMMON])
    with np.errstate(divide="ignore"):
        logits = np.log(prior) - distance / 2
    odds = np.exp(logits - logits.max(1, keepdims=True))
    return odds / odds.sum(1, keepdims=True)


def ceilings(planned: Mapping[Domain, Sequence[Spoken]]) -> dict:
    """``note``, ``home`` (corpus -> share correct and uar) and ``transfer`` (corpus -> corpus -> share correct)."""
    drawn = {}
    for domain, spoken in planned.items():
        five = [each for each in spoken if each.emotion in COMMON]
        labels = np.array([COMMON.index(each.emotion) for each in five])
        drawn[domain.name] = np.array([each.cues for each in five]), labels
    home, transfer = {}, {}
    for domain in planned:
        scores = {}
        for name, (cues, labels) in drawn.items():
            right = posteriors(domain, cues).argmax(1) == labels
            scores[name] = round(float(right.mean()), 4)
            if name == domain.name:
                uar = np.mean([right[labels == label].mean() for label in np.unique(labels)])
                home[name] = {"correct": scores[name], "uar": round(float(uar), 4)}
        transfer[domain.name] = scores
    return {"note": NOTE, "home": home, "transfer": transfer}
