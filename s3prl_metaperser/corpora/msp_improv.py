"""MSP-IMPROV with its workers, from ``Evalution.txt`` (spelt so in the release; ``Evaluation.txt`` will do, too).

A line for each recording, and then one for each worker, until a blank line::

    UTD-IMPROV-S01A-F01-S-FM01.avi; N; A:3.000000; V:3.500000; D:3.000000 ; N:4.200000;
    abc-p1; Neutral; Neutral,Other (calm); A:3.000000; V:3.000000; D:NaN; N:4.000000;

The audio is ``MSP-IMPROV-S01A-F01-S-FM01.wav`` somewhere below. The scale of A is upside down in the release: it is
read as 6 - A, so that a high number is a high activation.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from s3prl_metaperser.corpora.base import Corpus
from s3prl_metaperser.corpora.folders import files_below
from s3prl_metaperser.corpora.label_set import LabelSet
from s3prl_metaperser.corpora.label_sets import MSP_IMPROV
from s3prl_metaperser.corpora.msp_podcast import text_of
from s3prl_metaperser.corpora.rated_files import Place
from s3prl_metaperser.corpora.rated_rows import DROPPED_REPEATED, RatedRows
from s3prl_metaperser.corpora.reader import Reader
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.storage.paths import user_path

TABLES = ("Evalution.txt", "Evaluation.txt")
#: The letter that a line has of each attribute, all on scales from 1 to 5.
ATTRIBUTES = {"activation": "A", "valence": "V", "dominance": "D", "naturalness": "N"}

_NUMBER = r"(\d+(?:\.\d+)?|NaN)\s*;"
_NUMBERS = rf"\s*A:{_NUMBER}\s*V:{_NUMBER}\s*D:{_NUMBER}\s*N:{_NUMBER}?"
_FILE = re.compile(r"UTD-IMPROV-(?P<name>S(?P<session>\d\d)\w-(?P<speaker>[FM]\d\d)-\S+)\.avi\s*;.*")
_WORKER = re.compile(rf"(?P<worker>[A-Za-z0-9_-]+)\s*;\s*(?P<major>\w+)\s*;(?P<second>.*);{_NUMBERS}")


def read(
    root: Path,
    *,
    answer: Literal["primary", "activation", "valence", "dominance", "naturalness"] = "primary",
    unknown_labels: Literal["error", "drop"] | None = None,
    outside: bool = False,
) -> Corpus:
    """Read the workers of MSP-IMPROV. Speakers are the actors; their six pairs are the sessions.

    Where a worker stands twice for a recording the first answer is used, and the others are counted.

    Args:
        root: the release's folder.
        answer: the emotion ("Other" is left out and counted), or an attribute from 1 to 5.
        unknown_labels: what happens to emotions that are none of the release's, ``"error"`` or ``"drop"``.
        outside: whether files may be outside the folder, behind links.

    Raises:
        UserError: no table of evaluations, one that cannot be read, or nothing rated.
    """
    root = user_path(root)
    path = next((root / name for name in TABLES if (root / name).is_file()), None)
    if path is None:
        raise UserError(f"{root / TABLES[0]} does not exist. Give the folder of MSP-IMPROV.")
    scale = LabelSet(f"msp_improv-{answer}", "ordinal", levels=(1.0, 2.0, 3.0, 4.0, 5.0))
    label_set = MSP_IMPROV.with_unknown(unknown_labels) if answer == "primary" else scale
    rows = RatedRows(path, label_set, Place(root, outside))
    files = {each.stem: each.relative_to(root).as_posix() for each in files_below(root).audio}
    described, seen, file = {}, set[tuple[str, str]](), ""
    for number, line in enumerate(map(str.strip, text_of(path).splitlines()), 1):
        if found := _FILE.fullmatch(line):
            name = f"MSP-IMPROV-{found['name']}"
            file = files.get(name, f"{name}.wav")
            described[file] = (found["speaker"], found["session"])
        elif line and (not file or (found := _WORKER.fullmatch(line)) is None):
            rows.not_understood(path, number, line)
        elif line and found and (file, found["worker"]) in seen:
            rows.dropped[DROPPED_REPEATED] += 1
        elif line and found:
            seen.add((file, found["worker"]))
            rows.add(number, file, found["worker"], _answer(found, answer))
    return rows.corpus("msp_improv", described=described, root=root)


def _answer(found: re.Match[str], answer: str) -> str:
    if answer == "primary":
        return found["major"]
    number = found.groups()[3 + list(ATTRIBUTES).index(answer)]
    return f"{6 - float(number):g}" if ATTRIBUTES[answer] == "A" and number != "NaN" else number


READER = Reader(
    read,
    terms="MSP-IMPROV is given out under an agreement with UT Dallas; ask there whether models trained on it may be "
    "shared",
    redistributable=False,
)
