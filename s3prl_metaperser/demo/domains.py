"""What the corpora of the demo differ in: language, speakers, emotions, voice, channel; and nothing in one variant.

Every utterance is spoken by the demo's voice from its arousal, valence and dominance. A corpus is a domain: ``offset``
and ``gain`` say how its people speak and how strongly emotion moves pitch, tempo and the other cues; the rest is rooms
and microphones. The numbers were chosen once, by hand, to be of the size of what differs between real corpora; no
method was looked at.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from s3prl_metaperser.corpora import crema_d, iemocap
from s3prl_metaperser.corpora.acted import aesdd, cafe, emodb, emovo, ravdess, savee, shemo, tess
from s3prl_metaperser.corpora.emotions import COMMON
from s3prl_metaperser.demo import sentences as texts
from s3prl_metaperser.demo.script import quota
from s3prl_metaperser.demo.voice import LANGUAGE, SAMPLE_RATE

#: The cues, and the share of each in arousal, valence and dominance less 3, [7, 3]; as :func:`.voice.deliver` has it.
CUES = ("semitones", "pitch range", "words per minute", "level", "tilt", "smile", "chest")
WEIGHTS = np.array(
    [[2.6, 0.5, -0.6], [0.35, 0.15, 0], [16, 4, 0], [2.6, 0, 1.4], [1.1, -0.1, 0.3], [0, 3.2, 0], [0, 0, 2.8]]
)
#: A cue's value without emotion, the spread of speakers around it, and of one speaker's utterances, [7] each.
MIDDLE = np.array([0, 1, 178, -25, 0, 0, 0], dtype=float)
HABIT = np.array([0.8, 0.15, 6, 1.0, 0.6, 0.8, 0])
NOISE = np.array([0.8, 0.15, 8, 1.0, 0.4, 1.0, 1.0])

#: A seventh emotion beside the five, which readers leave out and count.
NEUTRAL = "neutral"

_EVEN = dict.fromkeys(COMMON, 0.18) | {NEUTRAL: 0.1}


@dataclass(frozen=True, eq=False)
class Domain:
    """One corpus of the demo.

    Attributes:
        name: of its reader, and of its folder.
        speakers: their ids in the corpus's own form.
        prior: share of each of :data:`COMMON` and of :data:`NEUTRAL` among its utterances; they sum to 1.
        language: Praat's name of it.
        sentences: what is read.
        offset: what is added to :data:`MIDDLE`, [7].
        gain: how much of each cue emotion moves, as a factor, [7].
        room: noise of the room, dB re full scale.
        tilt: of the microphone, dB per octave around 1 kHz.
        band: Hz above which the channel passes nothing.
        rate: sampling rate of its files in Hz.
        agreement: share of utterances whose hum is that of their emotion; None: there is no hum.
        turned: the hum of an emotion is that of the next one here.
    """

    name: str
    speakers: tuple[str, ...]
    prior: Mapping[str, float] = dataclasses.field(default_factory=lambda: dict(_EVEN))
    language: str = LANGUAGE
    sentences: tuple[str, ...] = texts.ENGLISH
    offset: tuple[float, ...] = (0.0,) * 7
    gain: tuple[float, ...] = (1.0,) * 7
    room: float = -62.0
    tilt: float = 0.0
    band: float = SAMPLE_RATE / 2
    rate: int = SAMPLE_RATE
    agreement: float | None = None
    turned: bool = False

    def counts(self, utterances: int) -> dict[str, int]:
        """How many utterances of each emotion, nearest to the prior; at least one of each that it has."""
        shares = np.array(list(self.prior.values()))
        found = quota(shares / shares.sum(), utterances)
        for short in np.flatnonzero((found == 0) & (shares > 0)):
            found[found.argmax()] -= 1
            found[short] = 1
        return dict(zip(self.prior, found.tolist(), strict=True))


def _among(classes: tuple[str, ...]) -> dict[str, float]:
    """The even shares of those emotions that a layout has a code for."""
    return {name: share for name, share in _EVEN.items() if name in classes}


#: Speakers as the layouts have them; the same in all variants.
_PLAIN = (
    Domain(crema_d.LAYOUT.name, tuple(str(actor) for actor in range(1001, 1013))),
    Domain(aesdd.LAYOUT.name, tuple("123456"), _among(aesdd.LAYOUT.classes)),
    Domain(cafe.LAYOUT.name, cafe.SPEAKERS),
    Domain(emodb.LAYOUT.name, emodb.SPEAKERS),
    Domain(ravdess.LAYOUT.name, ravdess.SPEAKERS[:12]),
    Domain(tess.LAYOUT.name, tess.SPEAKERS),
    Domain(savee.LAYOUT.name, savee.SPEAKERS),
    Domain(
        shemo.LAYOUT.name,
        tuple(f"{sex}{number:02d}" for sex in "FM" for number in range(1, 7)),
        _among(shemo.LAYOUT.classes),
    ),
    Domain(emovo.LAYOUT.name, emovo.SPEAKERS),
    Domain(iemocap.LABEL_SET.name, tuple(f"Ses0{session}{sex}" for session in iemocap.SESSIONS for sex in "FM")),
)


def _accent(region: str) -> str:
    return f"English ({region})"


#: What makes a domain of each corpus, in the order of :data:`_PLAIN`; what is what is in :data:`_SHIFTED`.
_SHIFTS: tuple[tuple, ...] = (
    (
        _accent("America"),
        texts.ENGLISH,
        (0, 0, 5, -2, 0.3, 0, 1),
        (0.7, 0.7, 0.7, 0.8, 0.7, 0.6, 0.7),
        -48,
        0,
        8000,
        16000,
    ),
    ("Greek", texts.GREEK, (2, 0.1, 15, 3, 0.8, -1, 0), (1.3, 1.2, 1.2, 1.2, 1.2, 1, 1), -58, -1, 8000, 44100),
    (
        "French (Belgium)",
        texts.FRENCH,
        (-1, -0.2, 10, 1, -0.5, 2, -1),
        (1, 0.9, 0.6, 1.1, 1, 0.8, 1),
        -60,
        1.2,
        8000,
        48000,
    ),
    ("German", texts.GERMAN, (1, 0.2, -10, 4, 1, 0, 2), (1.3, 1.2, 1.1, 1.3, 1.2, 1.1, 1), -66, 0.5, 8000, 16000),
    (_accent("Scotland"), texts.ENGLISH, (0, 0, -25, -6, 0, 0, 0), (1, 1, 0.5, 1.4, 1, 1, 1), -64, -0.5, 8000, 48000),
    (
        _accent("Caribbean"),
        texts.ENGLISH,
        (1.5, -0.3, -30, 2, 0.5, 1, -2),
        (1.2, 0.6, 0.4, 0.8, 1.1, 1.2, 1),
        -55,
        1.5,
        8000,
        24414,
    ),
    (
        _accent("Received Pronunciation"),
        texts.ENGLISH,
        (-2, -0.1, 0, -3, -0.8, 0, 1.5),
        (0.9, 0.8, 1.2, 1, 0.9, 0.7, 1.3),
        -52,
        -1.5,
        8000,
        44100,
    ),
    ("Persian", texts.PERSIAN, (1, 0.1, 20, 5, 0.4, -2, 0), (0.9, 1.1, 1, 0.6, 0.8, 0.5, 0.8), -42, -2, 5000, 44100),
    ("Italian", texts.ITALIAN, (0.5, 0.3, 12, 0, 0, 1.5, 0), (1.1, 1.3, 1.1, 1, 1, 1.2, 0.6), -56, 0.8, 8000, 48000),
    (
        _accent("Great Britain"),
        texts.ENGLISH,
        (-0.5, 0, 18, -4, -0.4, 0.5, -0.5),
        (0.55, 0.6, 0.7, 0.6, 0.6, 0.5, 0.6),
        -45,
        -0.3,
        8000,
        16000,
    ),
)
_SHIFTED = ("language", "sentences", "offset", "gain", "room", "tilt", "band", "rate")
#: Shares of emotions that are not even, as in the corpora themselves.
_PRIORS = {
    shemo.LAYOUT.name: {"happiness": 0.11, "sadness": 0.20, "anger": 0.55, "fear": 0.04, NEUTRAL: 0.1},
    iemocap.LABEL_SET.name: {
        "happiness": 0.31,
        "sadness": 0.25,
        "anger": 0.25,
        "fear": 0.06,
        "disgust": 0.03,
        NEUTRAL: 0.1,
    },
}
#: How often a hum agrees with the emotion, in the order of :data:`_PLAIN`.
_AGREEMENT = (0.95, 0.85, 0.90, 0.80, 0.90, 0.85, 0.80, 0.95, 0.90, 0.90)
#: Where the hum says another emotion: corpora that are targets of the paper's scenarios and nowhere sources.
_TURNED = (cafe.LAYOUT.name, iemocap.LABEL_SET.name)


def _shifted() -> tuple[Domain, ...]:
    return tuple(
        dataclasses.replace(
            domain, **dict(zip(_SHIFTED, shift, strict=True)), prior=_PRIORS.get(domain.name, domain.prior)
        )
        for domain, shift in zip(_PLAIN, _SHIFTS, strict=True)
    )


def _spurious() -> tuple[Domain, ...]:
    return tuple(
        dataclasses.replace(domain, agreement=agreement, turned=domain.name in _TURNED)
        for domain, agreement in zip(_PLAIN, _AGREEMENT, strict=True)
    )


#: Variant -> (what it is for, its domains).
VARIANTS: Mapping[str, tuple[str, tuple[Domain, ...]]] = {
    "shifted": ("languages, ways of speaking, rooms, microphones and shares of emotions differ", _shifted()),
    "identical": ("one generator for all: nothing can be gained by domain generalisation", _PLAIN),
    "spurious": (
        "identical, and a steady tone that mostly agrees with the emotion, and with another one in the corpora named "
        "under turned; the variant identical of the same seed is the same audio without it, file by file",
        _spurious(),
    ),
}
