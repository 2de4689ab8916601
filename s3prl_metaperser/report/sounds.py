"""Clips to hear in a page: embedded, so that the page is one file; and which clips of a corpus are worth hearing."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import soundfile

from s3prl_metaperser.corpora.audio import RATE, BadAudio, load_audio
from s3prl_metaperser.corpora.base import Corpus

#: A page holds no more of a clip, in seconds.
LONGEST = 15


class Sound(NamedTuple):
    """A clip in a page.

    Attributes:
        name: its heading.
        facts: [(what, words)] below it.
        address: its samples as a data URL, or the file's.
    """

    name: str
    facts: Sequence[tuple[str, str]]
    address: str


@dataclass(frozen=True)
class Sounds:
    """Clips to hear, one beside the other."""

    kind: ClassVar[str] = "sounds"

    clips: Sequence[Sound]


def sound_of(path: Path) -> str | None:
    """A recording as a data URL, 16 kHz and mono, at most :data:`LONGEST` seconds; None where it cannot be read."""
    try:
        samples = load_audio(path)[: LONGEST * RATE]
    except BadAudio:
        return None
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, format="FLAC", subtype="PCM_16")
    return f"data:audio/flac;base64,{base64.b64encode(file.getvalue()).decode()}"


def clips_to_hear(corpus: Corpus, most: int, *, embed: bool) -> Sounds:
    """Clips of a corpus on which raters agree, a class each, and as many that divide them; those that can be read.

    Args:
        most: so many in all.
        embed: put the recordings into the page, where they may be passed on; else it plays the files where they are.
    """
    label_set = corpus.label_set
    by_clip: dict[str, list[np.ndarray]] = {}
    for rating in corpus.ratings:
        counts = label_set.counts(rating.answer)
        by_clip.setdefault(rating.utterance, []).append(counts / counts.sum())
    rated = {name: np.mean(each, axis=0) for name, each in by_clip.items() if len(each) > 1}
    if not rated:
        return Sounds(())
    names, shares = list(rated), np.stack(list(rated.values()))
    doubt = -(shares * np.log(np.maximum(shares, 1e-12))).sum(1)
    asked = np.argsort(-shares.sum(0), kind="stable")[: (most + 1) // 2]
    agreed = dict.fromkeys(int(np.argmax(shares[:, place])) for place in asked)
    divided = [int(place) for place in np.argsort(-doubt, kind="stable") if int(place) not in agreed]
    found = []
    for place in [*agreed, *divided[: most - len(agreed)]]:
        clip = corpus.utterance(names[place])
        address = sound_of(clip.path) if embed else clip.path.resolve().as_uri() if clip.path.is_file() else None
        if address is not None:
            said = [(label_set.classes[i], shares[place, i]) for i in np.argsort(-shares[place], kind="stable")]
            words = ", ".join(f"{name} {100 * share:.0f} %" for name, share in said if share >= 0.05)
            facts = [(f"{len(by_clip[names[place]])} raters", words), ("Speaker", clip.speaker)]
            found.append(Sound(clip.id, facts, address))
    return Sounds(found)
