"""Parts of files, as audformat's tables name them by ``start`` and ``end``: whole files are read, others refused."""

from __future__ import annotations

import re
from pathlib import Path

from s3prl_metaperser.corpora.label_cells import is_blank
from s3prl_metaperser.errors import UserError, shown

#: Seconds by which a segment may miss the start or the end of its file: tools write times in frames or in few digits.
TOLERANCE = 0.02
#: What to do about a part of a file.
CUT = "Parts of files are not read. Cut them out (ffmpeg -i IN.wav -ss START -to END OUT.wav) and name the new files."

_TIME = re.compile(r"(?:(?P<d>\d+) days?,?\s*)?\+?(?:(?:(?P<h>\d+):)?(?P<m>\d+):(?P<s>\d+(?:\.\d*)?))?", re.IGNORECASE)
_NUMBER = re.compile(r"\d*\.?\d+(?:[eE][+-]?\d+)?s?|\d+\.s?")


def segment_end(start: str, end: str, path: Path, line: int | str) -> float | None:
    """Seconds at which a segment ends that begins with its file; None where it lasts as long as the file does.

    Args:
        start, end: as the table has them: seconds, or pandas' ``0 days 00:00:02.44``; blank and ``NaT`` are the file's.

    Raises:
        UserError: no time, or a segment that begins later.
    """
    begins, ends = (_seconds(text, path, line) for text in (start, end))
    if begins is not None and begins > TOLERANCE:
        raise UserError(f"{path}:{line}: a segment that begins at {begins:.3f} s. {CUT}")
    return ends


def _seconds(text: str, path: Path, line: int | str) -> float | None:
    """Seconds of a time.

    Examples:
        >>> [_seconds(text, Path("x.csv"), 1) for text in ("2.44", "0 days 00:01:02.44", "NaT", "01:02.5", "0 days")]
        [2.44, 62.44, None, 62.5, 0.0]
    """
    text = text.strip()
    if is_blank(text):
        return None
    if _NUMBER.fullmatch(text):
        return float(text.removesuffix("s"))
    if found := _TIME.fullmatch(text):
        days, hours, minutes, seconds = (float(part or 0) for part in found.group("d", "h", "m", "s"))
        return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    raise UserError(
        f"{path}:{line}: {shown(text)} is no time. Write seconds, such as 2.44, or nothing for the whole file."
    )
