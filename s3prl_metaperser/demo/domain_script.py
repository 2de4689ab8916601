"""Who says what, how, and into which file: the plan of the demo corpora, before any sound."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from s3prl_metaperser.corpora.emotions import COMMON
from s3prl_metaperser.corpora.iemocap import CARD, CLASSES
from s3prl_metaperser.demo.domain_files import PLACES, iemocap_file, iemocap_name
from s3prl_metaperser.demo.domains import HABIT, MIDDLE, NEUTRAL, NOISE, WEIGHTS, Domain
from s3prl_metaperser.demo.draws import generator
from s3prl_metaperser.demo.script import CENTROIDS, SPREAD
from s3prl_metaperser.demo.voice import VOICES, Delivery

#: Arousal, valence and dominance of each of ``COMMON``, [5, 3]; the first of IEMOCAP's words for it counts.
_WORD = {emotion: next(word for word, meant in CARD.emotions.items() if meant == emotion) for emotion in COMMON}
CENTRES = np.stack([CENTROIDS[CLASSES.index(_WORD[emotion])] for emotion in COMMON])


@dataclass(frozen=True)
class Spoken:
    """A planned utterance.

    Attributes:
        path: of its file, below the corpus's folder.
        speaker: in the corpus's own form.
        emotion: one of ``COMMON``, or neutral.
        take: how many the speaker has of this emotion before it.
        avd: arousal, valence and dominance, 1 to 5 and a little beyond.
        cues: as drawn, in the order of :data:`.domains.CUES`, before they are cut to what the voice can do.
        delivery: how it is spoken; its path is that of its sound before the channel.
        hum: whose tone is in it, an index into ``COMMON``; None: there is none.
    """

    path: str
    speaker: str
    emotion: str
    take: int
    avd: tuple[float, float, float]
    cues: tuple[float, ...]
    delivery: Delivery
    hum: int | None


def script(domain: Domain, *, seed: int, utterances: int) -> list[Spoken]:
    """The utterances of one corpus; each is drawn by its speaker, emotion and take alone."""
    takes: Counter[tuple[str, str]] = Counter()
    turns: Counter[str] = Counter()
    planned: list[Spoken] = []
    for number, (emotion, count) in enumerate(domain.counts(utterances).items()):
        for k in range(count):
            speaker = domain.speakers[(k + number) % len(domain.speakers)]
            place = PLACES.get(domain.name)
            if place is None:
                path, sentence = iemocap_file(iemocap_name(speaker, turns[speaker])), turns[speaker]
            else:
                path, sentence = place(speaker, emotion, takes[speaker, emotion])
            text = domain.sentences[sentence % len(domain.sentences)]
            sound = f"{len(planned):04d}.wav"
            planned.append(_spoken(domain, path, speaker, emotion, takes[speaker, emotion], text, sound, seed))
            takes[speaker, emotion] += 1
            turns[speaker] += 1
    return planned


def _spoken(
    domain: Domain, path: str, speaker: str, emotion: str, take: int, text: str, sound: str, seed: int
) -> Spoken:
    names = (domain.name, speaker, emotion, str(take))
    draw = generator(seed, "domains", *names)
    centre = CENTROIDS[CLASSES.index(NEUTRAL)] if emotion == NEUTRAL else CENTRES[COMMON.index(emotion)]
    avd = centre + SPREAD * draw.standard_normal(3)
    person = generator(seed, "domains", domain.name, speaker)
    voice, base = VOICES[int(person.integers(len(VOICES)))]
    cues = MIDDLE + np.array(domain.offset) + np.array(domain.gain) * (WEIGHTS @ (avd - 3.0))
    cues = cues + HABIT * person.standard_normal(len(HABIT)) + NOISE * draw.standard_normal(len(NOISE))
    semitones, pitch_range, tempo, level, tilt, smile, chest = cues.tolist()
    delivery = Delivery(
        path=sound,
        sentence=text,
        voice=voice,
        pitch=float(np.clip(base * 2 ** (semitones / 12), 0.5, 2.0)),
        pitch_range=float(np.clip(pitch_range, 0.1, 2)),
        words_per_minute=round(float(np.clip(tempo, 110, 280))),
        level=float(np.clip(level, -38, -13)),
        tilt=tilt,
        smile=smile,
        chest=chest,
        noise_seed=int(draw.integers(2**32)),
        language=domain.language,
    )
    hum = _hum(domain, emotion, generator(seed, "hum", *names))
    return Spoken(
        path, speaker, emotion, take, (float(avd[0]), float(avd[1]), float(avd[2])), tuple(cues.tolist()), delivery, hum
    )


def _hum(domain: Domain, emotion: str, draw: np.random.Generator) -> int | None:
    """Which emotion's tone an utterance has."""
    if domain.agreement is None:
        return None
    if emotion not in COMMON:
        return int(draw.integers(len(COMMON)))
    meant = (COMMON.index(emotion) + domain.turned) % len(COMMON)
    if draw.random() < domain.agreement:
        return meant
    return (meant + 1 + int(draw.integers(len(COMMON) - 1))) % len(COMMON)
