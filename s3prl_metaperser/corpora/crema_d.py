"""CREMA-D with the people who rated it: ``finishedResponses.csv`` beside ``AudioWAV/``; or with what was acted.

Each row is one participant's (``localid``) answer to one clip, heard (``queryType`` 1), seen (2) or both (3), by the
letter of an emotion; practice clips are numbered from 7443 on. https://github.com/CheyneyComputerScience/CREMA-D
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from s3prl_metaperser.corpora import csv_rows
from s3prl_metaperser.corpora.acted.layout import Clip, Layout
from s3prl_metaperser.corpora.base import Corpus, Suggestions
from s3prl_metaperser.corpora.card import Release
from s3prl_metaperser.corpora.label_sets import CREMA_D
from s3prl_metaperser.corpora.rated_files import Place
from s3prl_metaperser.corpora.rated_rows import RatedRows
from s3prl_metaperser.corpora.reader import Reader
from s3prl_metaperser.errors import UserError, shown
from s3prl_metaperser.storage.paths import user_path

TABLE, TIMES, ACTORS, AUDIO = "finishedResponses.csv", "finishedEmoResponses.csv", "VideoDemographics.csv", "AudioWAV"
MODALITIES = {"voice": "1", "face": "2", "both": "3"}
CLIPS = 7442
#: Has no signal at all, so that nobody can have heard an emotion in it.
SILENT = "1076_MTI_SAD_XX"
#: Milliseconds above which the corpus's authors leave out an answer.
SLOW = 10_000
#: First actor of each of EMO-SUPERB's five blocks of actors, which its folds are made of; here they are the sessions.
BLOCKS = {"A": 1001, "B": 1019, "C": 1037, "D": 1055, "E": 1073}

DROPPED_MODALITY = "ratings: of another modality"
DROPPED_PRACTICE = "ratings: practice clip"
DROPPED_SILENT = "ratings: of a clip without a signal"
DROPPED_SLOW = "ratings: answered after 10 s"
DROPPED_EARLIER = "ratings: replaced by the rater's later answer"

_COLUMNS = (
    *("localid", "pos", "ttr", "querytype", "clipnum", "questnum", "clipname", "sessionnums", "respemo", "resplevel"),
)
_CLIP = re.compile(r"(1\d{3})_[A-Z]{3}_[A-Z]{3}_[A-Z]{2}")


def _acted_clip(name: re.Match[str], path: Path) -> Clip:
    clip = LAYOUT.by_groups(name, path)
    return clip._replace(id=name[0].ljust(len(SILENT), "X"), sentence=name["sentence"])  # older copies end in _X


LAYOUT = Layout(
    name="crema_d",
    title="CREMA-D",
    language="en-US",
    licence="Open Database License (ODbL) 1.0",
    source="https://github.com/CheyneyComputerScience/CREMA-D",
    cite="Cao et al. 2014",
    layout=f"{AUDIO}/; 16 kHz",
    emotions={"angry": "anger", "disgust": "disgust", "fear": "fear", "happy": "happiness", "sad": "sadness"},
    releases=(
        Release(
            {**dict.fromkeys(CREMA_D.classes, 1271), "neutral": 1087},
            tuple(str(actor) for actor in range(1001, 1092)),
        ),
    ),
    options={"answers": "acted"},
    quirks=(
        f"{SILENT} has no signal, 1076_MTI_NEU_XX next to none",
        "three pairs of files are equal to the byte and have other labels: 1006_TIE_HAP_XX and 1006_TIE_NEU_XX, "
        "1013_WSI_DIS_XX and 1013_WSI_SAD_XX, 1017_IWW_ANG_XX and 1017_IWW_FEA_XX",
        "older copies have `1040_ITH_SAD_X.wav`",
        "before `git lfs pull` the files are pointers of some 130 bytes",
    ),
    pattern=r"(?P<speaker>1\d{3})_(?P<sentence>IEO|TIE|IOM|IWW|TAI|MTI|IWL|ITH|DFA|ITS|TSI|WSI)"
    r"_(?P<emotion>ANG|DIS|FEA|HAP|NEU|SAD)_(?P<level>LO|MD|HI|XX?)",
    example="1001_DFA_ANG_XX.wav",
    codes={name[:3].upper(): name for name in CREMA_D.classes},
    clip=_acted_clip,
    case=str.upper,
    levels={"LO": "low", "MD": "medium", "HI": "high"},
    known={
        SILENT: "no signal at all, and an emotion for a label",
        "1076_MTI_NEU_XX": "next to no signal",
        "1064_TIE_SAD_XX": "reported as damaged",
        "1064_IEO_DIS_MD": "reported as damaged",
    },
)


class _Answer(NamedTuple):
    line: int
    place: float
    emotion: str


def read(
    root: Path,
    *,
    answers: Literal["raters", "acted"] = "raters",
    modality: Literal["voice", "face", "both"] = "voice",
    slow: Literal["keep", "drop"] = "keep",
    outside: bool = False,
) -> Corpus:
    """Read the raters of CREMA-D, or the emotions that its actors were asked for.

    Speakers are the actors, sessions EMO-SUPERB's blocks of actors, A to E.

    Args:
        root: the folder, or the table itself.
        answers: of the raters, by the table, or as ``acted``, by the names of the files, which need no table; the
            options that follow are about raters.
        modality: what the raters were shown; the others' answers are left out and counted.
        slow: whether answers given after more than 10 s (``finishedEmoResponses.csv``) are left out, as by the corpus's
            authors.
        outside: whether files may be outside the folder, behind links.

    Raises:
        UserError: no table, a row that is none of it, or nothing rated.
    """
    root = user_path(root)
    if answers == "acted":
        return _with_sexes(LAYOUT.read(root))
    table = root / TABLE if root.is_dir() else root
    if not table.is_file():
        raise UserError(f"{table} does not exist. Give CREMA-D's folder, or {TABLE} itself.")
    folder = table.parent
    audio = folder / AUDIO if (folder / AUDIO).is_dir() else folder
    rows = RatedRows(table, CREMA_D, Place(audio, outside))
    given = _answers(table, rows, MODALITIES[modality], _slow(folder) if slow == "drop" else set())
    for (clip, rater), answer in sorted(given.items()):
        rows.add(answer.line, f"{clip}.wav", rater, answer.emotion)
    described = {f"{clip}.wav": (clip[:4], _block(clip)) for clip, _ in given}
    return rows.corpus("crema_d", suggested=Suggestions(test_sessions=("A",)), described=described, root=folder)


def _with_sexes(corpus: Corpus) -> Corpus:
    """The corpus with the actors' sexes, where the table of them is beside the files."""
    path = corpus.root / ACTORS
    if not path.is_file():
        return corpus
    sexes = {row["actorid"]: row["sex"][:1].lower() for _, row in _rows(path, ("actorid", "sex"))}
    known = tuple(dataclasses.replace(u, sex=sexes.get(u.speaker, "")) for u in corpus.utterances)
    return dataclasses.replace(corpus, utterances=known)


def _answers(table: Path, rows: RatedRows, modality: str, slow: set[str]) -> dict[tuple[str, str], _Answer]:
    """(clip, rater) -> the last answer; what is left out is counted, what is odd is noted."""
    found: dict[tuple[str, str], _Answer] = {}
    odd: Counter[str] = Counter()
    for line, row in _rows(table, _COLUMNS):
        clip, rater, emotion = row["clipname"], row["localid"], row["respemo"]
        if row["querytype"] not in MODALITIES.values():
            raise UserError(
                f"{table}:{line}: queryType {shown(row['querytype'])} is none of 1, 2, 3. Take an intact copy."
            )
        if row["querytype"] != modality:
            rows.dropped[DROPPED_MODALITY] += 1
        elif _number(row["clipnum"], table, line) > CLIPS:
            rows.dropped[DROPPED_PRACTICE] += 1
        elif clip == SILENT and modality == MODALITIES["voice"]:
            rows.dropped[DROPPED_SILENT] += 1
        elif _key(row) in slow:
            rows.dropped[DROPPED_SLOW] += 1
        else:
            if not _CLIP.fullmatch(clip) or not rater:
                raise UserError(f"{table}:{line}: the clip {shown(clip)} or its rater {shown(rater)} is no name.")
            if len(emotion) != 1 or CREMA_D.lookup(emotion) not in CREMA_D.classes:
                raise UserError(
                    f"{table}:{line}: respEmo {shown(emotion)} is none of A, D, F, H, N, S. Take an intact copy."
                )
            odd["answers without a level"] += not row["resplevel"].lstrip("-").isdigit()
            odd["answers with a negative response time"] += row["ttr"].startswith("-")
            answer = _Answer(line, _number(row["pos"], table, line), emotion)
            if (before := found.get((clip, rater))) is not None:
                rows.dropped[DROPPED_EARLIER] += 1
                answer = max(before, answer, key=lambda each: each.place)
            found[clip, rater] = answer
    for what, count in odd.items():
        if count:
            rows.note(table, f"{count} {what}; they are read.")
    return found


def _slow(folder: Path) -> set[str]:
    """Keys of the questions whose answer took longer than the authors allow."""
    path = folder / TIMES
    if not path.is_file():
        raise UserError(f"{path} does not exist, and slow answers are told by it. Fetch it, or keep them (slow: keep).")
    columns = ("sessionnums", "querytype", "questnum", "ttr")
    return {_key(row) for line, row in _rows(path, columns) if _number(row["ttr"], path, line) > SLOW}


def _key(row: dict[str, str]) -> str:
    return "-".join(row[name] for name in ("sessionnums", "querytype", "questnum"))


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """(line, column -> cell) of a table of R's; some of its numbers are texts in quotes of their own."""
    for line, row in csv_rows.cells(path, columns):
        yield line, {name: cell.strip('"') for name, cell in row.items()}


def _number(text: str, path: Path, line: int) -> float:
    try:
        return float(text)
    except ValueError:
        raise UserError(f"{path}:{line}: {shown(text)} is no number. Take an intact copy.") from None


def _block(clip: str) -> str:
    return max(name for name, first in BLOCKS.items() if first <= int(clip[:4]) or name == "A")


READER = Reader(
    read,
    terms="CREMA-D is under the Open Database License (ODbL) 1.0: name its authors, and share alike",
    redistributable=True,
    card=LAYOUT,
    clip_named=LAYOUT.named,
)
