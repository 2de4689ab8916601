"""MELD: scenes of a comedy series; ``train/train_splits/dia0_utt0.mp4``; tables say who speaks, and which emotion."""

from __future__ import annotations

import csv
import dataclasses
import functools
import re
from collections.abc import Mapping
from pathlib import Path

from s3prl_metaperser.corpora.acted.layout import Clip, Layout
from s3prl_metaperser.corpora.base import Corpus, Problem
from s3prl_metaperser.corpora.card import Release
from s3prl_metaperser.corpora.reader import Reader
from s3prl_metaperser.errors import UserError, shown
from s3prl_metaperser.storage.paths import user_path

CODES = {"neutral": "neutral", "joy": "happiness"}
CODES |= {name: name for name in ("surprise", "anger", "sadness", "disgust", "fear")}
SPLITS = ("train", "dev", "test")
TABLE = "{}_sent_emo.csv"
_COLUMNS = ("Speaker", "Emotion", "Dialogue_ID", "Utterance_ID")


LAYOUT = Layout(
    name="meld",
    title="MELD",
    language="en-US",
    licence="its annotations are under the GPL 3; the recordings are a television company's",
    source="https://github.com/declare-lab/MELD",
    cite="Poria et al. 2019",
    layout="train_splits/, dev_splits_complete/, output_repeated_splits_test/, and train_, dev_, test_sent_emo.csv",
    releases=(
        Release(
            {
                **{"happiness": 2308, "sadness": 1002, "anger": 1607, "fear": 358, "disgust": 361},
                **{"neutral": 6434, "surprise": 1636},
            }
        ),
    ),
    quirks=(
        "films: ffmpeg is needed",
        "an audience laughs",
        "`final_videos_test...` are copies of the test films, left out and counted",
        "dia125_utt3 of the training part is said to be broken",
    ),
    pattern=r"dia(?P<dialogue>\d+)_utt(?P<utterance>\d+)",
    example="train/train_splits/dia0_utt0.mp4",
    codes=CODES,
    clip=lambda name, path: "files: the tables were not read",
)


def read(root: Path) -> Corpus:
    """Read MELD.

    Raises:
        UserError: no such folder, no table in it, a table that is none, or no film.
    """
    folder = user_path(root)
    lines = {key: line for split in SPLITS for key, line in _table(folder, split).items()}
    if not lines:
        tables = ", ".join(TABLE.format(split) for split in SPLITS)
        raise UserError(f"{folder}: none of {tables} is in it. Give the folder that MELD was unpacked into.")
    corpus = dataclasses.replace(LAYOUT, clip=functools.partial(_clip, lines)).read(folder)
    if lost := sorted(lines.keys() - {utterance.id for utterance in corpus.utterances}):
        what = f"{len(lost)} of the tables' {len(lines)} utterances have no film, e.g. {lost[0]}."
        return dataclasses.replace(corpus, problems=(*corpus.problems, Problem(str(folder), what, serious=False)))
    return corpus


def _clip(lines: Mapping[str, tuple[str, str]], name: re.Match[str], path: Path) -> Clip | str:
    split = next((split for part in reversed(path.parts[:-1]) for split in SPLITS if split in part.lower()), None)
    if split is None:
        return "files: no folder above says of which part (train, dev, test)"
    key = _key(split, name["dialogue"], name["utterance"])
    if key not in lines:
        return "files: not in the tables"
    return Clip(key, *lines[key])


def _key(split: str, dialogue: str, utterance: str) -> str:
    return f"{split}_dia{int(dialogue)}_utt{int(utterance)}"


def _table(folder: Path, split: str) -> dict[str, tuple[str, str]]:
    """Utterance -> speaker and emotion, of one part; nothing where there is no table."""
    path = next(iter(sorted(folder.rglob(TABLE.format(split)))), None)
    if path is None:
        return {}
    found: dict[str, tuple[str, str]] = {}
    with open(path, encoding="utf-8-sig", errors="replace", newline="") as file:  # what people say is in a code page
        rows = csv.DictReader(file)
        if missing := [name for name in _COLUMNS if name not in (rows.fieldnames or ())]:
            raise UserError(f"{path}: no column {shown(missing[0])}. Fetch the table from {LAYOUT.source}.")
        for row in rows:
            emotion = CODES.get((row["Emotion"] or "").strip().lower())
            try:
                key = _key(split, row["Dialogue_ID"], row["Utterance_ID"])
            except (TypeError, ValueError):
                key = ""
            if emotion is None or not key:
                what = f"emotion {shown(row['Emotion'])}, utterance {shown(row['Utterance_ID'])}"
                raise UserError(f"{path}:{rows.line_num}: {what}: not a row of MELD's. Take an intact copy.")
            found[key] = (row["Speaker"] or "").strip() or "unknown", emotion
    return found


READER = Reader(read, terms=LAYOUT.terms, card=LAYOUT)
