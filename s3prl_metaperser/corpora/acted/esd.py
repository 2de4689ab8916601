"""ESD: Mandarin (speakers 1 to 10) and English (11 to 20); ``0011/Angry/[train/]0011_000351.wav``."""

import re
from pathlib import Path

from s3prl_metaperser.corpora.acted.layout import Clip, Layout, acted_reader, folder_word
from s3prl_metaperser.corpora.card import Release

FOLDERS = {"angry": "anger", "happy": "happiness", "neutral": "neutral", "sad": "sadness", "surprise": "surprise"}
SPEAKERS = tuple(f"{number:04d}" for number in range(1, 21))
#: Every speaker reads the same texts in each emotion, one after another.
TEXTS = 350


def _clip(name: re.Match[str], path: Path) -> Clip | str:
    speaker, emotion = name["speaker"], folder_word(path, FOLDERS)
    if emotion is None:
        return "files: no folder above says which emotion (Angry, Happy, Neutral, Sad, Surprise)"
    language = "zh" if int(speaker) <= 10 else "en"
    text = f"{language}-{(int(name['utterance']) - 1) % TEXTS + 1:03d}"
    return Clip(name[0], speaker, emotion, sentence=text, language=language)


LAYOUT = Layout(
    name="esd",
    title="ESD",
    language="",
    licence="academic research, after a request",
    source="https://github.com/HLTSingapore/Emotional-Speech-Data",
    cite="Zhou et al. 2021",
    layout="0001/ to 0020/ with a folder for each emotion; 16 kHz",
    releases=(Release(dict.fromkeys(FOLDERS.values(), 7000), SPEAKERS, balanced=True),),
    quirks=(
        "no fear, no disgust",
        "two languages: `language` of each utterance",
        "the reader was tried on names alone",
    ),
    pattern=r"(?P<speaker>00(?:0[1-9]|1\d|20))_(?P<utterance>\d{6})",
    example="0011/Angry/0011_000351.wav",
    codes=FOLDERS,
    clip=_clip,
)
READER = acted_reader(LAYOUT)
