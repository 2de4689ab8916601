"""IEMOCAP's text files: ``dialog/EmoEvaluation/<dialog>.txt`` and ``dialog/transcriptions/<dialog>.txt``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from s3prl_metaperser.demo.draws import generator
from s3prl_metaperser.demo.script import Turn

HEADER = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]"

# class -> the release's spelling; the code in the block's head is its first three letters in lower case
SPELLING = {
    "frustrated": "Frustration",
    "angry": "Anger",
    "sad": "Sadness",
    "disgust": "Disgust",
    "excited": "Excited",
    "fear": "Fear",
    "neutral": "Neutral",
    "surprise": "Surprise",
    "happy": "Happiness",
}


def turn_times(turns: list[Turn], seconds: dict[str, float], *, seed: int) -> dict[str, tuple[float, float]]:
    """Utterance id -> (start, end) in seconds within its dialog; turns come with short pauses."""
    times, now = {}, 1.0
    for turn in turns:
        start = now + float(generator(seed, "pause", turn.utterance).uniform(0.2, 1.5))
        now = start + seconds[turn.utterance]
        times[turn.utterance] = (start, now)
    return times


def is_self(rater: str) -> bool:
    """Whether a rater id (``C-E1``, ``C-F3``) is an actor rating the own speech."""
    return not rater.startswith("C-E")


def majority_code(chosen: dict[str, tuple[str, ...]]) -> str:
    """The release's code: the class that more than half of the external raters ticked, else ``xxx``."""
    external = [ticks for rater, ticks in chosen.items() if not is_self(rater)]
    votes = Counter(tick for ticks in external for tick in ticks).most_common(2)
    if 2 * votes[0][1] <= len(external) or (len(votes) == 2 and votes[1][1] == votes[0][1]):
        return "xxx"
    return SPELLING[votes[0][0]][:3].lower()


def attributes(turn: Turn, chosen: dict[str, tuple[str, ...]], *, seed: int) -> dict[str, tuple[int, int, int]]:
    """Rater, e.g. ``A-E1`` -> (valence, arousal, dominance), 1 to 5: two externals, the actor if rating."""
    external = [rater for rater in chosen if not is_self(rater)]
    picked = generator(seed, "attributes", turn.utterance).permutation(len(external))[:2]
    raters = sorted(external[k] for k in picked) + [rater for rater in chosen if is_self(rater)]
    arousal, valence, dominance = turn.avd
    result = {}
    for rater in raters:
        noise = generator(seed, "attributes", rater, turn.utterance).normal(0, 0.5, 3)
        heard = np.clip(np.round(np.array([valence, arousal, dominance]) + noise), 1, 5)
        result["A" + rater[1:]] = (int(heard[0]), int(heard[1]), int(heard[2]))
    return result


def annotation_block(turn: Turn, times: tuple[float, float], chosen: dict[str, tuple[str, ...]], *, seed: int) -> str:
    """One utterance's block: head line, ``C-`` lines, ``A-`` lines; means over external raters."""
    given = attributes(turn, chosen, seed=seed)
    means = np.mean([vad for rater, vad in given.items() if rater.startswith("A-E")], axis=0)
    vad = ", ".join(f"{x:.4f}" for x in means)
    lines = [f"[{times[0]:.4f} - {times[1]:.4f}]\t{turn.utterance}\t{majority_code(chosen)}\t[{vad}]"]
    for rater, ticks in chosen.items():
        labels = " ".join(f"{SPELLING[tick]};" for tick in ticks)
        lines.append(f"{rater}:\t{labels}\t()")
    for rater, (valence, arousal, dominance) in given.items():
        lines.append(f"{rater}:\tval {valence}; act {arousal}; dom  {dominance};\t()")
    return "\n".join(lines) + "\n"


def annotation_file(
    turns: list[Turn],
    times: dict[str, tuple[float, float]],
    ratings: dict[str, dict[str, tuple[str, ...]]],
    *,
    seed: int,
) -> str:
    """A dialog's summary file: the header line, then blocks separated by blank lines."""
    blocks = [annotation_block(t, times[t.utterance], ratings[t.utterance], seed=seed) for t in turns]
    return HEADER + "\n\n" + "\n".join(blocks)


def transcription_file(turns: list[Turn], times: dict[str, tuple[float, float]]) -> str:
    """A dialog's transcription: ``Ses01F_impro01_F000 [006.2901-008.2357]: text``."""
    return "".join(
        f"{t.utterance} [{times[t.utterance][0]:08.4f}-{times[t.utterance][1]:08.4f}]: {t.sentence}\n" for t in turns
    )


def write_dialogs(
    folder: Path,
    turns: list[Turn],
    seconds: dict[str, float],
    ratings: dict[str, dict[str, tuple[str, ...]]],
    *,
    seed: int,
) -> None:
    """Every dialog's summary and transcript below the sessions of ``folder``.

    Args:
        seconds: utterance -> how long it lasts.
        ratings: utterance -> rater -> what they ticked.
    """
    for dialog in sorted({turn.dialog for turn in turns}):
        members = [turn for turn in turns if turn.dialog == dialog]
        times = turn_times(members, seconds, seed=seed)
        session = folder / f"Session{members[0].session}" / "dialog"
        for kind, text in (
            ("EmoEvaluation", annotation_file(members, times, ratings, seed=seed)),
            ("transcriptions", transcription_file(members, times)),
        ):
            (session / kind).mkdir(parents=True, exist_ok=True)
            (session / kind / f"{dialog}.txt").write_text(text, encoding="utf-8", newline="\n")
