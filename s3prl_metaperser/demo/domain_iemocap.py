"""The text files of the demo corpus that stands for IEMOCAP: labels by the majority of three raters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from s3prl_metaperser.corpora.iemocap import CARD, CLASSES
from s3prl_metaperser.demo.domain_script import Spoken
from s3prl_metaperser.demo.domains import NEUTRAL
from s3prl_metaperser.demo.layout import write_dialogs
from s3prl_metaperser.demo.script import Turn

_RATERS = ("C-E1", "C-E2", "C-E4")
#: What becomes of neutral utterances, in turn: they have this label, or none that two raters share.
_OTHERS = (NEUTRAL, "frustrated", "")


def write_summaries(folder: Path, spoken: Sequence[Spoken], seconds: Mapping[str, float], *, seed: int) -> None:
    """Write the summaries and transcriptions of all dialogs.

    Args:
        folder: of the corpus.
        spoken: its utterances.
        seconds: path -> duration.
        seed: of pauses and attributes.
    """
    turns, ratings = [], {}
    before: Counter[str] = Counter()
    for each in spoken:
        words = [word for word, meant in CARD.emotions.items() if meant == each.emotion] or list(_OTHERS)
        word = words[before[each.emotion] % len(words)]
        name = Path(each.path).stem
        ratings[name] = _answers(word, before[each.emotion])
        before[each.emotion] += 1
        turns.append(_turn(each, name, word or NEUTRAL))
    turns.sort(key=lambda turn: turn.utterance)
    lasting = {Path(path).stem: length for path, length in seconds.items()}
    write_dialogs(folder, turns, lasting, ratings, seed=seed)


def _answers(word: str, number: int) -> dict[str, tuple[str, ...]]:
    """What three raters said: all one word, two of them, or three words."""
    if not word:
        return dict(zip(_RATERS, [("neutral",), ("surprise",), ("sad",)], strict=True))
    third = CLASSES[number % len(CLASSES)] if number % 4 == 3 else word
    return dict(zip(_RATERS, [(word,), (word,), (third,)], strict=True))


def _turn(each: Spoken, name: str, word: str) -> Turn:
    return Turn(
        utterance=name,
        dialog=name.rpartition("_")[0],
        speaker=each.speaker,
        session=int(each.speaker[4]),
        intended=CLASSES.index(word),
        sentence=each.delivery.sentence,
        avd=each.avd,
    )
